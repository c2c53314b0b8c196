"""The whole length over servers: PostgreSQL, MLflow with accounts, artifacts in an S3 store; and who may not, does not.

What `infra/compose.yaml` starts in containers runs here in processes: the same commands, a real PostgreSQL, and moto in
the place of the store.
"""

import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import optuna
import pytest
import requests
import sqlalchemy as sa
from mlflow import MlflowClient
from pgserver._commands import POSTGRES_BIN_PATH

from infra import set_up
from pipelines.file_hashes import file_hashes
from serving import registry
from serving.audit_log import INTENTS, TABLE
from serving.registry import verify
from tests.end_to_end.small_platform import Checkout, checked_out, said, small_params
from tests.end_to_end.test_new_tasks import SUBTYPE, first_profile
from tests.servers import ADMIN, ADMIN_PASSWORD, s3_store, tracking_server
from tests.serving.served import serving
from tests.training.postgres import Postgres, postgres

pytestmark = pytest.mark.slow
CASE = SUBTYPE
TASK = CASE.name
BUCKET = "s3://oncolineage"
PASSWORDS = {"platform": "platform-of-a-test", "reader": "reader-of-a-test-1"}
READER = {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": PASSWORDS["reader"]}
READER |= {"ONCOLINEAGE_HISTORY_URI": ""}  # and no login of the database


@dataclass(frozen=True)
class Installation:
    here: Checkout
    url: str
    database: Postgres
    folder: Path
    artifacts: dict[str, str]


def make(*what: str, **env: str) -> str:
    done = said(lambda: set_up.main(*what), **env)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return an installation whose model is in staging, brought there by the account ``platform``."""
    folder = tmp_path_factory.mktemp("servers")
    params = small_params(TASK, changes=CASE.changes, like=CASE.like, models=CASE.models, waive=True)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres())
        store = stack.enter_context(s3_store(folder))
        for outcome in ("made", "there"):
            assert make("bucket", BUCKET, **store) == f"{BUCKET}: {outcome}\n"
        uri = database.database("mlflow")
        local = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
        local["MLFLOW_WEBHOOK_CACHE_TTL"] = "0"  # else a list read at the fixture's own moves is kept for a minute
        url = stack.enter_context(tracking_server(folder, uri, BUCKET, {**store, **local}))
        root = {"MLFLOW_TRACKING_USERNAME": ADMIN, "MLFLOW_TRACKING_PASSWORD": ADMIN_PASSWORD}
        root["MLFLOW_TRACKING_URI"] = url
        for name, password in PASSWORDS.items():
            for outcome in ("made", "there"):
                given = {"ONCOLINEAGE_ACCOUNT_PASSWORD": password, **root}
                assert make("account", name, **given) == f"{name}: {outcome}\n"
        assert make("account", "eve", **root) == "error: set ONCOLINEAGE_ACCOUNT_PASSWORD\n"
        own = {"MLFLOW_TRACKING_USERNAME": "platform", "MLFLOW_TRACKING_PASSWORD": PASSWORDS["platform"]}
        own |= {"OPTUNA_STORAGE": database.database("studies"), "ONCOLINEAGE_HISTORY_URI": uri}
        here = stack.enter_context(checked_out(folder, params, url, **own))
        CASE.sample(here.root / "data" / TASK)
        here.train(TASK, CASE.models[-1:])  # each file of a model is a request to two servers, for every check of it
        assert here.leaderboard(TASK)[CASE.models[-1]]["margin_low"] > 0, "what was planted is to be learnt"
        here.stage(TASK, CASE.models[-1])
        yield Installation(here, url, database, folder, store)


def test_what_was_made_lies_on_the_servers_and_is_served_but_to_no_stranger(installed: Installation) -> None:
    assert verify(TASK) == []
    assert not (installed.folder / "mlflow.db").exists() and not (installed.folder / "optuna.db").exists()
    assert not (installed.folder / "mlruns").exists()
    studies = optuna.get_all_study_names(os.environ["OPTUNA_STORAGE"])
    assert len([name for name in studies if name.startswith(f"{TASK}-{CASE.models[-1]}-")]) == 1
    row = first_profile(installed.here.root / "data" / TASK)
    reading = {**READER, "ONCOLINEAGE_PREDICTION_LOG": str(installed.folder / "log")}
    with serving(installed.here.root, TASK, "--stage", "staging", env=reading) as (url, _):  # as infra/ has it
        answer = requests.post(f"{url}/invocations", json={"dataframe_records": [row]}, timeout=60)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.json()["predictions"][0]["label"] in CASE.answers
    asked = f"{installed.url}/api/2.0/mlflow/experiments/search?max_results=5"
    right = ("platform", PASSWORDS["platform"])
    assert requests.get(asked, auth=right, timeout=20).status_code == 200
    assert requests.get(asked, timeout=20).status_code == 401
    assert requests.get(asked, auth=("platform", "wrong-password"), timeout=20).status_code == 401
    # A page that a browser was led to under another name (DNS rebinding) gets nothing.
    assert requests.get(asked, auth=right, headers={"Host": "evil.example"}, timeout=20).status_code == 403


def state(installed: Installation) -> tuple[object, ...]:
    """Return what servers and checkout hold that a refused command might have half written."""
    engine = sa.create_engine(os.environ["ONCOLINEAGE_HISTORY_URI"], poolclass=sa.pool.NullPool)
    tables = ("experiments", "runs", "tags", "model_versions", "registered_model_aliases", TABLE, INTENTS)
    with engine.connect() as connection:
        rows = [sorted(map(repr, connection.execute(sa.text(f"SELECT * FROM {each}")))) for each in tables]
    return (*rows, file_hashes(installed.here.root / "models"))


@pytest.mark.parametrize(
    "command",
    [
        ("training.fit", "--task", TASK, "--architecture", CASE.models[-1]),
        ("serving.register", "--task", TASK, "--by", "eve"),
        ("serving.promote", "--task", TASK, "--to", "production", "--by", "eve"),
    ],
)
def test_a_reader_is_refused_and_leaves_nothing(command: tuple[str, ...], installed: Installation) -> None:
    before = state(installed)
    done = installed.here.command(*command, **READER)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the account 'reader' may not do this" in errors[0] or "set ONCOLINEAGE_HISTORY_URI" in errors[0], errors
    assert PASSWORDS["reader"] not in done.stderr + done.stdout
    wrong = installed.here.command(*command, MLFLOW_TRACKING_PASSWORD="not-the-password")
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr, wrong.stderr
    assert "error: the tracking server does not let you in: set MLFLOW_TRACKING_USERNAME" in wrong.stderr
    assert "not-the-password" not in wrong.stderr + wrong.stdout
    assert state(installed) == before


def test_the_dashboards_login_reads_the_registry_and_no_account(installed: Installation) -> None:
    uri = os.environ["ONCOLINEAGE_HISTORY_URI"]
    reader = uri.replace("postgres@", "dashboard:of-a-test@", 1)
    for _ in range(2):
        assert make("reader", ONCOLINEAGE_READER_URI=reader) == "dashboard reads 2 tables\n"
    only = {**READER, "ONCOLINEAGE_HISTORY_URI": reader}
    before = state(installed)
    shown = installed.here.command("serving.history", "--task", TASK, **only)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines() == [str(entry) for entry in registry.history(TASK)]
    done = installed.here.command("serving.promote", "--task", TASK, "--to", "production", "--by", "eve", **only)
    assert done.returncode == 1 and "permission denied for table" in done.stderr, done.stdout + done.stderr
    engine = sa.create_engine(reader, poolclass=sa.pool.NullPool)
    for table in ("users", "runs", "registered_model_aliases"):
        with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.execute(sa.text(f"SELECT * FROM {table}"))
    assert state(installed) == before


def test_a_webhook_tells_of_a_move(installed: Installation) -> None:
    """As docs/lifecycle.md sets it up, but for a receiver on this machine."""
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.put({"body": json.loads(body), "signature": self.headers["X-MLflow-Signature"]})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
        address = f"http://127.0.0.1:{receiver.server_port}/moves"
        events: Any = ["model_version_alias.created"]
        hook = MlflowClient().create_webhook("moves", address, events=events, secret="of-a-test-only")
        patch.undo()
        MlflowClient().delete_registered_model_alias(TASK, "candidate")
        assert registry.restore(TASK, by="ada", why="found by verify") is not None
        found = told.get(timeout=60)
        patch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
        MlflowClient().delete_webhook(hook.webhook_id)
        receiver.shutdown()
    assert found["body"]["data"] == {"name": TASK, "alias": "candidate", "version": "1"} and found["signature"]
    assert (found["body"]["entity"], found["body"]["action"]) == ("model_version_alias", "created")


def destroy(installed: Installation) -> None:
    """Leave nothing in the databases and in the store; their servers stay."""
    for variable in ("ONCOLINEAGE_HISTORY_URI", "OPTUNA_STORAGE"):
        engine = sa.create_engine(os.environ[variable], poolclass=sa.pool.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
    given = {name.lower(): installed.artifacts[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    url = installed.artifacts["MLFLOW_S3_ENDPOINT_URL"]
    store = boto3.resource("s3", region_name="us-east-1", endpoint_url=url, **given)
    bucket = store.Bucket(BUCKET.removeprefix("s3://"))
    assert list(bucket.objects.limit(1))
    bucket.objects.delete()


@pytest.mark.soak
def test_what_was_destroyed_comes_back(
    installed: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registry, history, studies, artifacts and accounts are those of before; the commands need no tracking server."""
    before, studies = state(installed), optuna.get_all_study_names(os.environ["OPTUNA_STORAGE"])
    history = [str(entry) for entry in registry.history(TASK)]
    monkeypatch.setenv("PATH", f"{POSTGRES_BIN_PATH}{os.pathsep}{os.environ['PATH']}")  # its own pg_dump
    saved = tmp_path / "saved"
    behind = {"ONCOLINEAGE_ARTIFACTS_URI": BUCKET, **installed.artifacts}
    done = installed.here.command("serving.backup", "--to", str(saved), **behind)
    assert done.returncode == 0, done.stderr
    assert {each.name for each in (saved / "databases").iterdir()} == {"tracking.dump", "studies.dump"}
    refused = installed.here.command("serving.restore", "--from", str(saved), **behind)
    assert refused.returncode == 1 and "is not empty; nothing was restored" in refused.stderr

    destroy(installed)
    done = installed.here.command("serving.restore", "--from", str(saved), **behind)
    assert done.returncode == 0, done.stderr
    assert state(installed) == before
    assert optuna.get_all_study_names(os.environ["OPTUNA_STORAGE"]) == studies
    verified = installed.here.command("serving.verify", "--task", TASK)  # by the account of before, through the server
    assert verified.returncode == 0 and "history, aliases, evidence and files match" in verified.stdout, verified.stderr
    shown = installed.here.command("serving.history", "--task", TASK)
    assert shown.stdout.splitlines() == history
