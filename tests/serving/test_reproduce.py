from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from pipelines import tracking
from pipelines.errors import UserError
from pipelines.params import read_params, task_text
from pipelines.simulate.expression import simulate_tumor_type
from serving.reproduction.comparison import ELSEWHERE, compare, verdict
from serving.reproduction.refit import Recipe, Refit, recipe_of, typed
from serving.reproduction.worktree import worktree
from tests.empty_store import empty_store
from tests.end_to_end.small_platform import Platform, make_platform
from training.contract import contract_class, contract_text

TASK, ARCHITECTURE = "tumor_type", "logistic_regression"
CLASSES = ["SIMA", "SIMB"]


# --- what MLflow keeps as text


@given(
    st.one_of(
        st.floats(allow_nan=False),
        st.integers(),
        st.booleans(),
        st.none(),
        st.lists(st.integers(0, 512), max_size=4),
        st.sampled_from(["none", "all", "min_max", "head", "1e-3x", "layer 4", ""]),
    )
)
def test_hyperparameters_come_back_with_their_types(value: Any) -> None:
    found = typed(str(value))
    assert found == value
    assert type(found) is type(value)


# --- the comparison


SAID = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
TAGS = {
    "architecture": ARCHITECTURE,
    "git.commit": "c" * 40,
    "git.dirty": "false",
    "data.sha256": "d" * 64,
    "split.sha256": "5" * 64,
    "params.sha256": "b" * 64,
    "device": "cpu",
}


def predicted(said: np.ndarray) -> pd.DataFrame:
    """Return predictions as the fit stage leaves them."""
    table = pd.DataFrame({"sample_id": ["a", "b", "c"], "target": [0, 1, 1]})
    for place, label in enumerate(CLASSES):
        table[f"probability_{label}"], table[f"baseline_{label}"] = said[:, place], 0.5
    return table


CONTRACT: dict[str, Any] = {
    **{"task": TASK, "architecture": ARCHITECTURE, "baseline": "majority_class"},
    "task_text": task_text(read_params(Path(__file__).parents[2] / "params.yaml").task(TASK)),
    **{"classes": CLASSES, "temperature": 1.0, "threshold": 0.5, "coverage": 0.9, "genes": [], "known": []},
}


def version(folder: Path, tags: Mapping[str, str] | None = None, **kept: Any) -> Recipe:
    """A version of a classifier that was made here, with ``tags`` instead of what is true."""
    folder.mkdir(exist_ok=True)
    contract = contract_class("profiles", "classification")(**CONTRACT)
    (folder / "contract.json").write_text(json.dumps({**contract_text(contract), "cross_fitted": False}))
    made: dict[str, Any] = {
        "parameters": {"c": "0.1", "members": "1"},
        "metrics": {"test_accuracy": 1.0, "validation_log_loss": 0.3},
        "requirements": {"numpy": np.__version__},
        "predictions": predicted(SAID),
    }
    return Recipe(TASK, "3", {**tracking.conditions(), **TAGS, **(tags or {})}, folder=folder, **{**made, **kept})


def refitted(folder: Path, **changed: Any) -> Refit:
    """Return what comes out where nothing differs, but for ``changed``."""
    hashes = {name: TAGS[name] for name in ("data.sha256", "split.sha256", "params.sha256")}
    hashes["model.sha256"] = tracking.folder_sha256(folder)
    kept: dict[str, Any] = {
        "hashes": hashes,
        "parameters": {"c": "0.1", "members": "1"},
        "metrics": {"validation_log_loss": 0.3},
        "predictions": predicted(SAID),
    }
    for name, value in changed.items():
        kept[name] = {**kept[name], **value} if isinstance(value, dict) else value
    return Refit(**kept)


def differing(recipe: Recipe, made: Refit) -> set[str]:
    return {each.what for each in compare(recipe, made) if each.equal is False}


