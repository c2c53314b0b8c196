"""Servers of one version each, one after the other as an alias moves, all on one listening socket.

A new one loads its model beside the old one, answers the input example that was logged with it, and listens too before
the old one is asked to end: no connection is refused. If it cannot, the old one stays, ``/metrics`` says so, and it is
tried again, less and less often.
"""

import contextlib
import ctypes
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from pipelines.errors import UserError
from pipelines.policy import Serve
from serving.beside import CANARY, SOCKET
from serving.login import A_MINUTE, KEYS, PROXY
from serving.server_command import environment_of, served_version
from serving.serving_state import FAILED, READY, STATE

_LOADS = 300.0  # seconds that a server may take until it answers
_LONGEST = 3600.0  # seconds until a version that failed is tried again
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


@dataclass
class _Server:
    version: str
    process: subprocess.Popen[bytes]
    folder: Path  # where its workers say that they are ready, or why not

    def end(self) -> None:
        """Let it answer what it has begun, and wait for its end."""
        self.process.terminate()
        self.process.wait()


class Follower:
    """Serves the version that an alias names."""

    def __init__(
        self,
        name: str,
        alias: str,
        policy: Serve,
        *,
        listener: socket.socket,
        workers: int,
        folder: Path,
        more: Mapping[str, str | None],
        leaves: bool = False,
    ) -> None:
        self._name, self._alias, self._policy, self._workers = name, alias, policy, workers
        self._listener, self._folder, self._more = listener, folder, more
        self._leaves = leaves  # where no version has the alias any more; else the last one stays
        self._last, self._failures, self._tries = "", 0, 0

    def run(self, version: str, address: str) -> int:
        """Serve ``version`` and those after it, until a signal; return the exit code of a server that ended itself."""
        serving = self._start(version)
        try:
            self._await(serving)
            print(f"{self._name} version {version} ({self._alias}) at {address}", flush=True)
            wanted, waited = version, 0
            while True:
                seconds = self._policy.follow_seconds or _LONGEST
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = serving.process.wait(min(seconds * 2**waited, _LONGEST))
                    return code if code >= 0 else 128 - code
                named = self._named() if self._policy.follow_seconds else serving.version
                waited = 0 if named != wanted else waited
                wanted = named
                self._tell(named)
                if named == serving.version:
                    continue
                try:
                    following = self._taking_over(named)
                except UserError as error:
                    waited += 1
                    self._failures += 1
                    self._tell(named)
                    self._say(f"version {named} does not take over, version {serving.version} stays: {error}")
                    continue
                before, serving = serving, following
                before.end()
                self._say(f"version {named} took over from version {before.version}")
        finally:
            serving.end()

    def _named(self) -> str:
        """Return the version that the alias names; the one before where it cannot be known, or where none is left."""
        try:
            self._last = served_version(self._name, self._alias)
        except (UserError, MlflowException, OSError) as error:
            if self._leaves and isinstance(error, UserError):
                raise
            self._say(f"the alias {self._alias} cannot be read, nothing changes: {str(error).splitlines()[0][:300]}")
        return self._last

    def _taking_over(self, version: str) -> _Server:
        """Return a server of ``version`` that is ready; `UserError` where it cannot be."""
        started = self._start(version)
        try:
            self._await(started)
        except BaseException:
            started.process.kill()
            started.process.wait()
            raise
        return started

    def _start(self, version: str) -> _Server:
        self._last = version
        self._tries += 1
        folder = self._folder / str(self._tries)
        folder.mkdir()
        self._tell(version)
        environment = environment_of(self._name, version, self._policy, folder, self._workers)
        environment[STATE] = str(self._folder)
        for variable, value in self._more.items():
            environment.pop(variable, None)
            environment |= {} if value is None else {variable: value}
        descriptor = self._listener.fileno()
        command = [sys.executable, "-m", "serving.server", str(descriptor), str(self._workers)]
        process = subprocess.Popen(command, env=environment, pass_fds=[descriptor], preexec_fn=_die_with_parent)
        return _Server(version, process, folder)

    def _await(self, server: _Server) -> None:
        """Wait until all workers of a server answer."""
        until = time.monotonic() + _LOADS
        while sum(1 for _ in server.folder.glob(f"{READY}*")) < self._workers:
            said = next((path.read_text(encoding="utf-8") for path in server.folder.glob(f"{FAILED}*")), None)
            if said is not None or server.process.poll() is not None:
                raise UserError(said or "its server ended, see the log")
            if time.monotonic() > until:
                raise UserError(f"it was not ready after {_LOADS:.0f} s")
            time.sleep(0.05)

    def _tell(self, version: str) -> None:
        """Write what ``/metrics`` answers of this."""
        path = self._folder / "alias.json"
        path.with_suffix(".new").write_text(json.dumps({"version": version, "failures": self._failures}))
        path.with_suffix(".new").replace(path)

    def _say(self, message: str) -> None:
        print(f"{self._name}: {message}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Trial:
    """The version that is tried beside the served one: by its alias, and by the share of clients that it answers."""

    alias: str
    canary: float = 0.0  # 0: it is asked too, and what it answers is only logged


def serve(
    name: str, alias: str, policy: Serve, *, host: str, port: int, workers: int, trial: Trial | None = None
) -> int:
    """Serve the version that ``alias`` names at ``host:port`` until a signal; return the exit code."""
    version = served_version(name, alias)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(host, port))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oncolineage-serving-")))
        more: dict[str, str | None] = {SOCKET: None, CANARY: None}
        if trial is not None:
            more = {SOCKET: str(folder / "beside.socket"), CANARY: str(trial.canary)}
            stack.enter_context(_beside(name, trial.alias, policy, folder))
        follower = Follower(name, alias, policy, listener=listener, workers=workers, folder=folder, more=more)
        return follower.run(version, f"http://{host}:{port}/invocations")


