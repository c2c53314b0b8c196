"""The process of `pipelines.warm_process`: ``python -m pipelines.warm_server LISTENER FOLDER``.

No module of the project is imported before a fork, so a command runs the code as it then is. This process ends when its
standard input does, and a fork with the process that asked for it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

_FIRST = ("mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "pyarrow.parquet", "scipy.stats", "optuna")
# These are imported before the next fork once a command has used them.
_ONCE_USED = (
    *("dvc.cli", "great_expectations", "matplotlib.pyplot", "sklearn.ensemble", "torch", "torchvision", "xgboost"),
)
# What libraries read while they are imported: a command with other values runs in a process of its own.
_READ_AT_IMPORT = (
    *("CUDA_", "GOMP_", "GX_", "KMP_", "LANG", "LC_", "LD_", "MKL_", "MLFLOW_", "MPL", "NUMEXPR_", "OMP_", "OPENBLAS_"),
    *("PYTHON", "SCIPY_", "TORCH"),
)


def main() -> None:
    """Fork for each request until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides what an interrupt ends
    at_import = _at_import(dict(os.environ))  # before libraries set variables themselves
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # as in `pipelines.tracking`: MLflow reads it at import
    used = Path(sys.argv[2])
    for library in _FIRST:
        importlib.import_module(library)
    # MLflow looks through all installed packages once a process, for each model that is logged: a second.
    importlib.import_module("mlflow.utils.requirements_utils").warn_dependency_requirement_mismatches(["mlflow"])
    forks: set[int] = set()
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            for library in _ONCE_USED:
                if library not in sys.modules and (used / library).exists():
                    importlib.import_module(library)
            gc.collect()
            gc.freeze()  # else the first collection in a fork copies every page
            forks -= {pid for pid in forks if os.waitpid(pid, os.WNOHANG)[0]}
            if pid := os.fork():
                connection.close()
                forks.add(pid)
            else:
                listener.close()
                _answer(connection, used, at_import)
    for pid in forks:
        os.waitpid(pid, 0)
    shutil.rmtree(used, ignore_errors=True)  # whoever started this may have been killed


def _answer(connection: socket.socket, used: Path, at_import: dict[str, str]) -> None:
    """Run what is asked for in this fork, and end it."""
    text, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while b"\n" not in text and (more := connection.recv(1 << 16)):
        text += more
    line, _, early = text.partition(b"\n")
    request = json.loads(line)
    if request["folder"] != str(Path.cwd()) or _at_import(request["environment"]) != at_import:
        connection.sendall(b"refused\n")
        os._exit(0)
    os.register_at_fork(after_in_child=connection.close)  # else a child would keep the caller waiting
    os.setpgid(0, 0)  # Ctrl-C reaches the caller alone, which sends it on, also to a fork that has not begun
    _become(request, streams)
    ended = threading.Event()

    def obey_the_caller(said: bytes) -> None:
        while said:
            os.killpg(0, signal.SIGINT)
            said = connection.recv(1)
        if not ended.is_set():  # the caller was killed
            os.killpg(0, signal.SIGTERM)

    obeying = threading.Thread(target=lambda: obey_the_caller(early or connection.recv(1)), daemon=True)
    code = _run(request["arguments"][0], obeying)
    for library in sys.modules.keys() & set(_ONCE_USED):
        (used / library).touch()
    ended.set()
    connection.sendall(b"%d\n" % code)
    os._exit(0)


def _at_import(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_IMPORT)}


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Make this fork what ``python -m MODULE ARGUMENTS...`` would be at its start."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What the libraries registered belongs to the process that they were imported in.
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    atexit.register(logging.shutdown)
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["arguments"][0] != "dvc":
        os.environ.pop("ONCOLINEAGE_WARM_PROCESS")  # a command of the project runs here, and is not handed on
    sys.argv = request["arguments"]
    sys.modules["numpy"].random.seed()  # else all forks would draw the same where no seed is given
    for name in [name for name in sys.modules if name.split(".")[0] == "pipelines"]:
        del sys.modules[name]


def _run(module: str, obeying: threading.Thread) -> int:
    """Run a module as the main one to its end, exit handlers included; return the exit code.

    What Python does after that, taking every imported module apart, would take two seconds.
    """
    code: Any = 0
    try:
        obeying.start()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:  # before the command was ready for it
        code = 130
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # who reads it has gone
            stream.flush()
    return code


if __name__ == "__main__":
    main()
