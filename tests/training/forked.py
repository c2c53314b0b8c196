"""Processes that start in a moment: forks of a server that has imported the platform; and waiting for others."""

import multiprocessing
import os
import sys
import threading
import time
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


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until ``true()``, and fail after so many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def in_threads(run: Callable[[], Any], count: int = 1) -> list[threading.Thread]:
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread], seconds: float = 60) -> None:
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "waited in vain"
