"""Compare a version that is tried beside another by what both answered: ``python -m serving.trial --task T --log DIR``.

Of a shadow both answers to each request are in the log, under one id; of a canary each client has the answers of one
version. Prints a decision that holds whenever one looks, see `serving.sequential`. Exit code 0: go on, or better, or
alike; 2: take it back.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipelines.command import parser, run_command
from pipelines.environment import LOG_SALT
from pipelines.errors import UserError
from pipelines.params import read_params
from serving.sequential import Mean, confidence_sequence

TAKE_BACK = 2
LEVEL = 0.05  # chance that any statement of a trial is ever wrong
Decision = Literal["go on", "better", "alike", "worse", "disagrees"]


@dataclass(frozen=True)
class Found:
    """What is known of the version that is tried, beside the other."""

    decision: Decision
    disagreement: Mean | None  # share of answers to the same rows that differ; None of a canary
    gain: Mean | None  # how much more often it is right, on rows with a label; None without labels

    def __str__(self) -> str:
        parts = [self.decision]
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


def main() -> int:
    """Print what is known; exit code 2 where the version should be taken back."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--log", required=True, type=Path, help="folder that ONCOLINEAGE_PREDICTION_LOG named")
    arguments.add_argument("--labels", default="", help="table of labels that arrived: sample_id, label")
    arguments.add_argument("--served", default="production", help="alias of the version that is served")
    arguments.add_argument("--tried", default="staging", help="alias of the version that is tried")
    arguments.add_argument("--most", type=float, default=0.1, help="share of answers that may differ without labels")
    given = arguments.parse_args()
    from serving.drift.watch import read_log
    from serving.server_command import served_version

    params = read_params()
    task = params.task(given.task)
    if task.problem != "classification":
        raise UserError(f"{given.task}: only answers of classes can be compared as right or wrong so far")
    versions = served_version(given.task, given.served), served_version(given.task, given.tried)
    if versions[0] == versions[1]:
        raise UserError(f"version {versions[0]} is both in {given.served} and in {given.tried}: nothing is tried")
    log = pd.concat([read_log(given.log, given.task, each, least=1).rows for each in versions], ignore_index=True)
    labels = _labels(Path(given.labels), given.task, versions[0], log) if given.labels else None
    found = compare(log, versions, labels, margin=params.policy.gate.non_inferiority, most=given.most)
    print(f"{given.task} version {versions[1]} beside version {versions[0]}: {found}")
    if found.decision in ("better", "alike"):
        print(f"next: make promote TASK={given.task} TO=production, which asks the gate")
    if found.decision in ("worse", "disagrees"):
        print("next: serve without SHADOW and CANARY; version stays in staging until another takes its place")
        return TAKE_BACK
    return 0


def _labels(path: Path, task: str, version: str, log: pd.DataFrame) -> pd.DataFrame:
    """Return the labels by the salted hashes of the log."""
    from mlflow import MlflowClient

    from serving.drift.watch import read_labels
    from serving.gate_context import model_files
    from training.model.track import contract_of, predictor_folder

    salt = os.environ.get(LOG_SALT, "").encode()
    if not salt:
        raise UserError(f"{LOG_SALT} is not set; labels are joined by the salt that the endpoint hashed ids with")

    def hashed(sample_id: str) -> str:
        return hmac.digest(salt, sample_id.encode(), hashlib.sha256).hex()

    with model_files(MlflowClient().get_model_version(task, version).source) as files:
        contract: Any = contract_of(predictor_folder(files))
    return read_labels(path, contract, hashed, logged=set(log["sample_sha256"].dropna()), tell=print)


if __name__ == "__main__":
    run_command(main)
