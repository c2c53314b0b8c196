"""Reading raw folders of expression and response, with every check, against plain pandas, which checks nothing."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.modalities.pairs import PairsTask
from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import read_params
from pipelines.simulate.expression import simulate_tumor_type
from pipelines.simulate.response import Size, simulate_drug_response
from tests.bench.measured import Record, paired


def plain_expression(folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Return what a script would: the matrix as float32, and the samples in its order."""
    table = pd.read_parquet(folder / "expression.parquet").set_index("sample_id")
    about = pd.read_csv(folder / "samples.csv").set_index("sample_id").reindex(table.index)
    return table.to_numpy(np.float32), about


def plain_response(folder: Path, omics: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return what a script would: the pairs joined with what is known of lines and drugs, and the omics by line."""
    pairs = pd.read_parquet(folder / "response.parquet")
    pairs = pairs.merge(pd.read_csv(folder / "cell_lines.csv"), on="cell_line_id")
    pairs = pairs.merge(pd.read_csv(folder / "drugs.csv"), on="drug_id")
    return pairs, {name: pd.read_parquet(folder / f"{name}.parquet").set_index("cell_line_id") for name in omics}


def table_reading(small: bool = False) -> list[Record]:
    """Read raw folders into samples: checked, filtered by the task's rules, each profile hashed.

    pandas reads and joins the same files and checks nothing: the ratio is what the checks cost.
    """
    tasks = read_params().tasks
    rounds = 3 if small else 9
    with tempfile.TemporaryDirectory() as name:
        profiles, pairs = Path(name) / "profiles", Path(name) / "pairs"
        simulate_tumor_type(profiles, patients=320 if small else 3000)
        size = Size(lines=60, molecules=20, genes=200, programs=4) if small else Size(400, 100, 1000, 8)
        simulate_drug_response(pairs, size)
        expression, response = tasks["tumor_type"], tasks["drug_response"]
        assert isinstance(expression, ProfilesTask) and isinstance(response, PairsTask)
        omics = tuple(response.data.omics)
        rows = dataclasses.replace(response.validate, minimum_rows=1)
        response = dataclasses.replace(response, validate=rows)
        shape = plain_expression(profiles)[0].shape
        records = []
        for title, mine, theirs in (
            (
                f"expression, {shape[0]} profiles of {shape[1]} genes",
                lambda: expression.read(profiles),
                lambda: plain_expression(profiles),
            ),
            (
                f"response, {len(plain_response(pairs, omics)[0])} pairs and {len(omics)} omics",
                lambda: response.read(pairs),
                lambda: plain_response(pairs, omics),
            ),
        ):
            seconds, other, ratio = paired(mine, theirs, rounds=rounds)
            record = Record(
                *(f"reading {title}", 1e3 * seconds, 1e3 * other, 1 / ratio, "ms"),
                higher_is_better=False,
                sides=("with checks", "pandas without"),
            )
            records.append(record)
    return records
