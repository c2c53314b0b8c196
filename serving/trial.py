"""Compare a version that is tried beside another by what both answered: ``python -m serving.trial --task T --log DIR``.

Of a shadow both answers to each request are in the log, under one id; of a canary each client has the answers of one
version. Prints a decision that holds whenever one looks, see `serving.sequential`; with ``--act`` it is carried out and
written to the history. Exit code 0: go on, or better, or alike; 2: take it back; 3: the gate refuses it.
"""

import hashlib
import hmac
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import parser, run_command
from pipelines.environment import LOG_SALT
from pipelines.errors import UserError
from pipelines.params import read_params

if TYPE_CHECKING:
    from pipelines.policy import Policy
    from serving.drift.trial import Found

TAKE_BACK, REFUSED = 2, 3


def main() -> int:
    """Print what is known, and act on it if asked to."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--log", required=True, type=Path, help="folder that ONCOLINEAGE_PREDICTION_LOG named")
    arguments.add_argument("--labels", default="", help="table of labels, in the order in which they arrived")
    arguments.add_argument("--served", default="production", help="alias of the version that is served")
    arguments.add_argument("--tried", default="staging", help="alias of the version that is tried")
    arguments.add_argument("--most", type=float, default=0.1, help="how far answers may lie apart without labels")
    # Text, since MLflow passes an empty parameter as an empty word.
    arguments.add_argument("--act", nargs="?", const="1", default="", help="promote, take back, or record: it goes on")
    arguments.add_argument("--by", default="", help="who acts, for the history (default: git's user.name)")
    given = arguments.parse_args()
    if given.act and (given.served, given.tried) != ("production", "staging"):
        raise UserError("--act moves the version in staging beside that in production; leave out --served and --tried")
    import pandas as pd

    from serving.drift.trial import compare
    from serving.drift.watch import read_log
    from serving.problems import get_problem
    from serving.server_command import served_version

    params = read_params()
    problem = get_problem(params.task(given.task).problem)
    versions = served_version(given.task, given.served), served_version(given.task, given.tried)
    if versions[0] == versions[1]:
        raise UserError(f"version {versions[0]} is both in {given.served} and in {given.tried}: nothing is tried")
    log = pd.concat([read_log(given.log, given.task, each, least=1).rows for each in versions], ignore_index=True)
    contract = _contract(given.task, versions[0])
    found = compare(
        log,
        versions,
        _labels(Path(given.labels), contract, set(log["sample_sha256"].dropna())) if given.labels else None,
        answer=problem.tried,
        apart=partial(problem.apart, contract),
        lost=partial(problem.lost, contract),
        margin=params.policy.gate.non_inferiority,
        most=given.most,
    )
    print(f"{given.task} version {versions[1]} beside version {versions[0]}: {found}")
    if given.act:
        return act(given.task, versions, found, by=given.by, policy=params.policy)
    if found.decision in ("better", "alike"):
        print(f"next: make promote TASK={given.task} TO=production, which asks the gate")
    if found.decision in ("worse", "disagrees"):
        print("next: the same with ACT=1, which takes it out of staging")
        return TAKE_BACK
    return 0


def act(task: str, versions: tuple[str, str], found: "Found", *, by: str, policy: "Policy") -> int:
    """Promote the tried version through the gate, take it back, or record that it goes on; return the exit code."""
    from evaluation.promotion.gate import lines
    from serving.registry import GateError, promote, trial, whoever

    served, tried = map(int, versions)
    said: dict[str, Any] = {"beside": served, "by": whoever(by), "why": f"trial beside version {served}: {found}"}
    if found.decision in ("better", "alike"):
        try:
            promote(task, "production", tried, policy=policy, **said)
        except GateError as error:
            print("\n".join(lines(error.verdicts)))
            print(f"error: {str(error).splitlines()[0]}: the gate refuses; nothing was moved", file=sys.stderr)
            return REFUSED
        print(f"{task} version {tried} is now in production")
        return 0
    worse = found.decision in ("worse", "disagrees")
    entry = trial(task, tried, worse=worse, **said)
    if worse:
        print(f"{task} version {tried} was taken out of staging; version {served} answers alone")
        return TAKE_BACK
    print("it goes on" + ("" if entry is None else f": row {entry.number} of the history"))
    return 0


def _contract(task: str, version: str) -> Any:
    from mlflow import MlflowClient

    from evaluation.promotion.registered_files import check_files
    from serving.gate_context import model_files
    from training.model.track import contract_of, predictor_folder

    registered = MlflowClient().get_model_version(task, version)
    with model_files(registered.source) as files:
        check_files(registered, files)
        return contract_of(predictor_folder(files))


def _labels(path: Path, contract: Any, logged: set[str]) -> Any:
    """Return the labels by the salted hashes of the log."""
    from serving.drift.watch import read_labels

    salt = os.environ.get(LOG_SALT, "").encode()
    if not salt:
        raise UserError(f"{LOG_SALT} is not set; labels are joined by the salt that the endpoint hashed ids with")

    def hashed(sample_id: str) -> str:
        return hmac.digest(salt, sample_id.encode(), hashlib.sha256).hex()

    return read_labels(path, contract, hashed, logged=logged, tell=print)


if __name__ == "__main__":
    run_command(main)
