"""Which worker runs which trial: an exact budget that many share, and trials that outlive the process that ran them.

A worker claims a trial under the study's lock: it queues the trials of dead workers again, counts, and takes one. The
lock is given back as soon as the trial bears the worker's name, before any work. So whoever holds the lock knows that a
running trial without a name belongs to a worker that died, or lost the lock, in the midst of a claim.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pipelines.retry import pauses
from pipelines.store_errors import StoreError
from training.studies.storage import StudyLock

RUN_ID, WORKER, ORIGIN = "mlflow_run_id", "worker", "origin"
_RETRY_OF, _ATTEMPT, _FAULT, _BEAT = "retry_of", "attempt", "fault", "beat"
MOST_ATTEMPTS = 6  # a trial that has taken this many workers with it is not run again: it may be what kills them
_BEAT_SECONDS = 20.0
_SILENT_SECONDS = 120.0  # a worker on another host that has not been heard for so long has died
_LONGEST_POLL_SECONDS = 3.0
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)

Objective = Callable[[optuna.Trial], float]
Callback = Callable[[optuna.Study, FrozenTrial], None]


class LostTrial(Exception):
    """The trial is no longer this worker's: another has taken it for dead, or the budget was already spent."""


def worker() -> str:
    """Return who runs a trial: host, process and the time the process began."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time():.0f}"


def _is_alive(who: str) -> bool | None:
    """Whether the worker is still running; None for one on another host, which cannot be seen from here."""
    host, pid, began = who.split("|")
    if host != socket.gethostname():
        return None
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.0f}" == began and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(study: optuna.Study) -> int:
    """Return how many trials ended: complete or pruned."""
    return len(study.get_trials(deepcopy=False, states=_DONE))


class Beats:
    """What has been heard of workers on other hosts, by the clock of who listens.

    Time in which nobody listened, or in which the database was away, does not count as silence.
    """

    def __init__(self) -> None:
        self._heard: dict[int, tuple[Any, float]] = {}
        self._last = float("-inf")

    def silent(self, trials: list[FrozenTrial], now: float | None = None) -> set[int]:
        """Return the numbers of those of the running ``trials`` whose worker has been silent for too long."""
        now = time.monotonic() if now is None else now
        if now - self._last > 2 * _BEAT_SECONDS:
            self._heard.clear()
        self._last = now
        before = self._heard
        self._heard = {}
        for trial in trials:
            beat = trial.user_attrs.get(_BEAT)
            known = before.get(trial.number)
            self._heard[trial.number] = known if known is not None and known[0] == beat else (beat, now)
        return {number for number, (_, since) in self._heard.items() if now - since > _SILENT_SECONDS}


def requeue_orphans(study: optuna.Study, beats: Beats | None = None) -> list[FrozenTrial]:
    """Fail the running trials whose worker has died and queue them again, for the same MLflow run; under the lock.

    It can be broken off anywhere: what has failed without a fault of its own and has no successor yet is queued by the
    next who comes by.

    Returns
    -------
    list
        The study's trials, as they are after that. They are read anew only where something was changed: each reading
        fetches every running trial from the database, and all other workers wait for the lock meanwhile.
    """
    trials = study.get_trials(deepcopy=False)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    silent = beats.silent(running) if beats is not None else set()
    told = False
    for trial in running:
        who = trial.user_attrs.get(WORKER)
        alive = False if who is None else _is_alive(who)
        if alive is False or (alive is None and trial.number in silent):
            told = True
            with contextlib.suppress(UpdateFinishedTrialError, ValueError):  # it ended just now
                study.tell(trial.number, state=TrialState.FAIL)
    if told:
        trials = study.get_trials(deepcopy=False)
    succeeded = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
    queued = False
    for trial in trials:
        fixed = trial.system_attrs.get("fixed_params", {})
        orphan = trial.state == TrialState.FAIL and _FAULT not in trial.user_attrs and trial.number not in succeeded
        if not orphan or not (WORKER in trial.user_attrs or fixed) or attempt(trial) >= MOST_ATTEMPTS:
            continue
        carried = {
            ORIGIN: trial.user_attrs.get(ORIGIN, trial.number),
            _RETRY_OF: trial.number,
            # One that nobody began has taken nobody with it.
            _ATTEMPT: attempt(trial) + (WORKER in trial.user_attrs),
        }
        if RUN_ID in trial.user_attrs:
            carried[RUN_ID] = trial.user_attrs[RUN_ID]
        study.enqueue_trial({**fixed, **trial.params}, user_attrs=carried)
        queued = True
    return study.get_trials(deepcopy=False) if queued else trials


def attempt(trial: FrozenTrial | optuna.Trial) -> int:
    """Return how many times the trial has been begun, this one included."""
    return trial.user_attrs.get(_ATTEMPT, 1)


@contextlib.contextmanager
def locked(lock: StudyLock) -> Iterator[None]:
    """Hold the lock."""
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def work(
    study: optuna.Study,
    objective: Objective,
    budget: int,
    lock: StudyLock,
    *,
    callbacks: list[Callback] | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Run trials until ``budget`` of them are complete or pruned, together with whoever else works on the study.

    Parameters
    ----------
    study
        Its storage is shared; the number of trials that have not failed never exceeds ``budget``.
    lock
        This worker's own lock of the study.
    goes_on
        Asked before each trial whether to claim another.

    Raises
    ------
    Exception
        Whatever ``objective`` raised: the trial has failed and is not run again, unless it was a store's.
    """
    beats, lost, pause = Beats(), _Lost(), pauses()
    while goes_on():
        lock.acquire()
        try:
            trials = requeue_orphans(study, beats)
            states = [trial.state for trial in trials]
            if TrialState.WAITING not in states and _alive(trials) >= budget:
                if TrialState.RUNNING not in states:
                    return
                lock.release()
                time.sleep(min(pause(), _LONGEST_POLL_SECONDS))  # those that run may die and be queued again
                continue
            lost.trial, pause = False, pauses()
            study.optimize(
                _claimed(study, objective, budget, lock, lost), n_trials=1, callbacks=callbacks, catch=(LostTrial,)
            )
        except Exception as error:
            if (outage := _outage_behind(error)) is not None:
                raise outage from error
            if not lost.trial:
                raise
        finally:
            lock.release()


