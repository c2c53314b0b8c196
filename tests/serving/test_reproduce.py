import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from evaluation.promotion.registered_files import FILES_TAG, served_hashes
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.file_hashes import combined
from pipelines.params import read_params, task_text
from pipelines.simulate.expression import simulate_tumor_type
from serving import reproduction
from serving.reproduction import ELSEWHERE, Recipe, Refit, Worktree, compare, recipe_of, typed, verdict, worktree
from tests.empty_store import empty_store
from tests.end_to_end.small_platform import Checkout, Platform, make_platform
from tests.serving.made_registry import tracked
from training.contract import contract_class, contract_text

TASK, ARCHITECTURE = "tumor_type", "logistic_regression"
CLASSES = ["SIMA", "SIMB"]


_WORDS = st.sampled_from(["none", "all", "min_max", "head", "1e-3x", "layer 4", ""])
_LISTS = st.lists(st.integers(0, 512), max_size=4)


@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.booleans(), st.none(), _LISTS, _WORDS))
def test_hyperparameters_come_back_with_their_types(value: Any) -> None:
    found = typed(str(value))
    assert found == value and type(found) is type(value)


SAID = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
TAGS = {"architecture": ARCHITECTURE, "git.commit": "c" * 40, "git.dirty": "false", "device": "cpu"}
HASHES = {"data.sha256": "d" * 64, "split.sha256": "5" * 64, "params.sha256": "b" * 64}
KEPT: dict[str, Any] = {"parameters": {"c": "0.1", "members": "1"}}


def predicted(said: np.ndarray) -> pd.DataFrame:
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
    made = {**KEPT, "requirements": {"numpy": np.__version__}, "predictions": predicted(SAID)}
    made["metrics"] = {"test/accuracy": 1.0, "validation/log_loss": 0.3}
    every = {**tracking.conditions(), **TAGS, **HASHES, **(tags or {})}
    return Recipe(TASK, "3", every, folder=folder, **{**made, **kept})


def refitted(folder: Path, **changed: Any) -> Refit:
    hashes = {**HASHES, "model.sha256": tracking.folder_sha256(folder)}
    kept = {**KEPT, "hashes": hashes, "metrics": {"validation/log_loss": 0.3}, "predictions": predicted(SAID)}
    for name, value in changed.items():
        kept[name] = {**kept[name], **value} if isinstance(value, dict) else value
    return Refit(**kept)


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
        ({"metrics": {"validation/log_loss": 0.31}}, {"metrics"}),
        ({"predictions": predicted(SAID + np.array([1e-12, -1e-12]))}, {"predictions"}),
        ({"predictions": predicted(SAID[::-1])}, {"predictions", "metrics"}),
        ({"predictions": predicted(SAID).assign(sample_id=["a", "b", "d"])}, {"predictions"}),
    ],
)
def test_each_difference_is_named_and_decides(tmp_path: Path, changed: dict[str, Any], told: set[str]) -> None:
    recipe = version(tmp_path / "model")
    made = refitted(recipe.folder, **changed)
    found = compare(recipe, made)
    assert {each.what for each in found if each.equal is False} == told and verdict(found) == "differs"


def test_rounding_is_allowed_elsewhere_and_not_here(tmp_path: Path) -> None:
    folder = version(tmp_path / "model").folder
    made = refitted(folder, predictions=predicted(SAID + np.array([1e-5, -1e-5])))
    cases: list[tuple[dict[str, str], dict[str, Any], set[str]]] = [
        ({}, {}, {"predictions"}),
        ({"cpu": "another"}, {}, {"conditions"}),
        ({"python": "3.9.1"}, {}, {"conditions"}),
        ({"machine": "Darwin arm64"}, {}, {"conditions"}),
        ({"device": "cuda"}, {}, set()),
        ({}, {"requirements": {"numpy": "1.0"}}, {"conditions"}),
        ({}, {"requirements": {}}, set()),
    ]
    for tags, kept, differs in cases:
        found = compare(version(folder, tags, **kept), made)
        assert {each.what for each in found if each.equal is False} == differs, (tags, kept)
    elsewhere = version(folder, {"cpu": "another"})
    assert verdict(compare(elsewhere, made)) == "equal"
    found = compare(elsewhere, refitted(folder, predictions=predicted(SAID + 2 * ELSEWHERE * np.array([1, -1]))))
    assert verdict(found) == "differs"
    assert "largest difference in 3 test rows is 0.002" in next(e.message for e in found if e.what == "predictions")


@pytest.mark.parametrize(
    ("changed", "equal", "told"),
    [
        ("", None, "not known from the tags: uncommitted changes in unknown files"),
        ("params.yaml training/fit.py", None, "uncommitted changes in training/fit.py"),
        ("data.dvc params.yaml", True, "commit cccc"),  # both are held by the version itself
    ],
)
def test_an_uncommitted_change_is_told_and_does_not_decide(
    tmp_path: Path, changed: str, equal: bool | None, told: str
) -> None:
    recipe = version(tmp_path / "model", {"git.dirty": "true", "git.changed": changed})
    found = compare(recipe, refitted(recipe.folder))
    assert verdict(found) == "equal"
    assert [(each.equal, told in each.message) for each in found if each.what == "code"] == [(equal, True)]


def test_a_tree_is_dirty_by_code_and_not_by_what_dvc_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("training").mkdir()

    def write(text: str, *names: str) -> None:
        for name in names:
            Path(name).write_text(text)

    write("1", "dvc.lock", "params.yaml", "training/fit.py")
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "one")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@e.org", *command], check=True)
    write("2", "dvc.lock", "notes.txt")
    assert tracking.changes() == [] and tracking.lineage("none")["git.dirty"] == "false"
    assert "git.changed" not in tracking.conditions()
    write("2", "params.yaml", "training/new.py")
    assert tracking.changes() == ["params.yaml", "training/new.py"] and tracking.lineage("none")["git.dirty"] == "true"
    assert tracking.conditions()["git.changed"] == "params.yaml training/new.py"