def test_the_same_is_the_same_and_what_is_not_known_is_not(tmp_path: Path) -> None:
    recipe = version(tmp_path / "model")
    found = compare(recipe, refitted(recipe.folder))
    assert verdict(found) == "equal" and all(each.equal for each in found)
    recipe = version(tmp_path / "model", metrics={})
    for name in ("data.sha256", "cpu"):
        del recipe.tags[name]
    unlike = {each.what: each.equal for each in compare(recipe, refitted(recipe.folder)) if not each.equal}
    assert unlike == {"data": None, "metrics": None, "conditions": False}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"hashes": {"data.sha256": "0" * 64}}, {"data"}),
        ({"hashes": {"split.sha256": "0" * 64}}, {"split"}),
        ({"hashes": {"params.sha256": "0" * 64}}, {"params"}),
        ({"parameters": {"c": "0.2"}}, {"hyperparameters"}),
        ({"metrics": {"validation_log_loss": 0.31}}, {"metrics"}),
        ({"predictions": predicted(SAID + np.array([1e-12, -1e-12]))}, {"predictions"}),
        ({"predictions": predicted(SAID[::-1])}, {"predictions", "metrics"}),
        ({"predictions": predicted(SAID).assign(sample_id=["a", "b", "d"])}, {"predictions"}),
    ],
)
def test_each_difference_is_named_and_decides(tmp_path: Path, changed: dict[str, Any], told: set[str]) -> None:
    recipe = version(tmp_path / "model")
    made = refitted(recipe.folder, **changed)
    assert differing(recipe, made) == told
    assert verdict(compare(recipe, made)) == "differs"


def test_rounding_is_allowed_elsewhere_and_not_here(tmp_path: Path) -> None:
    recipe = version(tmp_path / "model")
    made = refitted(recipe.folder, predictions=predicted(SAID + np.array([1e-5, -1e-5])))
    assert differing(recipe, made) == {"predictions"}
    for other in ({"cpu": "another"}, {"python": "3.9.1"}, {"machine": "Darwin arm64"}):
        assert differing(version(tmp_path / "model", other), made) == {"conditions"}
    assert verdict(compare(version(tmp_path / "model", {"cpu": "another"}), made)) == "equal"
    assert differing(version(tmp_path / "model", {"device": "cuda"}), made) == set()
    assert differing(version(tmp_path / "model", requirements={"numpy": "1.0"}), made) == {"conditions"}
    assert differing(version(tmp_path / "model", requirements={}), made) == set()
    far = refitted(recipe.folder, predictions=predicted(SAID + 2 * ELSEWHERE * np.array([1, -1])))
    found = compare(version(tmp_path / "model", {"cpu": "another"}), far)
    assert verdict(found) == "differs"
    assert "largest difference in 3 test rows is 0.002" in next(e.message for e in found if e.what == "predictions")


def test_an_uncommitted_change_is_told_and_does_not_decide(tmp_path: Path) -> None:
    def code(tags: dict[str, str]) -> tuple[bool | None, str]:
        recipe = version(tmp_path / "model", {"git.dirty": "true", **tags})
        found = compare(recipe, refitted(recipe.folder))
        assert verdict(found) == "equal"
        return next((each.equal, each.message) for each in found if each.what == "code")

    unknown = "not known from the tags: there were uncommitted changes"
    assert code({"git.changed": ""}) == (None, f"{unknown} in unknown files")
    assert code({"git.changed": "params.yaml training/fit.py"}) == (None, f"{unknown} in params.yaml, training/fit.py")
    equal, told = code({"git.changed": "data.dvc params.yaml"})  # both are held by the version itself
    assert equal
    assert "data.dvc, params.yaml from the version" in told


# --- tags of a run


