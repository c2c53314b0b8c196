"""Child processes that end with their parent, even if it is killed.

Usage: ``python -m serving.continuous_training.tether COMMAND``.

A loop that is killed must not leave a fit behind that writes into the folders of the loop that goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence


def run_tethered(command: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run ``command`` in a process group of its own that is killed whole when this process ends.

    Returns
    -------
    int
        Its exit code; minus the signal's number where a signal ended it.
    """
    # The pipe's other end closes with this process, whatever ends it; that is what the child waits for.
    child = subprocess.Popen(
        [sys.executable, "-m", "serving.continuous_training.tether", *command],
        stdin=subprocess.PIPE,
        env=None if env is None else dict(env),
        start_new_session=True,
    )
    try:
        return child.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    finally:
        assert child.stdin is not None
        child.stdin.close()


def _follow() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> int:
    """Run the command that is named, until it or the parent ends."""
    threading.Thread(target=_follow, daemon=True).start()
    return subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL).wait()


if __name__ == "__main__":
    code = main()
    sys.exit(128 - code if code < 0 else code)
