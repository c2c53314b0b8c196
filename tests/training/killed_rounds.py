"""Rounds of random kills: ``python -m tests.training.killed_rounds [ROUNDS]`` counts lost and doubled trials.

In each round four workers share a study on PostgreSQL; between one and six of them are killed at random moments, also
during claims, and others follow.
"""

import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.training.forked import begin
from tests.training.postgres import postgres
from tests.training.steps_worker import counted
from training.studies.storage import open_storage, study_lock
from training.studies.trial_queue import work

WORKERS, BUDGET, STEPS = 4, 12, 12


def one_worker(study: str, number: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = optuna.load_study(study_name=study, storage=open_storage(wait=True))
    found.sampler = optuna.samplers.RandomSampler(seed=number)
    work(found, _objective, BUDGET, study_lock(study))


def _objective(trial: optuna.Trial) -> float:
    x, origin = trial.suggest_float("x", 0, 1), trial.user_attrs["origin"]
    checkpoint = Path(f"{trial.study.study_name}.{origin}")
    for step in range(int(checkpoint.read_text()) if checkpoint.is_file() else 0, STEPS):
        time.sleep(0.05)
        temporary = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}")
        temporary.write_text(str(step + 1))
        temporary.replace(checkpoint)
    return x


def one_round(number: int, rng: random.Random) -> dict[str, int]:
    name, numbers = f"round-{number}", itertools.count(1000 * number + 1)
    study = optuna.create_study(study_name=name, storage=open_storage(wait=True))
    study.enqueue_trial({"x": 0.5})

    def start() -> BaseProcess:
        return begin(one_worker, name, next(numbers))

    running = [start() for _ in range(WORKERS)]
    kills, killed = rng.randint(1, 6), 0
    next_kill: float | None = None
    until = time.monotonic() + 120
    while running and time.monotonic() < until:
        if next_kill is None and any(Path.cwd().glob(f"{name}.*")):  # trials have begun
            next_kill = time.monotonic() + rng.uniform(0, 0.4)
        if next_kill is not None and killed < kills and time.monotonic() > next_kill:
            rng.choice(running).kill()
            killed, next_kill = killed + 1, time.monotonic() + rng.uniform(0, 0.5)
        time.sleep(0.002)
        for process in list(running):
            if process.exitcode is None:
                continue
            running.remove(process)
            if process.exitcode != 0:
                assert process.exitcode < 0, "a worker failed"
                running.append(start())
    assert not running, "the study did not end"
    trials = study.get_trials(deepcopy=False)
    return {
        **counted(trials, BUDGET),
        "open": sum(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in trials),
        "kills": killed,
        "run again": sum("retry_of" in trial.user_attrs for trial in trials),
    }


def rounds(number: int) -> dict[str, int]:
    """Return the sums over ``number`` rounds, on a PostgreSQL of their own, in a folder of their own."""
    rng, total = random.Random(0), Counter[str]()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        postgres() as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OPTUNA_STORAGE", server.database("studies"))
        for each in range(number):
            total.update(one_round(each, rng))
    return {"rounds": number, **total}


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(json.dumps(rounds(int(sys.argv[1]) if len(sys.argv) > 1 else 50)))
