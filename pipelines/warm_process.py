"""A process that has imported the large libraries, and forks for each command: none spends seconds on imports.

``python -m pipelines.warm_process COMMAND...`` runs a command, such as ``dvc repro``, beside one. Each command of the
project that it starts (`pipelines.command.run_command`) is then run by a fork of `pipelines.warm_server`.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.errors import UserError

ADDRESS = "ONCOLINEAGE_WARM_PROCESS"  # the variable that names its socket
_waiting: set[socket.socket] = set()  # a connection for each command that the warm process runs for this process


@contextlib.contextmanager
def warm_process() -> Iterator[None]:
    """Keep a warm process of this working directory, for this process and those that it starts."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as folder, socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(Path(folder) / "socket"))
        except OSError:  # the name of the folder for temporary files is too long for a socket
            yield
            return
        listener.listen(64)
        command = [sys.executable, "-m", "pipelines.warm_server", str(listener.fileno()), folder]
        # It ends with its standard input: when this process closes that, or dies.
        server = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
        listener.close()
        os.environ[ADDRESS] = str(Path(folder) / "socket")
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            server.communicate()


def forward_command() -> int | None:
    """Have the warm process run this command; return its exit code, or None where this process has to run it."""
    module = sys.modules["__main__"].__spec__
    if ADDRESS not in os.environ or module is None:
        return None
    interrupted = False

    def interrupt_it(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        interrupt()

    before = signal.signal(signal.SIGINT, interrupt_it)
    code = forwarded([module.name, *sys.argv[1:]])
    signal.signal(signal.SIGINT, before)
    if code is None and interrupted:
        raise KeyboardInterrupt
    return code


def interrupt() -> None:
    """Interrupt the commands that this process waits for, as Ctrl-C does."""
    for connection in [*_waiting]:
        with contextlib.suppress(OSError):  # it has just ended
            connection.send(b"i")


def forwarded(arguments: Sequence[str], streams: Sequence[int] = (0, 1, 2)) -> int | None:
    """Have the warm process run ``python -m`` with these arguments; return the exit code.

    None where there is none, or where its folder or what libraries read of its environment is not that of this process.
    Where this process is killed, so is the command.
    """
    if ADDRESS not in os.environ:
        return None
    request = {"arguments": [*arguments], "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[ADDRESS])
            socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], streams)
            _waiting.add(connection)
            with connection.makefile() as answers:
                answer = answers.readline().strip()
        except OSError:  # it has ended
            return None
        finally:
            _waiting.discard(connection)
    if answer == "refused":
        return None
    if not answer:
        print(f"error: the process of {arguments[0]} was killed; run the same command again", file=sys.stderr)
        return 1
    return int(answer)


def main() -> int:
    """Run the command; return its exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    command = arguments.parse_args().command or arguments.error("name a command")
    with warm_process():
        try:
            started = subprocess.Popen(command)
        except OSError as error:
            raise UserError(f"{command[0]} cannot be run: {error}") from error
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides what an interrupt ends
        signal.signal(signal.SIGTERM, lambda *_: started.terminate())
        code = started.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    from pipelines.command import run_command

    run_command(main)
