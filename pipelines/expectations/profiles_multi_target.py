"""What raw profiles must satisfy where genes are predicted from genes: there are targets, and predictors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.expectations import Check, tell_table
from pipelines.expectations.checks import at_least
from pipelines.expectations.profile_targets import ProfileTargets
from pipelines.samples.expression import EXPRESSION_FILE, GENES_FILE, LANDMARK
from pipelines.samples.gene_names import find_gene


class TargetGeneRules(ProfileTargets):
    """What must hold of target genes and of landmarks."""

    def gene_fault(self, genes: Sequence[str], task: Any) -> str | None:
        """Return what is wrong with the name of the gene that is to be predicted."""
        if task.data.targets != "most_variable":
            try:
                find_gene(task.data.targets, genes)
            except UserError as error:
                return f"{error}; data.targets in params.yaml names it"
        return None

    def landmark_checks(self, frame: pd.DataFrame, landmarks: int, others: int, task: Any) -> list[Check]:
        """Refuse a table without landmarks to predict from, or without other genes to predict."""
        if not task.needs_landmarks:
            return []
        frame["landmarks"], frame["others"] = landmarks, others
        message = f"no landmark is a column of {EXPRESSION_FILE}; mark some, or set data.predictors: all in params.yaml"
        checks = [at_least("landmarks", 1, tell_table("landmarks_present", GENES_FILE, message, LANDMARK))]
        if task.data.targets == "most_variable":
            message = "all genes are landmarks, and none is left to predict; add others, or set data.predictors: all"
            checks.append(at_least("others", 1, tell_table("targets_left", GENES_FILE, message, LANDMARK)))
        return checks


RULES = TargetGeneRules()
