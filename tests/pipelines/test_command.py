"""A refused or failing command must print one line; every other error keeps its traceback."""

from __future__ import annotations

import errno
import re

import pytest
import requests
from mlflow.exceptions import MlflowException, get_error_code

from pipelines.command import run_command

FORBIDDEN = requests.Response()
FORBIDDEN.status_code = 403


def printed(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints that fails with ``error``."""

    def failed() -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(failed)
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MlflowException("no", error_code=get_error_code(401)), "the tracking server .*set MLFLOW_TRACKING_USERNAME"),
        (MlflowException("no", error_code=get_error_code(403)), "the tracking server refuses: the account 'eve'"),
        (requests.HTTPError("403 Client Error", response=FORBIDDEN), "the tracking server refuses"),
        (OSError(errno.ENOSPC, "No space left on device", "mlruns/1/model"), "mlruns/1/model: .*full"),
        (PermissionError(errno.EACCES, "Permission denied", "mlruns"), "mlruns: .*permissions"),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), "the tracking store .*full"),
    ],
)
def test_a_refusal_is_one_line(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eve")
    text = printed(error, capsys)
    assert text.count("\n") == 1 and re.match(f"error: {told}", text)


@pytest.mark.parametrize("error", [MlflowException("a fault", error_code=get_error_code(500)), KeyError("a fault")])
def test_another_error_keeps_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(error, capsys)
    assert text.startswith("Traceback") and "a fault" in text


def test_interrupting_a_command_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_command(interrupted)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; run the same command to go on\n"