@contextlib.contextmanager
def _beside(name: str, alias: str, policy: Serve, folder: Path) -> Iterator[None]:
    """Serve the version of another alias on a socket in ``folder``, in a process that ends with this one."""
    command = [sys.executable, "-m", "serving.following", name, alias, str(folder / "beside.socket")]
    command += [json.dumps(asdict(policy))]
    with subprocess.Popen(command, preexec_fn=_die_with_parent) as process:
        try:
            yield
        finally:
            process.terminate()


def main() -> int:
    """Serve an alias on a socket of this machine alone, for the server beside: whoever may ask that has logged in."""
    name, alias, path, policy = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    limits = Serve(**json.loads(policy))
    more = dict.fromkeys((KEYS, PROXY, A_MINUTE, SOCKET, CANARY))
    while True:
        Path(path).unlink(missing_ok=True)
        # Of its own each time: on one that nobody accepts from any more, requests would wait in vain.
        with (
            socket.socket(socket.AF_UNIX) as listener,
            tempfile.TemporaryDirectory(prefix="oncolineage-beside-") as folder,
        ):
            listener.bind(path)
            how: dict[str, Any] = {"listener": listener, "workers": 1, "folder": Path(folder), "more": more}
            try:
                Follower(name, alias, limits, **how, leaves=True).run(served_version(name, alias), path)
            except (UserError, MlflowException) as error:
                print(f"{name}: nothing is tried: {str(error).splitlines()[0][:300]}", file=sys.stderr, flush=True)
        time.sleep(limits.follow_seconds or _LONGEST)


@contextlib.contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(f"{host}:{port} cannot be listened on: {error.strerror or error}; name another") from error
        yield listener


def _die_with_parent() -> None:
    """End with this process even where it is killed; Linux alone can."""
    if sys.platform == "linux":
        library: Any = ctypes.CDLL(None)
        library.prctl(_DIES_WITH_PARENT, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
