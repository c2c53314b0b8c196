"""Checks of an explanation, the same for every kind of model.

``completeness`` is how far attributions miss what they explain, relative to its size; small is good. ``random_weights``
is how alike the explanations of the same network with random weights are (Adebayo et al., 2018); small is good.
``deletion`` is how much more masking the named features changes than masking random ones (Samek et al., 2017); above
zero is good.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.metrics import Interval, mean_of_rows
from training.estimator import Attribution, Estimator

ADDITIVE_WITHIN = 0.05  # relative gap up to which attributions count as adding up to the prediction
RANDOM_ROWS = 8  # rows whose attributions are compared with those of a network with random weights
RANDOM_DRAWS = 3
DELETED = 50  # features that are masked, at most a quarter of all
_NETWORKS = ("module_", "network_")  # where estimators keep their network


def not_explained() -> Evidence:
    """Return the section of a model that uses no feature."""
    return Evidence(sections={"explanation": {"method": None, "checks": []}})


def explanation_evidence(
    attribution: Attribution,
    deletion: Deletion | None,
    alike: float | None,
    *,
    section: dict[str, Any],
    relative_error: float | None = None,
    at_worst: str = "",
) -> Evidence:
    """Return the section of an explanation by attributions, with its checks, logged metrics and warnings."""
    error = attribution.relative_error if relative_error is None else relative_error
    done, warnings = [check("completeness", error)], []
    logged = {"explanation/additivity_error": error}
    if deletion is not None:
        done.append(check("deletion", deletion.difference))
        logged |= deletion_metrics(deletion)
        if not deletion.passed:
            warnings.append("masking the named genes moves predictions no more than masking random ones")
    if alike is not None:
        done.append(check("random_weights", alike))
        logged["explanation/random_correlation"] = alike
    if not error < ADDITIVE_WITHIN:  # NaN too
        warnings.append(f"attributions miss the prediction by {error:.1%}{at_worst}")
    explanation = {
        "method": attribution.method,
        "rows": len(attribution.values),
        "additivity_relative_error": error,
        "additive": error < ADDITIVE_WITHIN,
        "deletion": None if deletion is None else deletion.as_dict(),
        "checks": done,
        **section,
    }
    return Evidence(sections={"explanation": explanation}, logged=logged, warnings=warnings)


def deletion_metrics(found: Deletion) -> dict[str, float]:
    """Return the metrics of the run, those that are defined."""
    both = {"deletion_drop": found.drop_top, "deletion_drop_random": found.drop_random}
    return {f"explanation/{name}": value for name, value in both.items() if np.isfinite(value)}


def check(name: str, found: Interval | float) -> dict[str, Any]:
    """Return a check by its name: ``completeness``, ``random_weights`` or ``deletion``; only the last is resampled."""
    interval = found if isinstance(found, Interval) else Interval(found, float("nan"), float("nan"))
    return {"name": name, **interval.as_dict()}


def first_member(estimator: Estimator) -> Estimator:
    """Return the first model of an ensemble, or the model itself."""
    while members := getattr(estimator, "members_", None):  # a rotation has ensembles as members
        estimator = members[0]
    return estimator


# Masking features.


@dataclass(frozen=True)
class Deletion:
    """How much masking features changes an answer: the named ones, random ones, and their difference."""

    genes: int
    drop_top: float
    drop_random: float
    difference: Interval

    @property
    def passed(self) -> bool:
        """Return whether the named features matter more than random ones, beyond the interval."""
        return bool(self.difference.low > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, and whether they pass."""
        return {**vars(self), "difference": self.difference.as_dict(), "passed": self.passed}


