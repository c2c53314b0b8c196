"""Raw data of kind ``response``: a tiny valid folder, the same bytes every time, and tables in memory."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from pipelines.modalities.pairs import PairsSplit, PairsTask
from pipelines.params import read_params
from pipelines.samples.formats import ResponseTables
from pipelines.samples.response import ResponseSamples, keep_samples

ROOT = Path(__file__).parents[2]
REAL_DATA = ROOT.parent / "shared" / "data" / "drug_response"
NAME = "drug_response"
MODES: tuple[str, ...] = ("random", "cell_blind", "drug_blind", "tissue_blind")
CELL_LINES = [f"LINE-{number:02d}" for number in range(1, 13)]
GENES = ["TP53", "KRAS", "EGFR", "MYC", "PTEN", "BRAF"]
SMILES = {
    "DRUG-1": "CC(=O)Oc1ccccc1C(=O)O",
    "DRUG-2": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "DRUG-3": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "DRUG-4": "C1CCCCC1",
    "DRUG-5": "c1ccncc1",
    "DRUG-6": None,  # as in the real tables: a drug whose structure nobody has told
}
TISSUES = ("lung", "breast", "skin", "ovary", "kidney", "liver", "bone", "pleura")


def shipped_task() -> PairsTask:
    return cast(PairsTask, read_params(ROOT / "params.yaml").task(NAME))


def split_of(mode: str, **settings: Any) -> PairsSplit:
    """Return a split of few folds, since the tables here are small."""
    split: dict[str, Any] = {"mode": mode, "test": 0.2, "validation": 0.1, "folds": 3, "near_identical": 0.99}
    return PairsSplit(**split | settings)


def make_tables(
    lines: int = 24, drugs: int = 12, *, tissues: Sequence[str | None] = TISSUES, genes: int = 12, seed: int = 0
) -> ResponseTables:
    """Return tables in which every cell line met every drug once, in one study, and no two are alike.

    Line ``L00`` is of ``tissues[0]``, ``L01`` of ``tissues[1]`` and so on, over and over.
    """
    rng = np.random.default_rng(seed)
    line_ids, drug_ids = [[f"{kind}{at:02d}" for at in range(count)] for kind, count in (("L", lines), ("D", drugs))]
    pairs = pd.MultiIndex.from_product([["GDSC1"], line_ids, drug_ids], names=["study", "cell_line_id", "drug_id"])
    response = pairs.to_frame(index=False).astype(object)
    response["ln_ic50"] = rng.normal(2, 2, len(response)).astype(np.float32)
    about = [(line, f"line {at}", tissues[at % len(tissues)]) for at, line in enumerate(line_ids)]
    cell_lines = pd.DataFrame(about, columns=["cell_line_id", "name", "tissue"], dtype=object)
    told = [(drug, f"drug {at}", str(1000 + at), "C" * (at + 1) + "O") for at, drug in enumerate(drug_ids)]
    molecules = pd.DataFrame(told, columns=["drug_id", "name", "pubchem_id", "smiles"], dtype=object)
    values = {
        "expression": rng.uniform(0, 12, (lines, genes)),
        "mutation": rng.random((lines, genes)) < 0.2,
        "copy_number": rng.lognormal(0, 0.3, (lines, genes)),
        "methylation": rng.uniform(0, 1, (lines, genes)),
    }
    omics = {name: pd.DataFrame(each.astype(np.float32)).add_prefix("G") for name, each in values.items()}
    for table in omics.values():
        table.insert(0, "cell_line_id", cell_lines["cell_line_id"])
    return ResponseTables(response, cell_lines, molecules, omics)


def with_cell(tables: ResponseTables, table: str, key: str, column: str, value: Any) -> ResponseTables:
    """Return the tables with ``value`` in ``column`` of the rows ``key`` (ids, by blanks) of a table."""
    frame: pd.DataFrame = getattr(tables, table)
    changed = frame[column].astype(object).where(~frame.iloc[:, 0].isin(key.split()), value)
    other: dict[str, Any] = {table: frame.assign(**{column: changed})}
    return replace(tables, **other)


def with_profile(tables: ResponseTables, omics: str, line: str, values: np.ndarray) -> ResponseTables:
    frame = tables.omics[omics].copy()
    frame.loc[frame["cell_line_id"] == line, frame.columns[1:]] = np.asarray(values, np.float32)
    return replace(tables, omics=tables.omics | {omics: frame})


def profile(tables: ResponseTables, omics: str, line: str) -> np.ndarray:
    frame = tables.omics[omics].set_index("cell_line_id")
    return frame.loc[line].to_numpy(np.float32)


def without_profile(tables: ResponseTables, omics: str, *lines: str) -> ResponseTables:
    frame = tables.omics[omics]
    return replace(tables, omics=tables.omics | {omics: frame[~frame["cell_line_id"].isin(lines)]})


def shuffled(tables: ResponseTables, seed: int) -> ResponseTables:
    rng = np.random.default_rng(seed)

    def mixed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)

    omics = {name: mixed(table) for name, table in tables.omics.items()}
    return ResponseTables(mixed(tables.response), mixed(tables.cell_lines), mixed(tables.drugs), omics)


def samples_of(tables: ResponseTables, task: PairsTask) -> ResponseSamples:
    return keep_samples(tables, task).samples


def write_response_folder(folder: Path) -> Path:
    """Write 12 cell lines, 10 of them with omics, 6 drugs and all 72 pairs; return ``folder``."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [("GDSC1", cell_line, drug) for drug in SMILES for cell_line in CELL_LINES]
    response = pd.DataFrame(pairs, columns=["study", "cell_line_id", "drug_id"])
    response["ln_ic50"] = rng.normal(2.0, 2.0, len(pairs)).astype(np.float32)
    response.to_parquet(folder / "response.parquet", index=False)
    tissues = [("lung", "breast", "skin")[number % 3] for number in range(len(CELL_LINES))]
    cell_lines = pd.DataFrame({"cell_line_id": CELL_LINES, "tissue": tissues})
    cell_lines.to_csv(folder / "cell_lines.csv", index=False)
    drugs = pd.DataFrame({"drug_id": list(SMILES), "name": list(SMILES), "smiles": list(SMILES.values())})
    drugs.to_csv(folder / "drugs.csv", index=False)

    measured = CELL_LINES[:10]
    shape = (len(measured), len(GENES))
    promoters = [f"{gene}_1_1000_2000" for gene in GENES]
    mutation = rng.integers(0, 2, shape).astype(np.int8)
    mutation[:, 0] = 0  # a gene that no line has mutated is nothing unusual
    for name, columns, values in (
        ("expression", GENES, rng.uniform(0.0, 12.0, shape).astype(np.float32)),
        ("copy_number", GENES, rng.lognormal(0.0, 0.3, shape).astype(np.float32)),
        ("methylation", promoters, rng.uniform(0.0, 1.0, shape).astype(np.float32)),
        ("mutation", GENES, mutation),
    ):
        table = pd.DataFrame(values, columns=columns)
        table.insert(0, "cell_line_id", measured)
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder
