"""What raw profiles must satisfy to predict classes: labels, and enough patients of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import Finding
from pipelines.expectations import Report, Suite, report_names, report_rows, report_table, some
from pipelines.expectations.checks import between, filled
from pipelines.expectations.profile_targets import ProfileTargets
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.text_values import quoted

PATIENT, LABEL = "patient_id", "label"


class LabelRules(ProfileTargets):
    """Rules of labels."""

    def known(self, samples: pd.DataFrame, task: Any) -> pd.Series:
        """Return which samples have a label."""
        return samples[LABEL].notna()

    def sample_suites(self, samples: pd.DataFrame, task: Any) -> list[Suite]:
        """Warn of samples without a label, which are dropped."""
        report = report_rows("label_known", SAMPLES_FILE, LABEL, "is empty; the samples are dropped")
        return [Suite("samples.label", samples[[LABEL]], [filled(LABEL, report, warn=True)])]

    def kept_suites(self, samples: pd.DataFrame, kept: pd.DataFrame, task: Any) -> list[Suite]:
        """Check that labels keep samples, that classes are large enough, and that a patient has one label."""
        minimum, dropped = task.data.minimum_patients, task.data.small_classes == "drop"
        patients = kept.groupby(LABEL)[PATIENT].nunique()
        classes = pd.DataFrame({LABEL: sorted(samples[LABEL].dropna().unique())})
        classes["samples"] = classes[LABEL].map(kept[LABEL].value_counts()).fillna(0)
        classes["patients"] = classes[LABEL].map(patients)  # missing where no sample is left, which is reported once
        large = int((patients >= minimum).sum())
        few = f"{large} classes have at least {minimum} patients, 2 are needed; add samples of other labels"
        names = classes[LABEL].tolist()
        checks = [
            between("samples", report_names("labels_left", SAMPLES_FILE, names, _gone, LABEL), low=1, tolerated=1.0),
            between(
                "patients",
                report_names("class_large_enough", SAMPLES_FILE, names, _small(patients, minimum), LABEL),
                low=minimum,
                tolerated=1.0 if dropped else 0.0,
            ),
        ]
        enough = between("classes", report_table("classes_enough", SAMPLES_FILE, few, LABEL), low=2)
        labels = kept.groupby(PATIENT)[LABEL].nunique().reset_index(name="labels")
        one = between("labels", _report_patients(labels[PATIENT], kept, samples), high=1, tolerated=1.0)
        return [
            Suite("samples.labels", classes, checks),
            Suite("samples.classes", pd.DataFrame({"classes": [large]}), [enough]),
            Suite("samples.patients", labels, [one]),
        ]


def _gone(labels: list[str], _: str) -> str:
    return f"no sample is left of {quoted(labels, 20)} after the rules of data in params.yaml; no model will know them"


def _small(patients: pd.Series, minimum: int) -> Any:
    """Return the message on classes that are too small, of their labels and the severity."""

    def message(labels: list[str], severity: str) -> str:
        advice = (
            "they are dropped, and no model will know them"
            if severity == "warning"
            else "add patients, exclude the classes, or set data.small_classes in params.yaml to drop"
        )
        listed = some(f"{label!r} ({patients[label]})" for label in labels)
        return f"{len(labels)} classes have fewer than {minimum} patients: {listed}; {advice}"

    return message


def _report_patients(patients: pd.Series, kept: pd.DataFrame, table: pd.DataFrame) -> Report:
    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        several = patients.iloc[list(positions)]
        labels = kept[kept[PATIENT].isin(several)].groupby(PATIENT)[LABEL].unique()
        listed = [f"{patient!r} ({' and '.join(sorted(map(repr, names)))})" for patient, names in labels.items()]
        rows = np.flatnonzero(table[PATIENT].isin(several).to_numpy())
        message = f"{len(several)} patients have samples of several labels: {some(listed)}; check whether they are two"
        return [
            Finding.at_rows("patient_one_label", SAMPLES_FILE, LABEL, rows, message, values=several, severity=severity)
        ]

    return report


RULES = LabelRules()
