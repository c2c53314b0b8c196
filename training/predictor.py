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
from training.contracts import Contract, contract_from
from training.estimator import Estimator
from training.final import CrossFitted

CONTRACT_FILE = "contract.json"


class Predictor(mlflow.pyfunc.PythonModel):
    """Loads an estimator and its contract from the artifact folder ``model``."""

    def load_context(self, context: Any) -> None:
        """Read contract and estimator; nothing is unpickled."""
        self.read(Path(context.artifacts["model"]))

    def read(self, folder: Path) -> Predictor:
        """Read contract, estimator and baseline from ``folder``."""
        content = json.loads((folder / CONTRACT_FILE).read_text(encoding="utf-8"))
        cross_fitted = content.pop("cross_fitted")
        self.contract: Contract = contract_from(content)
        family = self.contract.family
        own = CrossFitted if cross_fitted else get_architecture(self.contract.architecture, family).estimator
        self.estimator: Estimator = own.load(folder / "estimator")
        self.baseline: Estimator = get_architecture(self.contract.baseline, family).estimator.load(folder / "baseline")
        return self

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer a request, a row a question: what it holds and what is answered is said by the `Contract`.

        With ``params={"explain": True}`` the answer also says why.
        """
        try:
            samples = self.contract.read(model_input)
            answer = self.answer(samples)
            if (params or {}).get("explain"):
                answer = answer.assign(**self.contract.explain(self.estimator, samples))
        except UserError as error:  # MLflow's server makes a 400 of this, and a 500 of anything else
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return answer

    def outputs(self, samples: Any) -> np.ndarray:
        """Return predicted values ``(n,)`` or ``(n, targets)``, or calibrated probabilities ``(n, classes)``."""
        return self.contract.calibrated(self.estimator.outputs(samples))

    def answer(self, samples: Any) -> pd.DataFrame:
        """Return predictions and what they are sure of, in the order of ``samples``."""
        return self.contract.answer(self.outputs(samples), samples)


mlflow.models.set_model(Predictor())
