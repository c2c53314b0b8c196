"""The drawing of a molecule with its atoms colored by their contributions; imports RDKit and matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from evaluation.explain.atoms import DrugAtoms, described, draw, table


def drawing(
    contributions: Sequence[float], drug: str, smiles: str | None, unit: str
) -> tuple[str, str, pd.DataFrame] | None:
    """Return an SVG with a scale, its description, and ``atom, element, contribution`` as numbered in it.

    ``contributions`` are an atom each, in this unit. None if the molecule is not known, or has other atoms: a drawing
    would mislead.
    """
    if smiles is None:
        return None
    found = DrugAtoms(drug, drug, smiles, np.array(contributions, dtype=np.float64), 1)
    try:
        svg = draw(found, unit)
    except ValueError:
        return None
    return svg, described(found, unit), table([found])[["atom", "element", "contribution"]]
