"""What a loop is about: data, parameters, policy, code and architectures of a task, as hashes.

Equal fingerprints give equal models on one machine, and the same word at the gate; so nothing has to be done twice.
"""

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
_GATE = ("evaluation.candidate", "evaluation.promotion.gate")  # what runs after the last stage


def components(params: Params, name: str, architectures: Sequence[str]) -> dict[str, str]:
    """Return the hash of everything that decides what the loop ends with.

    Raises
    ------
    UserError
        The task's data is not there.
    """
    data = tracking.DATA / name
    if not data.is_dir():
        raise UserError(f"{data} is not there; bring data with `make data FROM=DIR TASK={name}`")
    policy = {"gate": asdict(params.policy.gate), "task": asdict(params.policy.task(name))}
    return {
        "data": tracking.folder_sha256(data),
        "params": params_sha256(params, name),
        "policy": _sha256(policy),
        "code": _sha256(code(params.task(name), architectures)),
        "architectures": ", ".join(sorted(architectures)),
    }


def fingerprint(parts: dict[str, str]) -> str:
    """Return one hash of the components."""
    return _sha256(parts)


def code(task: Task, architectures: Sequence[str]) -> dict[str, str]:
    """Return the commands of ``dvc.yaml``, and the code that they, the gate and the architectures run.

    Keys are stages, and paths as `pipelines.code_closure.closure` gives them.
    """
    written = yaml.safe_load(_STAGES.read_text(encoding="utf-8"))["stages"]
    commands = {name: str(stage.get("do", stage)["cmd"]) for name, stage in written.items()}
    modules = re.findall(r"python -m ([\w.]+)", " ".join(commands.values()))
    return commands | closure(*modules, *_GATE, task=task, architectures=architectures)


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
