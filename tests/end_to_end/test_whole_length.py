"""From raw files to a served model of drug response, by the commands that a user types; one architecture is new.

Adding an architecture is a file and a line in params.yaml: `NEW` goes from the study to the dashboard like the others.
The demo runs every stage by DVC, side by side, and what it ends with is shown again by a second one.
"""

import base64
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlflow
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.projects.utils import load_project

from evaluation.evidence import saved_view
from tests.end_to_end.small_platform import TASK, Platform, make_platform

pytestmark = pytest.mark.slow
NEW, TITLE = "tissue_means", "Means of Tissues"
SERVED = "elastic_net"
ARCHITECTURES = {"mean_effects", SERVED, NEW}  # trees and networks: test_image_length, test_new_tasks
FILE = f'''"""Means of drugs, and by how much the lines of a tissue lie above or below them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.architectures import architecture
from training.estimator import Attribution, Estimator, FitContext
from training.features.pair import DrugFeatures

TITLE = "{TITLE}"


def space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {{"shrinkage": trial.suggest_float("shrinkage", 1.0, 100.0, log=True)}}


@architecture("pairs", "regression", space=space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class TissueMeans(Estimator):
    featurizers: ClassVar[Mapping[str, Any]] = {{"drug": DrugFeatures}}
    fitted = ("tissues", "effects")
    shrinkage: float = 5.0

    def fit(
        self, train: ResponseSamples, validation: ResponseSamples | None = None, context: FitContext | None = None
    ) -> Self:
        self.drug_ = DrugFeatures(bits=0, identity="none").fit(train)
        residual = train.target - self.drug_.offset(train.drugs)[train.drug]
        tissues, code = np.unique(train.cell_lines["tissue"].astype(str).iloc[train.cell], return_inverse=True)
        self.tissues_ = tissues.tolist()
        self.effects_ = np.bincount(code, residual) / (np.bincount(code) + self.shrinkage)
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return self.attribute(samples).prediction

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        effects = dict(zip(self.tissues_, self.effects_, strict=True))
        of_line = samples.cell_lines["tissue"].map(lambda tissue: effects.get(str(tissue), 0.0)).to_numpy(float)
        base = np.full(len(samples), self.drug_.overall)
        values = np.column_stack([self.drug_.offset(samples.drugs)[samples.drug] - base, of_line[samples.cell]])
        names = ["drug:mean_response", "tissue:effect"]
        return Attribution(names, values, base, base + values.sum(axis=1), "exact")

    def cost(self) -> dict[str, float]:
        return {{"parameters": float(len(self.effects_))}}
'''

COMPARE = """
import sys
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

at = AppTest.from_file(sys.argv[1], default_timeout=120).run()
at._page_hash = calc_hash("compare")
at.run()
assert not at.exception, at.exception
print([each.value for each in at.title])
print([str(cell) for table in at.table for cell in table.value["Architecture"]])
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Return a platform on which the demo has run."""
    made = make_platform(tmp_path_factory.mktemp("platform") / "repo", models=sorted(ARCHITECTURES - {NEW}), waive=True)
    (made.root / f"training/architectures/{NEW}.py").write_text(FILE)
    params = made.root / "params.yaml"
    line = f"  {TASK}-{NEW}: {{task: {TASK}, architecture: {NEW}}}\n"
    params.write_text(params.read_text().replace("models:\n", f"models:\n{line}", 1))
    changed = made.run("git", "status", "--short").stdout.split()
    assert changed == ["M", "params.yaml", "??", f"training/architectures/{NEW}.py"]
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "a new architecture")
    made.python("-m", "serving.demo")
    return made


@pytest.fixture(scope="module")
def client(platform: Platform) -> MlflowClient:
    return MlflowClient(platform.env["MLFLOW_TRACKING_URI"])


def runs_of(client: MlflowClient, stage: str) -> list[Any]:
    experiment: Any = client.get_experiment_by_name(TASK)
    return list(client.search_runs([experiment.experiment_id], f"tags.stage = '{stage}'", max_results=200))


