"""Tiny simulated samples, fitted models and a tracking store, made once; nothing is written into the repository."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipelines.datasets import Prepared
from pipelines.params import Params
from pipelines.samples.response import ResponseSamples
from tests.empty_store import working_in
from tests.training.tiny import FittedModel, build, tiny_params, tiny_prepared

# On a few hundred rows threads wait for one another longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def drug_blind(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny_prepared(tmp_path_factory.mktemp("raw") / "drug_blind", "drug_blind")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def params() -> Params:
    return tiny_params()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny_prepared(tmp_path_factory.mktemp("raw") / "cell_blind")


@pytest.fixture(scope="session")
def train(prepared: Prepared) -> ResponseSamples:
    return prepared.side("train")


@pytest.fixture(scope="session")
def fitted(prepared: Prepared) -> FittedModel:
    """Return a function that gives the fitted estimator of an architecture, fitted once."""
    return cache(lambda name: build(name).fit(prepared.side("train"), prepared.side("validation")))


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """Run a PostgreSQL for all tests; each makes a database of its own."""
    from tests.training.postgres import postgres  # which skips a test where there is no PostgreSQL

    with postgres() as running:
        yield running


@pytest.fixture
def shared(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point Optuna to a database of this test's own and return its URL."""
    url = server.database(tmp_path.name)
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    return url


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Point MLflow and Optuna to databases of this test's own and return MLflow's URI."""
    with working_in(tmp_path, OPTUNA_STORAGE=f"sqlite:///{tmp_path / 'optuna.db'}"):
        yield mlflow.get_tracking_uri()
