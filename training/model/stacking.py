"""A stack of architectures: weights by out-of-fold outputs, of models that never saw the row's group.

The members are cross-fitted over the same folds, which no group crosses. The weights are not negative and sum to 1
(Breiman, 1996, Machine Learning 24): least squares of numbers, log loss of probabilities, of all out-of-fold rows.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from tqdm import tqdm

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Task
from training.architectures import STACK, Architecture, get_architecture
from training.model.cross_fit import CrossFitted, FinalFit, cross_fit

_LEAST = 0.01  # members of a smaller weight are left out: each is a model to serve
_TINY = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Stacked:
    """Cross-fitted members by name, their weights, and of those with any the stack as a final fit."""

    members: dict[str, FinalFit]
    weights: dict[str, float]
    hyperparameters: dict[str, Any]  # of the stack
    final: FinalFit


def fit_members(
    chosen: Mapping[str, tuple[Architecture, Mapping[str, Any]]], prepared: Prepared, settings: Mapping[str, Any]
) -> dict[str, FinalFit]:
    """Return each architecture, cross-fitted with its hyperparameters, by name; UserError if one diverged."""
    found = {}
    for name, (architecture, hyperparameters) in tqdm(chosen.items(), "stacked models", disable=None, leave=False):
        began = time.perf_counter()
        fitted = cross_fit(architecture, hyperparameters, prepared, settings=settings)
        if not np.isfinite(fitted.held_out).all():
            raise UserError(f'{name}: the fit diverged; leave it out: make stack ARCH="..." names the others')
        found[name] = replace(fitted, seconds=time.perf_counter() - began)
    return found


def stack(members: Mapping[str, FinalFit], prepared: Prepared, task: Task) -> Stacked:
    """Return the stack of `cross_fit` models of the same rows; UserError where a mean of them has no meaning."""
    began = time.perf_counter()
    names, fits = list(members), list(members.values())
    one = prepared.samples.take(np.array([0])).alone()
    if len({each.estimator.seen(one) is one for each in fits}) > 1:
        raise UserError(
            f"of {', '.join(names)} some see the cell alone and some the whole image; name with ARCH those "
            "that see the same"
        )
    rows = fits[0].held_out_rows
    of_all = dict(zip(names, fit_weights([each.held_out for each in fits], prepared.samples.target[rows]), strict=True))
    kept = sorted((name for name in names if of_all[name] > 0), key=lambda name: -of_all[name])
    weights = [of_all[name] for name in kept]
    crossed: list[Any] = [members[name].estimator for name in kept]
    stacked = [{"of": each.of, "hyperparameters": dict(each.hyperparameters)} for each in crossed]
    kind = {"modality": task.modality, "problem": task.problem}
    hyperparameters = {"stacked": stacked, "weights": weights, **kind}
    of_stack = get_architecture(STACK, **kind)
    whole = CrossFitted(of=STACK, hyperparameters=hyperparameters, **kind)
    alike = zip(*(each.members_ for each in crossed), strict=True)
    whole.members_ = [of_stack.build(hyperparameters).of(of_fold) for of_fold in alike]
    held_out = np.average([members[name].held_out for name in kept], axis=0, weights=weights)
    sides = [part[1:] for part in fits[0].parts]
    parts = tuple((own, *rows) for own, rows in zip(whole.members_, sides, strict=True))
    seconds = sum(members[name].seconds for name in kept) + time.perf_counter() - began
    return Stacked(dict(members), of_all, hyperparameters, FinalFit(whole, rows, held_out, parts, seconds))


def fit_weights(outputs: list[np.ndarray], target: np.ndarray) -> list[float]:
    """Return the weight of each member's outputs, ``(n,)``, ``(n, targets)`` or ``(n, classes)``, of the targets.

    Several targets count in units of their standard deviation; what was not measured is left aside. UserError where
    outputs are not in units of the target, such as risks.
    """
    if outputs[0].ndim == 2 and target.ndim == 1:
        right = np.stack([each[np.arange(len(target)), target] for each in outputs], axis=1)  # (n, members)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            mixed = np.maximum(right @ weights, _TINY)
            return float(-np.log(mixed).mean()), -(right / mixed[:, None]).mean(axis=0)

    elif outputs[0].shape == target.shape:
        known = np.isfinite(target)
        spread = np.broadcast_to(np.maximum(np.nanstd(target, axis=0), _TINY), target.shape)[known]
        errors = np.stack([(each - target)[known] / spread for each in outputs])  # (members, values)
        products = errors @ errors.T / errors.shape[1]

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            return float(weights @ products @ weights), 2 * products @ weights

    else:
        raise UserError("outputs that are risks have no common unit, and no mean; only numbers and classes are stacked")
    start = np.full(len(outputs), 1 / len(outputs))
    whole = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}
    found = minimize(
        loss, start, jac=True, method="SLSQP", bounds=[(0, 1)] * len(outputs), constraints=whole, tol=1e-10
    )
    weights = np.where(found.x < _LEAST, 0.0, found.x)
    return [float(each) for each in weights / weights.sum()]
