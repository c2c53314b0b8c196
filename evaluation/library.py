"""The platform as a library, for notebooks: a task's samples and split, estimators by name, scores with intervals.

>>> from evaluation.library import open_task
>>> task = open_task("drug_response")  # reads params.yaml and data/drug_response, and splits as the stage does
>>> model = task.estimator("xgboost", rounds=100).fit(task.train, task.validation)
>>> task.evaluate(model)  # a table: every metric of the test rows with its interval, and the margin over the baseline
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory as temporary
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from sklearn.model_selection import PredefinedSplit

from evaluation.metrics import as_metrics
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.datasets import Prepared, prepare
from pipelines.errors import UserError
from pipelines.params import PARAMS_FILE, Params, Task, read_params
from pipelines.paths import DATA
from pipelines.problems import get_problem, higher_is_better
from pipelines.samples.label_decisions import read_decisions
from training.architectures import get_architecture, names
from training.contract import Contract, make_contract
from training.estimator import Estimator
from training.model.cross_fit import FinalFit
from training.model.track import dataset, log_datasets, log_model, make_reference, model_id, save_model
from training.studies.trials import fit_settings


@dataclass(frozen=True)
class TaskData:
    """The samples of a task, split by group: `train`, `validation` and `test` are what estimators take.

    Samples have a length, a ``table`` (a row a sample) and a ``target``, and are indexed by positions.
    """

    name: str
    params: Params
    prepared: Prepared

    @property
    def task(self) -> Task:
        """Return the task's part of ``params.yaml``."""
        return self.params.task(self.name)

    @property
    def split(self) -> pd.DataFrame:
        """Return the table of the split: ``sample_id, group, split, fold`` and more, a row a sample."""
        return self.prepared.table

    @property
    def samples(self) -> Any:
        """Return all samples, in the order of `split`."""
        return self.prepared.samples

    @cached_property
    def train(self) -> Any:
        """Return the training samples."""
        return self.prepared.side("train")

    @cached_property
    def validation(self) -> Any:
        """Return the samples for early stopping and calibration."""
        return self.prepared.side("validation")

    @cached_property
    def test(self) -> Any:
        """Return the test samples. Choose nothing by them."""
        return self.prepared.side("test")

    @cached_property
    def learning(self) -> Any:
        """Return training and validation samples together, which `folds` divides."""
        return self.prepared.side("train", "validation")

    @property
    def folds(self) -> PredefinedSplit:
        """Return the folds of `learning` for scikit-learn; no group is in two of them.

        ``cross_val_score(model, task.learning, cv=task.folds, scoring=task.score)``
        """
        return PredefinedSplit(self.split["fold"].to_numpy()[self.prepared.rows("train", "validation")])

    @property
    def architectures(self) -> list[str]:
        """Return the names that `estimator` knows."""
        return names(self.task.modality, self.task.problem)

    def estimator(self, architecture: str, **hyperparameters: Any) -> Estimator:
        """Return an unfitted estimator with its defaults, but for ``hyperparameters``.

        Limits of the budget (epochs, rounds), seed and device are those of ``params.yaml``. `UserError` for an unknown
        architecture or hyperparameter.
        """
        found = get_architecture(architecture, self.task.modality, self.task.problem)
        made = found.build({}, **fit_settings(self.params, self.task))
        if unknown := sorted(set(hyperparameters) - set(made.get_params(deep=False))):
            raise UserError(f"{architecture} has no {', '.join(unknown)}; it has {', '.join(made.get_params())}")
        return made.set_params(**hyperparameters)

    def score(self, model: Estimator, samples: Any, target: Any = None) -> float:
        """Return the task's metric, negated where low is good: a scorer for scikit-learn."""
        metric = self.task.evaluate.metric
        value = get_problem(self.task.problem).score(metric, samples.target, model.outputs(samples))
        return value if higher_is_better(metric) else -value

    def predictions(self, model: Estimator) -> pd.DataFrame:
        """Return what a fitted model and the naive baseline predict of the test rows, beside what was measured."""
        return self._fitted(model)[1]

    def evaluate(self, model: Estimator) -> pd.DataFrame:
        """Return every metric of the test rows: a row a metric, with ``value``, ``low`` and ``high``.

        Intervals are of a bootstrap over groups; ``margin`` is over the task's naive baseline on the same rows.
        """
        found = measures_of(self.task.problem).intervals(self.predictions(model), self.task, self.params.seed)
        return pd.DataFrame({name: each.as_dict() for name, each in found.items()}).T.rename_axis("metric")

    def log(self, model: Estimator) -> str:
        """Log hyperparameters, scores and the model to the task's experiment; return the id of the run.

        The model can be served, but has no evidence: what is to be promoted is trained by the pipeline.
        """
        contract, predictions, baseline, final = self._fitted(model)
        found = measures_of(self.task.problem).intervals(predictions, self.task, self.params.seed)
        tags = {"architecture": model.architecture, "split.sha256": self.prepared.sha256}
        with tracking.run(self.name, "library", model.architecture, tags=tags) as run, temporary() as place:
            folder = Path(place)
            log_datasets(self.name, self.prepared)
            mlflow.log_params(model.get_params(deep=False))
            save_model(model, baseline, contract, folder, make_reference(contract, self.prepared, final))
            uri = log_model(folder, contract, self.test.take(np.arange(min(2, len(self.test)))))
            rows = dataset(self.name, self.prepared, "test", self.prepared.tested)
            for name, each in found.items():
                metrics = as_metrics(f"test/{name}", each.as_dict())
                mlflow.log_metrics(metrics, model_id=model_id(uri), dataset=rows)
        return str(run.info.run_id)

    def _fitted(self, model: Estimator) -> tuple[Contract, pd.DataFrame, Estimator, FinalFit]:
        """Return the contract of a fitted model, the predictions of the test rows, the baseline and the fit."""
        if not len(self.test):
            raise UserError(
                f"{self.name} has no test side: its few groups are tested in turn by `make train TASK={self.name}`; "
                "for one split set split.fewest_groups to 0 in params.yaml"
            )
        held_out = self.prepared.rows("validation")
        part = (model, self.prepared.rows("train"), held_out)
        final = FinalFit(model, held_out, model.outputs(self.validation), (part,))
        contract = make_contract(self.name, model.architecture, self.task, prepared=self.prepared, final=final)
        baseline = self.estimator(self.task.evaluate.baseline).fit(self.learning)
        both = model.outputs(self.test), baseline.outputs(self.test)
        table = contract.predicted(self.split.iloc[self.prepared.tested], self.test, *both)
        _, table = modality_of(self.task.modality).resampled(table, self.prepared, self.task.split)
        return contract, table, baseline, final


