"""What a loop is about: data, parameters, policy, code and architectures of a task, as hashes.

Equal fingerprints give equal models on one machine, and the same word at the gate; so nothing has to be done twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from evaluation.evidence.measuring import params_sha256
from pipelines import tracking
from pipelines.faults import UserError
from pipelines.params import Params

STAGES = Path("dvc.yaml")
_ROOMS = Path(__file__).parents[2]
_GATE = ("evaluation/candidates", "evaluation/comparison")  # judge after the last stage, and are no stage's dependency
_PLACE = re.compile(r"\$\{([^}]+)\}")


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
        "code": _sha256(code(name, architectures) | {room: _content_sha256(_ROOMS / room) for room in _GATE}),
        "architectures": ", ".join(sorted(architectures)),
    }


def fingerprint(parts: dict[str, str]) -> str:
    """Return one hash of the components."""
    return _sha256(parts)


def code(name: str, architectures: Sequence[str], stages: Path = STAGES) -> dict[str, str]:
    """Return command and code of the task's stages, as ``dvc.yaml`` names them.

    What stages hand to one another, and the data, is no code.

    Parameters
    ----------
    name, architectures
        Of the stages.
    stages
        The file.

    Returns
    -------
    dict
        ``path`` to hash of its content, ``stage`` to its command.
    """
    written = yaml.safe_load(stages.read_text(encoding="utf-8"))["stages"]
    found: dict[str, str] = {}
    wanted = dict(_stages(written, name, architectures, stages))
    made = [Path(tracking.DATA), *(Path(_path(out)) for stage in wanted.values() for out in stage.get("outs", []))]
    for key, stage in wanted.items():
        found[key] = stage["cmd"]
        for dependency in map(Path, stage.get("deps", [])):
            if not any(dependency == out or out in dependency.parents or dependency in out.parents for out in made):
                found[dependency.as_posix()] = _content_sha256(dependency)
    return found


def _stages(
    written: dict[str, Any], name: str, architectures: Sequence[str], path: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every stage of the task with its placeholders filled in."""
    for stage, content in written.items():
        if "foreach" not in content:  # of no task
            continue
        over = content["foreach"]
        if over == "${tasks}":
            items = [{"key": name}]
        elif over == "${models}":
            items = [{"item.task": name, "item.architecture": each} for each in architectures]
        else:
            raise UserError(f"{path}: stage {stage} loops over {over!r}; over ${{tasks}} and ${{models}} is understood")
        for item in items:
            yield f"{stage}@{'-'.join(item.values())}", _filled(content["do"], item, f"{path}, stage {stage}")


def _filled(content: Any, item: dict[str, str], where: str) -> Any:
    if isinstance(content, dict):
        return {_filled(key, item, where): _filled(value, item, where) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(each, item, where) for each in content]
    if not isinstance(content, str):
        return content
    if unknown := {place for place in _PLACE.findall(content) if place not in item}:
        raise UserError(f"{where}: ${{{unknown.pop()}}} is not understood; {', '.join(item)} is")
    return _PLACE.sub(lambda place: item[place[1]], content)


def _path(out: str | dict[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def _content_sha256(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: a stage in dvc.yaml depends on it, and it is not there")
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    # Byte code is made by running, and says nothing that its source does not.
    return _sha256(
        {
            file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if "__pycache__" not in file.parts
        }
    )


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