def test_a_second_fit_keeps_its_studies_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Worktree, what: str, *command: str, env: Mapping[str, str] | None = None) -> str:
        if what == "fit":
            raise UserError((env or {}).get("OPTUNA_STORAGE", "that of everyone"))
        return ""

    for name, instead in {"run": run, "data": lambda *_: None}.items():
        monkeypatch.setattr(Worktree, name, instead)
    tree = Worktree(tmp_path / "worktree", tmp_path)
    monkeypatch.setattr(reproduction, "worktree", lambda *_: contextlib.nullcontext(tree))
    monkeypatch.setattr(reproduction, "_settle", lambda *_: None)
    with pytest.raises(UserError, match=f"^sqlite:///{tmp_path}/optuna.db$"):
        reproduction.refit(version(tmp_path / "model", {"dvc.data_md5": "d" * 32}), tmp_path)


@contextlib.contextmanager
def inside(platform: Platform) -> Iterator[Checkout]:
    """Run commands of the platform, which has this code, in this process."""
    with pytest.MonkeyPatch.context() as patch, tracked(uri := platform.env["MLFLOW_TRACKING_URI"]):
        patch.chdir(platform.root)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        yield Checkout(platform.root)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A copy with one fitted, registered version; a parameter and a new budget were chosen and not committed."""
    root = tmp_path_factory.mktemp("reproduce") / "copy"
    made = make_platform(root, TASK, sample=lambda folder: simulate_tumor_type(folder, patients=80))
    empty_store(made.root)
    params = made.root / "params.yaml"
    budgets = f"budgets:\n  nightly: {{{TASK}: {{fit: {{members: {{full: 1}}}}}}}}\n"
    changed = params.read_text().replace("resamples: 200", "resamples: 150").replace("budgets: {}\n", budgets)
    assert budgets in changed
    params.write_text(changed)
    (made.root / "budget.yaml").write_text("budget: nightly\n")
    folder = made.root / "models" / TASK / ARCHITECTURE
    folder.mkdir(parents=True)
    chosen = {"selection": "all", "scaling": "none", "c": 0.1, "balanced": False}
    (folder / "tuned.json").write_text(json.dumps({"hyperparameters": chosen, "study": "none"}))
    with inside(made) as here:
        assert here.run("pipelines.prepare", "--task", TASK) == 0
        assert here.run("training.fit", "--task", TASK, "--architecture", ARCHITECTURE) == 0
    fitted = made.read(f"models/{TASK}/{ARCHITECTURE}/fitted.json")
    client = MlflowClient(made.env["MLFLOW_TRACKING_URI"])
    client.create_registered_model(TASK)
    tags = {"architecture": ARCHITECTURE, "evidence.run_id": fitted["run_id"]}
    source = client.get_logged_model(fitted["model_uri"].removeprefix("models:/")).artifact_location
    tags[FILES_TAG] = combined(served_hashes(Path(local_file_uri_to_path(source))))
    client.create_model_version(TASK, source=source, run_id=fitted["run_id"], tags=tags)
    client.log_artifact(fitted["run_id"], str(folder / "predictions.parquet"))  # as the evaluate stage does
    return made


@pytest.mark.slow
def test_a_version_is_made_again_from_its_tags(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    # What lies in the working tree is another model's by now, and must not be looked at.
    for name in ("prepared", "models", "data"):
        (platform.root / name).rename(platform.root / f"{name}-elsewhere")
    before = platform.run("git", "status", "--porcelain").stdout
    store = (platform.root / "mlflow.db").read_bytes()
    temporary = platform.root.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with inside(platform) as here:
        done = here.command("serving.reproduce", "--model", f"models:/{TASK}/1", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    report = platform.read(f"reports/{TASK}/reproduce/1.json")
    found = {each["what"]: each["equal"] for each in report["comparisons"]}
    assert found.pop("params") is None  # the tag is set by the evaluate stage, which did not run
    assert set(found.values()) == {True} and report["verdict"] == "equal"
    assert "equal in all" in done.stdout
    assert platform.run("git", "status", "--porcelain").stdout == before
    assert len(platform.run("git", "worktree", "list").stdout.splitlines()) == 1
    assert list(temporary.iterdir()) == []
    assert (platform.root / "mlflow.db").read_bytes() == store  # nothing was written into the store


@pytest.mark.slow
def test_what_keeps_a_version_from_being_made_again_is_said(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked(platform.env["MLFLOW_TRACKING_URI"]):
        for uri, said in (("models:/tumor_type", "models:/<task>/<number>"), (f"models:/{TASK}/9", "cannot be read")):
            with pytest.raises(UserError, match=said), recipe_of(uri):
                pass
        source = MlflowClient().get_model_version(TASK, "1").source
        added = Path(local_file_uri_to_path(source)) / "added.py"
        added.touch()
        with pytest.raises(UserError, match="version 1"), recipe_of(f"models:/{TASK}/1"):
            pass
        added.unlink()
    with pytest.raises(UserError, match="git fetch origin"), worktree(platform.root, "0" * 40):
        pass
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    head = platform.run("git", "rev-parse", "HEAD").stdout.strip()
    with pytest.raises(UserError, match=r"dvc pull of data/tumor_type"), worktree(platform.root, head) as tree:
        tree.data(TASK, "0" * 32 + ".dir")  # data that is in no cache and no remote
    assert len(platform.run("git", "worktree", "list").stdout.splitlines()) == 1
