"""Where a password would end up: on a terminal, in a log, in a report, in MLflow. It is planted and searched for.

What an endpoint answers and leaves is searched in `tests/serving/test_endpoint_fuzz.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipelines.redaction import HIDDEN, redacted
from tests.end_to_end.small_platform import CHAIN
from tests.pipelines.expression_folder import write_expression_folder
from tests.serving.made_registry import postgres
from tests.training.tiny import ROOT

TASK = "tumor_type"
STORAGE, TRACKING, SALT = "p4ss-of-the-studies", "p4ss-of-the-tracking", "s4lt-of-the-log"
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "lab",
    "MLFLOW_TRACKING_PASSWORD": "p4ss-of-basic-auth",
    "ONCOLINEAGE_LOG_SALT": SALT,
    "AWS_ACCESS_KEY_ID": "AKIA-of-the-store",
    "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-store",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "s3cret-of-the-server",
}
PLANTED = [STORAGE, TRACKING, *(value for name, value in SECRETS.items() if value != "lab")]
NOWHERE = "127.0.0.1:1"  # nothing listens there


def leaked(text: str | bytes) -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    return [secret for secret in PLANTED if secret.encode() in content]


def _environment(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "OPTUNA"))}
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    return kept | own | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"} | SECRETS


def _run(folder: Path, *lines: tuple[str, dict[str, str]]) -> str:
    """Run entry points in one process, each with more variables; return what they printed, if it is no secret."""
    given: Any = {"cwd": folder, "env": _environment(folder), "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", CHAIN, json.dumps(lines)], **given)
    said = done.stdout + done.stderr
    assert leaked(said) == [], said
    return said


def search(folder: Path) -> None:
    """Assert that no file below ``folder`` holds what was planted."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = {str(path.relative_to(folder)): leaked(path.read_bytes()) for path in files}
    assert {path: secrets for path, secrets in found.items() if secrets} == {}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_expression_folder(tmp_path / "data" / TASK)
    return tmp_path


def test_studies_and_runs_leave_no_secret(checkout: Path) -> None:
    """The storage of studies cannot be reached, is none, is no address; then all goes well."""
    tune, fit = (f"training.{stage} --task {TASK} --architecture majority_class" for stage in ("tune", "fit"))
    wrong = [f"postgresql+psycopg://lab:{STORAGE}@{NOWHERE}/studies", f"nothing://lab:{STORAGE}@{NOWHERE}/studies"]
    wrong += [f"//lab:{STORAGE}@{NOWHERE}/studies"]
    with postgres() as uri:
        right = {"OPTUNA_STORAGE": uri.replace("postgres@", f"postgres:{STORAGE}@")}
        refused = [(tune, {"OPTUNA_STORAGE": storage}) for storage in wrong]
        said = _run(checkout, (f"pipelines.prepare --task {TASK}", {}), *refused, (tune, right), (fit, right))
        assert said.count("training.tune exited with 1") == 3 and said.count("exited with 0") == 3, said
        for reason in ("connection failed", "Can't load plugin", "OPTUNA_STORAGE is no URL"):
            assert reason in said, reason
        engine = sa.create_engine(uri)
        with engine.connect() as connection:
            rows = [
                str(row)
                for table in sa.inspect(engine).get_table_names()
                for row in connection.execute(sa.text(f'SELECT * FROM "{table}"'))
            ]
        engine.dispose()
    assert any(TASK in row for row in rows)  # the study is there
    assert leaked("\n".join(rows)) == []
    assert (checkout / "mlflow.db").is_file() and (checkout / "models" / TASK).is_dir()
    search(checkout)


def test_a_tracking_server_that_cannot_be_reached_is_named_without_its_password(checkout: Path) -> None:
    server = {"MLFLOW_TRACKING_URI": f"http://lab:{TRACKING}@{NOWHERE}"}
    commands = [f"evaluation.score --model models:/{TASK}@production --data data"]
    commands += [f"serving.{each} --task {TASK}" for each in ("endpoint", "history", "monitor --log log", "promote")]
    commands += [f"serving.reproduce --model models:/{TASK}/1"]
    database = {"ONCOLINEAGE_HISTORY_URI": f"postgresql://lab:{TRACKING}@{NOWHERE}/registry"}
    said = _run(checkout, *((each, server) for each in commands), (f"serving.verify --task {TASK}", database))
    assert said.count("exited with 1") == 7, said
    assert f"http://lab:{HIDDEN}@{NOWHERE}" in said and f"lab:{HIDDEN}@{NOWHERE}/registry" in said
    search(checkout)


def test_passwords_of_urls_and_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for plain in ("no secret: http://127.0.0.1:5000/x@y", "models:/drug_response@production"):
        assert redacted(plain) == plain
    assert redacted("'https://:hush@host' and s3://a:b@c") == f"'https://:{HIDDEN}@host' and s3://a:{HIDDEN}@c"
    monkeypatch.setenv("OPTUNA_STORAGE", "postgresql://lab:p@ss/w%20rd@db/studies")
    monkeypatch.setenv("SOME_API_TOKEN", "t0ken-of-it")
    monkeypatch.setenv("OTHER_SECRET", "short")
    told = redacted("p@ss/w%20rd, p@ss/w rd and t0ken-of-it; a short word stays")
    assert told == f"{HIDDEN}, {HIDDEN} and {HIDDEN}; a short word stays"


def test_what_is_searched_for_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"postgresql://lab:{STORAGE}@db")
    with pytest.raises(AssertionError):
        search(tmp_path)
