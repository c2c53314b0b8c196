"""Simulated cell lines, drugs and responses in the raw format ``response``, by hidden programs and mutations."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

TISSUES = ("lung", "breast", "skin", "haematopoietic", "large_intestine", "ovary")
# A simulated drug is a core with two ends.
_CORES = ("c1ccc({a})cc1{b}", "c1nc({a})ncc1{b}", "c1cc({a})c2ccccc2c1{b}", "C1CN({a})CCN1{b}", "c1csc({a})c1{b}")
_ENDS = ("C(=O)N", "CCO", "C(F)(F)F", "CN(C)C", "OC", "CCCl", "S(=O)(=O)N", "C#N")


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    lines: int = 150
    molecules: int = 24
    genes: int = 160
    programs: int = 6


def simulate_drug_response(folder: Path, size: Size | None = None, seed: int = 7) -> None:
    """Write a raw folder of the task ``drug_response``, with the gaps of real collections."""
    size = size or Size()
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"SIM-{index:04d}" for index in range(size.lines)]
    tissue = rng.choice(TISSUES, size.lines)
    by_tissue = rng.normal(0, 1, (len(TISSUES), size.programs))
    programs = by_tissue[[TISSUES.index(each) for each in tissue]] * 0.6 + rng.normal(0, 1, (size.lines, size.programs))

    genes = [f"SIMG{index:04d}" for index in range(size.genes)]
    loadings = rng.normal(0, 1, (size.programs, size.genes)) * (rng.random((size.programs, size.genes)) < 0.3)
    expression = rng.uniform(2, 7, size.genes) + programs @ loadings + rng.normal(0, 0.5, (size.lines, size.genes))
    expression = np.clip(expression, 0, 15)
    copy_number = np.exp(rng.normal(0, 0.2, (size.lines, size.genes)))
    opened = rng.normal(0, 1.5, 40) - 0.5 * programs[:, [0]] + rng.normal(0, 1, (size.lines, 40))
    methylation = 1 / (1 + np.exp(-opened))
    mutable = min(30, size.genes)
    mutated = (rng.random((size.lines, mutable)) < 0.12).astype(np.int8)

    ends = list(itertools.permutations(_ENDS, 2))
    smiles = [core.format(a=first, b=second) for core in _CORES for first, second in ends]
    smiles = [smiles[index] for index in rng.permutation(len(smiles))[: size.molecules]]
    drugs = [("SIM1", index) for index in range(size.molecules)]
    drugs += [("SIM2", index) for index in range(0, size.molecules, 2)]
    level = rng.normal(2, 2, size.molecules)
    answer = rng.normal(0, 0.5, (size.programs, size.molecules)) * (rng.random((size.programs, size.molecules)) < 0.6)
    target = rng.integers(0, mutable, size.molecules)
    truth = level + programs @ answer - 1.2 * mutated[:, target]

    rows = []
    for study, molecule in drugs:
        noise = rng.normal(0.3 if study == "SIM2" else 0.0, 0.7, size.lines)
        for index in np.flatnonzero(rng.random(size.lines) < 0.9):
            rows.append((study, lines[index], f"{study}:{molecule:02d}", truth[index, molecule] + noise[index]))
    response = pd.DataFrame(rows, columns=["study", "cell_line_id", "drug_id", "ln_ic50"])
    response.astype({"ln_ic50": np.float32}).to_parquet(folder / "response.parquet", index=False)

    bare = rng.random(size.lines) < 0.1  # lines without expression, copy number and methylation
    unannotated = rng.random(size.lines) < 0.05
    names = [f"simulated line {index}" for index in range(size.lines)]
    about = {"cell_line_id": lines, "name": names, "tissue": np.where(unannotated, "", tissue), "simulated": True}
    pd.DataFrame(about).to_csv(folder / "cell_lines.csv", index=False)
    table = {
        "drug_id": [f"{study}:{molecule:02d}" for study, molecule in drugs],
        "name": [f"simulated drug {molecule}" for _, molecule in drugs],
        "pubchem_id": ["none" if molecule % 5 == 0 else str(900_000_000 + molecule) for _, molecule in drugs],
        "smiles": ["" if molecule in (3, 11) else smiles[molecule] for _, molecule in drugs],
    }
    pd.DataFrame(table).to_csv(folder / "drugs.csv", index=False)
    known = np.array(lines)[~bare]
    _write(folder / "expression.parquet", expression[~bare], genes, known)
    _write(folder / "copy_number.parquet", copy_number[~bare], genes, known)
    sites = [f"SIMG{index:04d}_promoter" for index in range(40)]
    _write(folder / "methylation.parquet", methylation[~bare], sites, known)
    sequenced = rng.random(size.lines) < 0.85
    _write(folder / "mutation.parquet", mutated[sequenced], genes[:mutable], np.array(lines)[sequenced], np.int8)


def _write(path: Path, values: np.ndarray, names: list[str], lines: np.ndarray, kind: type = np.float32) -> None:
    # Rounded for size.
    table = pd.DataFrame(np.round(values, 3).astype(kind), columns=names)
    table.insert(0, "cell_line_id", lines)
    table.to_parquet(path, index=False, compression="zstd")
