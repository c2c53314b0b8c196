"""Tiny simulated samples, fitted models and a tracking store, made once; nothing is written into the repository."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from pipelines.datasets import Prepared
from pipelines.params import Params
from pipelines.samples import cell_masks
from pipelines.samples.response import ResponseSamples
from tests.empty_store import working_in
from tests.training.tiny import FittedModel, build, tiny_params, tiny_prepared
from training.features import cell_image

# On a few hundred rows threads wait for one another longer than they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module", autouse=True)
def each_image_once() -> Iterator[None]:
    """Segment and describe each different image once: the tests of a module fit the same few many times."""
    with pytest.MonkeyPatch.context() as patch:
        segment = _once(cell_masks.segment)
        for module in (cell_masks, cell_image):
            patch.setattr(module, "segment", segment)
        patch.setattr(cell_image, "_describe", _once(cell_image._describe))
        yield


def _once(of_image: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    found: dict[tuple[Any, ...], np.ndarray] = {}

    def of(pixels: np.ndarray) -> np.ndarray:
        key = (pixels.shape, pixels.tobytes())
        if key not in found:
            found[key] = of_image(pixels)
        return found[key].copy()

    return of


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
