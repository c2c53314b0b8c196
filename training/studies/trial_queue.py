"""The queue of a study's trials: many workers share an exact budget, and trials survive the process that runs them.

A worker claims a trial under the study's lock, which it releases as soon as the trial has the worker's name: under the
lock a running trial without a name is of a worker that died, or lost the lock, during its claim. Optuna's own callbacks
overshoot the budget, and take trials from workers that live while the database is away.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from pipelines.retry import pauses
from pipelines.store_errors import StoreError
from training.studies.optuna_private import UnfinishedTrial, unfinished_trials
from training.studies.storage import StudyLock

RUN_ID, WORKER, ORIGIN = "mlflow_run_id", "worker", "origin"
_RETRY_OF, _ATTEMPT, _FAULT, _BEAT = "retry_of", "attempt", "fault", "beat"
MOST_ATTEMPTS = 6  # after so many workers that died with it a trial is not run again: it may be what kills them
_BEAT_SECONDS = 20.0
_SILENT_SECONDS = 120.0  # a worker on another host without a heartbeat for so long has died
_LONGEST_POLL_SECONDS = 3.0
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

Objective = Callable[[optuna.Trial], float | Sequence[float]]


class LostTrial(Exception):
    """Another worker has taken the trial over, or the budget was already spent."""


def worker() -> str:
    """Return the name of this worker: host, process and start time."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time():.0f}"


def _is_alive(who: str) -> bool | None:
    """Whether the worker is running; None for one on another host."""
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
    return len(study.get_trials(deepcopy=False, states=DONE))


class Beats:
    """Heartbeats of workers on other hosts; time in which this process or the database was away is no silence."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[Any, float]] = {}
        self._last = float("-inf")

    def silent(self, trials: list[UnfinishedTrial], now: float | None = None) -> set[int]:
        """Return the numbers of the running ``trials`` whose worker has been silent for too long."""
        now = time.monotonic() if now is None else now
        before = self._heard if now - self._last <= 2 * _BEAT_SECONDS else {}
        self._last, self._heard = now, {}
        for trial in trials:
            beat = trial.user_attrs.get(_BEAT)
            known = before.get(trial.number)
            self._heard[trial.number] = known if known is not None and known[0] == beat else (beat, now)
        return {number for number, (_, since) in self._heard.items() if now - since > _SILENT_SECONDS}


def requeue_orphans(study: optuna.Study, beats: Beats | None = None) -> list[TrialState]:
    """Queue trials of dead workers again, for the same MLflow run, under the lock; return the states afterwards."""
    # Of running trials only what names their worker is read: a claim takes as long among a thousand as among one.
    # In this order: a trial that ends meanwhile is seen twice, none is overlooked.
    unfinished = unfinished_trials(study, WORKER, _BEAT, _RETRY_OF)
    running = [trial for trial in unfinished if trial.state == TrialState.RUNNING]
    silent = beats.silent(running) if beats is not None else set()
    dead = [trial for trial in running if _is_dead(trial, silent)]
    for trial in dead:
        with contextlib.suppress(UpdateFinishedTrialError, ValueError):  # it ended just now
            study.tell(trial.number, state=TrialState.FAIL)
    ended_ones = study.get_trials(deepcopy=False, states=(*DONE, TrialState.FAIL))
    succeeded = {trial.user_attrs.get(_RETRY_OF) for trial in (*unfinished, *ended_ones)}
    orphans = [trial for trial in ended_ones if _is_orphan(trial) and trial.number not in succeeded]
    for trial in orphans:
        kept = {
            ORIGIN: trial.user_attrs.get(ORIGIN, trial.number),
            _RETRY_OF: trial.number,
            # A trial without a worker has not killed one.
            _ATTEMPT: _attempt(trial) + (WORKER in trial.user_attrs),
        }
        kept |= {RUN_ID: trial.user_attrs[RUN_ID]} if RUN_ID in trial.user_attrs else {}
        study.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params}, user_attrs=kept)
    numbers = {trial.number for trial in dead}
    alive = [trial.state for trial in unfinished if trial.number not in numbers]
    return [*alive, *(trial.state for trial in ended_ones), *[TrialState.WAITING] * len(orphans)]


def _is_dead(trial: UnfinishedTrial, silent: set[int]) -> bool:
    name = trial.user_attrs.get(WORKER)
    alive = False if name is None else _is_alive(name)
    return alive is False or (alive is None and trial.number in silent)


def _is_orphan(trial: FrozenTrial) -> bool:
    """Whether a trial failed with its worker, and may be run again; a claim without parameters is drawn anew."""
    failed = trial.state == TrialState.FAIL and _FAULT not in trial.user_attrs
    begun = WORKER in trial.user_attrs or bool(trial.system_attrs.get("fixed_params"))
    return failed and begun and _attempt(trial) < MOST_ATTEMPTS


def _attempt(trial: FrozenTrial) -> int:
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
    callbacks: list[Callable[[optuna.Study, FrozenTrial], None]] | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Run trials until ``budget`` of them are complete or pruned, and never more, together with other workers."""
    beats, pause = Beats(), pauses()
    claim = _Claim(study=study, objective=objective, budget=budget, lock=lock)
    while goes_on():
        lock.acquire()
        try:
            states = requeue_orphans(study, beats)
            if TrialState.WAITING not in states and _alive(states) >= budget:
                if TrialState.RUNNING not in states:
                    return
                lock.release()
                time.sleep(min(pause(), _LONGEST_POLL_SECONDS))  # running trials may be queued again
                continue
            claim.lost, pause = False, pauses()
            study.optimize(claim, n_trials=1, callbacks=callbacks, catch=(LostTrial,))
        except Exception as error:
            if (outage := _outage_behind(error)) is not None:
                raise outage from error
            if not claim.lost:
                raise
        finally:
            lock.release()


