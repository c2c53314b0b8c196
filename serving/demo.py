"""``make demo``: every stage on the simulated samples, then one model is registered, promoted, served and asked."""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import requests

from pipelines.command import run_command
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, read_params
from pipelines.paths import REPORTS
from pipelines.side_by_side import checks, fits, run_chains
from pipelines.warm_process import ADDRESS, warm_process

ASKED = "drug_response"  # the task whose best model is registered, served and asked
_ANSWER = REPORTS / "demo.json"
_START_SECONDS = 120  # that the endpoint may take to start


def models(params: Params) -> list[str]:
    """Return the keys of the models that need no download."""
    return [key for key, model in params.models.items() if model.demo]


def main() -> int:
    """Run what is not up to date; print the leaderboards, and what the served model answered."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    params = read_params()
    if _stale(params) or not _ANSWER.is_file():
        _ANSWER.unlink(missing_ok=True)
        with warm_process():
            run_chains(params, models(params), then={ASKED: _register_and_ask})
    else:
        print("nothing to do: data, code and parameters are as they were")
    from evaluation.leaderboard import show

    for task in params.tasks:
        show(task, params)
    if not (answered := read_json(_ANSWER)):
        print("nothing is registered: that is done with the simulated sample in this checkout's own store alone")
        return 0
    print(f"{ASKED} version {answered['version']}, in staging, was asked over HTTP:")
    asked = answered["question"]["dataframe_split"]
    for column, value in zip(asked["columns"], asked["data"][0], strict=True):
        print(f"  {column}: {f'{len(value)} values' if isinstance(value, dict) else value}")
    print("and answered:")
    for column, value in answered["answer"][0].items():
        print(f"  {column}: {value}")
    return 0


def _stale(params: Params) -> bool:
    """Whether a stage of the demo is not up to date; DVC looks at all stages faster than at each of some."""
    own = {stage for chain in (*checks(params.tasks).values(), *fits(models(params)).values()) for stage in chain}
    own |= {f"leaderboard@{task}" for task in params.tasks}
    first = {f"inputs@{task}" for task in params.tasks}
    found = set(_status())
    if found & first and not found & (own - first):  # what changed may be of no stage
        if subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", "inputs"]).returncode:
            raise UserError("`dvc repro inputs` failed, see above")
        found = set(_status())
    return bool(found & own)


def _status() -> dict[str, Any]:
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _register_and_ask() -> None:
    simulated = all(row["simulated"] for row in read_json(REPORTS / ASKED / "leaderboard.json"))
    if not simulated or not os.environ.get("MLFLOW_TRACKING_URI", "sqlite:").startswith("sqlite:"):
        write_json(_ANSWER, {})  # what other people have in staging stays there
        return
    by = ["--by", "make demo"]
    for module, *given in (["evaluation.candidate"], ["serving.register", *by], ["serving.promote", *by]):
        code = subprocess.run([sys.executable, "-m", module, "--task", ASKED, *given]).returncode
        if code:
            raise UserError(f"{module} ended with {code}, see above")
    from mlflow import MlflowClient, artifacts

    version = MlflowClient().get_model_version_by_alias(ASKED, "staging").version
    question = artifacts.load_dict(f"models:/{ASKED}/{version}/serving_input_example.json")
    write_json(_ANSWER, {"version": version, "question": question, "answer": _answer(question)})


def _answer(question: dict[str, Any]) -> Any:
    """Serve the version in staging, and return its answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "serving.endpoint", "--task", ASKED, "--stage", "staging", "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != ADDRESS}  # it replaces its process
    address, latest = f"http://127.0.0.1:{port}", time.monotonic() + _START_SECONDS
    with subprocess.Popen(command, env=environment) as server:
        try:
            while True:
                if server.poll() is not None or time.monotonic() > latest:
                    raise UserError(f"the endpoint of {ASKED} did not start, see above")
                with contextlib.suppress(requests.RequestException):
                    requests.get(f"{address}/health", timeout=5).raise_for_status()
                    break
                time.sleep(0.1)
            answer = requests.post(f"{address}/invocations", json=question, timeout=_START_SECONDS)
            answer.raise_for_status()
            return answer.json()["predictions"]
        finally:
            server.terminate()


if __name__ == "__main__":
    run_command(main)
