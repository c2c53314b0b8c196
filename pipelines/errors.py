"""How a fault in data is told: by file, column and row, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

ROWS_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One expectation that the data did not meet.

    Attributes
    ----------
    expectation
        Name of the expectation, in snake case.
    file
        File name inside the task's folder.
    column
        Column, or None where the fault is the whole file's.
    rows
        Rows at fault, counted from 1 for the first row of data, at most `ROWS_SHOWN`.
    message
        What is wrong and what to do.
    count
        How many rows are at fault in all.
    severity
        ``error`` refuses the data; ``warning`` is reported and counted.
    """

    expectation: str
    file: str
    message: str
    column: str | None = None
    rows: tuple[int, ...] = ()
    count: int = 0
    severity: str = "error"
    values: tuple[Any, ...] = field(default=())

    @classmethod
    def at_rows(
        cls,
        expectation: str,
        file: str,
        column: str | None,
        positions: Iterable[int],
        message: str,
        values: Iterable[Any] = (),
        severity: str = "error",
    ) -> Finding:
        """Build a finding from zero-based ``positions`` of the rows at fault."""
        rows = [int(position) + 1 for position in positions]
        return cls(
            expectation,
            file,
            message,
            column,
            tuple(rows[:ROWS_SHOWN]),
            len(rows),
            severity,
            tuple(str(value) for value in list(values)[:ROWS_SHOWN]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return asdict(self)

    def __str__(self) -> str:
        where = self.file
        if self.column is not None:
            where += f", column {self.column}"
        if self.rows:
            more = f" and {self.count - len(self.rows)} more" if self.count > len(self.rows) else ""
            where += f", row{'s' if len(self.rows) > 1 else ''} {', '.join(map(str, self.rows))}{more}"
        return f"{where}: {self.message}"


class UserError(ValueError):
    """Something that the user can mend; commands print it without a traceback and exit with 1."""


class DataError(UserError):
    """Raw data that cannot be used; carries the findings that say why."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))
