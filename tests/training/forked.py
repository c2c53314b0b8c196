"""Processes that start in a moment: forks of a server that has imported the platform."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_IMPORTED = ["training.fit", "training.model.final_fit", "tests.training.steps_worker"]
_IMPORTED += ["torch._dynamo", "mlflow.store.tracking.sqlalchemy_store"]  # which a fit imports late


def begin(run: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Start ``run(*arguments)`` in the folder and environment of this process; its result is the exit status."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    inherited = {**os.environ, **(environment or {})}
    process = context.Process(target=_run, args=(str(Path.cwd()), inherited, run, arguments))
    process.start()
    return process


def _run(folder: str, environment: dict[str, str], run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(run(*arguments))
