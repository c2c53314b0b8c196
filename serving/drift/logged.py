"""Reading the prediction log: all files that can be read, the rows of one version, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from pipelines.errors import UserError
from training.model.prediction_log import INPUT

_NEEDED = ("time", "model_version", "out_of_distribution")


@dataclass(frozen=True)
class Logged:
    """What was read of a log.

    Attributes
    ----------
    rows
        Of the version, ordered by time; columns as `training.model.prediction_log` writes them.
    files
        How many files were read.
    skipped
        File to the reason why it was not.
    other_versions
        Version to how many of its rows were left out.
    """

    rows: pd.DataFrame
    files: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    other_versions: dict[str, int] = field(default_factory=dict)

    def inputs(self, columns: Iterable[str]) -> pd.DataFrame:
        """Return the logged summaries of ``columns`` under their own names.

        Raises
        ------
        UserError
            The log lacks a column: it was written by a model with other summaries.
        """
        wanted = list(columns)
        if lacking := [column for column in wanted if INPUT + column not in self.rows]:
            raise UserError(
                f"the log lacks {', '.join(INPUT + column for column in lacking[:5])}, which the version has"
            )
        return self.rows[[INPUT + column for column in wanted]].set_axis(wanted, axis=1)

    def as_dict(self) -> dict[str, Any]:
        """Return what a report says of it."""
        times = self.rows["time"]
        return {
            "rows": len(self.rows),
            "first": times.min().isoformat(),
            "last": times.max().isoformat(),
            "files": self.files,
            "skipped_files": self.skipped,
            "rows_of_other_versions": self.other_versions,
        }


def read_log(folder: Path, task: str, version: str, *, least: int, since: datetime | None = None) -> Logged:
    """Read the log in ``folder``.

    Parameters
    ----------
    folder
        What ``ONCOLINEAGE_PREDICTION_LOG`` names, or its part of one task; Parquet files at any depth.
    task, version
        Whose rows are wanted.
    least
        Fewer rows allow no statement.
    since
        Earlier rows are left out.

    Raises
    ------
    UserError
        There is no log, or fewer than ``least`` rows of the version in it.
    """
    rows, files, skipped = read_rows(folder, task)
    if since is not None:
        rows = rows[rows["time"] >= since]
    versions = rows["model_version"].astype(str)
    others = versions[versions != version].value_counts().sort_index()
    rows = rows[versions == version].sort_values("time", kind="stable").reset_index(drop=True)
    if len(rows) < least:
        told = ", ".join(f"{count} of version {name}" for name, count in others.items())
        raise UserError(
            f"{folder}: {len(rows)} logged rows of {task} version {version}, at least {least} are needed for a "
            "statement" + (f" (there are {told})" if told else "")
        )
    named = {str(name): int(count) for name, count in others.items()}
    return Logged(rows, files, skipped, named)


def read_rows(folder: Path, task: str) -> tuple[pd.DataFrame, int, dict[str, str]]:
    """Read all rows of a task's log, of whatever version; return also how many files, and why others were not read.

    Raises
    ------
    UserError
        There is no log.
    """
    own = folder / task if (folder / task).is_dir() else folder
    if not own.is_dir():
        raise UserError(
            f"{str(folder)!r}: no such folder; set ONCOLINEAGE_PREDICTION_LOG to it where the model is served"
        )
    tables, skipped = [], {}
    for path in sorted(path for path in own.rglob("*.parquet") if not path.name.startswith(".")):
        try:
            tables.append(_table(path))
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            skipped[path.relative_to(own).as_posix()] = " ".join(str(error).split())[:200]
    if not tables:
        told = f" ({len(skipped)} that cannot be read: {', '.join(list(skipped)[:3])})" if skipped else ""
        raise UserError(f"{own}: there is no prediction log in it{told}")
    return pd.concat(tables, ignore_index=True), len(tables), skipped


def since_time(text: str) -> datetime | None:
    """Return the moment that an ISO date or time names, in UTC where it says no zone; None for an empty text."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--since {text!r} is no date; write 2026-11-20 or 2026-11-20T08:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _table(path: Path) -> pd.DataFrame:
    table = pyarrow.parquet.ParquetFile(path).read().to_pandas()
    if lacking := [column for column in _NEEDED if column not in table]:
        raise ValueError(f"lacks the column {', '.join(lacking)}")
    return table.assign(time=pd.to_datetime(table["time"], utc=True))
