"""The same workers placed by a real Ray on this machine, and the errors when it cannot place them."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from pipelines.errors import UserError
from tests.servers import free_port
from tests.training.forked import in_threads, join, until
from training.studies import cluster

# What a task runs: a study whose trials are a sleep, without the weight of the real worker's imports.
WORKER = """
import json, os, sys, time
from pathlib import Path

import optuna

from pipelines.errors import UserError
from training.studies.trial_queue import work
from training.studies.storage import open_storage, study_lock


together = 1  # so many workers begin before any goes on


def objective(trial):
    with Path("began.jsonl").open("a") as file:
        print(json.dumps([trial.user_attrs["origin"], os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")]), file=file)
    until = time.monotonic() + 60
    while len({json.loads(line)[1] for line in open("began.jsonl")}) < together and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3 * together)
    return trial.suggest_float("x", 0, 1)


def main(arguments):
    global together
    if "broken" in arguments:
        raise UserError("the worker says why")
    if "three" in arguments:
        together = 3
    work(optuna.load_study(study_name="one", storage=open_storage(wait=True)), objective, 10, study_lock("one"))
    return 0
"""


def test_ray_places_the_workers_and_replaces_one_that_is_lost(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason='the extra "ray" is not installed')
    (tmp_path / "cluster_worker.py").write_text(WORKER)
    monkeypatch.setattr(ray, "init", functools.partial(ray.init, num_gpus=1))  # Ray takes it on trust
    monkeypatch.setenv("GPUS_PER_WORKER", "0.5")
    lost: list[int] = []

    def lose_one() -> None:
        until(lambda: _began(tmp_path), 120)
        lost.append(_began(tmp_path)[-1][1])
        os.kill(lost[0], signal.SIGKILL)

    study = optuna.create_study(study_name="one", storage=shared)
    killer = in_threads(lose_one)
    seen: list[int] = []

    def watch() -> int:
        seen.append(len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))))
        return seen[-1]

    cluster.run_on_cluster(("cluster_worker",), 2, "local", watch)
    join(killer)
    assert lost
    done = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(done) == len({trial.user_attrs["origin"] for trial in done}) == seen[-1] == 10
    began = _began(tmp_path)
    assert len({process for _, process, _ in began}) >= 3, "two workers, and one in the place of the lost"
    assert {gpu for _, _, gpu in began} == {"0"}, "half a GPU each, of the one that there is"


@pytest.mark.soak  # a minute and a half, most of it until two nodes, the client's server and the workers have started
def test_over_ray_s_client_a_study_outlives_a_node(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason='the extra "ray" is not installed')
    from ray.cluster_utils import Cluster

    (tmp_path / "cluster_worker.py").write_text(WORKER)
    # Left open, a head asks for a token where the home folder has one of an earlier ``ray.init``.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    port, lost = free_port(), list[int]()
    small = {"num_gpus": 0, "object_store_memory": 80 * 1024**2}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "ray_client_server_port": port, **small})
    other = nodes.add_node(num_cpus=1, **small)
    raylet = other.all_processes["raylet"][0].process.pid

    def lose_the_other_node() -> None:
        # Three workers fill both nodes; the one on the other node goes with it, during a trial.
        def alive() -> set[int]:
            return {process for _, process, _ in _began(tmp_path) if psutil.pid_exists(process)}

        until(lambda: len(alive()) == 3, 120)
        lost.extend(process for process in alive() if psutil.Process(process).ppid() == raylet)
        nodes.remove_node(other, allow_graceful=False)

    study = optuna.create_study(study_name="one", storage=shared)
    killer = in_threads(lose_the_other_node)
    address = f"ray://127.0.0.1:{port}"
    try:
        cluster.run_on_cluster(("cluster_worker", "three"), 3, address, lambda: 0)
        join(killer)
        assert len(lost) == 1
        done = {trial.user_attrs["origin"] for trial in study.get_trials(states=(TrialState.COMPLETE,))}
        assert len(done) == len(study.get_trials(states=(TrialState.COMPLETE,))) == 10
        last = [origin for origin, process, _ in _began(tmp_path) if process == lost[0]][-1]
        assert [process for origin, process, _ in _began(tmp_path) if origin == last][-1] != lost[0], "run again"
        assert {trial.user_attrs["origin"] for trial in study.trials if "origin" in trial.user_attrs} == done
        with pytest.raises(UserError, match="the worker says why"):
            cluster.run_on_cluster(("cluster_worker", "broken"), 1, address, lambda: 0)
    finally:
        nodes.shutdown()


def _began(folder: Path) -> list[tuple[int, int, str | None]]:
    """Return origin, process and GPUs of every trial that was begun, in their order."""
    path = folder / "began.jsonl"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'CLUSTER needs Ray, the extra "ray".*uv pip install'):
        cluster.run_on_cluster(("any",), 1, "local", lambda: 0)


def test_a_worker_s_share_of_a_gpu_is_a_fraction_or_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, share in {"": None, "0": 0.0, "0.25": 0.25, "1": 1.0, "2": 2.0}.items():
        monkeypatch.setenv("GPUS_PER_WORKER", text)
        assert cluster.gpus_per_worker() == share
    for text in ("half", "-1", "1.5", "nan"):
        monkeypatch.setenv("GPUS_PER_WORKER", text)
        with pytest.raises(UserError, match="GPUS_PER_WORKER"):
            cluster.gpus_per_worker()
