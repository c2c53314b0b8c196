"""Compare a version that is tried beside another by what both answered: ``python -m serving.trial --task T --log DIR``.

Of a shadow both answers to each request are in the log, under one id; of a canary each client has the answers of one
version. Prints a decision that holds whenever one looks, see `serving.sequential`. Exit code 0: go on, or better, or
alike; 2: take it back.
"""

import hashlib
import hmac
import os
from pathlib import Path
from typing import Any

from pipelines.command import parser, run_command
from pipelines.environment import LOG_SALT
from pipelines.errors import UserError
from pipelines.params import read_params

TAKE_BACK = 2


def main() -> int:
    """Print what is known; exit code 2 where the version should be taken back."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--log", required=True, type=Path, help="folder that ONCOLINEAGE_PREDICTION_LOG named")
    arguments.add_argument("--labels", default="", help="table of labels that arrived: sample_id, label")
    arguments.add_argument("--served", default="production", help="alias of the version that is served")
    arguments.add_argument("--tried", default="staging", help="alias of the version that is tried")
    arguments.add_argument("--most", type=float, default=0.1, help="share of answers that may differ without labels")
    given = arguments.parse_args()
    import pandas as pd

    from serving.drift.trial import compare
    from serving.drift.watch import read_log
    from serving.problems import get_problem
    from serving.server_command import served_version

    params = read_params()
    task = params.task(given.task)
    worth = get_problem(task.problem).worth()
    if worth is None or not worth.probability:
        raise UserError(f"{given.task}: only answers of classes can be compared as right or wrong so far")
    versions = served_version(given.task, given.served), served_version(given.task, given.tried)
    if versions[0] == versions[1]:
        raise UserError(f"version {versions[0]} is both in {given.served} and in {given.tried}: nothing is tried")
    log = pd.concat([read_log(given.log, given.task, each, least=1).rows for each in versions], ignore_index=True)
    labels = (
        _labels(Path(given.labels), given.task, versions[0], set(log["sample_sha256"].dropna()))
        if given.labels
        else None
    )
    found = compare(log, versions, labels, margin=params.policy.gate.non_inferiority, most=given.most)
    print(f"{given.task} version {versions[1]} beside version {versions[0]}: {found}")
    if found.decision in ("better", "alike"):
        print(f"next: make promote TASK={given.task} TO=production, which asks the gate")
    if found.decision in ("worse", "disagrees"):
        print("next: serve without SHADOW or CANARY; the version stays in staging until another takes its place")
        return TAKE_BACK
    return 0


def _labels(path: Path, task: str, version: str, logged: set[str]) -> Any:
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
    return read_labels(path, contract, hashed, logged=logged, tell=print)


if __name__ == "__main__":
    run_command(main)
