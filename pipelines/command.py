"""Arguments of entry points, and errors in one line instead of a traceback."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.errors import UserError
from pipelines.paths import DATA, REPORTS
from pipelines.redaction import redacted
from pipelines.store_errors import refusal
from pipelines.warm_process import forward_command


def parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser with ``--task``."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--task", required=True, help="name of the task in params.yaml")
    return made


def architecture_parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser with ``--task`` and ``--architecture``."""
    made = parser(description)
    made.add_argument("--architecture", required=True, help="name of the architecture")
    return made


def task_and_folders(description: str, argv: Sequence[str] | None) -> tuple[str, Path, Path]:
    """Parse ``--task``, ``--data`` and ``--reports``; return the task, its raw folder and the folder of its reports."""
    options = parser(description)
    options.add_argument("--data", type=Path, help="raw folder (default: data/<task>)")
    options.add_argument("--reports", type=Path, help="folder of the reports (default: reports/<task>)")
    given = options.parse_args(argv)
    return given.task, given.data or DATA / given.task, given.reports or REPORTS / given.task


def run_command(main: Callable[[], int | None]) -> None:
    """Run an entry point and exit: 0, or 1 with ``error: ...`` for a `UserError`, else a traceback; no credentials.

    Where there is a warm process, a fork of that does the work.
    """
    try:
        code = forward_command()
        if code is None:
            code = main()
    except UserError as error:
        for line in redacted(str(error)).splitlines():
            print(f"error: {line}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted; run the same command to go on", file=sys.stderr)
        code = 130
    except Exception as error:  # errors of databases and of HTTP repeat the address
        told = _refusal(error)
        said = traceback.format_exc() if told is None else f"error: {told}\n"
        print(redacted(said), end="", file=sys.stderr)
        code = 1
    sys.exit(code or 0)


def _refusal(error: Exception) -> str | None:
    """Return the message on a store that denies access or fails for good; importing its errors would take a second."""
    status = getattr(error, "get_http_status_code", int)() or getattr(
        getattr(error, "response", None), "status_code", 0
    )
    if status == 401:
        return "the tracking server does not let you in: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if status == 403:
        who = os.environ.get("MLFLOW_TRACKING_USERNAME", "?")
        return f"the tracking server refuses: the account {who!r} may not do this; ask its administrator ({error})"
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("mlflow", "sqlalchemy"):
        told = refusal(error, f"the tracking store {os.environ.get('MLFLOW_TRACKING_URI', '')} (MLFLOW_TRACKING_URI)")
        return None if told is None else str(told)
    return None
