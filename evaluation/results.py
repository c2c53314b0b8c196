"""The small files that DVC shows as metrics and plots, a set a model; git tracks them, see `docs/compare.md`."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.files import write_json, written_whole
from pipelines.paths import RESULTS
from pipelines.problems import get_problem

PLOTS = {  # a folder each, of `RESULTS`, and the columns of its files; a model without steps has a table without rows
    "learning_curves": ["step", "metric", "value"],
    "calibration": ["predicted", "observed", "rows"],
    "predicted": ["predicted", "actual"],  # and of classes the ``count`` of rows
}
BOARD = ["architecture", "value", "low", "high", "margin", "margin_low", "margin_high"]
_DRAWN = 500  # rows at most of a table of `against`
_BINS = 10


def learned(history: Sequence[dict[str, float]]) -> pd.DataFrame:
    """Return the metrics of each step, a row a metric and step."""
    wide = pd.DataFrame(history, columns=None if history else ["step"])
    long = wide.melt("step", var_name="metric").dropna()
    return long[PLOTS["learning_curves"]].astype({"step": int})


def against(actual: np.ndarray, predicted: np.ndarray, seed: int) -> pd.DataFrame:
    """Return what was measured beside what was predicted, of some hundred values."""
    order = np.random.default_rng(seed).permutation(len(actual))[:_DRAWN]
    return pd.DataFrame({"predicted": predicted[order], "actual": actual[order]})


def binned(actual: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Return the means of ten bins of like predictions, of about as many values each."""
    edges = np.unique(np.quantile(predicted, np.arange(1, _BINS) / _BINS))
    table = pd.DataFrame({"predicted": predicted, "observed": actual, "rows": 1})
    found = table.groupby(np.searchsorted(edges, predicted)).agg(
        {"predicted": "mean", "observed": "mean", "rows": "sum"}
    )
    return found[PLOTS["calibration"]]


def confused(counts: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Return how many rows of each class are taken for each other one, a row a pair that occurs."""
    pairs = [(classes[to], classes[of], int(counts[of, to])) for of, to in zip(*np.nonzero(counts), strict=True)]
    return pd.DataFrame(pairs, columns=[*PLOTS["predicted"], "count"])


def metrics_of(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics that DVC shows of a model: its run and conditions, scores, intervals and cost."""
    test = evidence["test"]
    found: dict[str, Any] = {key: evidence[key] for key in ("run_id", "budget", "simulated")}
    found |= {"rows": test["samples"], "groups": test["groups"], "mode": test["mode"]}
    found["validation"] = {evidence["validation"]["metric"]: evidence["validation"]["value"]}
    named = {metric.name for metric in get_problem(evidence["problem"]).metrics}
    of_all = {key: each for key, each in test["metrics"].items() if key in named}
    found["test"] = {key: each["value"] for key, each in of_all.items()}
    if "stress" in evidence:
        found["worst_stress"] = {key: each["value"] for key, each in evidence["stress"]["worst"].items()}
    if (stratum := (evidence.get("strata") or {}).get("worst")) is not None:
        found["worst_stratum"] = {key: stratum[key] for key in ("column", "name", "value", "low", "high")}
    found["interval"] = {key: {side: each[side] for side in ("low", "high")} for key, each in of_all.items()}
    found["by_class"] = {key: each for key, each in test["metrics"].items() if key not in named}
    found["cost"] = {"seconds": evidence["seconds"]}
    found["cost"] |= {key.removeprefix("cost_"): value for key, value in evidence["cost"].items()}
    return _defined(found)


def write_results(evidence: dict[str, Any], folder: Path) -> None:
    """Write the metrics of a model, and copies of its tables in ``folder`` that DVC draws."""
    task, architecture = evidence["task"], evidence["architecture"]
    write_json(RESULTS / "metrics" / task / f"{architecture}.json", metrics_of(evidence))
    for kind in PLOTS:
        with written_whole(RESULTS / kind / task / f"{architecture}.csv") as temporary:
            shutil.copyfile(folder / f"{kind}.csv", temporary)  # read as a table, a class called 01 or NA would be lost


def write_board(task: str, rows: list[dict[str, Any]]) -> None:
    """Write the leaderboard of a task, which DVC draws with its intervals."""
    with written_whole(RESULTS / "leaderboard" / f"{task}.csv") as temporary:
        pd.DataFrame(rows)[BOARD].to_csv(temporary, index=False, float_format="%.6g")


def _defined(content: dict[str, Any]) -> dict[str, Any]:
    """Return ``content`` without numbers that are not finite: DVC knows none."""
    own = {key: _defined(value) if isinstance(value, dict) else value for key, value in content.items()}
    return {key: value for key, value in own.items() if not _undefined(value)}


def _undefined(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
