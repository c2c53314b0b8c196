"""Which atoms of a drug a model looks at: chosen, summed up over cell lines, listed, and drawn on the molecule."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from rdkit.Chem.Draw import rdMolDraw2D

from pipelines.samples.molecules import without_salt
from pipelines.samples.response import ResponseSamples
from training.estimator import Estimator
from training.features.molecule_graph import drawn_molecule

DRUGS = 6
LINES = 24  # test lines that a drug's atoms are averaged over, at most
COLUMNS = ["drawing", "drug_id", "drug", "atom", "element", "contribution", "rows"]

_WIDTH, _HEIGHT, _LEGEND = 480, 360, 84  # pixels; the legend is below
_SHADES = mpl.colormaps["RdBu_r"]  # ColorBrewer's, safe for color-blind readers; red is resistance, as in all figures
_LEFT_OUT = 0.18  # the ends of the scale are left out: on them black letters have a contrast below 4.5
_SVG = "http://www.w3.org/2000/svg"

ET.register_namespace("", _SVG)
ET.register_namespace("rdkit", "http://www.rdkit.org/xml")


@dataclass(frozen=True)
class DrugAtoms:
    """What the atoms of a drug add to its predictions, on average."""

    drug_id: str
    name: str
    smiles: str
    contributions: np.ndarray
    rows: int


def explain_atoms(
    estimator: Estimator, samples: ResponseSamples, *, seed: int, output: int | None = None, drugs: int = DRUGS
) -> list[DrugAtoms]:
    """Explain the drugs whose molecules move predictions most, each on some of its lines; each molecule once."""
    if not len(samples):
        return []
    order = np.random.default_rng(seed).permutation(len(samples))
    nth = pd.Series(samples.drug[order]).groupby(samples.drug[order]).cumcount().to_numpy()
    first = _contributions(estimator, samples, order[nth == 0], output)
    moved: dict[str, tuple[float, int]] = {}
    for row, found in zip(order[nth == 0], first, strict=True):
        drug = int(samples.drug[row])
        if len(found):
            key = without_salt(samples.drugs["smiles"].iloc[drug]) or ""
            moved[key] = max(moved.get(key, (-1.0, -1)), (abs(float(found.sum())), drug))
    chosen = [drug for _, drug in sorted(moved.values(), key=lambda each: (-each[0], each[1]))[:drugs]]
    rows = order[(nth < LINES) & np.isin(samples.drug[order], chosen)]
    values = _contributions(estimator, samples, rows, output)
    return [
        _of_drug(samples, drug, [values[at] for at in np.flatnonzero(samples.drug[rows] == drug)]) for drug in chosen
    ]


def _contributions(
    estimator: Estimator, samples: ResponseSamples, rows: np.ndarray, output: int | None
) -> list[np.ndarray]:
    found = estimator.atom_attributions(samples.take(rows), None if output is None else np.full(len(rows), output))
    return [np.zeros(0)] * len(rows) if found is None else found


def _of_drug(samples: ResponseSamples, drug: int, found: Sequence[np.ndarray]) -> DrugAtoms:
    row = samples.drugs.iloc[drug]
    drug_id, name = str(samples.drugs.index[drug]), row.get("name")
    named = name if isinstance(name, str) and name else drug_id
    return DrugAtoms(drug_id, named, row["smiles"], np.mean(found, axis=0), len(found))


def drawings(found: Sequence[DrugAtoms], unit: str) -> dict[str, str]:
    """Return an SVG a drug, by the name that `table` gives it."""
    return {_drawing(number): draw(drug, unit) for number, drug in enumerate(found)}


def table(found: Sequence[DrugAtoms]) -> pd.DataFrame:
    """Return `COLUMNS`, a row an atom; ``atom`` counts from 0 in the order of the canonical SMILES, as drawn."""
    rows = [
        (_drawing(number), drug.drug_id, drug.name, index, symbol, float(contribution), drug.rows)
        for number, drug in enumerate(found)
        for index, (symbol, contribution) in enumerate(zip(_elements(drug.smiles), drug.contributions, strict=True))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def draw(drug: DrugAtoms, unit: str) -> str:
    """Return a molecule as SVG, its atoms colored by what they add, with a scale and a text that tells it in words."""
    molecule = drawn_molecule(drug.smiles)
    if molecule is None or molecule.GetNumAtoms() != len(drug.contributions):
        raise ValueError(f"{drug.drug_id}: {len(drug.contributions)} contributions do not fit {drug.smiles!r}")
    limit = float(np.abs(drug.contributions).max()) or 1.0
    colors = {atom: _color(value / limit) for atom, value in enumerate(drug.contributions)}
    drawer = rdMolDraw2D.MolDraw2DSVG(_WIDTH, _HEIGHT)
    options: Any = drawer.drawOptions()
    options.useBWAtomPalette()  # color tells the contribution and nothing else
    options.addAtomIndices = True  # as in the table
    options.annotationFontScale = 0.45
    rdMolDraw2D.PrepareAndDrawMolecule(
        drawer, molecule, highlightAtoms=list(colors), highlightAtomColors=colors, highlightBonds=[]
    )
    drawer.FinishDrawing()
    return _framed(drawer.GetDrawingText(), drug, unit, limit)


def _framed(svg: str, drug: DrugAtoms, unit: str, limit: float) -> str:
    """Return RDKit's drawing with a title, a description for those who do not see it, and a scale."""
    root = ET.fromstring(svg)
    height = _HEIGHT + _LEGEND
    root.attrib |= {"height": f"{height}px", "viewBox": f"0 0 {_WIDTH} {height}"}
    root.attrib |= {"role": "img", "aria-labelledby": "title description"}
    for place, (tag, text) in enumerate([("title", _title(drug)), ("desc", described(drug, unit))]):
        told = ET.Element(f"{{{_SVG}}}{tag}", {"id": "title" if tag == "title" else "description"})
        told.text = text
        root.insert(place, told)
    _add(root, "rect", x=0, y=_HEIGHT, width=_WIDTH, height=_LEGEND, fill="#ffffff")
    scale = _add(_add(root, "defs"), "linearGradient", id="scale")
    for share in np.linspace(0, 1, 9):
        _add(scale, "stop", offset=f"{share:.3f}", **{"stop-color": to_hex(_color(2 * share - 1))})
    left, width = _WIDTH / 4, _WIDTH / 2
    _text(root, _title(drug), _WIDTH / 2, _HEIGHT + 14, size=13, weight="bold")
    _add(root, "rect", x=left, y=_HEIGHT + 26, width=width, height=12, fill="url(#scale)", stroke="#6b7280")
    for share, label in ((0.0, f"−{limit:.2g}"), (0.5, "0"), (1.0, f"+{limit:.2g}")):
        _text(root, label, left + share * width, _HEIGHT + 52)
    _text(root, "lowers it", left - 34, _HEIGHT + 36)
    _text(root, "raises it", left + width + 34, _HEIGHT + 36)
    _text(root, f"what each atom adds to {unit}, {_over(drug)}", _WIDTH / 2, _HEIGHT + 72)
    return ET.tostring(root, encoding="unicode")


