"""The prediction log: all readable files, the rows of one version, and what was left out."""

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
    """The rows of a version by time; why files were not read, and how many rows other versions have."""

    rows: pd.DataFrame
    files: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    other_versions: dict[str, int] = field(default_factory=dict)

    def inputs(self, columns: Iterable[str]) -> pd.DataFrame:
        """Return the logged summaries of ``columns``; raises `UserError` where the log lacks one."""
        wanted = [INPUT + column for column in columns]
        if lacking := [column for column in wanted if column not in self.rows]:
            raise UserError(f"the log lacks {', '.join(lacking[:5])}, which the version has")
        return self.rows[wanted].rename(columns=lambda name: name.removeprefix(INPUT))

    def as_dict(self) -> dict[str, Any]:
        """Return the section of the report."""
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
    """Read the rows of a version from ``since`` on; raises `UserError` where there are fewer than ``least``."""
    rows, files, skipped = read_rows(folder, task)
    if since is not None:
        rows = rows[rows["time"] >= since]
    versions = rows["model_version"].astype(str)
    counts = versions[versions != version].value_counts().sort_index()
    others = {str(name): int(count) for name, count in counts.items()}
    rows = rows[versions == version].sort_values("time", kind="stable").reset_index(drop=True)
    if len(rows) < least:
        there = ", ".join(f"{count} of version {name}" for name, count in others.items())
        raise UserError(
            f"{folder}: {len(rows)} logged rows of {task} version {version}, at least {least} are needed for a "
            "statement" + (f" (there are {there})" if there else "")
        )
    return Logged(rows, files, skipped, others)


def read_rows(folder: Path, task: str) -> tuple[pd.DataFrame, int, dict[str, str]]:
    """Return all rows of a task in the log ``folder``, the number of files, and why others were not read."""
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
        named = f" ({len(skipped)} that cannot be read: {', '.join(list(skipped)[:3])})" if skipped else ""
        raise UserError(f"{own}: there is no prediction log in it{named}")
    return pd.concat(tables, ignore_index=True), len(tables), skipped


def since_time(text: str) -> datetime | None:
    """Return an ISO date or time, in UTC where it names no zone; None for an empty text."""
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