def test_the_demo_ends_with_an_answer_and_finds_nothing_to_do_the_second_time(platform: Platform) -> None:
    answered = platform.read("reports/demo.json")
    assert len(answered["answer"]) == len(answered["question"]["dataframe_split"]["data"])
    assert {row["model_version"] for row in answered["answer"]} == {"1"}
    again = platform.python("-m", "serving.demo").stdout
    assert again.startswith("nothing to do") and f"prediction: {answered['answer'][0]['prediction']}" in again
    assert "drug_response version 1, in staging, was asked over HTTP" in again and "SIMULATED" in again
    lock = yaml.safe_load((platform.root / "dvc.lock").read_text())["stages"]
    stages = {name.partition("@")[0] for name in lock}
    assert stages == {"budget", "inputs", "validate", "audit", "prepare", "tune", "fit", "evaluate", "leaderboard"}


def test_leaderboard_and_dashboard_have_every_architecture_with_an_interval(platform: Platform) -> None:
    rows = platform.read(f"reports/{TASK}/leaderboard.json")
    assert {row["architecture"] for row in rows} == ARCHITECTURES
    assert all(row["low"] <= row["value"] <= row["high"] and row["simulated"] is True for row in rows)
    baseline = next(row for row in rows if row["baseline"])
    assert baseline["margin"] == pytest.approx(0, abs=1e-12)
    assert set(platform.read(f"models/{TASK}/{NEW}/tuned.json")["hyperparameters"]) == {"shrinkage"}
    assert "up to date" in platform.dvc("repro").stdout
    done = platform.python("-c", COMPARE, str(platform.root / "serving" / "dashboard_app.py"))
    title, shown = done.stdout.strip().splitlines()[-2:]
    assert title == "['Compare']" and f"'{TITLE}'" in shown and "'Mean effects (baseline)'" in shown


def test_runs_carry_their_lineage(platform: Platform, client: MlflowClient) -> None:
    runs = runs_of(client, "evaluate")
    assert {run.data.tags["architecture"] for run in runs} == ARCHITECTURES
    split = platform.read(f"prepared/{TASK}/split.json")
    commit = platform.run("git", "rev-parse", "HEAD").stdout.strip()
    for run in [*runs, *runs_of(client, "tune")]:
        tags = run.data.tags
        assert (tags["task"], tags["budget"], tags["git.commit"]) == (TASK, "quick", commit) and tags["seed"]
        assert tags["split.sha256"] == split["sha256"] and len(tags["data.sha256"]) == 64
        assert tags["dvc.data_md5"].endswith(".dir")
    lock = yaml.safe_load((platform.root / "dvc.lock").read_text())["stages"][f"prepare@{TASK}"]
    (of_data,) = [each["md5"] for each in lock["deps"] if each["path"] == f"data/{TASK}"]
    for architecture in ARCHITECTURES:
        evidence = platform.read(f"reports/{TASK}/models/{architecture}/evidence.json")
        assert evidence["hashes"]["dvc.task_md5"] == of_data
    for run in runs:
        assert run.inputs.dataset_inputs and run.data.metrics["cost/fit_seconds"] > 0
        figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
        assert "figures/measured_against_predicted.png" in figures


def test_mlflows_pages_tell_what_was_found(platform: Platform, client: MlflowClient) -> None:
    """Names and descriptions of runs and of the experiment, and the metrics that the page of models compares."""
    board: Any = client.get_experiment_by_name(TASK)
    assert "SIMULATED" in board.tags["mlflow.note.content"]
    for run in runs_of(client, "evaluate"):
        evidence = platform.read(f"reports/{TASK}/models/{run.data.tags['architecture']}/evidence.json")
        score = evidence["test"]["metrics"]["r2"]
        headline = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        assert run.info.run_name == f"{run.data.tags['architecture']}: {headline}"
        described = run.data.tags["mlflow.note.content"].split("\n")
        assert len(described) == 5 and headline in described[1] and "SIMULATED" in described[0]
        assert f"#/experiments/{board.experiment_id}/runs/{run.info.run_id}/artifacts/evidence.json" in described[4]
        row = next(line for line in board.tags["mlflow.note.content"].split("\n") if run.info.run_id in line)
        assert headline in row
        sides = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
        assert set(sides) == {"training", "validation", "test"}
        logged = {each.key: each for each in client.get_logged_model(evidence["model_uri"].split("/")[-1]).metrics}
        assert logged["test/r2"].value == score["value"] == run.data.metrics["test/r2"]
        assert logged["test/r2"].dataset_digest == sides["test"].digest != sides["training"].digest
        assert run.data.metrics["interval/r2_low"] == score["low"] and logged["cost/fit_seconds"].value > 0
    view = json.loads(board.tags[f"mlflow.sharedViewState.{saved_view.KEY}"])["state"].removeprefix("deflate;")
    columns = json.loads(zlib.decompress(base64.b64decode(view)))["selectedColumns"]
    shown = {each.split("`")[1] for each in columns if each.startswith("metrics.")}
    assert shown - {"test/worst_stress_r2"} <= set(run.data.metrics), "of images alone"
    (version,) = client.search_model_versions(f"name = '{TASK}'")
    (of_version,) = [run for run in runs_of(client, "evaluate") if run.info.run_id == version.run_id]
    assert version.description == of_version.data.tags["mlflow.note.content"] and "/card.md)" in version.description


