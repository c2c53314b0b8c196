"""A second fit of a registered version from its tags, in a separate worktree and store, and the comparison with it."""

import ast
import contextlib
import importlib.metadata
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from evaluation.evidence.build import PREDICTIONS
from evaluation.problems import measures_of
from evaluation.promotion.production import kept_predictions
from evaluation.promotion.registered_files import check_files
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import read_task
from pipelines.paths import REPORTS
from serving.gate_context import model_files, registered
from training.model.track import contract_of, encoder_of, predictor_folder

_DVC_LOCAL = Path(".dvc") / "config.local"
_OUTPUT = 3000  # characters of a failed command that are shown
_REQUIREMENT = re.compile(r"^([A-Za-z0-9_.\-]+)==(\S+)", re.MULTILINE)
_NOT_OF_THE_MODEL = ("members",)  # parameters of the fit's run that are no hyperparameters
# The commit's own code computes the hash of the parameters.
_PARAMS_SHA256 = (
    "import sys; from evaluation.evidence.build import params_sha256; from pipelines.params import read_params; "
    "print(params_sha256(read_params(), sys.argv[1]))"
)
ELSEWHERE = 1e-3  # largest absolute difference of predictions and metrics on another machine or with other packages
_CONDITIONS = ("machine", "cpu", "threads", "python")
_HASHED = ("data", "split", "params")
_RECOVERED = {"data.dvc", "params.yaml"}  # uncommitted changes that the version's tags and model hold


