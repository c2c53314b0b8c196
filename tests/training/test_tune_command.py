"""The command that people type: `--workers` has to reach the processes, through MLflow's entry point too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from optuna.trial import TrialState

from pipelines.datasets import prepare, write_prepared
from pipelines.params import read_params
from pipelines.simulate.response import simulate_drug_response
from tests.training.postgres import postgres
from tests.training.tiny import NAME, ROOT, SIZE
from tests.training.tuned_together import trials_of

ARCHITECTURE = "elastic_net"
BUDGET = 4

# Python runs it in each process that starts, before anything else.
NOTES_WHO_STARTS = """
import json, os, sys

with open({path!r}, "a") as file:
    print(json.dumps([os.getpid(), sys.orig_argv]), file=file)
"""


def checkout(folder: Path) -> None:
    """Make what the command reads: MLproject, params.yaml with few trials, a small raw folder and its split."""
    shutil.copy(ROOT / "MLproject", folder)
    written: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    written["budget"], written["device"] = "quick", "cpu"
    written["tasks"][NAME]["tune"]["trials"] = {"quick": BUDGET, "full": BUDGET}
    (folder / "params.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    params = read_params(folder / "params.yaml")
    task = params.task(NAME)
    simulate_drug_response(folder / "data" / NAME, SIZE)
    prepared = prepare(task.read(folder / "data" / NAME), task, params.seed)
    write_prepared(prepared, folder / "prepared" / NAME, task, params.seed)


def started(path: Path) -> dict[int, list[str]]:
    """Return the arguments of each worker's process, by its number."""
    found = {}
    for process, arguments in map(json.loads, path.read_text().splitlines()):
        if "--worker-of" in arguments:
            found[process] = arguments
    return found


def test_mlflow_s_entry_point_tunes_with_the_workers_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout(tmp_path)
    notes = tmp_path / "started.jsonl"
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(NOTES_WHO_STARTS.format(path=str(notes)))
    with postgres() as server:
        studies, tracked = server.database("studies"), server.database("tracking")
        # Another test of this process may have left MLflow a current experiment, which the database here has not.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "OPTUNA"))}
        environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path / 'hooks'}{os.pathsep}{ROOT}",
            "OPTUNA_STORAGE": studies,
            "MLFLOW_TRACKING_URI": tracked,
            "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
            "OMP_NUM_THREADS": "1",
        }
        given = {"task": NAME, "architecture": ARCHITECTURE, "workers": "2"}
        told = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "run", ".", "-e", "tune", "--env-manager", "local", *told],
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        said = done.stdout[-2000:] + done.stderr[-3000:]
        assert done.returncode == 0, said
        tuned = json.loads((tmp_path / "models" / NAME / ARCHITECTURE / "tuned.json").read_text())
        workers = started(notes)
        assert sorted(each[each.index("--number") + 1] for each in workers.values()) == ["1", "2"]
        assert {each[each.index("--worker-of") + 1] for each in workers.values()} == {tuned["run_id"]}
        trials = trials_of(tuned["study"], studies)
        assert (
            [trial.state for trial in trials]
            == [TrialState.COMPLETE] * BUDGET
            == [TrialState.COMPLETE] * tuned["trials"]
        )
        # Whichever was faster may have run them all; the process that was typed runs none.
        assert {int(trial.user_attrs["worker"].split("|")[1]) for trial in trials} <= set(workers)
        client = mlflow.MlflowClient(tracked)
        assert client.get_run(tuned["run_id"]).info.status == "FINISHED"
        runs = client.search_runs(
            [client.get_run(tuned["run_id"]).info.experiment_id], f"tags.mlflow.parentRunId = '{tuned['run_id']}'"
        )
        assert {run.info.run_id for run in runs} == {trial.user_attrs["mlflow_run_id"] for trial in trials}
        assert {run.info.status for run in runs} == {"FINISHED"}