def test_mlflow_run_works_for_every_entry_point(platform: Platform, client: MlflowClient) -> None:
    project, given = load_project(str(platform.root)), {"task": TASK, "architecture": SERVED}
    for module in ("training.tune", "training.fit", "evaluation.evaluate"):
        command = shlex.split(project.get_entry_point(module.split(".")[1]).compute_command(given, None))
        assert command[:3] == ["python", "-m", module] and {TASK, SERVED} <= set(command)
    with patch.dict(os.environ, platform.env, clear=True):
        for entry in ("fit", "evaluate"):  # which reopens the run of the fit
            mlflow.projects.run(str(platform.root), entry, parameters=given, env_manager="local")
    newest = runs_of(client, "evaluate")[0]
    assert newest.data.tags["architecture"] == SERVED
    assert newest.data.tags["project_run_id"] != newest.info.run_id
    # MLflow makes 1 of every code that is not 0, so what it would run is run as it runs it.
    why = 'it\'s better, as "the board" agreed'
    line = project.get_entry_point("rollback").compute_command({"task": TASK, "by": "A. Person", "why": why}, None)
    refused = platform.run("bash", "-c", line, check=False)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert shlex.split(line)[-1].endswith(why), "a sentence is handed on whole"


def test_staging_needs_a_proved_margin_and_a_candidate_is_registered_once(
    platform: Platform, client: MlflowClient
) -> None:
    """The sample is simulated so that the linear model's margin is large, and that of the baseline is nothing."""
    register, promote, verify = (f"serving.{each} --task {TASK}" for each in ("register", "promote", "verify"))
    naive, linear = (f"evaluation.candidate --task {TASK} --architecture {each}" for each in ("mean_effects", SERVED))
    said = platform.chain(naive, register, promote, linear, register, promote, register, verify)
    assert "fail   margin: the margin over mean_effects is 0 [0, 0]" in said and "Traceback" not in said
    refused, ended = said.split("serving.promote exited with 2\n")
    assert "evaluation.candidate exited with 0" in refused and "serving.register exited with 2" in refused
    assert ended.count("exited with 0") == 5 and "is now in staging" in ended, said
    assert "history, aliases, evidence and files match" in ended
    assert client.get_model_version_by_alias(TASK, "staging").tags["architecture"] == SERVED
    compared = platform.read(f"reports/{TASK}/candidate/evidence.json")["comparisons"]
    assert {each["with"]: each["kind"] for each in compared}[NEW] == "simple"
    assert SERVED in (platform.root / f"reports/{TASK}/candidate/card.md").read_text()
    versions = client.search_model_versions(f"name = '{TASK}'")
    assert len(versions) == 3, "registering twice made another version than those of demo, baseline and linear model"


def would_run(platform: Platform, *targets: str) -> set[str]:
    platform.dvc("repro", "inputs")
    return set(re.findall(r"Running stage '([^']+)'", platform.dvc("repro", "--dry", *targets).stdout))


