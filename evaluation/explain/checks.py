"""Checks of an explanation, the same for every kind of model: does it add up, and does it depend on the weights?

``completeness`` is how far attributions miss what they explain, relative to its size; small is good. ``random_weights``
is how alike the explanations of the same network with random weights are; small is good. ``deletion`` is how much more
masking the features that are named changes than masking random ones; above zero is good.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from evaluation.evidence.parts import Evidence
from evaluation.explain.deletion import Deletion
from evaluation.metrics.resample import Interval
from training.estimator import Estimator
from training.model.cross_fit import CrossFitted

ADDITIVE_WITHIN = 0.05  # relative gap up to which attributions count as adding up to the prediction
RANDOM_ROWS = 8  # rows whose attributions are compared with those of a network that has learnt nothing


def not_explained() -> Evidence:
    """Return the section of a model that looks at no feature."""
    return Evidence(sections={"explanation": {"method": None, "checks": []}})


def told(
    method: str,
    rows: int,
    relative_error: float,
    fell: Deletion | None,
    alike: float | None,
    *,
    section: dict[str, Any],
    at_worst: str = "",
) -> Evidence:
    """Return the section of an explanation by attributions, with its checks, what is logged of them, and warnings."""
    done, warnings = [check("completeness", relative_error)], []
    logged = {"explanation_additivity_error": relative_error}
    if fell is not None:
        done.append(check("deletion", fell.difference))
        logged |= {"explanation_deletion_drop": fell.drop_top, "explanation_deletion_drop_random": fell.drop_random}
        if not fell.passed:
            warnings.append("masking the named genes moves predictions no more than masking random ones")
    if alike is not None:
        done.append(check("random_weights", alike))
        logged["explanation_random_correlation"] = alike
    additive = relative_error < ADDITIVE_WITHIN
    if not additive:
        warnings.append(f"attributions miss the prediction by {relative_error:.1%}{at_worst}")
    explanation = {
        "method": method,
        "rows": rows,
        "additivity_relative_error": relative_error,
        "additive": additive,
        "deletion": None if fell is None else fell.as_dict(),
        "checks": done,
        **section,
    }
    return Evidence(sections={"explanation": explanation}, logged=logged, warnings=warnings)


def check(name: str, found: Interval | float) -> dict[str, Any]:
    """Return a check by its name: ``completeness``, ``random_weights`` or ``deletion``; only the last is resampled."""
    interval = found if isinstance(found, Interval) else Interval(found, float("nan"), float("nan"))
    return {"name": name, **interval.as_dict()}


def random_correlation(
    estimator: Estimator, samples: Any, output: np.ndarray | None, seed: int, names: Collection[str] | None = None
) -> float | None:
    """Return how alike attributions are to those of the same network with random weights."""
    from evaluation.explain.randomized import network_name, randomized

    first = estimator.members_[0] if isinstance(estimator, CrossFitted) else estimator
    if network_name(first) is None:
        return None
    rows = np.arange(min(RANDOM_ROWS, len(samples)))
    some, chosen = samples.take(rows), None if output is None else np.asarray(output)[rows]
    trained = first.attribute(some, chosen)
    other = randomized(first, seed).attribute(some, chosen)
    if trained is None or other is None:
        return None
    kept = np.array([names is None or name in names for name in trained.names])
    return row_correlation(trained.values[:, kept], other.values[:, kept])


def row_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean correlation of the rows of two tables, whatever their scale; a constant row has none with any."""
    found = []
    for one, other in zip(a, b, strict=True):
        flat = [each - each.mean() for each in (one, other)]
        sizes = [float(np.sqrt(each @ each)) for each in flat]
        found.append(float(flat[0] @ flat[1]) / (sizes[0] * sizes[1]) if min(sizes) > 0 else 0.0)
    return float(np.mean(found))
