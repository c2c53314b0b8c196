"""How well the novelty score of a model tells inputs under stress from those of its own source."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.metrics import Interval, as_metrics, mean_of_rows, over_groups


def detection(run: Evaluation, home: Any, stressed: Mapping[str, np.ndarray], groups: np.ndarray) -> Evidence:
    """Return the section ``novelty``: false alarms on the test rows, and how each kind of stress is told from ``home``.

    ``stressed`` has the scores of the samples ``home`` under each kind of stress; ``groups`` are theirs, ``(n,)``. The
    area under the curve is the chance that a stressed input has a higher score than one at home.
    """
    model = run.model
    if run.unlike is None or model.novelty is None:
        return Evidence()
    alarms = mean_of_rows(run.unlike, run.groups, **run.bootstrap)
    at_home, kinds, areas = model.novelty_scores(home), {}, {}
    for kind, scores in stressed.items():
        areas[kind] = area_under_curve(at_home, scores, groups, **run.bootstrap)
        kinds[kind] = {
            "auroc": areas[kind].as_dict(),
            "called_unlike": float((scores > model.novelty.threshold).mean()),
        }
    logged = as_metrics("novelty/false_alarms", alarms.as_dict())
    for kind, area in areas.items():
        logged |= as_metrics(f"novelty/auroc_{kind}", area.as_dict())
    section = {"rows": len(home), "false_alarms": alarms.as_dict(), "kinds": kinds}
    return Evidence(sections={"novelty": section}, logged=logged)


def area_under_curve(home: np.ndarray, other: np.ndarray, groups: np.ndarray, **bootstrap: Any) -> Interval:
    """Return the share of pairs in which ``other`` is higher, a tie counting half; both of the same rows, ``(n,)``."""
    labels, code = np.unique(groups.astype(str), return_inverse=True)
    member = np.eye(len(labels))[code]
    higher = (other[:, None] > home) + 0.5 * (other[:, None] == home)
    pairs, rows = member.T @ higher @ member, member.sum(axis=0)

    def area(counts: np.ndarray) -> np.ndarray:
        return np.einsum("ri,ij,rj->r", counts, pairs, counts, optimize=True) / (counts @ rows) ** 2

    return over_groups(float(higher.mean()), len(labels), area, **bootstrap)
