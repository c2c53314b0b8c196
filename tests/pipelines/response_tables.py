"""Raw tables of kind ``response`` in memory, for tests that need many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
TISSUES = ("lung", "breast", "skin", "ovary", "kidney", "liver", "bone", "pleura")


def shipped_task() -> PairsTask:
    task = read_params(ROOT / "params.yaml").task(NAME)
    assert isinstance(task, PairsTask)
    return task


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
    cell_lines = pd.DataFrame(
        {
            "cell_line_id": pd.Series(line_ids, dtype=object),
            "name": [f"line {number}" for number in range(lines)],
            "tissue": pd.Series([tissues[number % len(tissues)] for number in range(lines)], dtype=object),
        }
    )
    molecules = pd.DataFrame(
        {
            "drug_id": pd.Series(drug_ids, dtype=object),
            "name": [f"drug {number}" for number in range(drugs)],
            "pubchem_id": [str(1000 + number) for number in range(drugs)],
            "smiles": pd.Series(["C" * (number + 1) + "O" for number in range(drugs)], dtype=object),
        }
    )
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
    """Return the tables with ``value`` in ``column`` of the row ``key`` of ``cell_lines`` or ``drugs``."""
    frame: pd.DataFrame = getattr(tables, table)
    changed = frame[column].astype(object).where(frame.iloc[:, 0] != key, value)
    other: dict[str, Any] = {table: frame.assign(**{column: changed})}
    return replace(tables, **other)


def with_profile(tables: ResponseTables, omics: str, line: str, values: np.ndarray) -> ResponseTables:
    """Return the tables with another profile of ``line``."""
    frame = tables.omics[omics].copy()
    frame.loc[frame["cell_line_id"] == line, frame.columns[1:]] = np.asarray(values, np.float32)
    return replace(tables, omics=tables.omics | {omics: frame})


def profile(tables: ResponseTables, omics: str, line: str) -> np.ndarray:
    frame = tables.omics[omics].set_index("cell_line_id")
    return frame.loc[line].to_numpy(np.float32)


def without_profile(tables: ResponseTables, omics: str, *lines: str) -> ResponseTables:
    """Return the tables without the rows of ``lines`` in ``omics``."""
    frame = tables.omics[omics]
    return replace(tables, omics=tables.omics | {omics: frame[~frame["cell_line_id"].isin(lines)]})


def shuffled(tables: ResponseTables, seed: int) -> ResponseTables:
    """Return the tables with the rows of every file in another order."""
    rng = np.random.default_rng(seed)

    def mixed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True)

    omics = {name: mixed(table) for name, table in tables.omics.items()}
    return ResponseTables(mixed(tables.response), mixed(tables.cell_lines), mixed(tables.drugs), omics)


def samples_of(tables: ResponseTables, task: PairsTask) -> ResponseSamples:
    return keep_samples(tables, task).samples