@dataclass(frozen=True)
class Worktree:
    """A temporary checkout of a commit; ``origin`` is the root of its repository."""

    root: Path
    origin: Path

    def run(self, what: str, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command in the worktree, with ``env`` added, and return its output; `UserError` where it fails."""
        kept = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")}
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**kept, "PYTHONPATH": str(self.root), **(env or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise UserError(f"{what} failed:\n{(done.stdout + done.stderr)[-_OUTPUT:].strip()}")
        return done.stdout

    def data(self, task: str, md5: str) -> None:
        """Check out ``data/<task>`` of the folder with DVC's hash ``md5``, from the repository's cache or remotes."""
        recorded = self.root / "data.dvc"
        if not recorded.is_file():
            raise UserError("the commit has no data.dvc: its data was never given to DVC")
        content = yaml.safe_load(recorded.read_text(encoding="utf-8"))
        if content["outs"][0].get("md5") != md5:
            content["outs"] = [{"md5": md5, "hash": "md5", "path": content["outs"][0]["path"]}]
            recorded.write_text(yaml.safe_dump(content), encoding="utf-8")
        if (self.origin / _DVC_LOCAL).is_file():  # the repository's remotes and credentials
            shutil.copyfile(self.origin / _DVC_LOCAL, self.root / _DVC_LOCAL)
            (self.root / _DVC_LOCAL).chmod(0o600)
        there = Worktree(self.origin, self.origin)
        cache = there.run("dvc cache dir", *_dvc("cache", "dir")).strip()
        self.run("dvc config", *_dvc("config", "--local", "cache.dir", cache))
        for line in there.run("dvc remote list", *_dvc("remote", "list")).splitlines():
            name, _, url = line.replace("\t", " ").removesuffix("(default)").strip().partition(" ")
            if Path(url.strip()).is_dir():  # a relative path would point into the worktree
                self.run("dvc remote modify", *_dvc("remote", "modify", "--local", name, "url", url.strip()))
        target = f"data/{task}"
        try:
            self.run("dvc checkout", *_dvc("checkout", "--quiet", target))
        except UserError:
            self.run(f"dvc pull of {target} ({md5})", *_dvc("pull", "--quiet", target))


def _dvc(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "dvc", *arguments)


@contextlib.contextmanager
def worktree(origin: Path, commit: str) -> Iterator[Worktree]:
    """Yield a temporary checkout of ``commit``; raises `UserError` where the repository does not have it."""
    if _git(origin, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(f"the commit {commit} is not in this repository; fetch it: git fetch origin {commit}")
    place = Path(tempfile.mkdtemp(prefix="oncolineage-"))
    root = place / "worktree"
    try:
        # Without hooks: that of `dvc install` would check out all data.
        made = _git(origin, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(root), commit)
        if made.returncode:
            raise UserError(f"git worktree add failed: {made.stderr.strip()}")
        yield Worktree(root, origin)
    finally:
        _git(origin, "worktree", "remove", "--force", str(root))
        shutil.rmtree(place, ignore_errors=True)
        _git(origin, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)


@dataclass(frozen=True)
class Recipe:
    """How a version was made."""

    name: str
    version: str
    tags: dict[str, str]  # of run and version; the run's come first
    parameters: dict[str, str]  # of the run, as text
    metrics: dict[str, float]
    folder: Path  # the model's artifact folder
    requirements: dict[str, str]  # package to version that the model was logged with
    predictions: pd.DataFrame  # of the test rows, which its evidence was measured on

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the run's parameters with their types."""
        return {key: typed(text) for key, text in self.parameters.items() if key not in _NOT_OF_THE_MODEL}

    def tag(self, name: str) -> str:
        """Return a required tag."""
        if (value := self.tags.get(name, "none")) == "none":
            raise UserError(f"models:/{self.name}/{self.version} has no tag {name}: it cannot be fitted again")
        return value


@dataclass(frozen=True)
class Refit:
    """The second fit: hashes named as the version's tags, parameters and metrics of its run, and test predictions."""

    hashes: dict[str, str]
    parameters: dict[str, str]
    metrics: dict[str, float]
    predictions: pd.DataFrame


@contextlib.contextmanager
def recipe_of(uri: str) -> Iterator[Recipe]:
    """Yield the recipe of a version from registry and run, with a copy of its files."""
    version = registered(uri)
    try:
        run = MlflowClient().get_run(version.tags.get("evidence.run_id") or str(version.run_id))
    except MlflowException as error:
        raise UserError(f"{uri!r} cannot be read from {tracking.mlflow.get_tracking_uri()}: {error}") from error
    predictions = kept_predictions(version)
    if predictions is None:
        raise UserError(f"{uri!r} keeps no {PREDICTIONS} to compare with; evaluate and register it again")
    with model_files(version.source) as files:
        check_files(version, files)
        path = files / "requirements.txt"
        yield Recipe(
            name=version.name,
            version=str(version.version),
            tags={**version.tags, **run.data.tags},
            parameters=dict(run.data.params),
            metrics=dict(run.data.metrics),
            folder=predictor_folder(files),
            requirements=dict(_REQUIREMENT.findall(path.read_text(encoding="utf-8") if path.is_file() else "")),
            predictions=predictions,
        )


def typed(text: str) -> Any:
    """Return the number, boolean, None or list that MLflow wrote as ``text``, else the text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.get(text, text)
    return value if str(value) == text else text


def refit(recipe: Recipe, origin: Path) -> Refit:
    """Fit again in a temporary worktree of the commit; `UserError` if something is missing or a stage fails."""
    task, architecture = recipe.name, recipe.tag("architecture")
    with worktree(origin, recipe.tag("git.commit")) as tree:
        tree.data(task, recipe.tag("dvc.data_md5"))
        _settle(tree, recipe)
        store = f"sqlite:///{tree.root.parent / 'mlflow.db'}"
        env = {"MLFLOW_TRACKING_URI": store, "MLFLOW_REGISTRY_URI": store}
        env |= {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
        env |= {"OPTUNA_STORAGE": f"sqlite:///{tree.root.parent / 'optuna.db'}"}  # a rotation has studies
        if threads := recipe.tags.get("threads"):  # the order of sums depends on it
            env["OMP_NUM_THREADS"] = threads
        tree.run("prepare", sys.executable, "-m", "pipelines.prepare", "--task", task, env=env)
        folder = tree.root / "models" / task / architecture
        tuned = {"hyperparameters": recipe.hyperparameters, "study": recipe.tags.get("study", "none")}
        if metric := recipe.tags.get("tune.metric"):
            tuned["metric"] = metric
        write_json(folder / "tuned.json", {"task": task, "architecture": architecture, **tuned})
        command = ("-m", "training.fit", "--task", task, "--architecture", architecture)
        tree.run("fit", sys.executable, *command, env=env)
        run = MlflowClient(store).get_run(read_json(folder / "fitted.json")["run_id"])
        hashes = {
            "data.sha256": tracking.folder_sha256(tree.root / "data" / task),
            "model.sha256": tracking.folder_sha256(folder / "model"),
            "split.sha256": read_json(tree.root / "prepared" / task / "split.json")["sha256"],
        }
        with contextlib.suppress(UserError):  # another release's code has it elsewhere
            hashes["params.sha256"] = tree.run("params", sys.executable, "-c", _PARAMS_SHA256, task).strip()
        predictions = pd.read_parquet(folder / PREDICTIONS)
        return Refit(hashes, dict(run.data.params), dict(run.data.metrics), predictions)


def _settle(tree: Worktree, recipe: Recipe) -> None:
    """Set the version's seed, budget, device, task and encoder; link weights of the repository that are not in git."""
    path = tree.root / "params.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for weights in {str(task["tune"].get("weights", "none")) for task in content["tasks"].values()}:
        there, here = tree.origin / weights, tree.root / weights
        if not Path(weights).is_absolute() and there.exists() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(there.resolve())
    if (brought := encoder_of(recipe.folder)) is not None:
        entry, weights_of_model = brought
        place = Path(entry["file"])
        place = Path(place.name) if place.is_absolute() or ".." in place.parts else place
        (tree.root / place).parent.mkdir(parents=True, exist_ok=True)
        (tree.root / place).write_bytes(weights_of_model)
        content["encoders"] = {recipe.tag("architecture"): {**entry, "file": str(place)}}
    device = recipe.tags.get("device", "cpu").partition(":")[0]
    content |= {"seed": int(recipe.tag("seed")), "budget": recipe.tag("budget")}
    if recipe.tag("budget") not in ("quick", "full"):  # the task below is what it has made of the version's
        content["budgets"] = {recipe.tag("budget"): {}}
    content["device"] = "auto" if device == "cuda" else "cpu"
    content["tasks"][recipe.name] = json.loads(contract_of(recipe.folder).task_text)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


class Comparison(NamedTuple):
    """One comparison, None if unknown; what does not ``decide`` whether the version differs only explains it."""

    what: str
    equal: bool | None
    message: str
    decides: bool = True


def reproduce(uri: str, origin: Path, reports: Path = REPORTS) -> tuple[list[Comparison], Path]:
    """Fit the version ``uri`` of the repository ``origin`` again, compare, and write the comparisons."""
    with recipe_of(uri) as recipe:
        found = compare(recipe, refit(recipe, origin))
    path = reports / recipe.name / "reproduce" / f"{recipe.version}.json"
    content = {"model": f"models:/{recipe.name}/{recipe.version}", "commit": recipe.tags["git.commit"]}
    write_json(path, {**content, "verdict": verdict(found), "comparisons": [each._asdict() for each in found]})
    return found, path


def verdict(comparisons: list[Comparison]) -> Literal["equal", "differs"]:
    """Return whether anything that decides differs."""
    return "differs" if any(each.decides and each.equal is False for each in comparisons) else "equal"


def compare(recipe: Recipe, made: Refit) -> list[Comparison]:
    """Compare a version with its second fit: exactly under the same conditions on a CPU, else up to `ELSEWHERE`."""
    conditions = _conditions(recipe)
    same = bool(conditions.equal and recipe.requirements) and recipe.tags.get("device", "").startswith("cpu")
    allowed = 0.0 if same else ELSEWHERE
    same_files = tracking.folder_sha256(recipe.folder) == made.hashes["model.sha256"]
    differing = _differing(recipe.parameters, made.parameters)
    return [
        _code(recipe),
        *(_same(name, recipe.tags.get(key := f"{name}.sha256"), made.hashes.get(key)) for name in _HASHED),
        Comparison("hyperparameters", not differing, differing or f"{len(recipe.parameters)} of the run"),
        conditions,
        Comparison("model files", same_files, "byte for byte" if same_files else "other bytes", decides=False),
        _predictions(recipe, made, allowed),
        _metrics(recipe, made, allowed),
    ]


def _same(what: str, then: str | None, now: str | None) -> Comparison:
    if then is None or now is None:
        return Comparison(what, None, f"not known of the {'version' if then is None else 'second fit'}")
    return Comparison(what, then == now, then if then == now else f"{now}, the version has {then}")


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    return "; ".join(
        f"{key}: {now.get(key, 'none')}, the version has {then.get(key, 'none')}"
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
    )


def _code(recipe: Recipe) -> Comparison:
    dirty = recipe.tags.get("git.dirty") == "true"
    changed = (recipe.tags.get("git.changed") or "unknown files").split(" ") if dirty else []
    lost = [each for each in changed if each not in _RECOVERED]
    said = f"; not known from the tags: uncommitted changes in {' '.join(lost)}" if lost else ""
    return Comparison("code", None if lost else True, f"commit {recipe.tag('git.commit')[:12]}{said}", decides=False)


def _conditions(recipe: Recipe) -> Comparison:
    """Compare machine and packages; the second fit had as many threads as the version's."""
    then = {name: recipe.tags.get(name, "not known") for name in _CONDITIONS} | recipe.requirements
    now = tracking.conditions() | ({"threads": then["threads"]} if "threads" in recipe.tags else {})
    now = {name: now[name] for name in _CONDITIONS}
    for package in recipe.requirements:
        try:
            now[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            now[package] = "missing"
    differing = _differing(then, now)
    return Comparison("conditions", not differing, differing or f"{len(then)} of machine and packages", decides=False)


def _predictions(recipe: Recipe, made: Refit, tolerance: float) -> Comparison:
    """Compare the predictions of the test rows row by row; two NaN are equal."""
    measures, frames = measures_of(contract_of(recipe.folder).problem), (recipe.predictions, made.predictions)
    first, second = (np.asarray(measures.columns(frame).outputs, dtype=np.float64) for frame in frames)
    ids = [frame["sample_id"].tolist() for frame in frames]
    if first.shape != second.shape or ids[0] != ids[1] or [*frames[0]] != [*frames[1]]:
        return Comparison("predictions", False, f"of other test rows or classes: {second.shape}, not {first.shape}")
    gap = np.where(np.isnan(first) & np.isnan(second), 0.0, np.abs(first - second))
    rows = gap.reshape(len(gap), -1).max(axis=1, initial=0.0)
    beyond, largest = int((~(rows <= tolerance)).sum()), float(rows.max(initial=0.0))
    if largest == 0:
        return Comparison("predictions", True, f"equal in all {len(rows)} test rows")
    message = f"the largest difference in {len(rows)} test rows is {largest:.3g}, {tolerance:g} is allowed"
    if beyond:
        message += f"; {beyond} rows beyond it, the worst is {ids[0][int(np.argmax(rows))]}"
    return Comparison("predictions", not beyond, message)


def _metrics(recipe: Recipe, made: Refit, tolerance: float) -> Comparison:
    contract = contract_of(recipe.folder)
    measures, metric = measures_of(contract.problem), read_task(contract.task_text).evaluate.metric
    target, outputs, baseline, _ = measures.columns(made.predictions)
    rows: dict[str, Any] = {"baseline": baseline, "within": made.predictions.get("drug_id"), "margin_metric": metric}
    of_test = measures.metrics(target, outputs, **rows, **contract.scoring)
    now = {f"test/{name}": value for name, value in of_test.items()}
    now |= {key: value for key, value in made.metrics.items() if key.startswith("validation/")}
    shared = {key: value for key, value in now.items() if key in recipe.metrics and math.isfinite(value)}
    if not shared:
        return Comparison("metrics", None, "the version's run has none")
    least = max(tolerance, 1e-9)  # the order of a sum changes its last digit
    differing = [
        f"{key} {value:.6g} (the version: {recipe.metrics[key]:.6g})"
        for key, value in sorted(shared.items())
        if not abs(value - recipe.metrics[key]) <= least
    ]
    return Comparison("metrics", not differing, "; ".join(differing) or f"{len(shared)} of test and validation rows")
