"""What raw profiles must satisfy for the sake of what is predicted: a module ``profiles_<problem>`` says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipelines.expectations import Check, Suite


class ProfileTargets:
    """What must hold of the target; nothing, unless a problem says otherwise."""

    def known(self, samples: pd.DataFrame, task: Any) -> pd.Series:
        """Return which rows of ``samples.csv`` have a target, bool."""
        return pd.Series(True, index=samples.index)

    def sample_checks(self, frame: pd.DataFrame, samples: pd.DataFrame, task: Any) -> list[Check]:
        """Add columns to the ``frame`` of ``samples.csv``, a row a sample, and return what must hold of them."""
        return []

    def kept_checks(
        self, frame: pd.DataFrame, samples: pd.DataFrame, kept: pd.DataFrame, task: Any
    ) -> tuple[list[Check], list[Suite]]:
        """Add to ``frame``, a row for all, what must hold of the samples that the rules keep; and further suites."""
        return [], []

    def gene_fault(self, genes: Sequence[str], task: Any) -> str | None:
        """Return what is wrong with the genes that the task names; ``genes`` are those of the table."""
        return None

    def landmark_checks(self, frame: pd.DataFrame, landmarks: int, others: int, task: Any) -> list[Check]:
        """Add to ``frame``, a row for all, what must hold of how many genes are landmarks and how many are not."""
        return []


RULES = ProfileTargets()
