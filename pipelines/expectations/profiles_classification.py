"""What raw profiles must satisfy to predict classes: labels, and enough patients of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import Finding
from pipelines.expectations import Suite, between, filled, report_names, report_rows, report_table, some
from pipelines.expectations.profiles import LABEL, PATIENT
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.text_values import quoted


def known(samples: pd.DataFrame, task: Any) -> pd.Series:
    """Return which samples have a label."""
    return samples[LABEL].notna()


def sample_suites(samples: pd.DataFrame, task: Any) -> list[Suite]:
    """Warn of samples without a label, which are dropped."""
    report = report_rows("label_known", SAMPLES_FILE, LABEL, "is empty; the samples are dropped")
    return [Suite("samples.label", samples[[LABEL]], [filled(LABEL, report, warn=True)])]


def kept_suites(samples: pd.DataFrame, kept: pd.DataFrame, task: Any) -> list[Suite]:
    """Check that labels keep samples, that classes are large enough, and that a patient has one label."""
    minimum, dropped = task.data.minimum_patients, task.data.small_classes == "drop"
    patients = kept.groupby(LABEL)[PATIENT].nunique()
    classes = pd.DataFrame({LABEL: sorted(samples[LABEL].dropna().unique())})
    classes["samples"] = classes[LABEL].map(kept[LABEL].value_counts()).fillna(0)
    classes["patients"] = classes[LABEL].map(patients)  # missing where no sample is left, which is reported once

    def gone(names: list[str]) -> str:
        lost = f"no sample is left of {quoted(names, 20)} after the rules of data in params.yaml"
        return f"{lost}; no model will know them"

    def small(names: list[str]) -> str:
        advice = "add patients, exclude the classes, or set data.small_classes in params.yaml to drop"
        if dropped:
            advice = "they are dropped, and no model will know them"
        sizes = some(f"{label!r} ({patients[label]})" for label in names)
        return f"{len(names)} classes have fewer than {minimum} patients: {sizes}; {advice}"

    names = classes[LABEL].tolist()
    left = report_names("labels_left", SAMPLES_FILE, names, gone, LABEL)
    enough = report_names("class_large_enough", SAMPLES_FILE, names, small, LABEL)
    large = int((patients >= minimum).sum())
    few = f"{large} classes have at least {minimum} patients, 2 are needed; add samples of other labels"
    sizes = [
        between("samples", left, low=1, tolerated=1.0),
        between("patients", enough, low=minimum, tolerated=1.0 if dropped else 0.0),
    ]
    several = [between("classes", report_table("classes_enough", SAMPLES_FILE, few, LABEL), low=2)]
    return [
        Suite("samples.labels", classes, sizes),
        Suite("samples.classes", pd.DataFrame({"classes": [large]}), several),
        _patients_suite(samples, kept),
    ]


def _patients_suite(samples: pd.DataFrame, kept: pd.DataFrame) -> Suite:
    labels = kept.groupby(PATIENT)[LABEL].unique()

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        several = labels.iloc[list(positions)]
        listed = some(f"{patient!r} ({' and '.join(sorted(map(repr, names)))})" for patient, names in several.items())
        rows = np.flatnonzero(samples[PATIENT].isin(several.index))
        message = f"{len(several)} patients have samples of several labels: {listed}; check whether they are two"
        return [
            Finding.at_rows(
                "patient_one_label", SAMPLES_FILE, LABEL, rows, message, values=several.index, severity=severity
            )
        ]

    frame = pd.DataFrame({"labels": labels.map(len).to_numpy()})
    return Suite("samples.patients", frame, [between("labels", report, high=1, tolerated=1.0)])
