"""A storage that reads less must miss no trial, no state and no order, and must read less."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from training.studies.storage import open_storage

STATES = [None, *((state,) for state in TrialState), (TrialState.COMPLETE, TrialState.PRUNED)]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    return url


def _opened() -> optuna.Study:
    return optuna.create_study(study_name="one", storage=open_storage(wait=False), load_if_exists=True)


def _statements(study: optuna.Study) -> list[str]:
    """Return a list that every statement of the study's storage is added to."""
    made: list[str] = []
    engine = study._storage.inner._backend.engine
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *arguments: made.append(str(arguments[2])))
    return made


def test_whatever_others_do_the_trials_read_are_those_of_optuna_s_own_storage(url: str) -> None:
    rng, studies = random.Random(0), [_opened() for _ in range(3)]
    running: list[int] = []
    for _ in range(30):
        study, act = rng.choice(studies), rng.random()
        if act < 0.15:
            study.enqueue_trial({"x": rng.random()})
        elif act < 0.5 or not running:
            trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
            trial.report(rng.random(), 0)
            running.append(trial.number)
        elif act < 0.9:
            number = running.pop(rng.randrange(len(running)))
            state = rng.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            study.tell(number, rng.random() if state == TrialState.COMPLETE else None, state=state)
        asks, states = rng.choice(studies), rng.choice(STATES)
        true = optuna.load_study(study_name="one", storage=RDBStorage(url)).get_trials(states=states)
        found = asks.get_trials(states=states)
        assert found == asks.get_trials(deepcopy=False, states=states) == true
        for trial in found:
            trial.user_attrs["mine"] = "of a copy"
    for states in STATES:
        true = optuna.load_study(study_name="one", storage=RDBStorage(url)).get_trials(states=states)
        assert all(study.get_trials(states=states) == true for study in studies)


def test_a_report_s_question_whether_to_prune_fetches_no_trial_that_others_run(url: str) -> None:
    others, study = _opened(), _opened()
    for _ in range(5):
        others.tell(others.ask(), 1.0)
    running = [others.ask() for _ in range(40)]
    for trial in running:
        trial.report(0.5, 0)
    study.get_trials()
    said = _statements(study)
    for _ in range(3):
        study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert len([each for each in said if each.lower().startswith("select")]) == 3, "one look each at which there are"
    assert not any("intermediate_value" in each for each in said)
    others.tell(running[0], 2.0)
    assert [trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))] == [1.0] * 5 + [2.0]
    assert study.get_trials(states=(TrialState.COMPLETE,))[-1].intermediate_values == {0: 0.5}
