"""What would repeat work that is still valid, or keep results that are not: edits in a copy of the repository."""

import ast
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import code_closure
from pipelines.params import Params, read_params
from serving.continuous_training import steps as fingerprint
from tests.training.tiny import ROOT
from training.architectures import Architecture, get_architecture
from training.feature_cache import FeatureCache
from training.model.final_fit import Unfinished
from training.studies.study import study_name

ROOMS = ("pipelines", "training", "evaluation", "serving")
PREPARED: Any = SimpleNamespace(sha256="of one split")


@pytest.fixture(scope="module")
def params() -> Params:
    """Return the parameters with every other model."""
    params = read_params(ROOT / "params.yaml")
    return replace(params, models=dict(list(params.models.items())[::2]))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the code, which closures are read from."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(code_closure, "ROOT", tmp_path)
    return tmp_path


def studies(params: Params) -> dict[str, str]:
    return {
        key: study_name(model.task, architecture_of(params, key), PREPARED, params)
        for key, model in params.models.items()
    }


def architecture_of(params: Params, key: str) -> Architecture:
    model = params.models[key]
    task = params.task(model.task)
    return get_architecture(model.architecture, task.modality, task.problem)


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("ANOTHER = 1\n")


def others(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {key for key, value in before.items() if after[key] != value}


def kept(params: Params) -> dict[str, Any]:
    """Return the names under which studies, unfinished fits, caches and retraining keep what they made."""
    found: dict[str, Any] = {**studies(params)}
    for key, model in params.models.items():
        asked: dict[str, Any] = {"architecture": model.architecture, "hyperparameters": {}, "members": 1}
        found[f"fit of {key}"] = Unfinished.of("a study", params.task(model.task), settings={}, **asked).stem
    for module in ("training.architectures.vgg16", "training.features.embedding", "training.features.cell_image"):
        found[f"features of {module}"] = FeatureCache("one setting", module).place
    for name, task in params.tasks.items():
        found[f"retraining of {name}"] = fingerprint.code(task, params.architectures(name))
    return found


def test_comments_and_docstrings_discard_nothing(copy: Path, params: Params) -> None:
    before = kept(params)
    files = [path for room in ROOMS for path in (copy / room).rglob("*.py")]
    for path in files:  # another docstring everywhere, and neither the comments nor the line breaks
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                at = 1 if ast.get_docstring(node) is not None else 0
                node.body[:at] = [ast.Expr(ast.Constant("Another docstring."))]
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n# a comment\n", encoding="utf-8")
    assert len(files) > 200 and "Another docstring." in (copy / "training/networks/augment.py").read_text()
    assert others(before, kept(params)) == set()


def test_a_search_space_discards_the_studies_of_its_architecture_alone(copy: Path, params: Params) -> None:
    before = studies(params)
    tried = 0
    for architecture in sorted({model.architecture for model in params.models.values()})[::3]:
        path = copy / "training" / "architectures" / f"{architecture}.py"
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        for space in tree.body:
            if not isinstance(space, ast.Assign) or ast.unparse(space.targets[0]) != "SPACE":
                continue
            space.value = ast.parse("ranges(another=[0, 1])", mode="eval").body
            path.write_text(ast.unparse(tree), encoding="utf-8")
            own = {key for key, model in params.models.items() if model.architecture == architecture}
            assert others(before, studies(params)) == own
            path.write_text(source, encoding="utf-8")
            tried += 1
    assert tried >= 3


def test_code_discards_the_studies_and_fits_that_run_it_and_no_others(copy: Path, params: Params) -> None:
    task = params.task("drug_response")
    asked: dict[str, Any] = {"architecture": "mlp", "hyperparameters": {}, "members": 5, "settings": {}}

    def names() -> list[str]:
        mlp: Any = get_architecture("mlp", "pairs", "regression")
        return [study_name("drug_response", mlp, PREPARED, params), Unfinished.of("one", task, **asked).stem]

    before = names()
    for discarded, files in {
        (False, False): ("architectures/xgboost", "architectures/a_new_one"),
        (False, True): ("model/cross_fit", "model/novelty", "architectures/mean_effects"),
        (True, False): ("studies/study",),
        (True, True): (
            *("architectures/mlp", "architectures/__init__", "networks/loop", "features/cell_line", "estimator"),
        ),
    }.items():
        for file in files:
            append(copy / "training" / f"{file}.py")
            after = names()
            assert tuple(one != other for one, other in zip(before, after, strict=True)) == discarded, file
            before = after
