"""What the endpoint of sensitive and resistant pairs takes and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType

from pipelines.samples.response import ResponseSamples
from pipelines.samples.sensitivity import CLASSES, Thresholds
from training.contracts import ATOMS, CONTRIBUTIONS, ClassContract, atom_columns, contribution_columns
from training.contracts.response import ResponseContract
from training.estimator import Estimator

SENSITIVE = CLASSES.index("sensitive")


@dataclass(frozen=True)
class SensitivityContract(ResponseContract, ClassContract):
    """It takes what a model of responses takes, and answers what a classifier answers.

    Attributes
    ----------
    thresholds
        Of `pipelines.samples.sensitivity.Thresholds`: each answer tells the drug's, in the unit of ``target``.
    """

    family = "response_labels"

    thresholds: dict[str, Any] = field(default_factory=dict)

    def outputs(self) -> list[ColSpec]:
        """Return class, probabilities, set of classes and threshold; with ``explain`` contributions to the log odds."""
        return [
            *ClassContract.outputs(self),
            ColSpec(DataType.double, name="probability_sensitive"),
            ColSpec(DataType.double, name="threshold"),
            ColSpec(DataType.boolean, name="drug_known"),
            ColSpec(DataType.double, name="base", required=False),
            ColSpec(CONTRIBUTIONS, name="attributions", required=False),
            ColSpec(ATOMS, name="atoms", required=False),
        ]

    def answer(self, outputs: np.ndarray, samples: ResponseSamples) -> pd.DataFrame:
        """Return what every classifier answers, the probability of being sensitive, and the drug's threshold.

        Nothing is promised of a drug that is not known: its threshold is that of all drugs.
        """
        threshold = Thresholds(**self.thresholds).of(samples.drugs)[samples.drug]
        is_known = self.known_drugs(samples)
        answer = ClassContract.answer(self, outputs, samples).assign(
            probability_sensitive=outputs[:, SENSITIVE],
            threshold=threshold,
            drug_known=pd.Series(is_known.tolist() if self.drugs else [None] * len(samples), dtype=object),
        )
        return self.withdrawn(answer, ~is_known)

    def withdrawn(self, answer: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
        """Return an answer whose set of classes promises nothing in ``rows``."""
        return ClassContract.withdrawn(self, answer, rows)

    def explain(self, estimator: Estimator, samples: ResponseSamples) -> dict[str, pd.Series]:
        """Return what each feature and atom adds to the log odds of being sensitive, whatever class is answered."""
        explained = np.full(len(samples), SENSITIVE)
        attribution = estimator.attribute(samples, explained)
        if attribution is None:
            return {}
        return contribution_columns(attribution) | atom_columns(estimator.atom_attributions(samples, explained))


CONTRACTS = {"response_labels": SensitivityContract}
