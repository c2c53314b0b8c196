"""What would end a federation of real servers: no encryption, or a site that is killed in its midst."""

import contextlib
import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.training.site_folders import made_sites
from tests.training.tiny import NAME, ROOT

pytestmark = [pytest.mark.soak, pytest.mark.skipif(shutil.which("flower-superlink") is None, reason="needs flwr")]

ROUNDS = 7


def certificates(folder: Path) -> None:
    """Write ``ca.pem``, and ``server.pem`` and ``server.key`` for localhost."""

    def signed(name: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, "authority"))
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(1))
        made = made.not_valid_after(now + datetime.timedelta(2))
        made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (folder / "ca.pem").write_bytes(signed("authority", authority, authority, True))
    (folder / "server.pem").write_bytes(signed("localhost", server, authority, False))
    private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.key").write_bytes(server.private_bytes(*private))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def waited(said: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end, what
        time.sleep(1)


@contextlib.contextmanager
def started(command: list[str], log: Path, env: dict[str, str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as to:
        process = subprocess.Popen(command, stdout=to, stderr=to, env=env, cwd=cwd, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_federation_over_tls_goes_on_without_a_site_and_takes_it_back(tmp_path: Path) -> None:
    sites, port = made_sites(tmp_path), free_port()
    certificates(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "flwr").mkdir()
    (tmp_path / "flwr" / "config.toml").write_text(
        '[superlink]\ndefault = "here"\n[superlink.here]\n'
        f'address = "127.0.0.1:{port}"\nroot-certificates = "{tmp_path / "ca.pem"}"\n'
    )
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    env |= {"MLFLOW_TRACKING_URI": store, "FLWR_HOME": str(tmp_path / "flwr")}
    env |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    subprocess.run([sys.executable, "-m", "pipelines.validate", "--task", NAME], cwd=tmp_path, env=env, check=True)
    subprocess.run([sys.executable, "-m", "pipelines.prepare", "--task", NAME], cwd=tmp_path, env=env, check=True)

    link = ["flower-superlink", "--port", str(port), "--disable-runtime-dependency-installation"]
    link += ["--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key", "--ssl-ca-certfile", "ca.pem"]

    def node(folder: Path) -> list[str]:
        about = f'data="{folder}" name="{folder.name}"'
        there = ["--superlink", f"127.0.0.1:{port}", "--root-certificates", "ca.pem", "--port", str(free_port())]
        return ["flower-supernode", *there, "--node-config", about]

    def rounds_of(name: str) -> set[int]:
        found = mlflow.MlflowClient(store).search_runs(
            [mlflow.MlflowClient(store).get_experiment_by_name(NAME).experiment_id],
            f"tags.`federated.site` = '{name}'",
        )
        return {int(run.data.tags["federated.round"]) for run in found}

    with contextlib.ExitStack() as stack:

        def start(command: list[str], name: str) -> subprocess.Popen[bytes]:
            return stack.enter_context(started(command, tmp_path / f"{name}.log", env, tmp_path))

        start(link, "coordinator")
        waited(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 60, "the coordinator does not listen")
        plain = subprocess.run(
            [*node(sites[0]), "--insecure", "--max-retries", "1"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            timeout=60,
        )
        assert plain.returncode != 0, "a site got in without encryption"
        processes = {folder.name: start(node(folder), folder.name) for folder in sites}
        asked = f'rounds={ROUNDS} epochs=1 seconds=90.0 fewest=2 task="{NAME}"'
        subprocess.run(
            ["flwr", "run", str(ROOT / "infra" / "flower"), "here", "--run-config", asked],
            cwd=tmp_path, env=env, check=True,
        )  # fmt: skip
        waited(lambda: 1 in rounds_of("west"), 300, "no first round")
        os.killpg(processes["west"].pid, signal.SIGKILL)
        alone = lambda: max(rounds_of("north")) - max(rounds_of("west"))  # noqa: E731
        waited(lambda: alone() >= 1, 300, "the others do not go on")
        start(node(sites[2]), "west")
        receipt = tmp_path / "models" / NAME / "federated_mlp" / "fitted.json"
        waited(receipt.is_file, 600, "the federation does not end")
    assert rounds_of("north") == rounds_of("south") == set(range(1, ROUNDS + 1))
    assert 1 in rounds_of("west") and max(rounds_of("west")) == ROUNDS and len(rounds_of("west")) < ROUNDS
