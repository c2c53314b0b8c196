"""An installation of an earlier version becomes today's on the same volumes, and has its moves signed from then on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.containers.installation import CONTAINERS, ROOT, Installation, check_out, missing, question, wait

pytestmark = pytest.mark.soak
# The last commit of a day: since then endpoints ask for keys, moves can be signed, and the log has other columns. It
# runs with the MLflow of its image, an earlier one than it was locked with, since MLflow's tables have changed since.
EARLIER = "295dd6f"
IMAGE = f"oncolineage:{EARLIER}"
TASK, ARCH, BASELINE = "breast_survival", "cox_net", "kaplan_meier"
STAGES = [f"{stage}@{TASK}-{name}" for name in (BASELINE, ARCH) for stage in ("tune", "fit", "evaluate")]
URL = "http://127.0.0.1:5001/invocations"
UPGRADE = ("sh", "-c", 'mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"')
VOLUMES = ("databases", "artifacts", "work", "predictions", "reports")


def make_image(folder: Path) -> None:
    """Build the earlier version's image, beside today's, unless there is one."""
    if subprocess.run([CONTAINERS, "podman", "image", "exists", IMAGE]).returncode == 0:
        return
    (folder / "code").mkdir()
    archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(folder / "code")], input=archive, check=True)
    build = [CONTAINERS, "buildah", "bud", "--isolation", "chroot", "--volume", "/etc/ssl/certs:/run/certificates:ro"]
    build += ["--file", str(Path(__file__).with_name("older.Dockerfile")), "--tag", IMAGE]
    subprocess.run([*build, str(folder / "code")], check=True, stdout=subprocess.DEVNULL)


def as_podman_takes_it(compose: Path) -> None:
    """Give the earlier Compose file today's PostgreSQL, which podman-compose can start, and the earlier image."""
    then, today = (yaml.safe_load(path.read_text()) for path in (compose, ROOT / "infra" / "compose.yaml"))
    del then["configs"]
    then["services"]["postgres"] = today["services"]["postgres"]
    compose.write_text(yaml.safe_dump(then).replace("oncolineage:0.1.0", IMAGE))


class Asking:
    """Asks the endpoint, with a key once there is one."""

    def __init__(self) -> None:
        self.session = requests.Session()
        self.asked: dict[str, Any] = {}

    def answers(self) -> list[dict[str, Any]]:
        answer = self.session.post(URL, json=self.asked, timeout=60)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["predictions"]
        return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an earlier version's installation with a version in production that is asked, and a backup."""
    if why := missing():
        pytest.skip(why)
    make_image(tmp_path_factory.mktemp("image"))
    here = Installation(check_out(tmp_path_factory.mktemp("upgrade"), EARLIER), "oncolineage-upgrade")
    as_podman_takes_it(here.checkout / "infra" / "compose.yaml")
    here.down()
    try:
        here.up("account", "checkout", TASK=TASK)
        here.ended("account")
        here.ended("checkout")
        train(here)
        here.up("serving", TASK=TASK)
        here.wait_healthy("serving")
        yield here
    finally:
        here.down()


def train(here: Installation) -> None:
    """Bring a new version to production."""
    here.run("workbench", "python", "-m", "pipelines.warm_process", "dvc", "repro", "--quiet", *STAGES)
    here.run("workbench", "make", "register", f"TASK={TASK}", f"ARCH={ARCH}", "BY=ada")
    here.run("workbench", "make", "promote", f"TASK={TASK}", "BY=ada")
    here.run("workbench", "make", "promote", f"TASK={TASK}", "TO=production", "BY=ada", "WHY=a trial")


@pytest.fixture(scope="module")
def earlier(installed: Installation) -> dict[str, Any]:
    """Return what the earlier version answers and tells, after it saved a backup, and replace it by today's."""
    here, asking = installed, Asking()
    asking.asked = question(here, TASK)
    for _ in range(60):
        answered = asking.answers()
    told = here.run("workbench", "make", "history", f"TASK={TASK}", "JSON=1")
    here.run("backup", "python", "-m", "serving.backup", "--to", "/backup/earlier")
    here.run("workbench", "git", "checkout", "dvc.lock")  # the stages run again, with today's code
    time.sleep(10)  # answers are logged every five seconds
    start = time.monotonic()
    here.compose("down", "--timeout", "10")
    subprocess.run(["git", "checkout", "--quiet", "--force", "-"], cwd=here.checkout, check=True)  # what was cloned
    make_secrets(here, "--missing")
    migrate(here)
    asking.session.headers["Authorization"] = f"Bearer {make_secrets(here, '--key', 'a-test').split()[0]}"
    serve(here)
    print(f"upgraded within {time.monotonic() - start:.0f} s")
    return {"asking": asking, "answered": answered, "history": rows(told)}


