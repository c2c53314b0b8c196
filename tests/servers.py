"""The servers that an installation has, for tests: MLflow's with accounts, and an S3-compatible store's stand-in."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from tests.empty_store import empty_store

ADMIN, ADMIN_PASSWORD = "admin", "admin-of-a-test-1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def listening(
    command: list[str], url: str, log: Path, env: Mapping[str, str], folder: Path | None = None, patience: float = 20
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that answers at ``url`` until the block ends, and has ``patience`` seconds to end by itself."""
    with log.open("wb") as file:
        given: dict[str, Any] = {"stderr": subprocess.STDOUT, "start_new_session": True, "cwd": folder or log.parent}
        process = subprocess.Popen(command, env=dict(env), stdout=file, **given)
        try:
            deadline = time.monotonic() + 300
            while True:
                with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                    if requests.get(url, timeout=5).status_code == 200:
                        break
                assert process.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
                time.sleep(0.05)
            yield process
        finally:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, sent)
                    process.wait(timeout=patience)


@contextlib.contextmanager
def s3_store(folder: Path) -> Iterator[dict[str, str]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "testing-access", "AWS_SECRET_ACCESS_KEY": "testing-secret"}
    with listening(
        [sys.executable, "-m", "moto.server", "-p", str(port)], url, folder / "s3.log", os.environ, patience=1
    ):
        yield {"MLFLOW_S3_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", **keys}


@contextlib.contextmanager
def open_tracking_server(folder: Path) -> Iterator[str]:
    """Run MLflow's server without accounts, on an SQLite database in ``folder``; give its URL."""
    options = (f"--backend-store-uri={empty_store(folder)}", "--no-serve-artifacts")
    with _mlflow(folder, free_port(), *options, f"--default-artifact-root={folder / 'mlruns'}") as url:
        yield url


@contextlib.contextmanager
def _mlflow(folder: Path, port: int, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run MLflow's server with nothing of the test's own environment for it; give its URL."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    own = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for what the platform does not use
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1", *options]
    url = f"http://127.0.0.1:{port}"
    log = folder / "tracking.log"
    with listening(command, f"{url}/health", log, {**kept, **own, **(env or {})}, patience=1):
        yield url


@contextlib.contextmanager
def tracking_server(folder: Path, database: str, artifacts: str, env: Mapping[str, str]) -> Iterator[str]:
    """Run MLflow's server as ``infra/compose.yaml`` does (accounts, artifacts passed on, hosts named); give its URL."""
    port = free_port()
    config = folder / "auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database.replace('%', '%%')}\n"
        f"admin_username = {ADMIN}\nadmin_password = {ADMIN_PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    own = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-a-test-only",
    }
    options = ("--app-name=basic-auth", f"--artifacts-destination={artifacts}", f"--allowed-hosts=127.0.0.1:{port}")
    with _mlflow(folder, port, *options, env={**env, **own}) as url:
        yield url
