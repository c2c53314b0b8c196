"""The fingerprint of a loop: equal ones give equal models on one machine and equal verdicts of the gate."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from evaluation.evidence.build import params_sha256
from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.errors import UserError
from pipelines.params import Params, Task

_STAGES = Path("dvc.yaml")
_GATE = ("evaluation.candidate", "evaluation.promotion.gate")  # run after the last stage


def components(params: Params, name: str, architectures: Sequence[str]) -> dict[str, str]:
    """Return the hash of each part of the input; raises `UserError` where the task has no data."""
    data = tracking.DATA / name
    if not data.is_dir():
        raise UserError(f"{data} does not exist; bring data with `make data FROM=DIR TASK={name}`")
    policy = {"gate": asdict(params.policy.gate), "task": asdict(params.policy.task(name))}
    return {
        "data": tracking.folder_sha256(data),
        "params": params_sha256(params, name),
        "policy": fingerprint(policy),
        "code": fingerprint(code(params.task(name), architectures)),
        "architectures": ", ".join(sorted(architectures)),
    }


def fingerprint(content: Any) -> str:
    """Return the hash of JSON values, such as the components."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code(task: Task, architectures: Sequence[str]) -> dict[str, str]:
    """Return the commands of ``dvc.yaml`` by stage, and the hash of all code that they and the gate run by path."""
    written = yaml.safe_load(_STAGES.read_text(encoding="utf-8"))["stages"]
    commands = {name: str(stage.get("do", stage)["cmd"]) for name, stage in written.items()}
    modules = re.findall(r"python -m ([\w.]+)", " ".join(commands.values()))
    return commands | closure(*modules, *_GATE, task=task, architectures=architectures)