def _outage_behind(error: BaseException | None) -> StoreError | None:
    """Return the outage that caused an error: Optuna raises its own where it cannot write the end of a trial."""
    while error is not None and not isinstance(error, StoreError):
        error = error.__cause__ or error.__context__
    return error


def _alive(states: list[TrialState]) -> int:
    return sum(state != TrialState.FAIL for state in states)


@dataclass(kw_only=True)
class _Claim:
    """``objective`` behind the claim: names the trial's worker, releases the lock, and notes whether it was lost."""

    study: optuna.Study
    objective: Objective
    budget: int
    lock: StudyLock
    lost: bool = False

    def __call__(self, trial: optuna.Trial) -> float | Sequence[float]:
        try:
            self._name(trial)
        except (LostTrial, UpdateFinishedTrialError):
            self.lost = True
            raise LostTrial from None
        finally:
            self.lock.release()
        try:
            with _beating(trial) as gone:
                try:
                    return self.objective(trial)
                finally:
                    self.lost = gone.is_set()
        except UpdateFinishedTrialError:
            self.lost = True
            raise LostTrial from None
        except (optuna.TrialPruned, StoreError):
            raise  # an outage or a full disk is no fault of the trial
        except Exception as error:
            with contextlib.suppress(UpdateFinishedTrialError):
                trial.set_user_attr(_FAULT, f"{type(error).__name__}: {error}"[:500])
            raise

    def _name(self, trial: optuna.Trial) -> None:
        if not self.lock.is_locked:
            # The database was restarted between count and claim, so that another worker may have claimed too.
            self.lock.acquire()
            if _alive([trial.state for trial in self.study.get_trials(deepcopy=False)]) > self.budget:
                trial.set_user_attr(_FAULT, "beyond the budget")
                raise LostTrial
        trial.set_user_attr(WORKER, worker())
        trial.set_user_attr(ORIGIN, trial.user_attrs.get(ORIGIN, trial.number))


@contextlib.contextmanager
def _beating(trial: optuna.Trial) -> Iterator[threading.Event]:
    """Write heartbeats; the event is set if another worker has taken the trial over."""
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
            except Exception:  # the next access of the main thread raises it
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