def make_secrets(here: Installation, *options: str) -> str:
    made = [sys.executable, "infra/make_secrets.py", *options]
    return subprocess.run(made, cwd=here.checkout, check=True, capture_output=True, text=True).stdout


def migrate(here: Installation) -> None:
    """Give databases of an earlier MLflow today's tables, and start the server on them."""
    here.up("postgres", "bucket")
    here.wait_healthy("postgres")
    here.ended("bucket")
    here.run("tracking", *UPGRADE)
    here.up("account", "checkout", TASK=TASK)
    here.ended("account")
    here.ended("checkout")


def serve(here: Installation) -> None:
    here.up("serving", TASK=TASK)
    here.wait_healthy("serving")


def rows(told: str) -> list[dict[str, Any]]:
    """Return the history that a command printed, which Compose may have put lines before."""
    found: list[dict[str, Any]] = json.loads(told[told.index("[\n") :])
    return found


def matches(here: Installation, earlier: dict[str, Any]) -> None:
    """Check that version, history and answers are those of the earlier installation."""
    assert "match" in here.run("workbench", "make", "verify", f"TASK={TASK}")
    now = rows(here.run("workbench", "make", "history", f"TASK={TASK}", "JSON=1"))
    assert [each["hash"] for each in now] == [each["hash"] for each in earlier["history"]]
    for one, other in zip(earlier["asking"].answers(), earlier["answered"], strict=True):
        assert {**one, **other} == one and one["prediction"] == pytest.approx(other["prediction"], abs=1e-6)


def test_an_upgrade_keeps_versions_history_answers_and_the_log(
    installed: Installation, earlier: dict[str, Any]
) -> None:
    matches(installed, earlier)
    said = installed.run(
        "monitor", "python", "-m", "serving.monitor", "--task", TASK, "--log", "/predictions", check=False
    )
    assert "report" in said and "error:" not in said, said


def test_a_backup_of_the_earlier_version_is_restored_into_todays(
    installed: Installation, earlier: dict[str, Any]
) -> None:
    here = installed
    here.down(*VOLUMES)
    here.up("postgres", "bucket")
    here.wait_healthy("postgres")
    here.ended("bucket")
    here.run("backup", "python", "-m", "serving.restore", "--from", "/backup/earlier")
    migrate(here)
    serve(here)
    matches(here, earlier)


def test_moves_are_signed_from_then_on_and_nothing_else_is_served(
    installed: Installation, earlier: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Installation(installed.checkout, installed.project, ["infra/compose.yaml", "infra/compose.signed.yaml"])
    make_secrets(here, "--to", "infra/keys", "--signer", "ada")
    os.chown(here.checkout / "infra" / "keys" / "signing_key_ada.pem", 10001, 10001)
    refused = here.run("workbench", "make", "verify", f"TASK={TASK}", check=False)
    assert "not signed" in refused, refused
    monkeypatch.setenv("SIGNING_KEY", "keys/signing_key_ada.pem")
    sign = ("python", "-m", "serving.verify", "--task", TASK, "--sign", "--by", "ada", "--why", "looked at")
    here.run("workbench", *sign)
    train(here)
    monkeypatch.delenv("SIGNING_KEY")
    assert "no private key" in here.run(
        "workbench", "make", "rollback", f"TASK={TASK}", "WHY=a trial", "BY=eve", check=False
    )
    here.podman("rm", "--force", here.name("serving"))
    serve(here)
    assert {each["model_version"] for each in earlier["asking"].answers()} == {"2"}
    assert "signed, up to row" in here.run("workbench", "make", "verify", f"TASK={TASK}")
    here.run("backup", "python", "-m", "serving.backup", "--to", "/backup/signed")

    store = here.podman("volume", "inspect", "--format", "{{.Mountpoint}}", f"{here.project}_artifacts").strip()
    for contract in Path(store).rglob("contract.json"):
        contract.write_text(contract.read_text() + "\n")
    here.compose("restart", "serving")
    refused = "the files of breast_survival version 2 are not those that were registered"
    wait(lambda: refused in here.podman("logs", here.name("serving")), "the changed file is refused")
    assert "files: version 2" in here.run("workbench", "make", "verify", f"TASK={TASK}", check=False)

    for saved, told, there in (("earlier", "not signed", VOLUMES), ("signed", "restored artifacts", VOLUMES[:2])):
        here.down(*there)
        here.up("postgres", "bucket")
        here.wait_healthy("postgres")
        here.ended("bucket")
        said = here.run("backup", "python", "-m", "serving.restore", "--from", f"/backup/{saved}", check=False)
        assert told in said, said
    here.up("account", "checkout", TASK=TASK)
    here.ended("account")
    here.ended("checkout")
    assert "signed, up to row" in here.run("workbench", "make", "verify", f"TASK={TASK}")
