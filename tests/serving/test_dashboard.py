"""What would mislead who reads the dashboard, or leave them without an answer: all that needs no browser."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from evaluation.promotion.card import as_html, content
from pipelines.errors import UserError
from pipelines.params import ParamsError, read_params
from pipelines.policy import Dashboard
from serving.dashboard.data import (
    collection,
    drift_history,
    endpoints,
    glossary,
    leaderboard,
    loading,
    tables,
    trust,
    words,
)
from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.collection import Drug
from serving.dashboard.data.endpoint_client import NoAnswer, Refused, ask
from serving.dashboard.data.endpoints import Endpoint
from serving.dashboard.data.links import Links
from serving.dashboard.data.measured import profiles as measured_profiles
from serving.dashboard.data.measured import usual_responses
from serving.dashboard.data.questions import Question
from serving.dashboard.data.uploads import Profiles, omics_of, read_profiles
from serving.modalities import get_modality, images, pairs, profiles
from serving.problems import get_problem
from tests.evaluation.made_evidence import made_evidence
from tests.servers import free_port
from tests.serving import dashboard_platform as made
from tests.serving.dashboard_platform import GENES, IMAGES, LABELS, RESPONSE, Platform, one_image
from tests.training.tiny import ROOT

KNOWN = ["TP53|7157", "EGFR|1956", "KRAS|3845", "BRAF|673"]


@pytest.fixture(scope="module")
def platform(dashboard_platform: Platform) -> Platform:
    return dashboard_platform


def endpoint(platform: Platform, name: str) -> Endpoint:
    return Endpoint(name, "production", f"{platform.url}/{name}")


# Endpoints


def test_production_comes_first_and_the_environment_before_params() -> None:
    dashboard = Dashboard({"a@staging": "http://h:2", "a": "http://h:1/invocations", "b": "http://h:3/"})
    found = endpoints.endpoints(dashboard, {})
    assert [(each.alias, each.url) for each in found["a"]] == [("production", "http://h:1"), ("staging", "http://h:2")]
    assert found["b"][0].url == "http://h:3"
    other = endpoints.endpoints(dashboard, {endpoints.ENDPOINTS: "a=http://else:9  c@staging=https://x"})
    assert {task: [each.url for each in all_] for task, all_ in other.items()} == {
        "a": ["http://else:9"],
        "c": ["https://x"],
    }
    with pytest.raises(UserError, match=r"ONCOLINEAGE_ENDPOINTS: 'a:9'"):
        endpoints.endpoints(dashboard, {endpoints.ENDPOINTS: "a:9"})


def test_the_command_that_starts_an_endpoint_names_task_alias_and_port() -> None:
    assert Endpoint("a", "production", "http://h:5004").how_to_start == "make serve TASK=a PORT=5004"
    assert Endpoint("a", "staging", "https://h").how_to_start == "make serve TASK=a STAGE=staging"


@pytest.mark.parametrize("url", ["127.0.0.1:5001", "ftp://h:1", "http://", "http://a b"])
def test_an_address_that_is_none_is_refused_with_its_line(tmp_path: Path, url: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    line = next(
        n for n, each in enumerate(text.splitlines(), 1) if each.strip() == "drug_response: http://127.0.0.1:5001"
    )
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("drug_response: http://127.0.0.1:5001", f'drug_response: "{url}"'))
    with pytest.raises(ParamsError, match=rf"line {line}: params\.policy\.dashboard\.endpoints\.drug_response"):
        read_params(path)


def test_every_shipped_task_has_an_endpoint_of_its_own() -> None:
    params = read_params(ROOT / "params.yaml")
    found = endpoints.endpoints(params.policy.dashboard, {})
    urls = [each.url for all_ in found.values() for each in all_]
    assert set(found) <= set(params.tasks)
    assert len(set(urls)) == len(urls) >= 5


# Asking


def profile(platform: Platform, name: str, rows: int = 1) -> pd.DataFrame:
    return pd.read_parquet(platform.folder / "data" / name / "expression.parquet").set_index("sample_id").iloc[:rows]


def of_lines(platform: Platform, lines: int, drugs: list[Drug]) -> Question:
    folder = platform.folder / "data" / RESPONSE
    found = list(collection.cell_lines(folder))[:lines]
    expression = measured_profiles(folder / "expression.parquet", "cell_line_id", found)
    return pairs.of_pairs({"expression": expression}, {}, drugs)


def test_a_real_model_takes_what_each_page_asks(platform: Platform) -> None:
    drugs = collection.drugs(platform.folder / "data" / RESPONSE)
    response = of_lines(platform, 2, [drugs[0], Drug(None, "mine", "CC(=O)Nc1ccc(O)cc1")])
    answers = ask(endpoint(platform, RESPONSE), response.rows, response.names, explain=True)
    table = ranked(answers, response.about, {str(drugs[0].drug_id): 1.0})
    own = table[table["drug"] != "mine"]
    assert len(table) == 4 and len(own) == 2
    assert (own["low"] < own["prediction"]).all() and (own["prediction"] < own["high"]).all()
    assert table.loc[table["drug"] == "mine", "note"].str.contains("not known").all()
    assert table["usual"].notna().sum() == 2
    found = tables.contributions(answers[0])
    assert found["value"].sum() + answers[0]["base"] == pytest.approx(answers[0]["prediction"], abs=1e-4)

    labels = profiles.of_profiles(profile(platform, LABELS, 3))
    answers = ask(endpoint(platform, LABELS), labels.rows, labels.names)
    of_classes = get_problem("classification").table(answers, labels.about)
    assert list(of_classes["sample"]) == labels.names and of_classes["probability"].between(0, 1).all()
    assert tables.probabilities(answers[0])["probability"].sum() == pytest.approx(1)

    genes = profiles.of_profiles(profile(platform, GENES, 2))
    answers = ask(endpoint(platform, GENES), genes.rows, genes.names)
    assert set(get_problem("multi_target").table(answers, genes.about)["sample"]) == set(genes.names)

    cells = images.of_images({"a.png": one_image(0), "b.png": one_image(1)})
    answers = ask(endpoint(platform, IMAGES), cells.rows, cells.names, explain=True)
    assert all(base64.b64decode(each["overlay"]).startswith(b"\x89PNG") for each in answers)


def test_many_rows_go_in_parts_and_come_back_in_order(platform: Platform) -> None:
    drugs = collection.drugs(platform.folder / "data" / RESPONSE)
    question = of_lines(platform, 3, drugs)
    told: list[tuple[int, int]] = []
    target = endpoint(platform, RESPONSE)
    whole = ask(target, question.rows, question.names)
    before = len(platform.asked)
    parts = ask(target, question.rows, question.names, rows_at_once=5, tell=lambda done, of: told.append((done, of)))
    assert [row["prediction"] for row in parts] == pytest.approx([row["prediction"] for row in whole])
    assert len(platform.asked) - before == math.ceil(len(question.rows) / 5) > 2
    assert told[0] == (0, len(question.rows)) and told[-1] == (len(question.rows),) * 2


def test_a_refusal_names_the_sample_and_not_the_row_of_a_part(platform: Platform) -> None:
    values = profile(platform, LABELS, 12)
    question = profiles.of_profiles(values)
    question.rows[10]["expression"]["GENE1"] = -5.0
    with pytest.raises(Refused, match=r"“S10”.*GENE1.*below 0"):
        ask(endpoint(platform, LABELS), question.rows, question.names, rows_at_once=4)


def test_a_model_of_another_task_is_suspected(platform: Platform) -> None:
    question = images.of_images({"a": one_image()})
    wrong = Endpoint(IMAGES, "production", f"{platform.url}/{LABELS}")
    with pytest.raises(Refused, match="Is it a model of blood_cell that is served at"):
        ask(wrong, question.rows, question.names)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (504, "Request processing time exceeded limit", "did not answer in the time that it gives itself"),
        (
            503,
            '{"error_code": "BAD_REQUEST", "message": "too many large requests wait"}',
            "is busy with other questions",
        ),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "the model failed"}', "Its terminal says why"),
    ],
)
def test_a_model_that_is_slow_or_busy_is_not_said_to_have_failed(
    status: int, body: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = requests.Response()
    response.status_code, response._content = status, body.encode()
    monkeypatch.setattr(requests, "post", lambda *given, **named: response)
    with pytest.raises(NoAnswer, match=told):
        ask(Endpoint(RESPONSE, "production", "http://127.0.0.1:1"), [{"a": 1}], ["a"])


def test_nothing_that_answers_is_told_with_the_command_that_helps() -> None:
    there = Endpoint(RESPONSE, "production", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NoAnswer, match="No model answers at") as caught:
        ask(there, [{"a": 1}], ["a"])
    assert caught.value.command == there.how_to_start


def test_what_is_slow_or_no_endpoint_is_told(platform: Platform) -> None:
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
        ask(Endpoint(RESPONSE, "staging", f"{platform.url}/slow"), [{"a": 1}], ["a"], seconds=0.3)
    assert time.monotonic() - began < 5
    with pytest.raises(NoAnswer, match="no endpoint of this platform"):
        ask(Endpoint(RESPONSE, "candidate", f"{platform.url}/nonsense"), [{"a": 1}], ["a"])


# Jobs


def test_a_job_is_stopped_between_its_parts_and_told_of_its_faults() -> None:
    begun, ended = threading.Event(), threading.Event()

    def long(job: Job[int]) -> int:
        begun.set()
        try:
            while True:
                job.tell(1, 4)
                time.sleep(0.01)
        except CancelledError:
            ended.set()
            raise

    job = Job(long)
    assert begun.wait(5) and not job.done()
    job.cancel()
    assert job.done() and job.cancelled() and not job.succeeded and ended.wait(5)

    def broken(_: Job[int]) -> int:
        raise ZeroDivisionError("a secret of a patient")

    failed = Job(broken)
    assert failed.wait(5) and failed.error is not None
    assert "secret" not in str(failed.error) and "ZeroDivisionError" in str(failed.error)


def test_nobody_waits_for_ever() -> None:
    never = threading.Event()
    job: Job[bool] = Job(lambda _: never.wait(30), seconds=0.05)
    assert not job.wait(0.01) or job.error is not None
    time.sleep(0.1)
    assert job.done() and "Nothing came within" in str(job.error)
    never.set()


def test_a_job_that_tells_how_far_it_is_may_take_long() -> None:
    """What counts is how long it is silent: hundreds of drugs are asked about in parts."""
    go_on = threading.Event()

    def long(job: Job[str]) -> str:
        job.tell(1, 2)
        go_on.wait(10)
        return "there"

    job = Job(long, seconds=30)
    while not job.progress:
        time.sleep(0.01)
    job.started -= 1000
    assert not job.done()
    job._heard -= 1000
    assert job.done() and job.error is not None
    go_on.set()


def explaining_page() -> None:
    """A page with one explanation, whose endpoint is silent until the test lets it speak."""
    import streamlit as st

    from serving.dashboard.data.endpoints import Endpoint
    from serving.dashboard.pages import explaining
    from serving.dashboard.pages.request import Asked
    from serving.modalities.images import of_images

    asked = Asked(of_images({"a": b""}), [{}], Endpoint("blood_cell", "production", "http://h:1"), "a question")
    explaining.explained(asked, 0, lambda answer: st.write(answer["why"]), "Asking why")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Event]]:
    """Give, for each time that the endpoint of `explaining_page` is asked, what lets it speak."""
    from serving.dashboard.pages import explaining, progress

    asked: list[threading.Event] = []

    def ask_silently(*question: Any, tell: Any, **how: Any) -> list[dict[str, Any]]:
        asked.append(threading.Event())
        tell(0, 1)
        asked[-1].wait(30)
        return [{"why": f"answer {len(asked)}"}]

    monkeypatch.setattr(explaining, "ask", ask_silently)
    monkeypatch.setattr(explaining.frame, "params", lambda: read_params(ROOT / "params.yaml"))
    monkeypatch.setattr(progress, "_AT_ONCE", 5.0)
    yield asked
    for event in asked:
        event.set()


def explanation(at: AppTest) -> Job[Any]:
    found: Job[Any] = next(iter(at.session_state["jobs"].values()))
    return found


@pytest.mark.parametrize("how", ["stopped", "too long"])
def test_an_explanation_that_was_stopped_or_took_too_long_is_asked_for_again(
    silent: list[threading.Event], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from serving.dashboard.pages import progress

    monkeypatch.setattr(progress, "_AT_ONCE", 0.0)
    at = AppTest.from_function(explaining_page, default_timeout=30).run()
    assert not at.exception and len(silent) == 1
    if how == "stopped":
        at.button[0].click().run()
        assert [each.value for each in at.info] == ["Stopped; nothing came of it."]
    else:
        explanation(at)._heard -= 60 + progress.SPARE  # seconds of policy.dashboard
        at.run()
        assert [each.value for each in at.error] == ["Nothing came within 75 s."]
    monkeypatch.setattr(progress, "_AT_ONCE", 5.0)
    at.button[0].click()
    waiting_for_it = threading.Timer(0.2, lambda: silent[-1].set())
    waiting_for_it.start()
    at.run()
    assert not at.exception and not at.error and not at.info
    assert [each.value for each in at.markdown] == ["answer 2"] and len(silent) == 2


def test_what_the_registry_said_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.dashboard.pages import progress

    monkeypatch.setattr(progress.st, "session_state", {})
    asked: list[str] = []

    def answer(job: Job[int]) -> int:
        asked.append("answer")
        return len(asked)

    def failure(job: Job[int]) -> int:
        asked.append("failure")
        raise UserError("the registry is down")

    def again(work: Any, **how: Any) -> Job[int]:
        found = progress.job(work.__name__, work, **how)
        found.wait(5)
        return found

    def later(seconds: float) -> None:
        for job in progress.st.session_state["jobs"].values():
            job.ended -= seconds

    assert again(answer, believed=60).result() == again(answer, believed=60).result() == 1
    again(failure), again(failure)
    assert asked == ["answer", "failure"]
    later(61)
    again(answer), again(failure)
    assert asked == ["answer", "failure", "failure"]  # what is believed for ever, and what failed
    assert again(answer, believed=60).result() == 4
    for job in progress.st.session_state["jobs"].values():
        job.started -= 1000  # it took long: that makes nothing old
    assert again(answer, believed=60).result() == 4


# Modules


def test_a_loaded_module_is_there_at_once_while_another_thread_loads_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "takes_long_to_load"
    gate = threading.Event()
    monkeypatch.setattr(loading, "gate", gate, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / f"{name}.py").write_text(
        "from serving.dashboard.data import loading\nbegun = True\nloading.gate.wait(30)\nwhole = True\n"
    )
    wholes: list[bool] = []
    others = [threading.Thread(target=lambda: wholes.append(loading.load(name).whole), daemon=True) for _ in range(2)]
    others[0].start()
    while not hasattr(sys.modules.get(name), "begun"):
        time.sleep(0.01)
    others[1].start()
    clicked = threading.Thread(target=lambda: loading.load("json"), daemon=True)
    clicked.start()
    clicked.join(10)
    held_up = clicked.is_alive()
    assert not wholes  # half a module is not handed out
    gate.set()
    for other in others:
        other.join(10)
    assert not held_up and wholes == [True, True]


IMPORTS = """
import sys, threading, time
from serving.dashboard.data import loading