def open_task(
    name: str, *, data: Path | None = None, params: Path = PARAMS_FILE, changes: Mapping[str, Any] | None = None
) -> TaskData:
    """Return the samples of a task, read from its raw folder (default: ``data/<name>``) and split.

    ``changes`` are values in the place of those of the task in ``params.yaml``, by key: ``{"data.size": 96}``.
    `UserError` for a task or key that ``params.yaml`` does not have, and for data that cannot be read or split.
    """
    read = _changed(params, name, changes) if changes else read_params(params)
    task = read.task(name)
    folder = data or DATA / name
    return TaskData(name, read, prepare(task.read(folder), task, read.seed, read_decisions(folder)))


def _changed(params: Path, name: str, changes: Mapping[str, Any]) -> Params:
    content = yaml.safe_load(params.read_text(encoding="utf-8"))
    read_params(params).task(name)
    for dotted, value in changes.items():
        *sections, last = dotted.split(".")
        section = content["tasks"][name]
        for each in sections:
            section = section.get(each) or {}
        if last not in section:
            raise UserError(f"{name} has no {dotted} in {params}")
        section[last] = value
    with temporary() as place:  # where it is read as any other file: with every check
        changed = Path(place) / PARAMS_FILE.name
        changed.write_text(yaml.safe_dump(content), encoding="utf-8")
        return read_params(changed)
