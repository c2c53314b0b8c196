"""What every test is protected from: the tracking server and the main module of tests that ran before it."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MAIN = sys.modules["__main__"]
_OURS = pytest.StashKey[Path]()  # the folder of temporary files, where this process made it
_MEMORY, _ROOM = Path("/dev/shm"), 6e9  # bytes, several times what all tests leave there

gc.disable()  # until all is imported: it would look at the same millions of objects again and again


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory where there is room: a database on disk waits 10 ms for each commit."""
    if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK):
        found = os.statvfs(_MEMORY)
        if found.f_bavail * found.f_frsize > _ROOM and not found.f_flag & os.ST_NOEXEC:
            config.stash[_OURS] = Path(tempfile.mkdtemp(prefix="onco-", dir=_MEMORY))  # sockets need a short path
            os.environ["TMPDIR"] = tempfile.tempdir = str(config.stash[_OURS])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the temporary files where a test has failed."""
    if exitstatus and _OURS in session.config.stash:
        del session.config.stash[_OURS]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders of the longest files, so that at the end no worker waits for another's."""
    items.sort(key=lambda item: item.path.parent.name not in ("end_to_end", "serving", "training"))


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()  # nor does it later, in this process and its forks


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()  # else libraries report at exit what was not freed
    if _OURS in config.stash:  # after all workers: also what killed processes have left behind
        shutil.rmtree(config.stash[_OURS], ignore_errors=True)


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
def no_models_code_is_inherited() -> Iterator[None]:
    """Forget where the code of loaded models lies: processes that a later test starts would import that first."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True, scope="module")
def no_main_module_is_inherited() -> Iterator[None]:
    """Take back what Streamlit makes the main module: processes that a later test starts would run its script."""
    yield
    sys.modules["__main__"] = _MAIN
