"""A trivial model, for MLflow to serve: it answers what stands in the file ``answer``, whatever it is asked."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class ConstantAnswer(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        self.answer = json.loads(Path(context.artifacts["answer"]).read_text())

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return pd.DataFrame(self.answer * len(model_input))


mlflow.models.set_model(ConstantAnswer())
