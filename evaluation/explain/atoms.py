"""What the atoms of drugs add to predictions: chosen, averaged over cell lines, listed, and drawn on the molecules."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from rdkit.Chem.Draw import rdMolDraw2D

from evaluation.explain.genes import place_in_drug
from pipelines.samples.molecules import without_salt
from pipelines.samples.response import ResponseSamples
from training.estimator import Estimator
from training.features.molecule_graph import drawn_molecule

DRUGS = 6
LINES = 24  # test lines that a drug's atoms are averaged over, at most

_WIDTH, _HEIGHT, _LEGEND = 480, 360, 66  # pixels; the legend is below
_SHADES = mpl.colormaps["RdBu_r"]  # ColorBrewer's, safe for color-blind readers; red is resistance, as in all figures
_LEFT_OUT = 0.18  # the ends of the scale are left out: on them black letters have a contrast below 4.5
_SVG = "http://www.w3.org/2000/svg"

ET.register_namespace("", _SVG)
ET.register_namespace("rdkit", "http://www.rdkit.org/xml")


@dataclass(frozen=True)
class DrugAtoms:
    """What the atoms of a drug, in the order of its canonical SMILES, add to its predictions; the mean of ``rows``."""

    drug_id: str
    name: str
    smiles: str
    contributions: np.ndarray
    rows: int

    @property
    def title(self) -> str:
        """Return the name, and the id where it is another."""
        return self.name if self.name == self.drug_id else f"{self.name} ({self.drug_id})"

    @property
    def over(self) -> str:
        """Return what the contributions are a mean of."""
        return f"mean of {self.rows} cell lines" if self.rows > 1 else "for one sample"

    @property
    def elements(self) -> list[str]:
        """Return the symbol of each atom."""
        molecule = drawn_molecule(self.smiles)
        return [] if molecule is None else [atom.GetSymbol() for atom in molecule.GetAtoms()]


def explain_atoms(
    estimator: Estimator, samples: ResponseSamples, *, seed: int, output: int | None = None
) -> list[DrugAtoms]:
    """Explain the `DRUGS` drugs whose molecules move predictions most, on some of their lines; each molecule once."""

    def contributions(rows: np.ndarray) -> list[np.ndarray]:
        outputs = None if output is None else np.full(len(rows), output)
        found = estimator.atom_attributions(samples.take(rows), outputs)
        return [np.zeros(0)] * len(rows) if found is None else found

    order = np.random.default_rng(seed).permutation(len(samples))
    nth = place_in_drug(samples, order)
    moved: dict[str, tuple[float, int]] = {}
    for row, found in zip(order[nth == 0], contributions(order[nth == 0]), strict=True):
        drug = int(samples.drug[row])
        if len(found):
            key = without_salt(samples.drugs["smiles"].iloc[drug]) or ""
            moved[key] = max(moved.get(key, (-1.0, -1)), (abs(float(found.sum())), drug))
    chosen = [drug for _, drug in sorted(moved.values(), key=lambda each: (-each[0], each[1]))[:DRUGS]]
    rows = order[(nth < LINES) & np.isin(samples.drug[order], chosen)]
    values = contributions(rows)
    made = []
    for drug in chosen:
        of_drug = [values[at] for at in np.flatnonzero(samples.drug[rows] == drug)]
        row, drug_id = samples.drugs.iloc[drug], str(samples.drugs.index[drug])
        name = row.get("name")
        named = name if isinstance(name, str) and name else drug_id
        made.append(DrugAtoms(drug_id, named, row["smiles"], np.mean(of_drug, axis=0), len(of_drug)))
    return made


def drawings(found: Sequence[DrugAtoms], unit: str) -> dict[str, str]:
    """Return an SVG for each drug, by the name in `table`."""
    return {f"molecule_{number}": draw(drug, unit) for number, drug in enumerate(found, start=1)}


def table(found: Sequence[DrugAtoms]) -> pd.DataFrame:
    """Return a row an atom; ``atom`` counts from 0 in the order of the canonical SMILES, as drawn."""
    rows = [
        (f"molecule_{number}", drug.drug_id, drug.name, index, symbol, float(contribution), drug.rows)
        for number, drug in enumerate(found, start=1)
        for index, (symbol, contribution) in enumerate(zip(drug.elements, drug.contributions, strict=True))
    ]
    return pd.DataFrame(rows, columns=["drawing", "drug_id", "drug", "atom", "element", "contribution", "rows"])


def draw(drug: DrugAtoms, unit: str) -> str:
    """Return a molecule as SVG, its atoms colored by their contributions, with a legend and a description."""
    molecule = drawn_molecule(drug.smiles)
    if molecule is None or molecule.GetNumAtoms() != len(drug.contributions):
        raise ValueError(f"{drug.drug_id}: {len(drug.contributions)} contributions do not fit {drug.smiles!r}")
    limit = float(np.abs(drug.contributions).max()) or 1.0
    shades = _SHADES(0.5 + drug.contributions / limit * (0.5 - _LEFT_OUT))
    colors = {atom: tuple(map(float, shade[:3])) for atom, shade in enumerate(shades)}
    drawer = rdMolDraw2D.MolDraw2DSVG(_WIDTH, _HEIGHT)
    options: Any = drawer.drawOptions()
    options.useBWAtomPalette()  # colors are of contributions only
    options.addAtomIndices = True  # as in the table
    options.annotationFontScale = 0.45
    rdMolDraw2D.PrepareAndDrawMolecule(
        drawer, molecule, highlightAtoms=list(colors), highlightAtomColors=colors, highlightBonds=[]
    )
    drawer.FinishDrawing()
    legend = (
        drug.title,
        f"what each atom adds to {unit}, {drug.over}",
        f"red raises it, blue lowers it; the darkest by {limit:.2g}",
    )
    return _framed(drawer.GetDrawingText(), legend, described(drug, unit))


def described(drug: DrugAtoms, unit: str) -> str:
    """Return in words what the colors show: the atoms that add most, either way."""
    symbols, values = drug.elements, drug.contributions
    order = np.argsort(-np.abs(values), kind="stable")[:5]
    most = ", ".join(f"{symbols[atom]} {atom}: {values[atom]:+.2g}" for atom in order)
    return (
        f"The molecule of {drug.title} with {len(values)} atoms, colored by what each adds to {unit}, {drug.over}: "
        f"red raises it, blue lowers it. The largest: {most}; all together {values.sum():+.2g}."
    )


def _framed(svg: str, legend: Sequence[str], description: str) -> str:
    """Return RDKit's drawing with a legend below, and title and description for screen readers."""
    root = ET.fromstring(svg)
    height = _HEIGHT + _LEGEND
    root.attrib |= {"height": f"{height}px", "viewBox": f"0 0 {_WIDTH} {height}", "style": "background:#ffffff"}
    root.attrib |= {"role": "img", "aria-labelledby": "title description"}
    for place, (tag, name, text) in enumerate((("title", "title", legend[0]), ("desc", "description", description))):
        root.insert(place, element := ET.Element(f"{{{_SVG}}}{tag}", {"id": name}))
        element.text = text
    style = {"font-size": "13", "font-family": "sans-serif", "text-anchor": "middle", "fill": "#111827"}
    for line, text in enumerate(legend):
        place_of = {"x": str(_WIDTH / 2), "y": str(_HEIGHT + 14 + 20 * line)}
        ET.SubElement(root, f"{{{_SVG}}}text", {**place_of, **style}).text = text
    return ET.tostring(root, encoding="unicode")
