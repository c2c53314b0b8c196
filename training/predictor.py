"""The logged model: a request in, an answer out. MLflow runs this file as it stands (models from code)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from pipelines.faults import UserError
from pipelines.samples import ResponseSamples
from training.architectures import get_architecture
from training.estimator import Attribution, Estimator
from training.final import CrossFitted
from training.payload import Contract, read_payload

CONTRACT_FILE = "contract.json"
EXPLAINED_FEATURES = 25


class Predictor(mlflow.pyfunc.PythonModel):
    """Loads an estimator and its contract from the artifact folder ``model``."""

    def load_context(self, context: Any) -> None:
        """Read contract and estimator; nothing is unpickled."""
        self.read(Path(context.artifacts["model"]))

    def read(self, folder: Path) -> Predictor:
        """Read contract, estimator and baseline from ``folder``."""
        content = json.loads((folder / CONTRACT_FILE).read_text(encoding="utf-8"))
        cross_fitted = content.pop("cross_fitted")
        self.contract = Contract(**content)
        kind = CrossFitted if cross_fitted else get_architecture(self.contract.architecture).estimator
        self.estimator: Estimator = kind.load(folder / "estimator")
        self.baseline: Estimator = get_architecture(self.contract.baseline).estimator.load(folder / "baseline")
        return self

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer a request: a row a question, see `read_payload`.

        Returns
        -------
        pandas.DataFrame
            ``prediction``, ``low`` and ``high`` of the interval and the ``coverage`` that it was made for; with
            ``explain`` also ``base`` and ``attributions``, the largest first, the rest summed, so that base and
            attributions add up to the prediction.
        """
        try:
            samples = read_payload(model_input, self.contract)
            answer = self.answer(samples)
            if (params or {}).get("explain"):
                attribution = self.estimator.attribute(samples)
                if attribution is not None:
                    answer["base"] = attribution.base
                    answer["attributions"] = pd.Series(explained(attribution), index=answer.index)
        except UserError as error:  # MLflow's server makes a 400 of this, and a 500 of anything else
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return answer

    def answer(self, samples: ResponseSamples) -> pd.DataFrame:
        """Return predictions and their intervals, in the order of ``samples``."""
        prediction = self.estimator.predict(samples)
        half = np.nan if self.contract.half_width is None else self.contract.half_width
        return pd.DataFrame(
            {
                "prediction": prediction,
                "low": prediction - half,
                "high": prediction + half,
                "coverage": self.contract.coverage,
            }
        )


def explained(attribution: Attribution) -> list[list[dict[str, Any]]]:
    """Return for each row its largest contributions and the sum of the rest."""
    rows = []
    for values in attribution.values:
        order = np.argsort(-np.abs(values), kind="stable")[:EXPLAINED_FEATURES]
        row = [{"feature": attribution.names[i], "value": float(values[i])} for i in order]
        rows.append([*row, {"feature": "all_others", "value": float(values.sum() - values[order].sum())}])
    return rows


mlflow.models.set_model(Predictor())
