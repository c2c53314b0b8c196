"""What every test is protected from: the tracking server and the main module of tests that ran before it."""

import os
import sys
from collections.abc import Iterator

import pytest

_MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True, scope="module")
def no_tracking_server_is_inherited() -> Iterator[None]:
    """Forget what a module's tests made MLflow's tracking server: it would win over the environment of later ones."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture(autouse=True, scope="module")
def no_main_module_is_inherited() -> Iterator[None]:
    """Take back what Streamlit makes the main module: processes that a later test starts would run its script."""
    yield
    sys.modules["__main__"] = _MAIN
