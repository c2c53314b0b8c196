"""What is known of a version that is tried beside the served one, by intervals that hold whenever one looks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from serving.sequential import Mean, confidence_sequence

LEVEL = 0.05  # chance that any statement of a trial is ever wrong
Decision = Literal["go on", "better", "alike", "worse", "disagrees"]
Apart = Callable[[pd.Series, pd.Series], np.ndarray]  # see `serving.problems.Problem.apart`
Lost = Callable[[pd.Series, pd.DataFrame], np.ndarray]  # see `serving.problems.Problem.lost`
_KEYS = ["request_id", "row"]


@dataclass(frozen=True)
class Found:
    """What is known of the version that is tried, beside the other."""

    decision: Decision
    disagreement: Mean | None  # how far answers to the same rows lie apart, 0 to 1; None of a canary
    gain: Mean | None  # how much less far from its label an answer lies, -1 to 1; None without labels

    def __str__(self) -> str:
        parts: list[str] = [self.decision]
        for name, each in (("answers differ by", self.disagreement), ("errors are smaller by", self.gain)):
            if each is not None:
                parts.append(f"{name} {each.value:.3f} [{each.low:.3f}, {each.high:.3f}] of {each.rows:,} rows")
        return f"{'; '.join(parts)}; error rate {LEVEL:g}"


def decide(disagreement: Mean | None, gain: Mean | None, *, margin: float, most: float) -> Found:
    """Return the decision: by the gain where there is one, else by how much both disagree.

    ``margin`` is what counts as alike, and ``most`` how far answers may lie apart while nobody knows who is right.
    """
    decision: Decision = "go on"
    if gain is not None and gain.low > 0:
        decision = "better"
    elif gain is not None and gain.high < 0:
        decision = "worse"
    elif gain is not None and gain.low > -margin:
        decision = "alike"
    elif gain is None and disagreement is not None and disagreement.low > most:
        decision = "disagrees"
    return Found(decision, disagreement, gain)


def compare(
    log: pd.DataFrame,
    versions: tuple[str, str],
    labels: pd.DataFrame | None,
    *,
    answer: str,
    apart: Apart,
    lost: Lost,
    margin: float,
    most: float,
) -> Found:
    """Compare the ``versions`` (the served one, the tried one) by a `read_log` of both, labels with ``sample_sha256``.

    ``answer`` is the column of their answers. An input, or a sample with a label, counts once, the first time, so that
    a client who repeats it has no more weight; ids of requests that occur twice pair nothing. Labels count in their
    order, in which they must have arrived if one looks more than once. Without common requests the two answered
    different clients: then the difference is of the means of runs, each as short as it can be with rows of both.
    """
    both = log[log["model_version"].astype(str).isin(versions)].sort_values("time", kind="stable")
    served, tried = (both[both["model_version"].astype(str) == version] for version in versions)
    pairs = _once(served).merge(_once(tried), on=_KEYS, suffixes=("_served", "_tried"))
    pairs = pairs.sort_values("time_served", kind="stable")
    differ = None
    if len(pairs):
        inputs = pairs.drop_duplicates("row_sha256_served")
        of_each = (inputs[f"{answer}_{side}"] for side in ("tried", "served"))
        differ = confidence_sequence(apart(*of_each), LEVEL / 2)
    gain = None
    if labels is not None:
        gains: Iterable[float]
        measured = [name for name in labels.columns if name.startswith("measured")]
        if len(pairs):
            first = pairs.drop_duplicates("sample_sha256_served")
            known = labels.merge(first, left_on="sample_sha256", right_on="sample_sha256_served")
            losses = [lost(known[f"{answer}_{side}"], known[measured]) for side in ("served", "tried")]
            gains = losses[0] - losses[1]
        else:
            first = both.drop_duplicates(["sample_sha256", "model_version"])
            known = labels.merge(first, on="sample_sha256")
            is_tried = (known["model_version"].astype(str) == versions[1]).to_numpy()
            gains = _run_by_run(is_tried, lost(known[answer], known[measured]))
        numbers = np.fromiter(gains, np.float64)
        if len(numbers):
            gain = confidence_sequence(numbers, LEVEL / 2, (-1.0, 1.0))
    return decide(differ, gain, margin=margin, most=most)


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(_KEYS, keep=False)


def _run_by_run(is_tried: np.ndarray, losses: np.ndarray) -> Iterable[float]:
    """Yield by how much less the tried version loses in each run, which ends as soon as it has rows of both."""
    sums, counts = [0.0, 0.0], [0, 0]
    for side, each in zip(is_tried.astype(int).tolist(), losses.tolist(), strict=True):
        sums[side] += each
        counts[side] += 1
        if all(counts):
            yield sums[0] / counts[0] - sums[1] / counts[1]
            sums, counts = [0.0, 0.0], [0, 0]
