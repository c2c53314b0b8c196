"""The molecule of an explained answer, drawn with its atoms colored by what they add; loads RDKit and matplotlib."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.explain.atoms import DrugAtoms, described, draw, table
from serving.dashboard.data.endpoint_client import Row


@dataclass(frozen=True)
class Drawing:
    """A molecule for people.

    Attributes
    ----------
    svg
        With a scale.
    told
        What the colors show, in words.
    atoms
        ``atom, element, contribution``; ``atom`` as numbered in the drawing.
    """

    svg: str
    told: str
    atoms: pd.DataFrame


def drawing(answer: Row, drug: str, smiles: str | None, unit: str) -> Drawing | None:
    """Draw what each atom adds to one answer; None where the model sees no atoms, or the drug has no molecule.

    Parameters
    ----------
    answer
        Of an endpoint that was asked to explain.
    drug, smiles
        What the drug is called, and the molecule that was asked about.
    unit
        Of the contributions.
    """
    values = answer.get("atoms") or []
    if not values or smiles is None:
        return None
    found = DrugAtoms(drug, drug, smiles, np.array(values, dtype=np.float64), 1)
    try:
        svg = draw(found, unit)
    except ValueError:  # another molecule than was asked about: a drawing of it would mislead
        return None
    return Drawing(svg, described(found, unit), table([found])[["atom", "element", "contribution"]])
