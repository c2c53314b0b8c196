"""A Ray cluster of several nodes on this machine, reached as ``ray://``, whose nodes can be lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.servers import free_port

# Left open, a head asks for a token where the home folder holds one of an earlier ``ray.init``, and nodes send none.
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}
_STORE_BYTES = 80 * 1024**2  # Ray takes no less than 75 MiB


@contextlib.contextmanager
def ray_nodes(head_cpus: int, other_cpus: int, folder: Path) -> Iterator[str]:
    """Run a head and another node, on the loopback interface alone; give the address for clients.

    Parameters
    ----------
    head_cpus, other_cpus
        Tasks of one CPU that each of both takes at a time.
    folder
        For the nodes' logs.
    """
    port, client = free_port(), free_port()
    # Ray's sockets lie below it, and the path of a socket is at most 107 bytes long.
    temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env["RAY_USAGE_STATS_ENABLED"] = "0"
    env |= NO_TOKEN
    nodes: list[subprocess.Popen[bytes]] = []

    def start(name: str, cpus: int, *place: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            nodes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place),
                        *("--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", "--num-gpus=0"),
                        *(f"--object-store-memory={_STORE_BYTES}", f"--dashboard-agent-listen-port={free_port()}"),
                    ],
                    env=env,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    try:
        own = ("--include-dashboard=false", f"--temp-dir={temporary}")
        start("head", head_cpus, "--head", f"--port={port}", f"--ray-client-server-port={client}", *own)
        _until(folder / "head.log", "Ray runtime started", nodes[0])
        start("other", other_cpus, f"--address=127.0.0.1:{port}")
        _until(folder / "other.log", "Ray runtime started", nodes[1])
        yield f"ray://127.0.0.1:{client}"
    finally:
        processes = []
        for node in nodes:
            with contextlib.suppress(psutil.NoSuchProcess):
                top = psutil.Process(node.pid)
                processes += [top, *top.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for node in nodes:
            node.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def node_of(worker: int) -> psutil.Process:
    """Return the process of the node that the worker process was started by: Ray's raylet."""
    node = psutil.Process(worker).parent()
    assert node is not None and "raylet" in node.name(), node
    return node


def _until(log: Path, said: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while said not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.1)
