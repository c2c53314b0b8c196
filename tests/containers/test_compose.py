"""The whole of `infra/compose.yaml` in containers: from a study to answers, each service killed, backup and restore."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests

from tests.containers.installation import Installation, check_out, missing, question, wait, with_trials

pytestmark = pytest.mark.soak
TASK, ARCH, OTHER, TRIALS = "drug_response", "xgboost", "elastic_net", 24
URL = "http://127.0.0.1:5001"
SERVING = ("serving", "monitor", "dashboard")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation in which a study of two workers became a version in production, which is served."""
    if why := missing():
        pytest.skip(why)
    checkout = with_trials(check_out(tmp_path_factory.mktemp("compose")), TASK, TRIALS)
    here = Installation(checkout, "oncolineage-test")
    here.down()
    try:
        start = time.monotonic()
        here.up("account")
        here.ended("account")
        print(f"PostgreSQL, store, tracking server and accounts: {time.monotonic() - start:.0f} s")
        here.up("tuning", TASK=TASK, ARCH=ARCH, WORKERS="2")
        assert f"after {TRIALS} trials" in here.ended("tuning")
        here.run("workbench", "dvc", "commit", "--force", f"tune@{TASK}-{ARCH}")
        here.run("workbench", "make", "train", f"TASK={TASK}", f"ARCH={ARCH}")
        here.run("workbench", "make", "register", f"TASK={TASK}", "BY=ada")
        here.run("workbench", "make", "promote", f"TASK={TASK}", "BY=ada")
        here.run("workbench", "make", "promote", f"TASK={TASK}", "TO=production", "BY=ada", "WHY=a trial")
        here.up("monitor")
        for service in ("serving", "dashboard"):
            here.up(service)
            print(f"{service} is healthy after {here.wait_healthy(service):.0f} s")
        yield here
    finally:
        here.down()


@pytest.fixture(scope="module")
def asking(installed: Installation) -> requests.Session:
    made = [sys.executable, "infra/make_secrets.py", "--key", "a-test"]
    key = subprocess.run(made, cwd=installed.checkout, check=True, capture_output=True, text=True).stdout.split()[0]
    installed.compose("restart", "serving", "dashboard")  # keys are read at the start
    for service in ("serving", "dashboard"):
        print(f"{service} answers {installed.wait_healthy(service):.0f} s after a restart")
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    return session


def test_a_version_is_served_to_who_has_a_key_and_watched(installed: Installation, asking: requests.Session) -> None:
    asked = question(installed, TASK)
    answer = asking.post(f"{URL}/invocations", json=asked, timeout=60)
    assert answer.status_code == 200 and answer.json()["predictions"], answer.text[:500]
    assert requests.post(f"{URL}/invocations", json=asked, timeout=60).status_code == 401
    assert requests.get("http://127.0.0.1:8501/", timeout=60).status_code == 401
    assert asking.get("http://127.0.0.1:8501/", timeout=60).status_code == 200
    for _ in range(60):
        asking.post(f"{URL}/invocations", json=asked, timeout=60).raise_for_status()
    said = installed.run(
        "monitor", "python", "-m", "serving.monitor", "--task", TASK, "--log", "/predictions", check=False
    )
    assert "report" in said and "error:" not in said, said
    assert "match" in installed.run("workbench", "make", "verify", f"TASK={TASK}")


def test_a_team_that_has_http_alone_trains_registers_and_moves_versions(installed: Installation) -> None:
    """From outside of Compose's networks: PostgreSQL and the store are out of reach, and the history is a file."""
    task, beside = "breast_survival", installed.checkout.parent / "outside"
    shutil.copytree(installed.checkout, beside)
    password = (beside / "infra" / "secrets" / "platform_password").read_text()
    env = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "PYTHONPATH": str(beside)}
    env |= {"MLFLOW_TRACKING_USERNAME": "platform", "MLFLOW_TRACKING_PASSWORD": password}
    env |= {"ONCOLINEAGE_HISTORY_URI": f"sqlite:///{beside}/history.db", "OMP_NUM_THREADS": "1"}

    def run(module: str, *arguments: str) -> str:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=beside, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    stages = [f"{stage}@{task}-{name}" for name in ("kaplan_meier", "cox_net") for stage in ("tune", "fit", "evaluate")]
    run("pipelines.warm_process", sys.executable, "-m", "dvc", "repro", *stages, f"leaderboard@{task}")
    run("evaluation.candidate", "--task", task)
    for module, *more in (
        ("serving.register",),
        ("serving.promote",),
        ("serving.promote", "--to", "production", "--why", "a trial"),
    ):
        run(module, "--task", task, "--by", "ada", *more)
    assert "production" in run("serving.history", "--task", task)
    assert "match" in run("serving.verify", "--task", task)