class Watch:
    def find_spec(self, name, path=None, target=None):
        one_at_a_time = loading._ONE_AT_A_TIME._is_owned()
        if name.partition(".")[0] in sys.argv[2:] and not one_at_a_time:
            outside.append((threading.current_thread().name, name))

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

outside = []
sys.meta_path.insert(0, Watch())
at = AppTest.from_file(sys.argv[1], default_timeout=60).run()
at.selectbox(key="line drug_response").select_index(0).run()
at.button(key="predict drug_response").click().run()
for page in ("predict", "compare", "registry", "monitoring"):
    at._page_hash = calc_hash(page)
    for _ in range(3):  # what is asked, answered and explained
        at.run()
        assert not at.exception, at.exception
        until = time.monotonic() + 60
        while not all(job.done() for job in at.session_state["jobs"].values()) and time.monotonic() < until:
            time.sleep(0.05)
assert "mlflow.store.tracking.sqlalchemy_store" in sys.modules and "altair" in sys.modules
migrations = "mlflow.store.db.trace_analytics"  # files of MLflow's, run by Alembic one by one
print([each for each in outside if not each[1].startswith(migrations)])
"""


def test_no_two_threads_import_at_once(here: Platform) -> None:
    """On Python 3.11 two threads that import parts of the same packages may wait for each other for ever."""
    large = ("numpy", "PIL", "pyarrow", "mlflow", "sqlalchemy", "alembic", "altair", "narwhals", "requests", "rdkit")
    arguments = [sys.executable, "-c", IMPORTS, str(ROOT / "serving" / "dashboard_app.py"), *large]
    environment = os.environ | here.environment
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


# Uploads


def frames() -> st.SearchStrategy[pd.DataFrame]:
    def table(rows: int, genes: list[str], seed: int) -> pd.DataFrame:
        values = np.random.default_rng(seed).normal(5, 2, (rows, len(genes))).round(3)
        return pd.DataFrame(values, columns=genes, index=[f"S{row}" for row in range(rows)])

    genes = st.lists(st.sampled_from([*KNOWN, "A1BG|1", "MDM2|4193"]), min_size=2, unique=True).filter(
        lambda found: set(found) & set(KNOWN)
    )
    return st.builds(table, st.integers(1, 6), genes, st.integers(0, 99))


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(frames(), st.booleans(), st.sampled_from(["parquet", ",", ";", "\t"]), st.booleans(), st.sampled_from("|s"))
def test_a_table_is_read_the_same_however_it_is_written(
    table: pd.DataFrame, turned: bool, how: str, bom: bool, names: str
) -> None:
    if names == "s":  # a laboratory's symbols in the place of SYMBOL|ENTREZ
        table = table.set_axis([column.split("|")[0] for column in table.columns], axis=1)
    written = table.T if turned else table
    written = written.rename_axis("gene" if turned else "sample_id").reset_index()
    if how == "parquet":
        buffer = io.BytesIO()
        written.to_parquet(buffer, index=False)
        name, content = "table.parquet", buffer.getvalue()
    else:
        decimal = "," if how == ";" else "."
        text = written.to_csv(index=False, sep=how, decimal=decimal)
        name, content = "table.csv", text.encode("utf-8-sig" if bom else "utf-8")
    found = read_profiles(name, content, KNOWN)
    pd.testing.assert_frame_equal(found.values, table, check_names=False, check_column_type=False)
    assert [note for note in found.notes if "Decimal commas" not in note] == (
        [f"{name} has a row a gene; it was turned round."] if turned else []
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", "a.csv: the file is empty"),
        ("a.csv", b"sample_id,TP53\n", "has no rows"),
        ("a.csv", b"S\x81,\xff\n1,2", "UTF-8"),
        ("a.csv", b"sample_id,TP53\nS1,\x00", "no text"),
        ("a.docx", b"PK", "CSV, TSV, Excel .* or Parquet"),
        ("a.xlsx", b"PK", "none of a xlsx file"),
        ("a.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
        ("a.csv", b"sample_id,TP53,TP53\nS1,1,2\n", "column TP53 stands twice"),
        ("a.csv", b"sample_id,TP53\nS1,1\nS1,2\n", "sample S1 stands twice"),
        ("a.csv", b"sample_id,TP53\n,1\n", "column sample_id, row 1: is empty"),
        ("a.csv", b"sample_id,TP53,EGFR\nS1,1,2\nS2,high,3\n", "column TP53, sample S2: “high” is not a number"),
        ("a.csv", b"sample_id,TP53\nS1,high\n", "“high” is not a number"),
        ("a.csv", b"sample_id,TP53\nS1,inf\n", "column TP53, sample S1: is infinite"),
        ("a.csv", b"sample_id,FOO,BAR\nS1,1,2\n", "none of its 2 columns is a gene that the model knows"),
        ("a.csv", b"sample_id,remark\nS1,fine\n", "no column holds numbers"),
        ("a.csv", b"sample_id,TP53\nS1,1,2,3\nS2,1\n", "row 1: has 4 values, the first line names 2 columns"),
        ("a.csv", b"sample_id,TP53\nS1,1\nS2,1,2,3\n", "cannot be read as a table"),
    ],
)
def test_a_bad_file_is_refused_by_name_column_and_row(name: str, content: bytes, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_profiles(name, content, KNOWN)


def test_a_table_of_r_has_names_without_a_head() -> None:
    found = read_profiles("r.tsv", b"TP53\tEGFR\nS1\t1\t2\nS2\t3\t4\n", KNOWN)
    assert found.values.to_dict("index") == {"S1": {"TP53": 1, "EGFR": 2}, "S2": {"TP53": 3, "EGFR": 4}}


def test_what_else_stands_in_a_file_is_kept_apart() -> None:
    content = b"sample_id,tissue,TP53,remark,EGFR\nS1,lung,1,fine,2\nS2,,3,bad,\n"
    found = read_profiles("a.csv", content, KNOWN)
    assert list(found.values.columns) == ["TP53", "EGFR"] and found.values["EGFR"].isna().tolist() == [False, True]
    assert found.tissue == {"S1": "lung"}
    assert found.notes == ["Columns without numbers were left out: remark."]
    omics = ["expression", "mutation", "copy_number"]
    assert [omics_of(name, omics) for name in ("x.csv", "my-copy-number.csv", "Mutation 2.parquet")] == [
        "expression",
        "copy_number",
        "mutation",
    ]


# Questions


def test_only_what_the_model_knows_is_sent_and_the_rest_is_told() -> None:
    values = pd.DataFrame({"TP53": [1.0], "FOO": [2.0], "EGFR": [math.nan]}, index=["S1"])
    contract = {"genes": ["TP53|7157", "EGFR|1956"], "known": ["TP53|7157", "EGFR|1956", "KRAS|3845"]}
    question = profiles.of_profiles(values, contract)
    assert question.rows == [{"expression": {"TP53|7157": 1.0, "EGFR|1956": None}, "sample_id": "S1"}]
    assert question.notes == ["The model does not know 1 column, left out: FOO."]
    json.dumps(question.rows, allow_nan=False)


def test_a_table_with_gaps_that_may_be_missing_is_left_to_imputation() -> None:
    index = ["A", "B"]
    omics = {
        "expression": pd.DataFrame({"G": [1.0, 2.0]}, index=index),
        "mutation": pd.DataFrame({"M": [1.0, math.nan]}, index=index),
        "proteins": pd.DataFrame({"P": [1.0, 1.0]}, index=index),
    }
    contract = {"features": {"expression": ["G"], "mutation": ["M"]}, "required": ["expression"]}
    drug = Drug("D1", "a drug", None)
    question = pairs.of_pairs(omics, {"A": "lung"}, [drug], contract)
    assert [row["mutation"] for row in question.rows] == [{"M": 1.0}, None]
    assert [row.get("tissue") for row in question.rows] == ["lung", None]
    assert "smiles" not in question.rows[0] and question.rows[0]["drug_id"] == "D1"
    assert question.notes == ["The model does not look at proteins; it was left out."]
    assert question.only(1).names == ["B with a drug"]


def test_a_model_that_may_lack_the_expression_is_asked_without_it() -> None:
    mutation = pd.DataFrame({"M": [1.0, 0.0]}, index=["A", "B"])
    copies = pd.DataFrame({"C": [2.0]}, index=["C"])
    drug = Drug("D1", "a drug", None)
    contract: dict[str, Any] = {"features": {"expression": ["G"], "mutation": ["M"], "copy_number": ["C"]}}
    omics = {"mutation": mutation, "copy_number": copies}
    question = pairs.of_pairs(omics, {}, [drug], {**contract, "required": []})
    assert [row["mutation"] for row in question.rows] == [{"M": 1.0}, {"M": 0.0}, None]
    assert [row["copy_number"] for row in question.rows] == [None, None, {"C": 2.0}]
    needs_mutation = {**contract, "required": ["mutation", "smiles"]}
    assert len(pairs.of_pairs(omics, {}, [drug], needs_mutation).rows) == 2  # who lacks it is not asked about
    with pytest.raises(Refused, match=r"needs a table of expression, which these samples lack"):
        pairs.of_pairs(omics, {}, [drug], contract)
    with pytest.raises(Refused, match="Nothing was measured"):
        pairs.of_pairs({}, {}, [drug], {**contract, "required": []})


# Answers


def ranked(answers: list[dict[str, Any]], about: pd.DataFrame, usual: dict[str, float] | None = None) -> pd.DataFrame:
    return get_problem("regression").ranked(answers, about, lambda: usual or {})


def ranked_labels(answers: list[dict[str, Any]], about: pd.DataFrame) -> pd.DataFrame:
    return get_problem("classification").ranked(answers, about, dict)


def answer(prediction: float, **more: Any) -> dict[str, Any]:
    novelty = {"out_of_distribution": 0.4, "out_of_distribution_threshold": 1.0, "model_version": "3"}
    return {"prediction": prediction, "low": prediction - 1, "high": prediction + 1, "coverage": 0.9, **novelty, **more}


def test_the_most_sensitive_drug_of_each_sample_comes_first() -> None:
    about = pd.DataFrame({"sample": list("aabb"), "drug": list("xyxy"), "drug_id": list("xyxy")})
    table = ranked([answer(2), answer(-1), answer(0), answer(3)], about, {"x": 1.0})
    assert [tuple(row) for row in table[["sample", "drug", "rank"]].to_numpy()] == [
        ("a", "y", 1),
        ("a", "x", 2),
        ("b", "x", 1),
        ("b", "y", 2),
    ]
    assert table["against_usual"].tolist()[1] == 1.0 and table["usual"].isna().tolist()[0]


@pytest.mark.parametrize(
    ("score", "limit", "familiar"),
    [(0.4, 1.0, True), (1.0, 1.0, True), (1.1, 1.0, False), (None, 1.0, False), (None, None, None), (0.4, None, None)],
)
def test_what_lies_beyond_the_threshold_is_not_called_familiar(
    score: float | None, limit: float | None, familiar: bool | None
) -> None:
    given = answer(1, out_of_distribution=score, out_of_distribution_threshold=limit)
    about = pd.DataFrame({"sample": ["a"], "drug": ["x"], "drug_id": ["x"]})
    table = ranked([given], about)
    assert table.loc[0, "familiar"] is familiar
    said, level = trust.familiarity(table, "predictions")
    assert level == {True: "fine", False: "warning", None: "unknown"}[familiar]
    assert ("do not hold" in said) == (familiar is False)


def test_a_note_of_the_model_is_passed_on() -> None:
    about = pd.DataFrame({"sample": ["a", "b"], "drug": ["x", "x"], "drug_id": ["x", "x"]})
    table = ranked([answer(1, note="the sample lacks mutation, without which a baseline answers"), answer(2)], about)
    assert tables.notes_of(table) == [
        "1 of 2 predictions: the sample lacks mutation, without which a baseline answers."
    ]


def test_sensitive_lines_are_ranked_by_probability() -> None:
    about = pd.DataFrame({"sample": ["a", "a"], "drug": ["x", "y"], "drug_id": ["x", "y"]})
    rows = [
        {"label": label, "probabilities": {"resistant": 1 - p, "sensitive": p}, "labels": held, "threshold": 1.5}
        for label, p, held in (("resistant", 0.2, ["resistant"]), ("sensitive", 0.7, ["resistant", "sensitive"]))
    ]
    table = ranked_labels(rows, about)
    assert list(table["drug"]) == ["y", "x"] and list(table["sensitive"]) == [0.7, 0.2]
    assert list(table["holds"]) == ["either is possible", "resistant alone"]
    assert list(table["called_below"]) == [1.5, 1.5]
    unknown = ranked_labels([{"label": "resistant"}, {"label": "resistant", "labels": []}], about)
    assert list(unknown["holds"]) == ["not known", "neither fits"] and unknown["called_below"].isna().all()


def test_the_probability_of_every_class_is_in_the_download() -> None:
    rows = [
        {"label": "ALL", "probability": 0.75, "probabilities": {"ALL": 0.75, "HEM": 0.25}},
        {"label": "HEM", "probability": 1.0, "probabilities": {"HEM": 1.0}},
    ]
    answered = get_problem("classification").table(rows, pd.DataFrame({"sample": ["a", "b"]}))
    found = pd.read_csv(io.BytesIO(tables.csv_of(answered)), encoding="utf-8-sig")
    assert found["probability_ALL"].tolist()[0] == 0.75 and math.isnan(found["probability_ALL"].tolist()[1])
    assert found["probability_HEM"].tolist() == [0.25, 1.0]


def test_what_a_network_sees_of_the_molecule_is_no_gene() -> None:
    names = ("atom:element_C", "bond:conjugated", "molecule:none", "token:c1", "fingerprint:3")
    given = [{"feature": name, "value": 0.5} for name in names] + [{"feature": "expression:TP53|7157", "value": 0.1}]
    found = tables.contributions({"attributions": given})
    assert list(found["feature"]) == ["TP53", "the drug itself"] and list(found["value"]) == pytest.approx([0.1, 2.5])


def test_a_molecule_is_drawn_as_it_was_asked_about_or_not_at_all() -> None:
    from serving.dashboard.data.molecules import drawing

    answer = {"atoms": [0.4, -0.4, 0.2]}
    found = drawing(answer, "ethanol & co", "CCO", "ln IC50 (µM)")
    assert found is not None and "<svg" in found.svg and "for one sample" in found.told
    assert "C 1: -0.4" in found.told and "all together +0.2" in found.told
    fills = set(re.findall(r"fill:(#[0-9A-Fa-f]{6});", " ".join(re.findall(r"<ellipse[^>]*>", found.svg))))
    assert len(fills) == 3 and all(contrast("#000000", color) > 4.5 for color in fills)  # letters stand on them
    assert found.atoms[["element", "contribution"]].to_numpy().tolist() == [["C", 0.4], ["C", -0.4], ["O", 0.2]]
    assert drawing({}, "a drug", "CCO", "") is None and drawing({"atoms": []}, "a drug", "CCO", "") is None
    for smiles in (None, "CCCCO", "no molecule"):
        assert drawing(answer, "a drug", smiles, "") is None


def test_contributions_are_sorted_named_and_complete() -> None:
    given = [
        {"feature": "expression:TP53|7157", "value": 0.1},
        {"feature": "mutation:BRAF", "value": -0.7},
        {"feature": "drug:known", "value": 0.2},
        {"feature": "fingerprint:17", "value": 0.1},
        {"feature": "tissue:large_intestine", "value": 0.05},
        {"feature": "all_others", "value": 3.0},
    ]
    found = tables.contributions({"attributions": given})
    assert list(found["feature"]) == ["BRAF", "TP53", "large intestine", "the drug itself", "all others together"]
    assert list(found["kind"])[:3] == ["mutation", "expression", "tissue"]
    assert list(found["value"])[3:] == pytest.approx([0.3, 3.0]) and found["value"].sum() == pytest.approx(2.75)
    of_two = [{"target": "A", "feature": "G1", "value": 1.0}, {"target": "B", "feature": "G2", "value": 2.0}]
    assert list(tables.contributions({"attributions": of_two}, "B")["feature"]) == ["G2"]
    assert tables.contributions({}).empty
    assert tables.base_of({"base": {"A": 1.5}}, "A") == 1.5 and tables.base_of({}) is None


def test_no_cell_of_a_download_is_run_by_a_spreadsheet() -> None:
    text = tables.csv_of(pd.DataFrame({"sample": ["=1+1", "S,1", "+x", "−1"], "value": [-1.5, 2, 3, 4]})).decode(
        "utf-8-sig"
    )
    found = pd.read_csv(io.StringIO(text))
    assert list(found["sample"]) == ["'=1+1", "S,1", "'+x", "−1"] and list(found["value"]) == [-1.5, 2, 3, 4]


# Words


def test_no_score_is_written_without_its_interval() -> None:
    def shown(found: dict[str, Any], **how: Any) -> str:
        return words.with_interval(found, **how).replace("\u00a0", " ")

    assert shown({"value": 0.7654, "low": 0.7, "high": 0.8}) == "0.765 [0.700, 0.800]"
    assert shown({"value": -0.5, "low": -0.75, "high": 0.25}, sign="+") == "−0.500 [−0.750, +0.250]"
    for missing in (
        {"value": 0.7},
        {"value": 0.7, "low": None, "high": 0.8},
        {"value": 0.7, "low": math.nan, "high": 1},
    ):
        assert words.with_interval(missing) == "– (no interval)"
        assert words.share_with_interval(missing) == "– (no interval)"


def test_text_of_others_is_text() -> None:
    from markdown_it import MarkdownIt

    nasty = "a_b_ *c* [x](http://y) <b>z</b> `q` $x$ :red[r] # h | ~~s~~"
    shown = MarkdownIt("commonmark").renderInline(words.plain(nasty))
    assert "<em>" not in shown and "<a " not in shown and "<b>" not in shown and "<code>" not in shown
    assert re.search(r"(?<!\\)[:$]", words.plain(nasty)) is None
    scored = words.with_interval({"value": 0.7, "low": 0.6, "high": 0.8})
    assert "\u00a0" in words.plain(scored)  # a score and its interval stay on one line


def test_moments_and_numbers_are_written_for_people() -> None:
    assert words.moment("2026-11-20T16:49:30.648+00:00") == "20 Nov 2026, 16:49 UTC"
    assert words.moment("soon") == "soon"
    assert words.number(1234.5678, 1) == "1,234.6" and words.number(math.nan) == "–" and words.number(-1, 0) == "−1"
    assert words.micromolar(0.12345) == "0.123" and words.micromolar(1e-5) == "1.0e-05"
    assert words.named("seg_neutrophil") == "Seg neutrophil" and words.named("mlp") == "MLP"
    assert words.listed(list("abcdefg"), 3) == "a, b, c and 4 more"


def test_every_word_that_a_page_explains_is_in_the_glossary() -> None:
    rooms = (ROOT / "serving" / room for room in ("dashboard/pages", "modalities", "problems"))
    drawn = (path for room in rooms for path in room.glob("*.py"))
    code = "\n".join(path.read_text() for path in drawn)
    asked = set(re.findall(r'\bmeans\("(\w+)"\)', code))
    known = set(glossary.terms())
    assert asked and asked <= known
    assert (
        glossary.metric_means("r2_over_baseline", "mean_effects")
        == "Share of mean effects's squared error that is saved."
    )
    with pytest.raises(KeyError):
        glossary.means("no such word")


# Standings, registry, drift


def test_a_leaderboard_shows_intervals_and_says_that_it_is_simulated(platform: Platform) -> None:
    found = leaderboard.standings(RESPONSE, platform.folder / "reports")
    board = leaderboard.board(found)
    assert found.simulated and list(board["Architecture"]) == ["Elastic net", "MLP", "Mean effects (baseline)"]
    assert board["Score"].str.fullmatch(r"0\.\d{3}\s\[0\.\d{3},\s0\.\d{3}\]").all()
    assert board.loc[2, "Margin"] == "–" and board.loc[0, "Standing"] == "not compared yet"
    assert leaderboard.agreement(found, "elastic_net", "mlp") == 0.4
    costs = leaderboard.against_cost(found, "cost_latency_ms_batch_1")
    assert list(costs["cost"]) == pytest.approx([8.6, 8.1, 7.0]) and {"low", "high"} <= set(costs)


def test_a_score_without_an_interval_is_in_no_chart(tmp_path: Path) -> None:
    rows = [made._row("mlp", 0.8), {**made._row("xgboost", 0.9), "low": None}]
    (tmp_path / RESPONSE).mkdir()
    (tmp_path / RESPONSE / "leaderboard.json").write_text(json.dumps(rows))
    found = leaderboard.standings(RESPONSE, tmp_path)
    assert list(leaderboard.scores(found)["architecture"]) == ["MLP"]
    assert leaderboard.board(found).loc[1, "Score"] == "– (no interval)"
    downloaded = leaderboard.as_table(found)
    assert downloaded[["value", "low", "high"]].notna().to_numpy().tolist() == [[True] * 3, [False] * 3]
    assert downloaded["margin"].notna().all() and downloaded["cost_fit_seconds"].tolist() == [1.5, 1.5]


def test_a_comparison_of_earlier_fits_is_not_shown(tmp_path: Path) -> None:
    rows = [made._row("mlp", 0.8), made._row("mean_effects", 0.7)]
    (tmp_path / RESPONSE / "comparison").mkdir(parents=True)
    (tmp_path / RESPONSE / "leaderboard.json").write_text(json.dumps(rows))
    compared = {"rows": [{**row, "standing": "best"} for row in rows], "notes": ["a note"], "pairs": []}
    path = tmp_path / RESPONSE / "comparison" / "comparison.json"
    path.write_text(json.dumps(compared))
    assert leaderboard.standings(RESPONSE, tmp_path).notes == ["a note"]
    path.write_text(json.dumps(compared).replace("run of mlp", "an earlier run"))
    assert leaderboard.standings(RESPONSE, tmp_path).notes == []


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '[{"architecture": "mlp"}]'])
def test_a_leaderboard_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="make train TASK=drug_response"):
        leaderboard.standings(RESPONSE, tmp_path)
    (tmp_path / RESPONSE).mkdir()
    (tmp_path / RESPONSE / "leaderboard.json").write_text(text)
    with pytest.raises(UserError, match=r"leaderboard\.json"):
        leaderboard.standings(RESPONSE, tmp_path)


def test_explanations_of_two_models_are_laid_side_by_side(platform: Platform) -> None:
    def explained(name: str, **how: bool) -> leaderboard.Explained | None:
        models = platform.folder / "reports" / RESPONSE / "models"
        return leaderboard.explained(models / name, (), get_modality("pairs").tables, **how)

    one, other = explained("elastic_net"), explained("mlp")
    assert one is not None and other is not None and one.of is None
    tops = [each.top(count=5) for each in (one, other)]
    assert set(leaderboard.shared_features(*tops)) == set(tops[0]["feature"]) & set(tops[1]["feature"])
    parted = explained("mlp", overall=False)
    assert parted is not None and parted.of == "Drug" and parted.parts == ["simulated drug 0", "simulated drug 1"]
    assert explained("mean_effects") is None


def test_reports_are_read_in_order_and_a_broken_one_is_named(platform: Platform) -> None:
    found, unreadable = drift_history.reports_of(RESPONSE, platform.folder / "reports")
    assert unreadable == ["2026-11-20T16-55-12-258605Z"]
    table = drift_history.over_time(found)
    assert list(table["share"]) == [0.02, 0.4] and list(table["drifted"]) == [0, 1]
    assert drift_history.share_text(found[1]).split() == ["40.0", "%", "[20.0,", "60.0]"]
    assert drift_history.stability(found)["column"].iloc[0] == "expression level"
    assert drift_history.columns_table(found[1])["Value"].iloc[0] == "expression level"
    assert drift_history.reports_of("no_task", platform.folder / "reports") == ([], [])


def test_two_reports_of_one_minute_stay_two_columns(platform: Platform) -> None:
    from serving.dashboard.data import charts

    found, _ = drift_history.reports_of(RESPONSE, platform.folder / "reports")
    later = drift_history.Report(found[0].time + timedelta(seconds=5), found[1].content, found[1].page)
    drawn = charts.stability(drift_history.stability([found[0], later]), 0.2).to_dict()
    cells = [row for data in drawn["datasets"].values() for row in data]
    assert len({row["report"] for row in cells}) == 2
    assert len({(row["report"], row["column"]) for row in cells}) == len(cells)


@pytest.mark.parametrize("seconds", [0.5, 4, 12, 200, 500, 3600, 86_400, 30 * 86_400])
def test_no_two_ticks_of_an_axis_of_time_read_the_same(platform: Platform, seconds: float) -> None:
    from serving.dashboard.data import charts

    found, _ = drift_history.reports_of(RESPONSE, platform.folder / "reports")
    later = drift_history.Report(found[0].time + timedelta(seconds=seconds), found[1].content, found[1].page)
    drawn = charts.unlike(drift_history.over_time([found[0], later]), "time", 0.1).to_dict()
    axis = drawn["layer"][0]["encoding"]["x"]["axis"]
    form = axis["format"].replace("%L", "%f")  # d3's milliseconds
    ticks = pd.date_range(found[0].time, later.time, periods=axis["tickCount"] + 1)
    assert len({tick.strftime(form) for tick in ticks}) == len(ticks)


def test_the_log_is_read_day_by_day_and_version_by_version(tmp_path: Path) -> None:
    times = pd.to_datetime(["2026-11-19T08:00Z", "2026-11-19T09:00Z", "2026-11-20T08:00Z", "2026-11-20T09:00Z"])
    rows = pd.DataFrame(
        {
            "time": times,
            "model_version": ["1", "1", "1", "2"],
            "out_of_distribution": [0.5, 2.0, 0.1, 3.0],
            "out_of_distribution_threshold": 1.0,
        }
    )
    (tmp_path / RESPONSE).mkdir()
    rows.to_parquet(tmp_path / RESPONSE / "a.parquet")
    found = drift_history.by_day(tmp_path, RESPONSE, 0.01)
    assert list(found["version"]) == ["1", "1", "2"] and list(found["share"]) == [0.5, 0.0, 1.0]
    assert ((found["low"] <= found["share"]) & (found["share"] <= found["high"])).all()
    with pytest.raises(UserError, match="no such folder"):
        drift_history.by_day(tmp_path / "nowhere", RESPONSE, 0.01)


def test_a_card_is_made_of_the_evidence_and_not_of_the_page_beside_it() -> None:
    figures = {"top_genes.png": b"\x89PNG", "molecule_1.svg": b"<svg/>"}
    card = content(made_evidence(simulated=True), list(figures))
    page = as_html(card, figures)
    assert card["simulated"] is True and "<html" in page and "data:image/svg+xml" in page
    kinds = {block["kind"] for section in card["sections"] for block in section["blocks"]}
    assert kinds == {"text", "items", "table", "figure", "code"}


def test_coverage_is_told_with_its_interval() -> None:
    interval, held = (get_problem(name).promise for name in ("regression", "classification"))
    said = trust.coverage(0.9, made_evidence(), interval).replace("\u00a0", " ")
    assert said.startswith("Each interval is made to hold the measured value in 90 % of cases; ")
    assert said.endswith("on test data it did in 91.0 % [85.0, 95.0].")
    assert trust.coverage(0.9, None, held).endswith("in 90\u00a0% of cases.")
    assert "without a promise" in trust.coverage(None, made_evidence(), interval)
    scores = trust.scores(made_evidence(), ["margin", "r2", "rmse"])
    assert [word for _, word, _ in scores] == ["Margin", "R²"] and all("[" in value for _, _, value in scores)


def test_links_lead_into_mlflow() -> None:
    links = Links("http://mlflow:5000/")
    assert links.version("a b", 3) == "http://mlflow:5000/#/models/a%20b/versions/3"
    assert links.run("2", "abc") == "http://mlflow:5000/#/experiments/2/runs/abc"


# What is offered


def test_drugs_and_lines_are_called_by_their_names(tmp_path: Path) -> None:
    pd.DataFrame(
        {
            "drug_id": ["A:1", "B:1", "A:2", "A:3"],
            "name": ["Erlotinib", "Erlotinib", "Nutlin-3a", None],
            "smiles": ["C", "C", None, "CC"],
            "target": ["EGFR", "EGFR", None, None],
        }
    ).to_csv(tmp_path / "drugs.csv", index=False)
    found = {drug.drug_id: drug for drug in collection.drugs(tmp_path)}
    assert [found[each].label for each in ("A:1", "B:1", "A:2", "A:3")] == [
        "Erlotinib (A)",
        "Erlotinib (B)",
        "Nutlin-3a",
        "A:3",
    ]
    assert found["A:2"].smiles is None and found["A:1"].smiles == "C"
    lines = pd.DataFrame(
        {"cell_line_id": ["L1", "L2", "L3"], "name": ["HeLa", "HeLa", "X"], "tissue": ["cervix"] * 2 + [None]}
    )
    lines.to_csv(tmp_path / "cell_lines.csv", index=False)
    pd.DataFrame({"cell_line_id": ["L1", "L2"], "G": [1.0, 2.0]}).to_parquet(tmp_path / "expression.parquet")
    offered = collection.cell_lines(tmp_path)
    assert [line.label for line in offered.values()] == ["HeLa – cervix (L1)", "HeLa – cervix (L2)"]
    assert offered["L1"].tissue == "cervix"
    pd.DataFrame({"cell_line_id": ["L2", "L3"], "M": [1.0, 0.0]}).to_parquet(tmp_path / "mutation.parquet")
    known = ("expression", "mutation", "methylation")
    assert list(collection.cell_lines(tmp_path, known, ())) == ["L1", "L2", "L3"]  # a model that needs none of them
    assert list(collection.cell_lines(tmp_path, known, ("expression", "mutation"))) == ["L2"]
    with pytest.raises(UserError, match=r"methylation\.parquet"):
        collection.cell_lines(tmp_path, known, ("methylation",))


def test_missing_data_is_told_with_what_brings_it(tmp_path: Path) -> None:
    for look in (collection.cell_lines, collection.drugs, collection.samples):
        with pytest.raises(UserError, match="dvc pull"):
            look(tmp_path)
    assert collection.example_images(tmp_path) == {} and collection.features(tmp_path / "a.parquet", "id") == []
    assert usual_responses(tmp_path, "ln_ic50") == {}
    for broken in ("cell_line_id,name\nL1,HeLa,too,many\n", "name\nHeLa\n", 'cell_line_id,name\nL1,"HeLa\n'):
        (tmp_path / "cell_lines.csv").write_text(broken)
        with pytest.raises(UserError, match=r"cell_lines\.csv: cannot be read as a table with the column cell_line_id"):
            collection.cell_lines(tmp_path)


# The theme


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def blended(color: str, ground: str, opacity: float) -> str:
    parts = [
        round(int(color[at : at + 2], 16) * opacity + int(ground[at : at + 2], 16) * (1 - opacity)) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


@pytest.fixture(scope="module")
def theme() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text()))


def test_colors_are_told_apart_by_everybody(theme: dict[str, Any]) -> None:
    from serving.dashboard.data import charts

    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    colors = theme["theme"]
    grounds = [colors["backgroundColor"], colors["secondaryBackgroundColor"], colors["sidebar"]["backgroundColor"]]
    for ground in grounds:
        assert contrast(colors["textColor"], ground) > 7
        assert (
            contrast(blended(colors["textColor"], ground, 0.6), ground) > 4.5
        )  # captions are 60 % of the text's color
        assert contrast(colors["linkColor"], ground) > 4.5
    assert contrast("#ffffff", colors["primaryColor"]) > 4.5  # the text of the button
    for name in ("red", "orange", "yellow", "blue", "green", "gray"):
        assert contrast(colors[f"{name}TextColor"], colors[f"{name}BackgroundColor"]) > 4.5, name
    for color in (charts.BLUE, charts.RED, charts.GRAY):
        assert contrast(color, colors["backgroundColor"]) > 3  # graphics


def test_it_listens_to_this_machine_and_tells_nobody(theme: dict[str, Any]) -> None:
    assert theme["server"]["address"] == "127.0.0.1"
    assert theme["browser"]["gatherUsageStats"] is False
    assert theme["client"]["showErrorDetails"] == "none"


# Pages, run without a browser


@pytest.fixture
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.chdir(platform.folder)
    monkeypatch.delenv(endpoints.ENDPOINTS, raising=False)
    yield platform


def opened() -> AppTest:
    return AppTest.from_file(str(ROOT / "serving" / "dashboard_app.py"), default_timeout=30).run()


def test_the_first_page_loads_nothing_that_takes_long(here: Platform) -> None:
    program = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"at = AppTest.from_file({str(ROOT / 'serving' / 'dashboard_app.py')!r}, default_timeout=60).run()\n"
        "assert not at.exception and not at.error and len(at.button) == 1, at\n"
        "assert len(at.selectbox(key='line drug_response').options) > 20\n"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    heavy = ("pandas", "mlflow", "torch", "altair", "rdkit", "scipy", "matplotlib", "sklearn", "requests")
    done = subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


def brought(monkeypatch: pytest.MonkeyPatch, required: list[str]) -> AppTest:
    """Bring a table of mutations to a model that needs ``required``."""
    from serving.dashboard.pages import choosing, request

    table = pd.DataFrame({"M": [1.0]}, index=["my cells"])
    files = {"mutation": Profiles(table, {"my cells": "lung"}, [])}

    def given(task: str, omics: list[str], known: Any, example: Any, needed: list[str] | None = None) -> Any:
        with choosing.frame.told():
            choosing._check(files, needed or ())
            return files
        return {}

    monkeypatch.setattr(choosing, "own_files", given)
    monkeypatch.setattr(choosing, "source", lambda *what: choosing.OWN)
    monkeypatch.setattr(request, "_contract", lambda endpoint: {"required": required})
    return opened()


def test_a_table_is_demanded_only_if_the_model_needs_it(here: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    at = brought(monkeypatch, ["expression", "smiles"])
    assert not at.exception and "needs a table of expression beside the others" in at.error[0].value
    at = brought(monkeypatch, [])
    before = len(here.asked)
    assert not at.exception and not at.error
    at.button(key=f"predict {RESPONSE}").click().run()
    assert not at.exception and not at.warning
    work = at.session_state["jobs"][f"ask {RESPONSE}"]
    assert work.wait(30) and len(here.asked) > before
    assert set(here.asked[-1][1]["dataframe_records"][0]) >= {"mutation", "drug_id"}


def test_a_task_without_an_endpoint_is_told_how_to_get_one(here: Platform) -> None:
    at = opened()
    at.sidebar.selectbox(key="task").select(made.UNSERVED).run()
    assert not at.exception and "has no endpoint yet" in at.info[0].value
    assert any("make serve TASK=leukemia_cell" in code.value for code in at.code)


def test_parameters_that_make_no_sense_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at = opened()
    assert not at.exception and "params.yaml" in at.error[0].value.replace("\\", "")
    (tmp_path / "params.yaml").write_text("seed: [\n")
    at.run()
    assert not at.exception and at.error


def test_an_incomplete_question_is_answered_with_what_is_missing(here: Platform) -> None:
    at = opened()
    before = len(here.asked)
    at.button(key=f"predict {RESPONSE}").click().run()
    assert not at.exception and "Choose a cell line first" in at.warning[0].value
    assert len(here.asked) == before
