"""What is known of a version that is tried beside the served one, by intervals that hold whenever one looks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from serving.sequential import Mean, confidence_sequence

LEVEL = 0.05  # chance that any statement of a trial is ever wrong
Decision = Literal["go on", "better", "alike", "worse", "disagrees"]


@dataclass(frozen=True)
class Found:
    """What is known of the version that is tried, beside the other."""

    decision: Decision
    disagreement: Mean | None  # share of answers to the same rows that differ; None of a canary
    gain: Mean | None  # how much more often it is right, on rows with a label; None without labels

    def __str__(self) -> str:
        parts: list[str] = [self.decision]
        for name, each in (("answers differently", self.disagreement), ("is more often right by", self.gain)):
            if each is not None:
                parts.append(f"{name} {each.value:.3f} [{each.low:.3f}, {each.high:.3f}] of {each.rows:,} rows")
        return "; ".join(parts)


def decide(disagreement: Mean | None, gain: Mean | None, *, margin: float, most: float) -> Found:
    """Return the decision: by the gain where there is one, else by how much both disagree.

    ``margin`` is what counts as alike, and ``most`` the share of answers that may differ while nobody knows who is
    right.
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
    log: pd.DataFrame, versions: tuple[str, str], labels: pd.DataFrame | None, *, margin: float, most: float
) -> Found:
    """Compare the ``versions`` (the served one, the tried one) by a `read_log` of both, labels with ``sample_sha256``.

    Rows count in the order of their time. Without common requests the two answered different clients: then only the
    difference of their shares of right answers is known, of labelled rows taken pair by pair in that order.
    """
    both = log[log["model_version"].astype(str).isin(versions)].sort_values("time", kind="stable")
    served, tried = (both[both["model_version"].astype(str) == version] for version in versions)
    keys = ["request_id", "row"]
    pairs = served.merge(tried, on=keys, suffixes=("_served", "_tried")).sort_values("time_served", kind="stable")
    differ = None
    if len(pairs):
        differ = confidence_sequence((pairs["label_served"] != pairs["label_tried"]).to_numpy(np.float64), LEVEL / 2)
    gain = None
    if labels is not None:
        if len(pairs):
            known = pairs.merge(labels, left_on="sample_sha256_served", right_on="sample_sha256")
            right = [(known[f"label_{side}"] == known["measured"]).to_numpy(np.float64) for side in ("served", "tried")]
        else:
            of_each = [part.merge(labels, on="sample_sha256") for part in (served, tried)]
            fewest = min(map(len, of_each))
            right = [(part["label"] == part["measured"]).to_numpy(np.float64)[:fewest] for part in of_each]
        if len(right[0]):
            gain = confidence_sequence(right[1] - right[0], LEVEL / 2, (-1.0, 1.0))
    return decide(differ, gain, margin=margin, most=most)