class Load(threading.Thread):
    """Asks until it is stopped, and counts what comes back."""

    def __init__(self, session: requests.Session, asked: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.session, self.asked, self.going = session, asked, True
        self.answers: Counter[int] = Counter()

    def run(self) -> None:
        while self.going:
            status = 0
            with contextlib.suppress(requests.RequestException):
                status = self.session.post(f"{URL}/invocations", json=self.asked, timeout=60).status_code
            self.answers[status] += 1
            time.sleep(0.05)


def logged(here: Installation) -> int:
    """Return how many requests are in the log of predictions."""
    code = "import pandas; print(pandas.read_parquet('/predictions').request_id.nunique(), 'requests')"
    return int(here.run("workbench", "python", "-c", code).split(" requests")[0].split()[-1])


def test_what_is_killed_comes_back_and_nothing_is_lost(installed: Installation, asking: requests.Session) -> None:
    asked, before = question(installed, TASK), logged(installed)
    history = installed.run("workbench", "make", "history", f"TASK={TASK}")
    installed.podman("rm", "--force", installed.name("tuning"))
    installed.up("tuning", TASK=TASK, ARCH=OTHER, WORKERS="2")
    wait(lambda: "0/" in installed.podman("logs", installed.name("tuning")), "the study began")
    load = Load(asking, asked)
    load.start()
    rows = []
    for service in ("postgres", "store", "tracking", "tuning", *SERVING):
        had = Counter(load.answers)
        process = int(installed.state(service)["Pid"])
        os.kill(process, signal.SIGKILL)  # as by a fault: podman starts it again itself
        seconds = wait(partial(installed.replaced, service, process), f"{service} is started again")
        if service not in ("tuning", "monitor"):
            seconds += installed.wait_healthy(service)
        time.sleep(5)
        met = load.answers - had
        rows.append((service, f"{seconds:.1f}", met[200], sum(met.values()) - met[200]))
        print("| {} | {} s | {} | {} |".format(*rows[-1]), flush=True)
    load.going = False
    load.join()
    assert all(failed == 0 for service, _, _, failed in rows if service != "serving"), rows
    assert f"after {TRIALS} trials" in installed.ended("tuning")
    time.sleep(10)  # answers are logged every five seconds: those of the last ones before the kill are not
    unlogged = load.answers[200] - (logged(installed) - before)
    print(f"{load.answers[200]} answers, of which {unlogged} are in no log; {load.answers[0]} connections refused")
    assert 0 <= unlogged <= 100
    assert installed.run("workbench", "make", "history", f"TASK={TASK}").splitlines()[-3:] == history.splitlines()[-3:]
    assert "match" in installed.run("workbench", "make", "verify", f"TASK={TASK}")


def test_a_backup_is_restored_into_an_empty_installation(installed: Installation, asking: requests.Session) -> None:
    asked = question(installed, TASK)
    answered = asking.post(f"{URL}/invocations", json=asked, timeout=60).json()["predictions"]
    history = installed.run("workbench", "make", "history", f"TASK={TASK}")
    assert "saved tracking" in installed.run("backup", "python", "-m", "serving.backup", "--to", "/backup/one")
    installed.down("databases", "artifacts", "work", "predictions", "reports")
    installed.up("postgres", "bucket")
    installed.wait_healthy("postgres")
    installed.ended("bucket")
    installed.run("backup", "python", "-m", "serving.restore", "--from", "/backup/one")
    installed.up("account", "checkout")
    installed.ended("account")
    installed.ended("checkout")
    assert "match" in installed.run("workbench", "make", "verify", f"TASK={TASK}")
    assert installed.run("workbench", "make", "history", f"TASK={TASK}").splitlines()[-3:] == history.splitlines()[-3:]
    installed.up("serving")
    installed.wait_healthy("serving")
    assert asking.post(f"{URL}/invocations", json=asked, timeout=60).json()["predictions"] == answered
