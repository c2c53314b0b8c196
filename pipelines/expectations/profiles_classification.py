"""What raw profiles must satisfy where classes are predicted: labels, and enough patients of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.expectations import Check, Suite, Tell, some, tell_rows, tell_table
from pipelines.expectations.checks import all_true, at_least
from pipelines.expectations.profile_targets import ProfileTargets
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.text_values import quoted

PATIENT, LABEL = "patient_id", "label"


class LabelRules(ProfileTargets):
    """What must hold of labels."""

    def known(self, samples: pd.DataFrame, task: Any) -> pd.Series:
        """Return which samples have a label."""
        return samples[LABEL].notna()

    def sample_checks(self, frame: pd.DataFrame, samples: pd.DataFrame, task: Any) -> list[Check]:
        """Tell samples without a label, which are dropped."""
        frame[LABEL] = samples[LABEL].notna()
        message = "is empty; the samples are dropped"
        tell = tell_rows("label_known", SAMPLES_FILE, LABEL, message)
        return [all_true(LABEL, tell, tolerated=1.0)]

    def kept_checks(
        self, frame: pd.DataFrame, samples: pd.DataFrame, kept: pd.DataFrame, task: Any
    ) -> tuple[list[Check], list[Suite]]:
        """Tell labels of which nothing is left, classes that are too small, and patients of several labels."""
        checks: list[Check] = []
        made: list[Suite] = []
        labels = set(samples[LABEL].dropna())
        gone = sorted(labels - set(kept[LABEL]))
        frame["left"] = not gone
        which = quoted(gone, ROWS_SHOWN)
        message = f"no sample is left of {which} after the rules of data in params.yaml; no model will know them"
        tell = tell_table("labels_left", SAMPLES_FILE, message, LABEL)
        checks.append(all_true("left", tell, tolerated=1.0))
        patients = kept.groupby(LABEL)[PATIENT].nunique().rename_axis(LABEL).reset_index(name="patients")
        minimum, dropped = task.data.minimum_patients, task.data.small_classes == "drop"
        large = int((patients["patients"] >= minimum).sum())
        frame["classes"] = large
        message = f"{large} classes have at least {minimum} patients, 2 are needed; add samples of other labels"
        checks.append(at_least("classes", 2, tell_table("classes_enough", SAMPLES_FILE, message, LABEL)))
        if len(patients):
            patients["large"] = patients["patients"] >= minimum
            small = all_true("large", _tell_small(patients, minimum), tolerated=1.0 if dropped else 0.0)
            made.append(Suite("samples.classes", patients, (small,)))
            of_patient = kept.groupby(PATIENT)[LABEL].nunique().rename_axis(PATIENT).reset_index(name="labels")
            one = Check(
                gxe.ExpectColumnValuesToBeBetween(column="labels", max_value=1, mostly=0.0),
                _tell_patients(of_patient[PATIENT], kept, samples),
            )
            made.append(Suite("samples.patients", of_patient, (one,)))
        return checks, made


def _tell_small(patients: pd.DataFrame, minimum: int) -> Tell:
    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        small = patients.iloc[list(positions)]
        listed = [f"{label!r} ({count})" for label, count in zip(small[LABEL], small["patients"], strict=True)]
        todo = (
            "they are dropped, and no model will know them"
            if severity == "warning"
            else "add patients, exclude the classes, or set data.small_classes in params.yaml to drop"
        )
        message = f"{len(small)} classes have fewer than {minimum} patients: {some(listed)}; {todo}"
        values = tuple(small[LABEL].iloc[:ROWS_SHOWN])
        return [Finding("class_large_enough", SAMPLES_FILE, message, LABEL, severity=severity, values=values)]

    return tell


def _tell_patients(patients: pd.Series, kept: pd.DataFrame, table: pd.DataFrame) -> Tell:
    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        several = patients.iloc[list(positions)]
        labels = kept[kept[PATIENT].isin(several)].groupby(PATIENT)[LABEL].unique()
        listed = [f"{patient!r} ({' and '.join(sorted(map(repr, names)))})" for patient, names in labels.items()]
        rows = np.flatnonzero(table[PATIENT].isin(several).to_numpy())
        message = f"{len(several)} patients have samples of several labels: {some(listed)}; look whether they are two"
        return [Finding.at_rows("patient_one_label", SAMPLES_FILE, LABEL, rows, message, several, severity)]

    return tell


RULES = LabelRules()
