"""`infra/compose.yaml` in containers: a checkout of its own, its services in their order, their health, their ends."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONTAINERS = str(ROOT / "infra" / "containers.sh")
PROFILES = [f"--profile={each}" for each in ("tune", "workbench", "serve", "backup")]
PATIENCE = 300.0


def missing() -> str:
    """Return why there can be no containers here, if so."""
    images = ("oncolineage:0.1.0", "oncolineage-store:0.1.0", "postgres:17.6-trixie")
    if not shutil.which("podman") or os.getuid():
        return "podman is not there, or not to be used"
    lacking = [image for image in images if subprocess.run([CONTAINERS, "podman", "image", "exists", image]).returncode]
    return f"no image {', '.join(lacking)}: run `make containers`" if lacking else ""


def wait(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> float:
    """Wait until it holds; return the seconds that it took."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() < start + patience, f"{what}: not within {patience:.0f} s"
        time.sleep(0.2)
    return time.monotonic() - start


@dataclass(frozen=True)
class Installation:
    """Containers of one project, started from the ``checkout``."""

    checkout: Path
    project: str
    files: list[str] = field(default_factory=lambda: ["infra/compose.yaml"])

    def podman(self, *command: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        return self._run("podman", *command, check=check, env=env)

    def compose(self, *command: str, check: bool = True, env: Mapping[str, str] | None = None) -> str:
        options = ("-p", self.project, *(f"--file={each}" for each in self.files), *PROFILES)
        return self._run("podman-compose", *options, *command, check=check, env=env)

    def _run(self, *command: str, check: bool, env: Mapping[str, str] | None) -> str:
        given: dict[str, Any] = {
            "cwd": self.checkout,
            "env": {**os.environ, **(env or {})},
            "stdin": subprocess.DEVNULL,
        }
        done = subprocess.run(
            [CONTAINERS, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800, **given
        )
        assert done.returncode == 0 or not check, f"{command} exited with {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def name(self, service: str) -> str:
        return f"{self.project}_{service}_1"

    def state(self, service: str) -> dict[str, Any]:
        found = self.podman("inspect", "--format", "{{json .State}}", self.name(service), check=False)
        return json.loads(found) if found.startswith("{") else {}

    def healthy(self, service: str) -> bool:
        """Ask by the service's own health check: without systemd podman asks by itself never."""
        asked = [CONTAINERS, "podman", "healthcheck", "run", self.name(service)]
        return subprocess.run(asked, capture_output=True).returncode == 0

    def up(self, *services: str, **env: str) -> None:
        """Start services after what they depend on; podman-compose waits for health with newer versions of podman."""
        known = yaml.safe_load((self.checkout / "infra" / "compose.yaml").read_text())["services"]
        for service in services:
            for other, how in known[service].get("depends_on", {}).items():
                if not self.state(other) or how["condition"] != "service_completed_successfully":
                    self.up(other, **env)
                if how["condition"] == "service_completed_successfully":
                    self.ended(other)
                elif how["condition"] == "service_healthy":
                    self.wait_healthy(other)
            if self.state(service).get("Status") != "running":
                self.compose("up", "--detach", "--no-deps", service, env=env)

    def wait_healthy(self, service: str) -> float:
        return wait(lambda: self.healthy(service), f"{service} is healthy")

    def ended(self, service: str, patience: float = 1500) -> str:
        """Wait for a service that does its work and ends; return what it said."""
        wait(lambda: self.state(service).get("Status") == "exited", f"{service} ended", patience)
        said = self.podman("logs", self.name(service))
        assert self.state(service)["ExitCode"] == 0, said[-6000:]
        return said

    def run(self, service: str, *command: str, check: bool = True) -> str:
        return self.compose("run", "--rm", "--no-deps", "-T", service, *command, check=check)

    def replaced(self, service: str, process: int) -> bool:
        """Whether another process than this one runs the service."""
        now = self.state(service)
        return now.get("Status") == "running" and now["Pid"] != process

    def down(self, *volumes: str) -> None:
        """End all containers, and remove these volumes, or every one."""
        self.compose("down", *([] if volumes else ["--volumes"]), "--timeout", "10", check=False)
        for each in volumes:
            self.podman("volume", "rm", f"{self.project}_{each}")


def question(here: Installation, task: str) -> dict[str, Any]:
    """Return what the version in production was registered to be asked, fetched from outside of Compose's networks."""
    code = f"""if True:
        import json
        from pipelines import tracking  # without it MLflow would ask the store itself, which is out of reach
        from mlflow import artifacts
        print(json.dumps(artifacts.load_dict("models:/{task}@production/serving_input_example.json")))"""
    reader = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "MLFLOW_TRACKING_USERNAME": "reader"}
    reader["MLFLOW_TRACKING_PASSWORD"] = (here.checkout / "infra" / "secrets" / "reader_password").read_text()
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | reader, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_out(folder: Path, commit: str = "HEAD") -> Path:
    """Clone what is committed, with the sample as its data, and new secrets."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=checkout, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet", "data.dvc"], cwd=checkout, check=True)
    subprocess.run([sys.executable, "infra/make_secrets.py"], cwd=checkout, check=True)
    return checkout


def with_trials(checkout: Path, task: str, trials: int) -> Path:
    """Give the studies of a task some length, and commit that."""
    params = (checkout / "params.yaml").read_text().split(f"  {task}:\n", 1)
    params[1] = params[1].replace("trials: {quick: 2,", f"trials: {{quick: {trials},", 1)
    (checkout / "params.yaml").write_text(f"  {task}:\n".join(params))
    who = ["-c", "user.name=a test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, "commit", "--quiet", "--all", "--message", "A longer study"], cwd=checkout, check=True)
    return checkout
