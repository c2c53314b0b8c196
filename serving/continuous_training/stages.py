"""What DVC does for the loop: bring the data that git names, say what is stale, and make it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines import tracking
from pipelines.errors import UserError
from serving.continuous_training.tether import run_tethered


def checked(name: str) -> list[str]:
    """Return the stages that look at a task's raw data."""
    return [f"validate@{name}", f"audit@{name}"]


def trained(name: str, architectures: Sequence[str]) -> list[str]:
    """Return the stages that end with the evidence of a task's models."""
    return [f"evaluate@{name}-{each}" for each in architectures]


def pull() -> str:
    """Bring ``data/`` to what ``data.dvc`` names, and, where it was imported, look at its source first.

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    UserError
        ``data/`` holds changes that DVC does not know, or the remote has not got what ``data.dvc`` names.
    """
    target = str(tracking.DATA_DVC)
    if not tracking.DATA_DVC.is_file():
        raise UserError(f"{target} is not there; record the data with `make data FROM=DIR`")
    imported = bool((yaml.safe_load(tracking.DATA_DVC.read_text(encoding="utf-8")) or {}).get("deps"))
    if imported:
        _dvc("update", target, hint="the source that the data was imported from must be reachable")
    state = stale([target])
    if not state:
        return "data/ was looked up at its source" if imported else "data/ is what data.dvc names"
    _dvc(
        *("pull", target),
        hint="record changes in data/ with `make data FROM=DIR` or `dvc add data`; what data.dvc names has to be in a "
        "DVC remote (`dvc push`, `dvc remote list`)",
    )
    return "data/ was pulled to what data.dvc names"


def stale(targets: Sequence[str]) -> dict[str, Any]:
    """Return what `dvc status` finds changed, by stage and what it depends on; empty where all is up to date."""
    found = _dvc("status", "--json", "--with-deps", *targets, hint="run `dvc status` to see more")
    changed: dict[str, Any] = json.loads(found.strip().splitlines()[-1] if found.strip() else "{}")
    return changed


def reproduce(targets: Sequence[str], *options: str) -> None:
    """Run what is stale of ``targets``; DVC keeps every stage that ended, so a second call goes on.

    Raises
    ------
    UserError
        A stage failed; what it says stands on the terminal.
    """
    code = run_tethered([sys.executable, "-m", "dvc", "repro", *options, *targets], _environment())
    if code:
        raise UserError(
            f"`dvc repro {' '.join([*options, *targets])}` ended with {code}: see above; mend it, run again"
        )


def _dvc(*arguments: str, hint: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        env=_environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = "\n".join(line for line in done.stderr.strip().splitlines() if line.strip())[-1500:]
        raise UserError(f"`dvc {' '.join(arguments)}` failed ({hint}):\n{said}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return the environment of a child: stages call ``python``, which is to be this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path}
