"""A command in a fork of the warm process does what it does by itself, and ends with whoever asked for it."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.warm_process import warm_process

ROOT = Path(__file__).parents[1]
PROBE = """
    import os, signal, sys, time
    from pipelines.command import run_command
    from pipelines.errors import UserError

    def main():
        what, *rest = sys.argv[1:]
        print(what, rest, os.environ.get("MINE"), "torch" in sys.modules, sys.stdin.read(), flush=True)
        if what == "refuse":
            raise UserError("column 'a' is missing: add it")
        if what == "exit":
            sys.exit(int(rest[0]))
        if what == "crash":
            raise ZeroDivisionError
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "wait":
            print(os.getpid(), flush=True)
            time.sleep(100)
        if what == "leave":
            if os.fork():
                os.kill(os.getpid(), signal.SIGKILL)
            os.close(1), os.close(2)
            time.sleep(15)
        if what == "parent":
            print(os.getppid())

    if __name__ == "__main__":
        run_command(main)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    (folder / "probe.py").write_text(textwrap.dedent(PROBE))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[psutil.Process]:
    """A warm process of ``folder``; tests start commands beside it by `start`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(folder))
        with warm_process():
            # The last that was started: the numbers of processes begin anew at some time.
            yield max(psutil.Process(os.getpid()).children(), key=psutil.Process.create_time)


def start(folder: Path, *arguments: str, warm: bool = True, **environment: str) -> subprocess.Popen[str]:
    given = {**os.environ, "MINE": "of the caller", "PYTHONPATH": str(folder), **environment}
    if not warm:
        given.pop("ONCOLINEAGE_WARM_PROCESS")
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-m", "probe", *arguments], cwd=folder, env=given, text=True, **pipes)


def outcome(started: subprocess.Popen[str]) -> tuple[str, str, int]:
    return (*started.communicate("asked\n", timeout=60), started.returncode)


def soon(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + 60  # imports of seconds take many times as long beside other work
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


@pytest.mark.parametrize(
    "arguments", [["say", "a b", ""], ["refuse"], ["exit", "3"], ["crash"]], ids=lambda each: each[0]
)
def test_a_fork_says_and_returns_what_a_process_of_its_own_does(
    folder: Path, server: psutil.Process, arguments: list[str]
) -> None:
    assert outcome(start(folder, *arguments)) == outcome(start(folder, *arguments, warm=False))


def test_a_fork_runs_it_unless_a_library_would_have_read_another_environment(
    folder: Path, server: psutil.Process
) -> None:
    for threads, forked in ((os.environ.get("OMP_NUM_THREADS", ""), True), ("7", False)):
        started = start(folder, "parent", OMP_NUM_THREADS=threads) if threads else start(folder, "parent")
        said, _, code = outcome(started)
        assert code == 0 and (said.split()[-1] == str(server.pid)) is forked


def test_it_runs_the_code_as_it_then_is(folder: Path, server: psutil.Process) -> None:
    module = folder / "changing.py"
    for number in ("1", "22"):
        module.write_text(f"from pipelines.command import run_command\nrun_command(lambda: print({number}))\n")
        given = {**os.environ, "PYTHONPATH": str(folder)}
        command = [sys.executable, "-m", "changing"]
        done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [number]


def test_a_killed_fork_is_an_error_and_a_killed_caller_ends_its_fork(folder: Path, server: psutil.Process) -> None:
    _, errors, code = outcome(start(folder, "die"))
    assert code == 1 and "probe was killed" in errors
    waiting = start(folder, "wait")
    assert waiting.stdin is not None and waiting.stdout is not None
    waiting.stdin.close()
    waiting.stdout.readline()
    fork = psutil.Process(int(waiting.stdout.readline()))
    assert fork.ppid() == server.pid
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    assert soon(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE)
    assert outcome(start(folder, "say"))[2] == 0


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupt_of_the_caller_reaches_its_fork_also_one_that_has_not_begun(
    folder: Path, server: psutil.Process, begun: bool
) -> None:
    if not begun:
        server.suspend()
    waiting = start(folder, "wait")
    assert waiting.stdin is not None and waiting.stdout is not None
    waiting.stdin.close()
    if begun:
        waiting.stdout.readline()
        waiting.stdout.readline()
    else:
        process = psutil.Process(waiting.pid)
        assert soon(lambda: bool(process.net_connections("unix")))  # it has asked
        time.sleep(0.2)
    waiting.send_signal(signal.SIGINT)
    server.resume()
    assert waiting.wait(timeout=20) == 130


def test_a_child_of_a_killed_fork_does_not_keep_the_caller_waiting(folder: Path, server: psutil.Process) -> None:
    began = time.monotonic()
    assert outcome(start(folder, "leave"))[2] == 1
    assert time.monotonic() - began < 15


def test_in_another_folder_a_command_runs_by_itself(folder: Path, server: psutil.Process, tmp_path: Path) -> None:
    given = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "probe", "parent"]
    done = subprocess.run(command, cwd=tmp_path, env=given, input="", capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(os.getpid())


def test_a_folder_for_temporary_files_with_a_long_name_costs_warmth_alone(folder: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    given = {**os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(long)}
    given.pop("ONCOLINEAGE_WARM_PROCESS", None)
    command = [sys.executable, "-m", "pipelines.warm_process", sys.executable, "-m", "probe", "exit", "3"]
    assert subprocess.run(command, cwd=folder, env=given, input="", text=True, check=False).returncode == 3


def test_without_a_listening_process_a_command_runs_by_itself(folder: Path, tmp_path: Path) -> None:
    assert outcome(start(folder, "say", ONCOLINEAGE_WARM_PROCESS=str(tmp_path / "gone")))[2] == 0


def test_it_ends_with_the_process_that_started_it_and_leaves_no_file(folder: Path) -> None:
    short = Path(tempfile.mkdtemp())  # the path of a socket may be no longer than a hundred letters
    given = {**os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(short)}
    given.pop("ONCOLINEAGE_WARM_PROCESS", None)  # of the other tests
    command = [sys.executable, "-m", "pipelines.warm_process", "sleep", "100"]
    started = psutil.Popen(command, cwd=folder, env=given)
    assert soon(lambda: len(started.children()) == 2)
    children = started.children()
    assert list(short.glob("oncolineage-*/socket"))
    started.kill()
    started.wait()
    (server,) = [child for child in children if "sleep" not in child.cmdline()]
    assert soon(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert not list(short.glob("oncolineage-*"))
    next(child for child in children if child != server).kill()
