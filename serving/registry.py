"""The one way by which a model gets a registry alias: with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipelines.faults import UserError


@dataclass(frozen=True)
class Registration:
    """What became of a candidate.

    Attributes
    ----------
    version
        Version of the registered model that bears the task's name.
    staged
        Whether the alias ``staging`` points to it now.
    reason
        Why, or why not.
    """

    name: str
    version: str
    staged: bool
    reason: str


def register(name: str, evidence: dict[str, Any]) -> Registration:
    """Make a version of the registered model ``name``, and give it ``staging`` if its margin is proved.

    The version carries the hashes of its evidence, data, split and code as tags. A model that is registered already
    keeps its version.

    Parameters
    ----------
    name
        Name of the task.
    evidence
        As read by `evaluation.evaluate.read_evidence`, which refuses edited evidence.
    """
    client = MlflowClient()
    if evidence["task"] != name:
        raise UserError(f"the evidence is of the task {evidence['task']!r}, not of {name!r}")
    run = _run(client, evidence)
    if run.data.tags.get("evidence.sha256") != evidence["sha256"]:
        raise UserError(f"run {evidence['run_id']} was evaluated with other evidence; run the evaluate stage again")
    version = _version(client, name, evidence)
    staged, reason = margin_is_proved(evidence)
    if staged:
        client.set_registered_model_alias(name, "staging", version)
    return Registration(name, version, staged, reason)


def margin_is_proved(evidence: dict[str, Any]) -> tuple[bool, str]:
    """Whether the interval of the margin over the baseline lies above zero, and the sentence that says so."""
    margin = evidence["test"]["metrics"]["margin"]
    over = f"the margin over {evidence['baseline']} is"
    if margin["value"] is None or margin["low"] is None:
        return False, f"{over} not defined"
    numbers = f"{margin['value']:+.3f} [{margin['low']:+.3f}, {margin['high']:+.3f}]"
    if margin["low"] > 0:
        return True, f"{over} {numbers}: above zero"
    return False, f"{over} {numbers}: its interval is not above zero"


def _run(client: MlflowClient, evidence: dict[str, Any]) -> Any:
    try:
        return client.get_run(evidence["run_id"])
    except MlflowException as error:
        raise UserError(
            f"run {evidence['run_id']} of the evidence is not in the tracking store; run `make train` again"
        ) from error


def _version(client: MlflowClient, name: str, evidence: dict[str, Any]) -> str:
    """Return the version of the evidence's model, made if it is not there yet."""
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name, description=f"Models of the task {name}, registered with evidence.")
    tags = {
        "architecture": evidence["architecture"],
        "evidence.sha256": evidence["sha256"],
        "simulated": str(evidence["simulated"]).lower(),
        **{key: str(value) for key, value in evidence["hashes"].items()},
    }
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == evidence["model_uri"]:
            for key, value in tags.items():
                client.set_model_version_tag(name, version.version, key, value)
            return version.version
    made = client.create_model_version(name, source=evidence["model_uri"], run_id=evidence["run_id"], tags=tags)
    return made.version