def _outage_behind(error: BaseException | None) -> StoreError | None:
    """Return the outage that an error came of: Optuna fails in its own way when it cannot write a trial's end down."""
    while error is not None and not isinstance(error, StoreError):
        error = error.__cause__ or error.__context__
    return error


class _Lost:
    """Whether the trial that is run was lost: Optuna tells of it in its own way."""

    trial = False


def _alive(trials: list[FrozenTrial]) -> int:
    return sum(trial.state != TrialState.FAIL for trial in trials)


def _claimed(study: optuna.Study, objective: Objective, budget: int, lock: StudyLock, lost: _Lost) -> Objective:
    """Return ``objective`` behind the claim: the trial is given this worker's name and the lock is given back."""

    def run(trial: optuna.Trial) -> float:
        try:
            _name(trial, study, budget, lock)
        except (LostTrial, UpdateFinishedTrialError):
            lost.trial = True
            raise LostTrial from None
        finally:
            lock.release()
        try:
            with _heard(trial) as gone:
                try:
                    return objective(trial)
                finally:
                    lost.trial = gone.is_set()
        except UpdateFinishedTrialError:
            lost.trial = True
            raise LostTrial from None
        except (optuna.TrialPruned, StoreError):
            raise  # an outage or a full disk is no fault of the trial's
        except Exception as error:
            with contextlib.suppress(UpdateFinishedTrialError):
                trial.set_user_attr(_FAULT, f"{type(error).__name__}: {error}"[:500])
            raise

    return run


def _name(trial: optuna.Trial, study: optuna.Study, budget: int, lock: StudyLock) -> None:
    if not lock.is_locked:
        # The database was restarted between count and claim, so another may have counted the same.
        lock.acquire()
        trials = study.get_trials(deepcopy=False)
        if _alive(trials) > budget:
            trial.set_user_attr(_FAULT, "beyond the budget")
            raise LostTrial
    trial.set_user_attr(WORKER, worker())
    trial.set_user_attr(ORIGIN, trial.user_attrs.get(ORIGIN, trial.number))


@contextlib.contextmanager
def _heard(trial: optuna.Trial) -> Iterator[threading.Event]:
    """Let others hear that the trial is run; the event is set if it was taken from this worker."""
    ending, gone = threading.Event(), threading.Event()

    def beat() -> None:
        number = 0
        while not ending.wait(_BEAT_SECONDS):
            number += 1
            try:
                trial.set_user_attr(_BEAT, number)
            except UpdateFinishedTrialError:
                gone.set()
                return
            except Exception:  # told by whoever needs the database next
                continue
            finally:
                trial.storage.remove_session()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield gone
    finally:
        ending.set()
        thread.join()
