"""PBC, normal peripheral blood cells (Acevedo et al. 2020, Hospital Clinic of Barcelona, doi 10.17632/snkd93bnjr.1).

A folder a class, files such as ``BA_100102.jpg``; no subjects.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.raw_folder import SourceImages, class_folders

CLASSES = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")
NAME = "PBC (Barcelona)"


def read(folder: Path) -> SourceImages:
    """Return the images below ``folder``; `UserError` where it is not of this layout."""
    return class_folders(folder, CLASSES, NAME)
