"""A fit in a process of its own, which gives all its memory back and says how much it took at most."""

import contextlib
import multiprocessing
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Task
from training.architectures import get_architecture
from training.contract import contract_class
from training.estimator import FitContext
from training.model.cross_fit import fit_final


@dataclass(frozen=True)
class Outcome:
    """Predictions of the test rows and of the rows held out of a fit, and what the fit took."""

    predicted: np.ndarray
    held_out: np.ndarray
    held_out_rows: np.ndarray
    seconds: float
    peak_megabytes: float


def fit_here(
    architecture: str, task: Task, hyperparameters: Mapping[str, Any], prepared: Prepared, settings: Mapping[str, Any]
) -> Outcome:
    """Fit one model on the training rows, stopped early on the validation rows, and predict the test rows."""
    began = time.perf_counter()
    made = get_architecture(architecture, task.modality, task.problem)
    context = FitContext(progress=sys.stderr.isatty())
    final = fit_final(made, hyperparameters, prepared, members=1, settings=settings, context=context)
    final = contract_class(task.modality, task.problem).adjusted(prepared, final, made.role)
    seconds = time.perf_counter() - began
    predicted = final.estimator.outputs(prepared.side("test"))
    if not (np.isfinite(predicted).all() and np.isfinite(final.held_out).all()):
        raise UserError(f"the fit of {architecture} diverged; tune it again with a narrower search space")
    return Outcome(predicted, final.held_out, final.held_out_rows, seconds, peak_megabytes())


def fit_apart(*arguments: Any) -> Outcome:
    """Return what `fit_here` returns, from a process of its own.

    `UserError` if the fit failed, or the process was killed, which most often means that memory ran out.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
        try:
            return pool.submit(fit_here, *arguments).result()
        except BrokenProcessPool as error:
            raise UserError(f"the process that fitted {arguments[0]} was killed; most often memory ran out") from error
        except UserError:
            raise
        except Exception as error:  # whatever an architecture raises: other fits are not held up by it
            traceback.print_exception(error)
            raise UserError(f"the fit of {arguments[0]} failed with {type(error).__name__}: {error}") from error


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far; on Linux ``getrusage`` would add the parent's."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _end_with_parent() -> None:
    """End this process when the one that started it dies: a killed run leaves no fit behind."""

    def watch() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
