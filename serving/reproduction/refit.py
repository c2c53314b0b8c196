"""A second fit of a version: from its commit, data, parameters and hyperparameters, in a separate store."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow import MlflowClient

from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.tracking import folder_sha256
from serving.reproduction.worktree import Worktree, worktree
from training.model.logged_model import contract_of

_NOT_OF_THE_MODEL = ("members",)  # parameters of the fit's run that are no hyperparameters
_TASK_TEXT = (
    "import sys; from pipelines.params import read_params, task_text; print(task_text(read_params().task(sys.argv[1])))"
)


@dataclass(frozen=True)
class Recipe:
    """How a version was made.

    Attributes
    ----------
    tags
        Of run and version; the run's come first.
    parameters
        Of the run, as text.
    folder
        The model's artifact folder.
    requirements
        Package to version that the model was logged with.
    """

    name: str
    version: str
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: dict[str, float]
    folder: Path
    requirements: dict[str, str]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Return the run's parameters with their types."""
        own = {key: value for key, value in self.parameters.items() if key not in _NOT_OF_THE_MODEL}
        return {key: typed(value) for key, value in own.items()}

    def tag(self, name: str) -> str:
        """Return a required tag."""
        if (value := self.tags.get(name, "none")) == "none":
            raise UserError(f"models:/{self.name}/{self.version} has no tag {name}: it cannot be fitted again")
        return value


@dataclass(frozen=True)
class Refit:
    """The second fit.

    Attributes
    ----------
    hashes
        ``data.sha256``, ``split.sha256``, ``model.sha256`` (of the artifact folder) and, if the commit's code computes
        it, ``params.sha256``.
    params_from
        Source of the task's parameters: ``commit`` or ``model``.
    parameters, metrics
        Of its run.
    outputs
        Arrays of `refit_outputs`: ``first`` of the version, ``second`` of the second fit.
    """

    hashes: dict[str, str]
    params_from: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    outputs: dict[str, np.ndarray]


def typed(text: str) -> Any:
    """Return the number, boolean, None or list that MLflow wrote as ``text``, else the text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.get(text, text)
    return value if str(value) == text else text


def refit(recipe: Recipe, origin: Path) -> Refit:
    """Fit a version again in a temporary worktree of its commit; ``origin`` is the root of the repository.

    Raises
    ------
    UserError
        A tag, the commit or the data is missing, or a stage failed.
    """
    task, architecture = recipe.name, recipe.tag("architecture")
    with worktree(origin, recipe.tag("git.commit")) as tree:
        tree.data(task, recipe.tag("dvc.data_md5"))
        _link_weights(tree)
        params_from = _settle_params(tree, recipe)
        store = f"sqlite:///{tree.root.parent / 'mlflow.db'}"
        env = {"MLFLOW_TRACKING_URI": store, "MLFLOW_REGISTRY_URI": store}
        env |= {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
        if threads := recipe.tags.get("threads"):  # the order of sums depends on it
            env["OMP_NUM_THREADS"] = threads
        tree.run("prepare", sys.executable, "-m", "pipelines.prepare", "--task", task, env=env)
        folder = tree.root / "models" / task / architecture
        tuned = {"hyperparameters": recipe.hyperparameters, "study": recipe.tags.get("study", "none")}
        write_json(folder / "tuned.json", {"task": task, "architecture": architecture, **tuned})
        command = ("-m", "training.fit", "--task", task, "--architecture", architecture)
        tree.run("fit", sys.executable, *command, env=env)
        run = MlflowClient(store).get_run(read_json(folder / "fitted.json")["run_id"])
        out = tree.root.parent / "outputs.npz"
        script = str(Path(__file__).with_name("refit_outputs.py"))
        own = str(recipe.folder.resolve())
        tree.run("predict", sys.executable, "-P", script, task, own, str(folder / "model"), str(out), env=env)
        hashes = {
            "data.sha256": folder_sha256(tree.root / "data" / task),
            "model.sha256": folder_sha256(folder / "model"),
            "split.sha256": read_json(tree.root / "prepared" / task / "split.json")["sha256"],
        }
        with np.load(out, allow_pickle=False) as arrays:
            outputs = dict(arrays)
        if found := str(outputs.pop("params_sha256")):
            hashes["params.sha256"] = found
        return Refit(hashes, params_from, dict(run.data.params), dict(run.data.metrics), outputs)


def _settle_params(tree: Worktree, recipe: Recipe) -> str:
    """Give ``params.yaml`` the version's seed, budget and device, and its task where the commit has another."""
    path = tree.root / "params.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    before = json.dumps(content)
    content |= {"seed": int(recipe.tag("seed")), "budget": recipe.tag("budget")}
    device = recipe.tags.get("device", "cpu").partition(":")[0]
    content["device"] = "auto" if device == "cuda" else "cpu"
    if json.dumps(content) != before:
        _write_params(path, content)
    own = json.loads(contract_of(recipe.folder).task_text)
    there = json.loads(tree.run("params", sys.executable, "-c", _TASK_TEXT, recipe.name))
    if own == there:
        return "commit"
    content["tasks"][recipe.name] = own
    _write_params(path, content)
    return "model"


def _write_params(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")


def _link_weights(tree: Worktree) -> None:
    """Link weights that lie in the repository's folder and are not in git."""
    tasks = yaml.safe_load((tree.root / "params.yaml").read_text(encoding="utf-8"))["tasks"].values()
    for weights in {str(task["tune"].get("weights", "none")) for task in tasks}:
        there, here = tree.origin / weights, tree.root / weights
        if not Path(weights).is_absolute() and there.exists() and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(there.resolve())
