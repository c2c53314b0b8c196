"""What would let another release of MLflow or Optuna change beneath code that uses more than its public interface."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import ModuleType

import mlflow
import optuna
import pytest

from serving import mlflow_private
from tests.training.tiny import ROOT
from training.studies import optuna_private

ROOMS = ("pipelines", "training", "evaluation", "serving", "infra")
PRIVATE = ("mlflow.store", "mlflow.server", "mlflow.utils", "mlflow.pyfunc.scoring_server")
HOLDERS = {"serving/mlflow_private.py", "training/studies/optuna_private.py"}


@pytest.mark.parametrize(("holder", "library"), [(mlflow_private, mlflow), (optuna_private, optuna)])
def test_a_private_interface_is_of_the_release_it_was_seen_with(holder: ModuleType, library: ModuleType) -> None:
    assert library.__version__ == holder.SEEN_WITH, (
        f"{holder.__name__} was seen with {library.__name__} {holder.SEEN_WITH}, {library.__version__} is installed: "
        "look whether each thing it uses is still there and does the same, then change SEEN_WITH"
    )


def private_imports(source: str) -> Iterator[str]:
    """Yield what code imports of MLflow and Optuna that is no public interface."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{each.name}" for each in node.names]
        else:
            continue
        for name in names:
            library, *parts = name.split(".")
            hidden = any(part.startswith("_") for part in parts)
            if library in ("mlflow", "optuna") and (hidden or f"{name}.".startswith(tuple(f"{p}." for p in PRIVATE))):
                yield name


def test_a_private_import_is_seen() -> None:
    for source in (
        "from optuna.storages._cached_storage import _CachedStorage",
        "from mlflow.pyfunc import scoring_server",
        "def f():\n    import mlflow.store.model_registry.dbmodels.models",
    ):
        assert len(list(private_imports(source))) == 1
    assert not list(private_imports("from mlflow import MlflowClient\nfrom optuna.storages import RDBStorage"))


def test_private_interfaces_are_used_in_one_module_a_library() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): list(private_imports(path.read_text(encoding="utf-8")))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
    }
    assert {path: names for path, names in found.items() if names and path not in HOLDERS} == {}
