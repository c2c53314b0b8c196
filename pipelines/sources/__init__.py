"""Loaders of official layouts: from a folder as it was downloaded and unpacked to a raw folder."""

from typing import Literal

Variants = Literal["hotspot", "damaging", "any"]
"""What counts as a mutation of a gene: a known hotspot; a likely loss of function; every variant that is not silent."""

PUBLISHED = {
    "cnmc": {
        "url": "https://doi.org/10.7937/tcia.2019.dc64i46r",
        "license": "https://creativecommons.org/licenses/by/3.0/",
        "citeAs": "C-NMC 2019, The Cancer Imaging Archive, doi 10.7937/tcia.2019.dc64i46r",
    },
    "blood_cells": {
        "url": "https://doi.org/10.34740/kaggle/dsv/10500753",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "citeAs": "Blood Cell Images for Cancer Detection, doi 10.34740/kaggle/dsv/10500753",
    },
    "pbc": {"url": "https://doi.org/10.17632/snkd93bnjr.1", "citeAs": "Acevedo et al. 2020"},
    "pancan": {
        "url": "https://gdc.cancer.gov/about-data/publications/pancanatlas",
        "citeAs": "Liu et al., Cell 2018, doi 10.1016/j.cell.2018.02.052",
    },
    "uci": {"url": "https://doi.org/10.24432/C5R88H"},
    "gdsc": {
        "url": "https://www.cancerrxgene.org/downloads/bulk_download",
        "citeAs": "Iorio et al., Cell 2016, doi 10.1016/j.cell.2016.06.017",
    },
}
"""Page, license and citation of official collections by their layout, in the terms of Croissant; only what is known."""
