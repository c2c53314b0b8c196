"""The DVC commands of the loop: pull the data that git names, list stale stages, and run them."""

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


def pull() -> str:
    """Bring ``data/`` to what ``data.dvc`` names, updated from its source if it was imported; return what was done."""
    target = str(tracking.DATA_DVC)
    if not tracking.DATA_DVC.is_file():
        raise UserError(f"{target} does not exist; record the data with `make data FROM=DIR`")
    imported = bool((yaml.safe_load(tracking.DATA_DVC.read_text(encoding="utf-8")) or {}).get("deps"))
    if imported:
        _dvc("update", target, hint="the source that the data was imported from must be reachable")
    if not _changes([target]):
        return "data/ was compared with its source" if imported else "data/ is what data.dvc names"
    _dvc(
        *("pull", target),
        hint="record changes in data/ with `make data FROM=DIR` or `dvc add data`; what data.dvc names has to be in a "
        "DVC remote (`dvc push`, `dvc remote list`)",
    )
    return "data/ was pulled to what data.dvc names"


def stale(inputs: str, targets: Sequence[str]) -> dict[str, Any]:
    """Return what changed, by stage and dependency, once the stage ``inputs`` knows the present code."""
    reproduce([inputs], "--quiet")
    return _changes(targets)


def _changes(targets: Sequence[str]) -> dict[str, Any]:
    """Return the changes that `dvc status` finds; empty where all is up to date."""
    found = _dvc("status", "--json", "--with-deps", *targets, hint="run `dvc status` to see more")
    return json.loads(found.strip().splitlines()[-1] if found.strip() else "{}")


def reproduce(targets: Sequence[str], *options: str) -> None:
    """Run the stale stages; `UserError` too while a run that outlived a killed loop keeps DVC's lock on its outputs."""
    words = ["repro", *options, *targets]
    code = _run_dvc(words).returncode
    if code:
        raise UserError(f"`dvc {' '.join(words)}` ended with {code}: see above; correct it and run this again")


def _dvc(*arguments: str, hint: str) -> str:
    done = _run_dvc(arguments, capture_output=True, text=True)
    if done.returncode:
        message = "\n".join(line for line in done.stderr.strip().splitlines() if line.strip())[-1500:]
        raise UserError(f"`dvc {' '.join(arguments)}` failed ({hint}):\n{message}")
    return str(done.stdout)


def _run_dvc(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # stages call this `python`
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL, **options)
