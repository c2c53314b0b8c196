"""Measurements of a task's raw data: profiles, and the usual responses to drugs. It imports pandas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.dataset  # pandas imports it with the first filter: see `loading`

from pipelines.errors import UserError
from pipelines.samples.raw_files import RESPONSE_FILE


def profiles(path: Path, key: str, ids: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a wide table with these ids, as far as it has them; UserError if it cannot be read."""
    try:
        return pd.read_parquet(path, filters=[(key, "in", list(ids))]).set_index(key)
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; bring the data back with `dvc pull data.dvc`") from error


def usual_responses(folder: Path, target: str) -> dict[str, float]:
    """Return the median measured response by ``drug_id``; empty if the table cannot be read."""
    try:
        table = pd.read_parquet(folder / RESPONSE_FILE, columns=["drug_id", target])
    except (OSError, ValueError, pyarrow.ArrowException):
        return {}
    return {str(drug): float(value) for drug, value in table.groupby("drug_id")[target].median().items()}
