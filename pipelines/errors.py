"""A fault in data: its file, column and rows, and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

ROWS_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One expectation that the data did not meet."""

    expectation: str  # its name, in snake case
    file: str
    message: str  # what is wrong and what to do
    column: str | None = None  # None where the fault is the whole file's
    rows: tuple[int, ...] = ()  # the first `ROWS_SHOWN` at fault, counted from 1 for the first row of data
    count: int = 0  # of the rows at fault, all of them
    severity: str = "error"  # refuses the data; a `warning` is reported and counted
    values: tuple[Any, ...] = ()  # the first `ROWS_SHOWN` faulty ones, as text

    @classmethod
    def at_rows(
        cls,
        expectation: str,
        file: str,
        column: str | None,
        positions: Iterable[int],
        message: str,
        *,
        values: Iterable[Any] = (),
        severity: str = "error",
    ) -> Self:
        """Build a finding from zero-based ``positions`` of the rows at fault."""
        rows = [int(position) + 1 for position in positions]
        shown = tuple(str(value) for value in list(values)[:ROWS_SHOWN])
        return cls(expectation, file, message, column, tuple(rows[:ROWS_SHOWN]), len(rows), severity, shown)

    def __str__(self) -> str:
        where = self.file
        if self.column is not None:
            where += f", column {self.column}"
        if self.rows:
            more = f" and {self.count - len(self.rows)} more" if self.count > len(self.rows) else ""
            where += f", row{'s' if len(self.rows) > 1 else ''} {', '.join(map(str, self.rows))}{more}"
        return f"{where}: {self.message}"


class UserError(ValueError):
    """A fault that the user can correct; commands print it without a traceback and exit with 1."""


class DataError(UserError):
    """Raw data that cannot be used, with the findings that say why."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))
