"""What the tests of the room share: a working directory with a tracking store of its own."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import pytest

from tests.empty_store import working_in


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with working_in(tmp_path_factory.mktemp("place")) as folder:
        yield folder


@pytest.fixture(scope="module")
def run_id(place: Path) -> str:
    """Give a run that logged two epochs."""
    experiment = mlflow.create_experiment("planted", (place / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment, log_system_metrics=False) as run:
        for step in range(2):
            mlflow.log_metrics({"step/validation_rmse": 1.0 - step / 2}, step=step)
    return str(run.info.run_id)


@pytest.fixture
def quiet() -> Iterator[None]:
    """A warning, such as of a division by zero, is a fault; figures do not pile up."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        yield
    assert not plt.get_fignums()
