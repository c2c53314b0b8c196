"""What was measured: profiles of a task's raw data, and how drugs usually do. Pandas is loaded here, not before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.dataset  # pandas imports it with the first filter; here one thread imports at a time

from pipelines.errors import UserError
from pipelines.samples.raw_files import RESPONSE_FILE


def profiles(path: Path, key: str, ids: Sequence[str]) -> pd.DataFrame:
    """Return rows of a wide table by their ids; ids that it lacks are left out.

    Raises
    ------
    UserError
        It cannot be read.
    """
    try:
        found = pd.read_parquet(path, filters=[(key, "in", list(ids))])
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read; bring the data back with `dvc pull data.dvc`") from error
    return found.set_index(key)


def usual_responses(folder: Path, target: str) -> dict[str, float]:
    """Return the median of what was measured for each drug, by ``drug_id``; empty where it cannot be told."""
    try:
        table = pd.read_parquet(folder / RESPONSE_FILE, columns=["drug_id", target])
    except (OSError, ValueError, pyarrow.ArrowException):
        return {}
    return {str(drug): float(value) for drug, value in table.groupby("drug_id")[target].median().items()}