def delete(
    change: Callable[[np.ndarray], np.ndarray],
    importance: np.ndarray,
    groups: np.ndarray,
    among: np.ndarray | None = None,
    **bootstrap: Any,
) -> Deletion:
    """Mask the most important features of each row, and as many at random; ``change`` takes columns ``(n, masked)``.

    Random features are drawn from those ``among`` each row's, bool, ``(n, features)``, as far as there are enough.
    """
    rows, features = importance.shape
    count = max(1, min(DELETED, features // 4))
    rng = np.random.default_rng(bootstrap["seed"])
    top = change(np.argsort(-importance, axis=1, kind="stable")[:, :count])
    at_random = np.zeros(rows)
    for _ in range(RANDOM_DRAWS):
        if among is None:
            drawn = np.stack([rng.choice(features, count, replace=False) for _ in range(rows)])
        else:
            drawn = np.argsort(rng.random(importance.shape) + ~among, axis=1, kind="stable")[:, :count]
        at_random += change(drawn) / RANDOM_DRAWS
    difference = mean_of_rows(top - at_random, groups, **bootstrap)
    return Deletion(count, float(top.mean()), float(at_random.mean()), difference)


def delete_genes(
    run: Evaluation, explained: Explained, rows: np.ndarray, *, importance: np.ndarray, names: Sequence[str]
) -> Deletion | None:
    """Mask the most important genes of each profile: they become unknown, which models impute by the training mean."""
    estimator, samples = run.model.estimator, run.test.take(rows)
    place = pd.Index(samples.genes).get_indexer(pd.Index(list(names)))
    known = np.flatnonzero(place >= 0)
    if len(known) < 2:
        return None
    before = estimator.outputs(samples)

    def masked(columns: np.ndarray) -> np.ndarray:
        values = samples.values[samples.index]  # a copy: the index is an array
        np.put_along_axis(values, place[known][columns], np.nan, axis=1)
        after = estimator.outputs(replace(samples, values=values, index=np.arange(len(samples))))
        return explained.change(before, after, explained.of_row[rows])

    return delete(masked, importance[:, known], run.groups[rows], **run.bootstrap)


# Random weights.


def random_correlation(
    estimator: Estimator, samples: Any, output: np.ndarray | None, seed: int, names: Collection[str] | None = None
) -> float | None:
    """Return the correlation of attributions with those of the same network with random weights; None of no network."""
    first = first_member(estimator)
    if network_name(first) is None:
        return None
    rows = np.arange(min(RANDOM_ROWS, len(samples)))
    some, chosen = samples.take(rows), None if output is None else np.asarray(output)[rows]
    coarse = copy.copy(first)  # the explained model itself keeps its finer integral
    integrate_coarsely(coarse)
    trained, other = coarse.attribute(some, chosen), randomized(first, seed).attribute(some, chosen)
    if trained is None or other is None:
        return None
    kept = np.array([names is None or name in names for name in trained.names])
    found = []
    for pair in zip(trained.values[:, kept], other.values[:, kept], strict=True):
        one, two = (each - each.mean() for each in pair)
        size = float(np.sqrt(one @ one)), float(np.sqrt(two @ two))
        found.append(float(one @ two) / (size[0] * size[1]) if min(size) > 0 else 0.0)  # of a constant row 0
    return float(np.mean(found))


def network_name(estimator: Estimator) -> str | None:
    """Return the attribute that holds an estimator's network, None where it is no network."""
    if "torch" not in sys.modules:
        return None  # a fitted network has loaded PyTorch, which takes seconds
    import torch

    return next((name for name in _NETWORKS if isinstance(getattr(estimator, name, None), torch.nn.Module)), None)


def randomized(estimator: Estimator, seed: int) -> Estimator:
    """Return a copy of a network (of an ensemble its first) whose weights are drawn anew."""
    import torch

    other = copy.deepcopy(first_member(estimator))
    if hasattr(other, "_of_frozen"):
        other._of_frozen = {}  # features of the trained weights are cached under it
    place = network_name(other)
    if place is None:
        raise TypeError(f"{type(other).__name__} has no network")
    integrate_coarsely(other)
    torch.manual_seed(seed)
    for module in getattr(other, place).modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
            continue
        with torch.no_grad():
            for values in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                if isinstance(module, torch.jit.ScriptModule):  # shuffled: variances stay positive
                    values.copy_(values.flatten()[torch.randperm(values.numel())].view_as(values))
                elif values.is_floating_point() and values.numel() > 1:  # drawn anew, with their spread
                    values.copy_(torch.randn(values.shape).to(values) * values.std())
    return other


def integrate_coarsely(estimator: Estimator) -> None:
    """Use the coarsest integral of an estimator: for attributions that are ranked or correlated, not added up."""
    if isinstance(steps := getattr(estimator, "steps", None), tuple):
        estimator.steps = steps[:1]
