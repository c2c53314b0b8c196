"""The logged model, from a request to an answer; MLflow runs this file (models from code)."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE

from pipelines.environment import MODEL_VERSION
from pipelines.errors import UserError
from pipelines.file_hashes import check_hashes
from training.architectures import get_architecture
from training.contract import Columns, Contract, contract_from
from training.estimator import Estimator
from training.model.cross_fit import CrossFitted
from training.model.novelty import Novelty, View, largest
from training.model.prediction_log import PredictionLog

CONTRACT_FILE = "contract.json"
REFERENCE = "reference"
EMBEDDING = "embedding"  # the view of novelty that an estimator makes itself
SAMPLE_ID = "sample_id"  # optional field of a request; only its hash is kept, in the prediction log


class Predictor(mlflow.pyfunc.PythonModel):
    """Loads an estimator and its contract from the artifact folder ``model``."""

    log: PredictionLog | None = None
    novelty: Novelty | None = None
    version = "unregistered"
    files_sha256 = ""  # of the folder, where `evaluation.promotion.scoring.load` has read it

    def load_context(self, context: Any) -> None:
        """Read contract and estimator; nothing is unpickled."""
        self.read(Path(context.artifacts["model"]))
        self.version = os.environ.get(MODEL_VERSION) or "unregistered"
        self.log = PredictionLog.from_environment(self.contract.task)

    def read(self, folder: Path) -> Self:
        """Read contract, estimator, baseline and novelty from ``folder``; refuse files that were changed."""
        check_hashes(folder)
        content = json.loads((folder / CONTRACT_FILE).read_text(encoding="utf-8"))
        cross_fitted, file = content.pop("cross_fitted"), content.pop("file", None)
        content.pop("stacked", None)  # whose code was logged too
        self.contract: Contract = contract_from(content)
        kind = self.contract.modality, self.contract.problem
        own = CrossFitted if cross_fitted else get_architecture(file or self.contract.architecture, *kind).estimator
        naive = get_architecture(self.contract.baseline, *kind).estimator
        parts = {"estimator": own, "baseline": naive}
        loaded = {name: self.contract.restored(of.load(folder / name), folder / name) for name, of in parts.items()}
        self.estimator: Estimator = loaded["estimator"]
        self.baseline: Estimator = loaded["baseline"]
        self.novelty = Novelty.load(folder / REFERENCE) if (folder / REFERENCE).is_dir() else None
        return self

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer a request with the columns of the `Contract`; ``params={"explain": True}`` adds the explanation."""
        try:
            names = model_input[SAMPLE_ID].tolist() if SAMPLE_ID in model_input else None
            frame = model_input if names is None else model_input.drop(columns=SAMPLE_ID)
            samples = self.contract.read(frame)
            described = None if self.log is None else self.contract.describe(samples)
            answer = self._columns(samples, described)
            if self.log is not None and described is not None:
                self.log.write(self.contract.identities(samples), names, answer, described)
            if (params or {}).get("explain"):
                answer = answer | self.contract.explain(self.estimator, samples)
        except UserError as error:  # MLflow's server makes a 400 of this
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        except Exception as error:  # and of this, though the request is not at fault
            message = f"the model failed: {type(error).__name__}"
            raise MlflowException(message, error_code=INTERNAL_ERROR) from error
        return pd.DataFrame({name: _nulls(values) for name, values in answer.items()}, index=answer["note"].index)

    def outputs(self, samples: Any) -> np.ndarray:
        """Return predicted values ``(n,)`` or ``(n, targets)``, or calibrated probabilities ``(n, classes)``."""
        return self.contract.calibrated(self.estimator.outputs(samples))

    def answer(self, samples: Any, described: Columns | None = None) -> pd.DataFrame:
        """Return the answer to ``samples``, in their order; ``described`` by `Contract.describe`, if it is known."""
        return pd.DataFrame(self._columns(samples, described))

    def _columns(self, samples: Any, described: Columns | None = None) -> Columns:
        score, threshold = np.full((2, len(samples)), None)  # null without a reference
        remarks = self.contract.remarks(samples)
        outputs, embedding = self.estimator.outputs_embedded(samples)
        if self.novelty is not None:
            sides = self.novelty.by_view(views_of(self.contract, samples, embedding, described))
            score, threshold = largest(sides, len(samples)), np.full(len(samples), self.novelty.threshold)
            notes: list[str | None] = [None] * len(samples)
            for row in np.flatnonzero(score > threshold):
                notes[row] = self.contract.unlike([name for name, each in sides.items() if each[row] > 1])
            remarks.add(notes, withdraw=True)
        answer = self.contract.answer(self.contract.calibrated(outputs), samples)
        if remarks.withdrawn.any():
            answer = self.contract.withdrawn(answer, remarks.withdrawn)
        novelty = {"out_of_distribution": score, "out_of_distribution_threshold": threshold}
        return answer | novelty | {"model_version": [self.version] * len(samples), "note": remarks.column()}

    def per_row(self, samples: Any, call: Callable[[Any, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return what ``call`` returns for the contract that answers samples and their positions, ``(n, ...)``."""
        return call(self.contract, np.arange(len(samples)))

    def unlike(self, samples: Any) -> np.ndarray | None:
        """Return which samples are called unlike the training data, bool, ``(n,)``; None without a reference."""
        return None if self.novelty is None else self.novelty_scores(samples) > self.novelty.threshold

    def novelty_scores(self, samples: Any) -> np.ndarray:
        """Return how far each sample is from the training data, ``(n,)``; only with a reference."""
        assert self.novelty is not None
        return self.novelty.scores(views_of(self.contract, samples, self.estimator.embedded(samples)))

    def outputs_and_novelty(self, samples: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return `outputs` and `novelty_scores`, from the same passes; without a reference the scores are NaN."""
        outputs, embedding = self.estimator.outputs_embedded(samples)
        scores = np.full(len(samples), np.nan)
        if self.novelty is not None:
            scores = self.novelty.scores(views_of(self.contract, samples, embedding))
        return self.contract.calibrated(outputs), scores


def views_of(
    contract: Contract, samples: Any, embedding: np.ndarray | None, described: Columns | None = None
) -> dict[str, View]:
    """Return all that novelty is measured on: views of the contract, and the `Estimator.embedded`, if there is any."""
    views = contract.views(samples, described)
    if embedding is not None:
        views[EMBEDDING] = View("embedding", embedding, np.arange(len(embedding)))
    return views


def _nulls(values: Any) -> Any:
    """Return a column with None for NaN: MLflow's server writes NaN, which is not JSON."""
    floats = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return np.where(np.isnan(values), np.array(None), values) if floats and np.isnan(values).any() else values


mlflow.models.set_model(Predictor())
