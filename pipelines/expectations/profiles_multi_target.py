"""What raw profiles must satisfy to predict genes from genes: there are targets, and predictors."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.expectations import Suite, between, report_table
from pipelines.samples.expression import EXPRESSION_FILE, GENES_FILE, LANDMARK
from pipelines.samples.gene_names import find_gene


def gene_fault(genes: Sequence[str], task: Any) -> str | None:
    """Return what is wrong with the name of the target gene."""
    if task.data.targets != "most_variable":
        try:
            find_gene(task.data.targets, genes)
        except UserError as error:
            return f"{error}; data.targets in params.yaml names it"
    return None


def landmark_suites(landmarks: int, others: int, task: Any) -> list[Suite]:
    """Refuse a table without landmarks to predict from, or without other genes to predict."""
    if not task.needs_landmarks:
        return []
    message = f"no landmark is a column of {EXPRESSION_FILE}; mark some, or set data.predictors: all in params.yaml"
    checks = [between("landmarks", report_table("landmarks_present", GENES_FILE, message, LANDMARK), low=1)]
    if task.data.targets == "most_variable":
        message = "all genes are landmarks, and none is left to predict; add others, or set data.predictors: all"
        checks.append(between("others", report_table("targets_left", GENES_FILE, message, LANDMARK), low=1))
    return [Suite("genes.landmarks", pd.DataFrame({"landmarks": [landmarks], "others": [others]}), checks)]
