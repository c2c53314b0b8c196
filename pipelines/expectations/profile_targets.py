"""What raw profiles must satisfy because of the target; a module ``profiles_<problem>`` has the rules of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipelines.expectations import Suite


class ProfileTargets:
    """Rules of the target; none, unless a problem overrides them."""

    def known(self, samples: pd.DataFrame, task: Any) -> pd.Series:
        """Return which rows of ``samples.csv`` have a target, bool."""
        return pd.Series(True, index=samples.index)

    def sample_suites(self, samples: pd.DataFrame, task: Any) -> list[Suite]:
        """Return the suites of the rows of ``samples.csv``."""
        return []

    def kept_suites(self, samples: pd.DataFrame, kept: pd.DataFrame, task: Any) -> list[Suite]:
        """Return the suites of the rows of ``samples`` that the rules of ``data`` keep."""
        return []

    def gene_fault(self, genes: Sequence[str], task: Any) -> str | None:
        """Return what is wrong with the genes that the task names; ``genes`` are those of the table."""
        return None

    def landmark_suites(self, landmarks: int, others: int, task: Any) -> list[Suite]:
        """Return the suites of how many genes of the table are landmarks, and how many are not."""
        return []


RULES = ProfileTargets()
