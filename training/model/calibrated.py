"""A final fit with its baseline and its contract, which is calibrated on rows outside the fit."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Task
from pipelines.problems import get_problem
from training.architectures import Architecture, get_architecture
from training.contract import Contract, contract_class, make_contract
from training.estimator import Estimator, FitContext
from training.model.cross_fit import FinalFit, fit_final
from training.model.stress import answered_parts, score


class Calibrated(NamedTuple):
    """What `save_model` writes, and the seconds of the fit."""

    final: FinalFit
    baseline: Estimator
    contract: Contract
    seconds: float


def fit_calibrated(
    name: str,
    architecture: Architecture,
    task: Task,
    prepared: Prepared,
    *,
    asked: dict[str, Any],
    context: FitContext,
    how: Callable[..., FinalFit] = fit_final,
) -> Calibrated:
    """Fit ``asked``: hyperparameters, members and settings; UserError if it diverged. ``how`` does it."""

    def refit(train: Any, validation: Any) -> Estimator:
        return architecture.build(asked["hyperparameters"], **asked["settings"]).fit(train, validation)

    began = time.perf_counter()
    kind = contract_class(task.modality, task.problem)
    final = kind.adjusted(prepared, how(architecture, prepared=prepared, context=context, **asked), architecture.role)
    seconds = time.perf_counter() - began + final.seconds
    if not np.isfinite(final.held_out).all():
        raise UserError(f"{name} {architecture.name}: the fit diverged; tune again with a narrower search space")
    naive = get_architecture(task.evaluate.baseline, task.modality, task.problem)
    of_baseline = fit_final(naive, {}, prepared, members=1, settings=asked["settings"])
    baseline = kind.adjusted(prepared, of_baseline, naive.role).estimator
    contract = make_contract(name, architecture.name, task, prepared=prepared, final=final, refit=refit)
    return Calibrated(final, baseline, contract, seconds)


def validation_score(final: FinalFit, prepared: Prepared, task: Task, metric: str, seed: int) -> float:
    """Return the metric of a final fit on its held-out rows."""
    home = prepared.samples.target[final.held_out_rows], final.held_out
    stressed = answered_parts(task, metric, final.parts, prepared.samples, seed)
    return score(get_problem(task.problem), metric, home, stressed)
