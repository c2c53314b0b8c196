"""Who is refused by a server is told so in a line; every other error keeps its traceback."""

from __future__ import annotations

import pytest
import requests
from mlflow.exceptions import MlflowException, get_error_code

from pipelines.command import run_command


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "error: the tracking server does not let you in: set MLFLOW_TRACKING_USERNAME"),
        (
            403,
            "error: the tracking server refuses: the account 'eve' may not do this",
        ),
    ],
)
def test_a_refusal_of_the_server_is_one_line(
    status: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eve")

    def refused() -> int:
        raise MlflowException("no right", error_code=get_error_code(status))

    with pytest.raises(SystemExit) as ended:
        run_command(refused)
    printed = capsys.readouterr().err
    assert ended.value.code == 1
    assert printed.startswith(told) and printed.count("\n") == 1


@pytest.mark.parametrize("error", [MlflowException("a fault", error_code=get_error_code(500)), KeyError("a fault")])
def test_another_error_keeps_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def failed() -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(failed)
    printed = capsys.readouterr().err
    assert ended.value.code == 1
    assert printed.startswith("Traceback") and "a fault" in printed


def test_a_refused_artifact_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = requests.Response()
    answer.status_code = 403

    def refused() -> int:
        raise requests.HTTPError("403 Client Error", response=answer)

    with pytest.raises(SystemExit):
        run_command(refused)
    assert capsys.readouterr().err.startswith("error: the tracking server refuses")
