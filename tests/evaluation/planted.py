"""Models whose weights are known, and evaluations of them: what tests of evidence and explanations share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from evaluation.evidence.build import evidence_of
from evaluation.evidence.parts import Evaluation, Evidence
from pipelines.datasets import Prepared
from pipelines.params import Task, task_text
from pipelines.samples.expression import ExpressionSamples
from tests.training.tiny import response_task, tiny_params
from training.contract import contract_class
from training.estimator import Estimator
from training.model.cross_fit import CrossFitted
from training.model.final_fit import Fitted
from training.model.predictor import Predictor


class Known(Estimator):
    """Knows its weights, and has nothing to fit or to save."""

    def fit(self, train: Any, validation: Any = None, context: Any = None) -> Self:
        return self

    def predict(self, samples: Any) -> np.ndarray:
        return np.zeros(len(samples))

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> Self:
        return self


def ensemble(*members: Estimator) -> CrossFitted:
    made = CrossFitted(of="planted", hyperparameters={}, modality="profiles", problem="classification")
    made.members_ = list(members)
    return made


@dataclass(frozen=True)
class Setting:
    """A task with its rows, and predictions of the test rows, of which any estimator may be evaluated."""

    task: Any
    prepared: Prepared
    predictions: pd.DataFrame
    contract: dict[str, Any]
    run_id: str = "r"
    seed: int = 1

    def run(self, estimator: Estimator, architecture: str = "planted") -> Evaluation:
        task: Task = self.task
        model = Predictor()
        kind: Any = contract_class(task.modality, task.problem)
        named = {"task": "any", "architecture": architecture, "baseline": task.evaluate.baseline}
        model.contract = kind(**named, task_text=task_text(task), coverage=0.9, **self.contract)
        model.estimator = estimator
        receipt: Any = ("any", architecture, "quick", self.run_id, "models:/m-0", {}, "r2", 0.5, "0" * 64, 1.0, {})
        return Evaluation(task, Fitted(*receipt), model, self.predictions, self.prepared, self.seed)

    def evidence(self, estimator: Estimator) -> Evidence:
        return evidence_of(self.run(estimator), None)

    def evaluated(self, **settings: Any) -> Setting:
        return replace(self, task=replace(self.task, evaluate=replace(self.task.evaluate, **settings)))


def pairs_setting(prepared: Any, predictions: pd.DataFrame, **settings: Any) -> Setting:
    """Return the task of responses with these predictions; ``settings`` change how it is evaluated."""
    contract = {"half_width": 2.0, "features": {}, "required": [], "target": "ln_ic50"}
    return Setting(response_task(tiny_params()), prepared, predictions, contract).evaluated(**settings)


def profile_samples(
    values: np.ndarray, genes: tuple[str, ...], label: np.ndarray, *, classes: tuple[str, ...] = (), **columns: Any
) -> ExpressionSamples:
    """Return simulated profiles in log2 units; each patient has two samples."""
    n = len(values)
    ids = [f"S{row:03}" for row in range(n)]
    patients = [f"patient {row // 6 * 3 + row % 3}" for row in range(n)]
    table = pd.DataFrame({"sample_id": ids, "patient_id": patients, "label": label, "digest": ids, "simulated": True})
    about = pd.DataFrame(index=pd.Index(genes))
    return ExpressionSamples(
        table.assign(**columns), values.astype(np.float32), np.arange(n), genes, about, "log2", classes=classes
    )


def split_by(samples: ExpressionSamples, side: np.ndarray, fold: np.ndarray) -> Prepared:
    """Return samples with a split; their groups are the patients."""
    table = samples.table.assign(group=samples.table["patient_id"], split=side, fold=fold)
    return Prepared(samples, table, "0" * 64, {"rows": {"dropped": {}}, "without": {}})
