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
from training.architectures import get_architecture
from training.calibration import apply_temperature, prediction_sets
from training.estimator import Attribution, Estimator
from training.final import CrossFitted
from training.image_payload import ImageContract, read_image_payload
from training.overlay import as_png, overlay
from training.payload import Contract, read_payload

CONTRACT_FILE = "contract.json"
EXPLAINED_FEATURES = 25
_CONTRACTS: dict[str, type] = {"response": Contract, "images": ImageContract}


class Predictor(mlflow.pyfunc.PythonModel):
    """Loads an estimator and its contract from the artifact folder ``model``."""

    def load_context(self, context: Any) -> None:
        """Read contract and estimator; nothing is unpickled."""
        self.read(Path(context.artifacts["model"]))

    def read(self, folder: Path) -> Predictor:
        """Read contract, estimator and baseline from ``folder``."""
        content = json.loads((folder / CONTRACT_FILE).read_text(encoding="utf-8"))
        cross_fitted, kind = content.pop("cross_fitted"), content.pop("kind")
        self.contract: Contract | ImageContract = _CONTRACTS[kind](**content)
        own = CrossFitted if cross_fitted else get_architecture(self.contract.architecture, kind).estimator
        self.estimator: Estimator = own.load(folder / "estimator")
        self.baseline: Estimator = get_architecture(self.contract.baseline, kind).estimator.load(folder / "baseline")
        return self

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer a request: a row a question, see `read_payload` and `read_image_payload`.

        Returns
        -------
        pandas.DataFrame
            Of a response: ``prediction``, ``low`` and ``high`` of the interval and the ``coverage`` that it was made
            for; with ``explain`` also ``base`` and ``attributions``, the largest first, the rest summed, so that base
            and attributions add up to the prediction.

            Of an image: ``label``, its ``probability``, ``probabilities`` of all classes, ``labels`` (a set that holds
            the true one with probability ``coverage``); with ``explain`` also ``overlay``, a PNG in base64.
        """
        explain = bool((params or {}).get("explain"))
        try:
            if isinstance(self.contract, ImageContract):
                return self._answer_images(model_input, explain)
            samples = read_payload(model_input, self.contract)
            answer = self.answer(samples)
            attribution = self.estimator.attribute(samples) if explain else None
            if attribution is not None:
                answer["base"] = attribution.base
                answer["attributions"] = pd.Series(explained(attribution), index=answer.index)
        except UserError as error:  # MLflow's server makes a 400 of this, and a 500 of anything else
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return answer

    def outputs(self, samples: Any) -> np.ndarray:
        """Return predicted values ``(n,)``, or calibrated probabilities ``(n, classes)``."""
        raw = self.estimator.outputs(samples)
        if isinstance(self.contract, ImageContract):
            return apply_temperature(raw, self.contract.temperature)
        return raw

    def _answer_images(self, model_input: pd.DataFrame, explain: bool) -> pd.DataFrame:
        assert isinstance(self.contract, ImageContract)
        samples = read_image_payload(model_input, self.contract)
        answer = self.answer(samples)
        maps = self.estimator.heatmaps(samples) if explain else None
        if maps is not None:
            shown = [as_png(overlay(samples.pixels[row], each)) for row, each in zip(samples.index, maps, strict=True)]
            answer["overlay"] = shown
        return answer

    def answer(self, samples: Any) -> pd.DataFrame:
        """Return predictions and what they are sure of, in the order of ``samples``."""
        if isinstance(self.contract, ImageContract):
            classes = np.array(self.contract.classes)
            probabilities = self.outputs(samples)
            held = prediction_sets(probabilities, self.contract.threshold)
            named = [dict(zip(self.contract.classes, map(float, row), strict=True)) for row in probabilities]
            return pd.DataFrame(
                {
                    "label": classes[probabilities.argmax(axis=1)],
                    "probability": probabilities.max(axis=1),
                    "probabilities": pd.Series(named, dtype=object),
                    "labels": pd.Series([classes[row].tolist() for row in held], dtype=object),
                    "coverage": self.contract.coverage,
                }
            )
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