def _add(parent: ET.Element, tag: str, **attributes: object) -> ET.Element:
    return ET.SubElement(parent, f"{{{_SVG}}}{tag}", {name: str(value) for name, value in attributes.items()})


def _text(parent: ET.Element, text: str, x: float, y: float, *, size: int = 12, weight: str = "normal") -> None:
    style = {"font-size": size, "font-weight": weight, "font-family": "sans-serif", "text-anchor": "middle"}
    _add(parent, "text", x=x, y=y, fill="#111827", **style).text = text


def _title(drug: DrugAtoms) -> str:
    return drug.name if drug.name == drug.drug_id else f"{drug.name} ({drug.drug_id})"


def described(drug: DrugAtoms, unit: str) -> str:
    """Return in words what the colors show: the atoms that add most, either way."""
    symbols, values = _elements(drug.smiles), drug.contributions
    order = np.argsort(-np.abs(values), kind="stable")[:5]
    most = ", ".join(f"{symbols[atom]} {atom}: {values[atom]:+.2g}" for atom in order)
    return (
        f"The molecule of {_title(drug)} with {len(values)} atoms, colored by what each adds to {unit}, {_over(drug)}: "
        f"red raises it, blue lowers it. The largest: {most}; all together {values.sum():+.2g}."
    )


def _over(drug: DrugAtoms) -> str:
    return f"mean of {drug.rows} cell lines" if drug.rows > 1 else "for one sample"


def _elements(smiles: str) -> list[str]:
    molecule = drawn_molecule(smiles)
    return [] if molecule is None else [atom.GetSymbol() for atom in molecule.GetAtoms()]


def _color(share: float) -> tuple[float, float, float]:
    """Return the color of a contribution, from -1 to 1 of the largest."""
    red, green, blue, _ = _SHADES(0.5 + share * (0.5 - _LEFT_OUT))
    return red, green, blue


def _drawing(number: int) -> str:
    return f"molecule_{number + 1}"
