"""What would let DVC show other figures than the evidence has, or none, or lose the run of a queued experiment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from evaluation.results import PLOTS, against, binned, confused, learned, metrics_of, write_board, write_results
from pipelines.params import read_params
from pipelines.paths import home
from tests.empty_store import empty_store
from tests.evaluation.made_evidence import made_evidence

ROOT = Path(__file__).parents[2]
TASK, ARCHITECTURE = "blood_cell", "efficientnet_lite0"


def dvc(*arguments: str) -> Any:
    """Return what DVC prints as JSON; what it could not load is an error."""
    command = [sys.executable, "-m", "dvc", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "failed to load" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def tables(folder: Path, counts: np.ndarray) -> None:
    """Write the tables of a model's evidence that DVC draws."""
    folder.mkdir(exist_ok=True)
    steps = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5, "accuracy": 0.9}]
    made = {"learning_curves": learned(steps), "predicted": confused(counts, ["01", "NA"])}
    made["calibration"] = binned(np.array([0.0, 1, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9]))
    for name, table in made.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def test_dvc_shows_and_compares_what_the_evidence_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")
    whole = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    Path("dvc.yaml").write_text(yaml.safe_dump({"metrics": whole["metrics"], "plots": whole["plots"][:4]}))
    shutil.copytree(ROOT / ".dvc" / "plots", ".dvc/plots")
    evidence = made_evidence() | {"task": TASK, "problem": "classification", "architecture": ARCHITECTURE}
    row = {"architecture": ARCHITECTURE, "value": 0.8, "low": 0.7, "high": 0.9}
    row |= {"margin": 0.3, "margin_low": 0.2, "margin_high": float("nan")}

    def write(accuracy: float, counts: list[list[int]]) -> None:
        evidence["test"]["metrics"]["accuracy"] = {"value": accuracy, "low": 0.5, "high": float("nan")}
        tables(tmp_path / "folder", np.array(counts))
        write_results(evidence, tmp_path / "folder")
        write_board(TASK, [row])

    for command in (["git", "init", "-q", "-b", "main"], [sys.executable, "-m", "dvc", "init", "-q", "-f", "--subdir"]):
        subprocess.run(command, check=True)
    shutil.copytree(ROOT / ".dvc" / "plots", ".dvc/plots", dirs_exist_ok=True)
    write(0.75, [[3, 1], [0, 4]])
    for git in (["add", "-A", "results", "dvc.yaml", ".dvc"], ["commit", "-qm", "first"]):
        subprocess.run(["git", *git], check=True)
    write(0.875, [[4, 0], [0, 4]])

    path = f"results/metrics/{TASK}/{ARCHITECTURE}.json"
    shown = dvc("metrics", "show")[""]["data"][path]["data"]
    assert shown["run_id"] == evidence["run_id"] and shown["test"]["accuracy"] == 0.875
    assert shown["interval"]["accuracy"] == {"low": 0.5}  # the other end is undefined
    changed = dvc("metrics", "diff", "HEAD")[path]
    assert changed == {"test.accuracy": {"old": 0.75, "new": 0.875, "diff": 0.125}}

    drawn = dvc("plots", "diff", "HEAD")
    assert not drawn.get("errors"), drawn["errors"]
    assert set(drawn["data"]) == {f"results/leaderboard/{TASK}.csv"} | {
        f"results/{kind}/{TASK}/{ARCHITECTURE}.csv" for kind in PLOTS
    }
    for name, (plot,) in drawn["data"].items():
        content = plot["content"] if isinstance(plot["content"], dict) else json.loads(plot["content"])
        assert plot["type"] == "vega" and "<DVC_METRIC" not in json.dumps(content), name
        values = content["data"]["values"]
        assert {each["rev"] for each in values} == {"HEAD", "workspace"}
        if "/predicted/" in name:
            found = {(each["rev"], each["actual"], each["predicted"]): int(each["count"]) for each in values}
            assert found["HEAD", "01", "NA"] == 1 and found["workspace", "01", "01"] == 4
            assert len(found) == 5  # pairs that do not occur are left out


def test_every_task_is_drawn_by_what_it_predicts() -> None:
    """A new task of numbers needs a line in `dvc.yaml`: without it numbers are drawn as classes."""
    plots = {
        name: how for each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for name, how in each.items()
    }
    for name, task in read_params(ROOT / "params.yaml").tasks.items():
        own = plots.get(f"results/predicted/{name}", plots["results/predicted"])
        classes = task.problem == "classification"
        assert own["template"] == ("confusion_counts" if classes else "scatter"), name


def test_tables_of_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=2000)
    bins = binned(3 * predicted, predicted)
    assert bins["rows"].sum() == 2000 and len(bins) == 10
    assert np.allclose(bins["observed"], 3 * bins["predicted"])
    assert len(binned(np.ones(7), np.zeros(7))) == 1  # of one prediction
    some = against(3 * predicted, predicted, 0)
    assert len(some) < 2000 and np.allclose(some["actual"], 3 * some["predicted"])
    assert list(learned([]).columns) == PLOTS["learning_curves"] and not len(learned([]))
    assert learned([{"step": 0, "loss": 1.0}, {"step": 1, "loss": float("nan")}]).to_dict("records") == [
        {"step": 0, "metric": "loss", "value": 1.0}
    ]


def test_a_queued_experiment_writes_to_the_stores_of_its_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert home() == Path()
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1234"
    copy.mkdir(parents=True)
    empty_store(tmp_path)
    monkeypatch.chdir(copy)
    assert home() == tmp_path
    clean = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "OPTUNA_STORAGE")}
    code = "from pipelines import tracking; from training.studies.storage import storage_url; import mlflow; "
    code += f"at = tracking.experiment('{TASK}'); print(storage_url()); "
    code += "print(mlflow.get_tracking_uri()); print(mlflow.get_experiment(at).artifact_location)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clean | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    storage, uri, artifacts = done.stdout.split()
    assert (storage, uri) == (f"sqlite:///{tmp_path}/optuna.db", f"sqlite:///{tmp_path}/mlflow.db")
    assert Path(artifacts.removeprefix("file://")).parent == tmp_path / "mlruns" and (tmp_path / "mlflow.db").is_file()


def test_metrics_leave_out_what_is_undefined() -> None:
    evidence = made_evidence()
    evidence["cost"]["cost_latency_ms_batch_1"] = None
    found = metrics_of(evidence)
    assert "latency_ms_batch_1" not in found["cost"] and found["test"]
    assert pd.notna(list(found["test"].values())).all()
