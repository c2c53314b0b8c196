"""Which code decides what a study finds and what a fit ends with; whatever goes on after a kill must be of the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_AFTER_THE_STUDY = ("model", "modalities", "problems")  # rooms of `training` that no trial enters


def of_study(architecture: str) -> list[Path]:
    """Return the files whose code a trial of ``architecture`` runs, and those that may as well be among them."""
    training, every = _every()
    others = {path for path in training.glob("architectures/*.py") if path.stem not in ("__init__", architecture)}
    after = {path for room in _AFTER_THE_STUDY for path in (training / room).rglob("*.py")} | {training / "contract.py"}
    return sorted(every - others - after)


def of_fit() -> list[Path]:
    """Return the files whose code a final fit runs, with its baseline's: all that read samples and learn from them."""
    return sorted(_every()[1])


def sha256s(files: Iterable[Path]) -> list[str]:
    """Return the hash of each file."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _every() -> tuple[Path, set[Path]]:
    training = Path(__file__).parent
    pipelines = training.parent / "pipelines"
    read = (
        path for room in ("modalities", "problems", "samples", "tasks") for path in (pipelines / room).rglob("*.py")
    )
    return training, {*training.rglob("*.py"), *read, pipelines / "prepared.py"}
