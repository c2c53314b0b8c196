"""A final fit that is cut off from its tracking server, killed, or shared by two processes: one run shows all of it."""

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

import training.fit
from pipelines import retry, tracking
from pipelines.datasets import Prepared, prepare, write_prepared
from pipelines.params import PerBudget, read_params
from pipelines.simulate.response import simulate_drug_response
from tests.empty_store import empty_store
from tests.servers import free_port
from tests.training.forked import begin
from tests.training.tiny import NAME, ROOT, SIZE, tiny_params, with_task
from training.architectures import get_architecture
from training.model.final_fit import fit
from training.networks import loop

EPOCHS = 4
MLP = get_architecture("mlp", "pairs", "regression")
# Without dropout two processes do what one does.
HYPERPARAMETERS = {**MLP.defaults, "dropout": 0.0, "units": 16, "batch_size": 64, "components": 8}


def _steps(client: MlflowClient, run: Any) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "step/train_loss")]


@pytest.mark.parametrize("after", [False, True], ids=["before it does it", "after it has done it"])
def test_a_fit_waits_out_a_store(after: bool, store: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: set[tuple[str, ...]] = set()

    def failing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(store: Any, *args: Any, **kwargs: Any) -> Any:
            lists = (value for value in (*args, *kwargs.values()) if isinstance(value, list))
            what = (name, *(each.key for values in lists for each in values if isinstance(each, Metric)))
            fails = what not in failed
            failed.add(what)
            done = method(store, *args, **kwargs) if after or not fails else None
            if fails:
                raise MlflowException("(psycopg.OperationalError) server closed the connection")
            return done

        return call

    for name in dir(SqlAlchemyStore):
        method = getattr(SqlAlchemyStore, name)
        if not name.startswith("_") and callable(method):
            monkeypatch.setattr(SqlAlchemyStore, name, failing(name, method))
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)
    monkeypatch.setenv("OUTAGE_SECONDS", "20")
    params = tiny_params(epochs=EPOCHS)
    task = params.task(NAME)
    params = with_task(params, replace(task, fit=replace(task.fit, members=PerBudget(1, 1))))
    how: dict[str, Any] = {"prepared": prepared, "params": params, "folder": Path("models"), "study": "one"}
    fitted = fit(NAME, MLP, HYPERPARAMETERS, **how)
    called = {name for name, *_ in failed}
    assert {"create_run", "log_batch", "log_inputs", "search_runs", "update_run_info", "create_logged_model"} <= called
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    assert (run.info.run_id, run.info.status) == (fitted.run_id, "FINISHED")
    assert [step for step, _ in _steps(client, run)] == list(range(EPOCHS))
    assert run.data.params["units"] == "16"
    assert run.data.metrics["validation/rmse"] == pytest.approx(fitted.validation)
    assert len(run.inputs.dataset_inputs) == 3
    mlflow.pyfunc.load_model(fitted.model_uri)
    assert not list(Path("checkpoints/fit").iterdir())


# Processes


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `training.fit` may run: data, split and what a study has found."""
    root = tmp_path_factory.mktemp("ready")
    simulate_drug_response(root / "data" / NAME, SIZE)
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"budget": "quick", "device": "cpu"}
    task = params["tasks"][NAME]
    task["tune"]["epochs"]["quick"], task["fit"]["members"]["quick"] = EPOCHS, 1
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    seed, of = params["seed"], read_params(root / "params.yaml").task(NAME)
    write_prepared(prepare(of.read(root / "data" / NAME), of, seed), root / "prepared" / NAME, of, seed)
    tuned = root / "models" / NAME / "mlp" / "tuned.json"
    tuned.parent.mkdir(parents=True)
    tuned.write_text(json.dumps({"hyperparameters": HYPERPARAMETERS, "study": "one"}))
    return root


def run_fit(commit: str, killed: bool) -> int:
    """Run the stage in this process, which with ``killed`` is killed after the second epoch."""
    patch, save = pytest.MonkeyPatch(), loop._Checkpoint.save
    patch.setattr(sys, "argv", ["training.fit", "--task", NAME, "--architecture", "mlp"])
    patch.setattr(tracking, "git", lambda *arguments: commit if "rev-parse" in arguments else None)

    def save_and_die(state: Any, epoch: int, *others: Any) -> None:
        save(state, epoch, *others)
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    if killed:
        patch.setattr(loop._Checkpoint, "save", save_and_die)
    return training.fit.main()


def _fit(root: Path, *, processes: int = 1, commit: str = "0" * 40, killed: bool = False) -> None:
    env = {"CUDA_VISIBLE_DEVICES": "", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
    env |= {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}", "WORLD_SIZE": str(processes)}
    env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with contextlib.chdir(root):
        running = [
            begin(run_fit, commit, killed, environment={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(processes)
        ]
    for process in running:
        process.join(300)
        assert process.exitcode == (-signal.SIGKILL if killed else 0)


@pytest.fixture(scope="module")
def killed(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a fit was killed after its second epoch, and gone on with at another commit."""
    root = shutil.copytree(ready, tmp_path_factory.mktemp("fit") / "killed")
    empty_store(root)
    _fit(root, killed=True)
    _fit(root, commit="1" * 40)
    return root


def _only_run(root: Path) -> tuple[MlflowClient, Any]:
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(NAME).experiment_id])
    return client, run


def _fitted(root: Path) -> dict[str, Any]:
    return json.loads((root / "models" / NAME / "mlp" / "fitted.json").read_text())


def test_a_fit_that_was_killed_goes_on_in_its_run_which_shows_every_epoch_once(killed: Path) -> None:
    client, run = _only_run(killed)
    assert (run.info.run_id, run.info.status) == (_fitted(killed)["run_id"], "FINISHED")
    assert [step for step, _ in _steps(client, run)] == list(range(EPOCHS))
    assert len(run.inputs.dataset_inputs) == 3
    assert not list((killed / "checkpoints" / "fit").iterdir())
    # `make reproduce` checks the last commit out, and evidence and card are of it.
    assert run.data.tags["git.commit"] == "1" * 40 and run.data.tags["stage"] == "fit"


def test_a_fit_by_two_processes_is_that_of_one(killed: Path, ready: Path, tmp_path: Path) -> None:
    root = shutil.copytree(ready, tmp_path / "two")
    empty_store(root)
    _fit(root, processes=2)
    curves = [_steps(*_only_run(each)) for each in (killed, root)]
    assert len(curves[1]) == EPOCHS
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)
    assert _fitted(root)["validation"] == pytest.approx(_fitted(killed)["validation"], rel=1e-3)