def test_another_budget_is_recorded_by_dvc_and_git_sees_results_alone(platform: Platform) -> None:
    model, before = f"{TASK}-mean_effects", platform.run("git", "status", "--porcelain").stdout
    command = ("make", "train", f"TASK={TASK}", "ARCH=mean_effects", "BUDGET=full")
    platform.run(*command, env={"ONCOLINEAGE_READY": "Makefile"})
    assert platform.run("git", "status", "--porcelain").stdout == before
    assert platform.read(f"models/{TASK}/mean_effects/fitted.json")["budget"] == "full"
    stages = yaml.safe_load((platform.root / "dvc.lock").read_text())["stages"]
    recorded = {each["path"]: each["md5"] for each in stages[f"inputs@{TASK}"]["deps"]}
    for name in ("params.yaml", "budget.yaml"):
        assert recorded[name] == hashlib.md5((platform.root / name).read_bytes()).hexdigest()
    chosen = platform.root / "budget.yaml"
    chosen.unlink()  # the budget is quick again
    assert would_run(platform, f"evaluate@{model}") == {f"tune@{model}", f"fit@{model}"}
    assert chosen.read_text() == "{}\n"


def test_refused_data_changes_nothing_downstream_and_no_old_answer_is_shown(platform: Platform) -> None:
    """The fault slipped in behind the back of `make data`, which refuses it: the pipeline stops at its first stage."""
    file, table = (platform.root / each for each in (f"data/{TASK}/drugs.csv", f"prepared/{TASK}/samples.parquet"))
    before = table.read_bytes()
    drugs = pd.read_csv(file, dtype=str)
    drugs.loc[2, "smiles"] = "not a molecule"
    drugs.to_csv(file, index=False)
    done = platform.python("-m", "serving.demo", check=False)
    assert done.returncode == 1 and f"these failed, see above: {TASK}\n" in done.stderr
    assert "drugs.csv, column smiles, row 3" in done.stdout
    assert not platform.read(f"reports/{TASK}/validation.json")["passed"]
    assert table.read_bytes() == before
    assert not (platform.root / "reports" / "demo.json").exists()


LOOP = ("-m", "serving.retrain", "--task", TASK, "--architectures", "elastic_net", "--by", "ada")


def snapshot(root: Path) -> dict[str, int]:
    """Return when what a loop makes was last written."""
    made = [path for each in ("reports", "models", "prepared") for path in (root / each).rglob("*")]
    return {path.as_posix(): path.stat().st_mtime_ns for path in [*made, root / "dvc.lock"]}


@pytest.mark.soak
def test_a_killed_retraining_is_continued_and_done_once(tmp_path: Path) -> None:
    platform, log = make_platform(tmp_path / "platform"), tmp_path / "log"
    with log.open("w") as file:
        given: dict[str, Any] = {"cwd": platform.root, "env": platform.env, "start_new_session": True}
        loop = subprocess.Popen([sys.executable, *LOOP], stdout=file, stderr=subprocess.STDOUT, **given)
        deadline = time.monotonic() + 900
        while f"Running stage 'fit@{TASK}-elastic_net'" not in log.read_text():
            assert loop.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        os.killpg(loop.pid, signal.SIGKILL)  # in the midst of a fit, as a machine or a container ends
        loop.wait()
    assert list(platform.read(f".retrain/{TASK}.json")["steps"]) == ["look", "check"]
    done = platform.python(*LOOP)
    assert "going on with the loop" in done.stdout
    assert f"Stage 'tune@{TASK}-elastic_net' didn't change, skipping" in done.stdout  # DVC went on, too
    assert f"{TASK}: version 1 is in staging" in done.stdout
    report = (platform.root / "reports" / TASK / "retraining.md").read_text()
    assert "The data is simulated." in report and "- `staging`: nothing → version 1" in report
    history = json.loads(platform.python("-m", "serving.history", "--task", TASK, "--json").stdout)
    entries = [(entry["alias"], entry["to_version"], entry["by"]) for entry in history]
    assert entries == [("candidate", 1, "ada"), ("staging", 1, "ada")]
    platform.python("-m", "serving.verify", "--task", TASK)
    files = snapshot(platform.root)
    assert "nothing new" in platform.python(*LOOP).stdout
    assert snapshot(platform.root) == files
    # Where no loop is remembered, the registry is.
    (platform.root / ".retrain" / f"{TASK}.json").unlink()
    assert "nothing new: version 1 was made of this data" in platform.python(*LOOP).stdout
