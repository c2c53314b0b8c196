"""What the evidence of a model is made of, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.metrics.resample import Interval


@dataclass(frozen=True)
class Evidence:
    """Measured and explained, before it is written.

    Attributes
    ----------
    metrics
        Of the test rows, by name.
    strata
        The same within parts of the test rows.
    test
        What else ``evidence.json`` says of the test rows.
    sections
        Further sections of ``evidence.json``.
    simulated
        Whether the test rows are simulated.
    tables, figures, drawings
        Written as ``<name>.csv``, ``<name>.png`` and ``<name>.svg``; a drawing is the text of the SVG.
    logged
        Further metrics of the run.
    warnings
        Sentences for the terminal.
    """

    metrics: dict[str, Interval]
    strata: dict[str, dict[str, Interval]]
    test: dict[str, Any]
    sections: dict[str, Any]
    simulated: bool
    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]
    logged: dict[str, float]
    warnings: list[str] = field(default_factory=list)
    drawings: dict[str, str] = field(default_factory=dict)

    def to_log(self) -> dict[str, float]:
        """Return the metrics of the run: ``test_<metric>``, with ``_low`` and ``_high``, as far as they are defined."""
        named = {f"test_{key}": value for key, value in self.metrics.items()}
        named |= {f"test_{key}_{part}": value for part, found in self.strata.items() for key, value in found.items()}
        logged = dict(self.logged)
        for key, interval in named.items():
            for suffix, number in (("", interval.value), ("_low", interval.low), ("_high", interval.high)):
                if np.isfinite(number):
                    logged[key + suffix] = number
        return logged
