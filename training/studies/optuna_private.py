"""Private interfaces of Optuna that the platform uses; review them with every release."""

import copy
import json
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import TrialModel, TrialUserAttributeModel
from optuna.trial import FrozenTrial, TrialState

SEEN_WITH = "5.0.0"


@dataclass(frozen=True)
class UnfinishedTrial:
    """Number, state and some attributes of a trial that is running or waiting."""

    number: int
    state: TrialState = TrialState.RUNNING
    user_attrs: dict[str, Any] = field(default_factory=dict)


class _CachedEndedTrials(_CachedStorage):
    """Optuna's cached storage, which fetches no running trial, with all its reports, where only ended ones are read."""

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials in their order, those in ``states`` alone if given."""
        if states is None or TrialState.RUNNING in states or study_id not in self._studies:
            return list(super().get_all_trials(study_id, deepcopy, states))
        asked = [state for state in TrialState if state in states]
        which = sqlalchemy.select(TrialModel.trial_id).where(
            TrialModel.study_id == study_id, TrialModel.state.in_(asked)
        )
        with self._backend.engine.connect() as connection:
            there = set(connection.scalars(which))
        with self._lock:
            study = self._studies[study_id]
            ended = {trial._trial_id for trial in study.trials.values() if trial.state.is_finished()}
            if new := there - ended:
                # The lists of unfinished trials are kept by the method of the base class.
                fetched = self._backend._get_trials(study_id, asked, new, max(new))
                self._add_trials_to_cache(study_id, fetched)
            found = [trial for _, trial in sorted(study.trials.items()) if trial._trial_id in there]
        return copy.deepcopy(found) if deepcopy else found

    def unfinished(self, study_id: int, *attributes: str) -> list[UnfinishedTrial]:
        """Return the trials that run or wait, with those of their attributes that are named, without reports."""
        named = (TrialUserAttributeModel.trial_id == TrialModel.trial_id) & TrialUserAttributeModel.key.in_(attributes)
        columns = TrialModel.number, TrialModel.state, TrialUserAttributeModel.key, TrialUserAttributeModel.value_json
        states = TrialModel.state.in_([TrialState.RUNNING, TrialState.WAITING])
        query = sqlalchemy.select(*columns).select_from(TrialModel).outerjoin(TrialUserAttributeModel, named)
        found: dict[int, UnfinishedTrial] = {}
        with self._backend.engine.connect() as connection:
            which = query.where(TrialModel.study_id == study_id, states).order_by(TrialModel.number)
            for number, state, key, value in connection.execute(which):
                trial = found.setdefault(number, UnfinishedTrial(number, state))
                if key is not None:
                    trial.user_attrs[key] = json.loads(value)
        return list(found.values())


def cached_storage(url: str) -> BaseStorage:
    """Return the storage of a database, with a cache of the trials that ended."""
    return _CachedEndedTrials(RDBStorage(url))


def unfinished_trials(study: optuna.Study, *attributes: str) -> list[UnfinishedTrial]:
    """Return the trials of a study that run or wait; its storage is one of `cached_storage`, see there."""
    found: list[UnfinishedTrial] = study._storage.unfinished(study._study_id, *attributes)
    return found
