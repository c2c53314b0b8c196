"""Signs that a cohort is in other units than the training data: warnings, and findings that refuse it."""

from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding
from pipelines.units import Doubt
from training.features.units import LIMITS, outside


class Doubts:
    """Warnings and findings of the tables of a cohort."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.findings: list[Finding] = []

    def doubt(self, file: str, doubt: Doubt | None, column: str | None = None) -> None:
        """Add a doubt: a finding where it is certain."""
        if doubt is not None and doubt.certain:
            message = f"{doubt.message}; bring the values to the model's unit"
            self.findings.append(Finding("units", file, message, column))
        elif doubt is not None:
            self.warnings.append(f"{file}: {doubt.message}")

    def compare(self, file: str, table: str, values: np.ndarray, features: list[str], unit: dict[str, Any]) -> None:
        """Compare profiles with the unit of the training profiles: a finding where most lie outside."""
        strange = [said for said in outside(values, features, unit, table) if said]
        if 2 * len(strange) > len(values):
            message = f"{len(strange)} of {len(values)} profiles are not as those that the model was trained on: "
            self.findings.append(Finding("units", file, f"{message}{strange[0]}; bring them to its unit"))
        elif strange:
            self.warnings.append(f"{file}: {len(strange)} of {len(values)} profiles: {strange[0]}")

    def limit(self, file: str, scale: str, table: pd.DataFrame) -> None:
        """Add a finding where values cannot be of a scale."""
        (lowest, highest, what), values = LIMITS[scale], table.to_numpy(np.float64)
        broken = (scale == "mutation") & np.isfinite(values) & (values % 1 != 0)
        wrong = (values < lowest) | (values > highest) | broken
        if wrong.any():
            row, column = (int(each[0]) for each in np.nonzero(wrong))
            message = f"{str(table.index[row])!r} has {values[row, column]:g}, one of {wrong.sum()} such values; {what}"
            self.findings.append(Finding("units", file, message, str(table.columns[column])))

    def judged(self) -> list[str]:
        """Return the warnings; raise the findings, if there are any."""
        if self.findings:
            raise DataError(self.findings)
        return self.warnings