def test_a_tree_is_dirty_by_code_and_not_by_what_dvc_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@e.org", *arguments], check=True)

    git("init", "-q")
    for name in ("dvc.lock", "params.yaml", "training/fit.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    git("add", "-A")
    git("commit", "-qm", "one")
    Path("dvc.lock").write_text("2")
    Path("notes.txt").write_text("2")
    assert tracking.changes() == []
    assert tracking.lineage("none")["git.dirty"] == "false"
    assert "git.changed" not in tracking.conditions()
    Path("params.yaml").write_text("2")
    Path("training/new.py").write_text("2")
    assert tracking.changes() == ["params.yaml", "training/new.py"]
    assert tracking.lineage("none")["git.dirty"] == "true"
    assert tracking.conditions()["git.changed"] == "params.yaml training/new.py"


# --- the whole


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A copy with one fitted, registered version; a parameter and the budget were chosen for it and not committed."""
    made = make_platform(
        tmp_path_factory.mktemp("reproduce") / "copy",
        TASK,
        sample=lambda folder: simulate_tumor_type(folder, patients=80),
    )
    empty_store(made.root)
    params = made.root / "params.yaml"
    params.write_text(params.read_text().replace("resamples: 200", "resamples: 150"))
    (made.root / "budget.yaml").write_text("budget: full\n")
    folder = made.root / "models" / TASK / ARCHITECTURE
    folder.mkdir(parents=True)
    chosen = {"selection": "all", "scaling": "none", "c": 0.1, "balanced": False}
    (folder / "tuned.json").write_text(json.dumps({"hyperparameters": chosen, "study": "none"}))
    made.python("-m", "pipelines.prepare", "--task", TASK)
    made.python("-m", "training.fit", "--task", TASK, "--architecture", ARCHITECTURE)
    fitted = made.read(f"models/{TASK}/{ARCHITECTURE}/fitted.json")
    client = MlflowClient(made.env["MLFLOW_TRACKING_URI"])
    client.create_registered_model(TASK)
    tags = {"architecture": ARCHITECTURE, "evidence.run_id": fitted["run_id"]}
    source = client.get_logged_model(fitted["model_uri"].removeprefix("models:/")).artifact_location
    client.create_model_version(TASK, source=source, run_id=fitted["run_id"], tags=tags)
    client.log_artifact(fitted["run_id"], str(folder / "predictions.parquet"))  # as the evaluate stage does
    return made


@pytest.mark.slow
def test_a_version_is_made_again_from_its_tags(platform: Platform) -> None:
    # What lies in the working tree is another model's by now, and must not be looked at.
    for name in ("prepared", "models", "data"):
        (platform.root / name).rename(platform.root / f"{name}-elsewhere")
    before = platform.run("git", "status", "--porcelain").stdout
    store = (platform.root / "mlflow.db").read_bytes()
    temporary = platform.root.parent / "temporary"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary)}
    done = platform.python("-m", "serving.reproduce", "--model", f"models:/{TASK}/1", check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    report = platform.read(f"reports/{TASK}/reproduce/1.json")
    found = {each["what"]: each["equal"] for each in report["comparisons"]}
    assert found.pop("params") is None  # the tag is set by the evaluate stage, which did not run
    assert set(found.values()) == {True} and report["verdict"] == "equal"
    assert "equal in all" in done.stdout and "params.yaml from the version" in done.stdout
    assert platform.run("git", "status", "--porcelain").stdout == before
    assert len(platform.run("git", "worktree", "list").stdout.splitlines()) == 1
    assert list(temporary.iterdir()) == []
    assert (platform.root / "mlflow.db").read_bytes() == store  # nothing was written into the store


@pytest.mark.slow
def test_what_keeps_a_version_from_being_made_again_is_said(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tracking.mlflow.get_tracking_uri()
    tracking.mlflow.set_tracking_uri(platform.env["MLFLOW_TRACKING_URI"])
    try:
        for uri, said in (("models:/tumor_type", "models:/<task>/<number>"), (f"models:/{TASK}/9", "cannot be read")):
            with pytest.raises(UserError, match=said), recipe_of(uri):
                pass
    finally:
        tracking.mlflow.set_tracking_uri(before)
    with pytest.raises(UserError, match="git fetch origin"), worktree(platform.root, "0" * 40):
        pass
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    head = platform.run("git", "rev-parse", "HEAD").stdout.strip()
    with pytest.raises(UserError, match=r"dvc pull of data/tumor_type"), worktree(platform.root, head) as tree:
        tree.data(TASK, "0" * 32 + ".dir")  # data that is in no cache and no remote
    assert len(platform.run("git", "worktree", "list").stdout.splitlines()) == 1
