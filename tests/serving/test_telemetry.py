"""What metrics, logs and traces must never hold: a patient's value; and what an operator must find there."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import yaml
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from serving import app as served_app
from serving.endpoint_metrics import Metrics
from serving.login import KEYS
from serving.serving_state import STATE
from serving.telemetry import JsonLines
from serving.tracing import Traces
from tests.empty_store import working_in
from tests.serving import served
from tests.serving.test_login import make_key
from tests.training.tiny import ROOT
from training.contract import Contract

TASK = served.PROFILES
PLANTED = ("PATIENT-7", "8.642013579", "smith_john_1961.png", "GENE-OF-A-PATIENT")
SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    """Give a folder with a version in production, and two rows that it answers."""
    with working_in(tmp_path_factory.mktemp("telemetry")) as folder:
        served.with_policy(folder)
        task, prepared = served.profiles_prepared()
        given = {"selection": "top_30"}
        contract = served.save_fitted(TASK, "logistic_regression", task, prepared, folder / "model", **given)
        served.register(TASK, contract, folder / "model", prepared.samples.take(np.arange(2)))
        yield folder, contract.request(prepared.side("test").take(np.arange(2))).to_dict("records")


def values(page: str) -> dict[tuple[str, ...], float]:
    """Return the samples of Prometheus' page by name and values of labels."""
    families = text_string_to_metric_families(page)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_no_value_of_a_patient_is_in_metrics_logs_or_traces(
    registered: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rows = registered
    log, spans, lines = folder / "log of one", InMemorySpanExporter(), []
    monkeypatch.setenv("ONCOLINEAGE_PREDICTION_LOG", str(log))
    monkeypatch.setenv("ONCOLINEAGE_MODEL_VERSION", "1")
    traces = Traces(spans, task=TASK, version="1")
    monkeypatch.setattr(served_app.Traces, "from_environment", lambda **about: traces)

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    monkeypatch.setattr(logging.getLogger(), "handlers", [Kept()])
    monkeypatch.setattr(logging.getLogger("serving"), "level", logging.INFO)
    served_app._log_through_the_root()
    model = mlflow.pyfunc.load_model(f"models:/{TASK}@production")
    client = TestClient(served_app.application(model), headers={"traceparent": SPAN, "tracestate": "a=PATIENT-7"})
    planted = {**rows[0], "expression": {**rows[0]["expression"]}, "sample_id": "PATIENT-7"}
    planted["expression"][next(iter(planted["expression"]))] = 8.642013579

    def ask(content: Any = None, kind: str = "application/json") -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return client.post("/invocations", content=body, headers={"Content-Type": kind})

    both = {"dataframe_records": [planted, rows[1]]}
    answer = client.post("/invocations", json=both, headers={"X-Request-Id": "a.1"})
    assert answer.status_code == 200 and answer.headers["X-Request-Id"] == "a.1"
    unlike = {"dataframe_records": [{"expression": dict.fromkeys(planted["expression"], 8.642013579)}]}
    assert ask(unlike).status_code == 200
    gene = {"expression": {"GENE-OF-A-PATIENT": 8.642013579}}
    for status, content in (
        (400, {"dataframe_records": [gene]}),
        (200, {"dataframe_records": [{**planted, "smith_john_1961.png": "PATIENT-7"}]}),
        (400, {"dataframe_records": [{"expression": {**planted["expression"], "GENE1": "PATIENT-7"}}]}),
        (400, {"PATIENT-7": ["8.642013579"]}),
    ):
        assert ask(content).status_code == status, content
    assert ask(b"PATIENT-7").status_code == 400 and ask(b"{}", "PATIENT-7").status_code == 415
    assert client.get("/smith_john_1961.png?id=PATIENT-7").status_code == 404
    with monkeypatch.context() as broken:

        def fails(*given: Any) -> None:
            logging.getLogger("a.library").warning("cannot read %s", "PATIENT-7")
            logging.getLogger("a.library").warning("PATIENT-7 is odd")
            raise ValueError("could not convert PATIENT-7")

        broken.setattr(Contract, "calibrated", fails)
        broken.setattr(type(model.unwrap_python_model().contract), "calibrated", fails)
        assert ask({"dataframe_records": [planted]}).status_code == 500
    for given in ("PATIENT 7", "x" * 65, "a\tb"):  # no ids
        assert client.get("/ping", headers={"X-Request-Id": given}).headers["X-Request-Id"] != given
    model.unwrap_python_model().log.close()
    traces.provider.force_flush()

    page, finished = client.get("/metrics").text, spans.get_finished_spans()
    said = "\n".join([page, *lines, *(span.to_json() for span in finished)])
    assert [value for value in PLANTED if value in said] == []

    found = values(page)
    expected = {("status", "200"): 3, ("status", "400"): 4, ("status", "415"): 1, ("status", "500"): 1}
    expected |= {("reason", "format"): 2, ("reason", "input"): 2, ("reason", "content_type"): 1, ("reason", "model"): 1}
    for (kind, value), count in expected.items():
        name = "oncolineage_requests_total" if kind == "status" else "oncolineage_refusals_total"
        assert found[name, value] == count, (value, lines)
    assert found["oncolineage_model_info", TASK, "1"] == 1 and found["oncolineage_requests_in_progress",] == 0
    assert found["oncolineage_request_rows_sum",] == found["oncolineage_judged_rows_total",] == 4
    assert found["oncolineage_out_of_distribution_rows_total",] >= 1
    assert found["oncolineage_prediction_set_size_count",] == 4
    assert found["oncolineage_request_seconds_count",] == 9
    first = next(line for line in map(json.loads, lines) if line.get("request_id") == "a.1")
    assert first | {"time": 0, "ms": 0} == {
        **{"time": 0, "level": "INFO", "logger": "serving.telemetry", "message": "request", "request_id": "a.1"},
        **{"route": "/invocations", "task": TASK, "version": "1", "rows": 2, "status": 200, "ms": 0},
    }
    assert any("ValueError" in line and "exception" in line for line in lines)
    whole = next(span for span in finished if (span.attributes or {}).get("oncolineage.request_id") == "a.1")
    assert whole.parent is not None and format(whole.parent.span_id, "016x") == SPAN.split("-")[2]
    assert [s.name for s in finished if s.parent and s.parent.span_id == whole.context.span_id] == ["compute"]
    logged = pd.concat([pd.read_parquet(file) for file in log.rglob("*.parquet")])
    assert (logged["request_id"] == "a.1").sum() == 2 and logged["request_id"].nunique() == 3


def test_workers_that_others_can_ask_count_together_and_name_who_asked(
    registered: tuple[Path, list[Any]],
) -> None:
    folder, rows = registered
    key = make_key(folder / "keys", "ada")
    env = {KEYS: str(folder / "keys" / "api_keys"), "ONCOLINEAGE_PREDICTION_LOG": str(folder / "log")}
    with served.serving(folder, TASK, "--host", "0.0.0.0", "--workers", "2", env=env) as (url, _):
        opened = {"Authorization": f"Bearer {key}"}
        assert requests.post(f"{url}/invocations", json={}, timeout=60).status_code == 401
        assert requests.get(f"{url}/metrics", timeout=60).status_code == 401
        ids = set()
        for _ in range(20):  # each on a connection of its own, to any of the workers
            answer = requests.post(f"{url}/invocations", json={"dataframe_records": rows}, headers=opened, timeout=60)
            assert answer.status_code == 200, answer.text
            ids.add(answer.headers["X-Request-Id"])
        found = values(requests.get(f"{url}/metrics", headers=opened, timeout=60).text)
        port = url.rpartition(":")[2]
    assert found["oncolineage_requests_total", "200"] == 20 and found["oncolineage_requests_total", "401"] == 1
    assert found["oncolineage_model_info", TASK, "1"] == 1 and found["oncolineage_request_rows_sum",] == 40
    text = (folder / f"server-{port}.log").read_text()
    assert key not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    asked = [line for line in lines if line["message"] == "request" and line["status"] == 200]
    assert {line["request_id"] for line in asked} == ids and {line["client"] for line in asked} == {"ada"}
    logged = pd.concat([pd.read_parquet(file) for file in (folder / "log").rglob("*.parquet")])
    assert set(logged["request_id"]) == ids and len(logged) == 40  # a server that stops has written them all


def test_alerts_and_manifests_name_metrics_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alias.json").write_text('{"version": "2", "failures": 1}')
    monkeypatch.setenv(STATE, str(tmp_path))
    page = Metrics("t", "1").text().decode()
    rules = yaml.safe_load((ROOT / "infra" / "prometheus" / "alerts.yaml").read_text())["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"oncolineage_\w+", rule["expr"])}
    there = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    assert named and {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= there
