"""The dashboard without a browser: wrong or missing figures, errors without a sentence, pages that wait."""

import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlflow
import pandas as pd
import pytest
import requests
from markdown_it import MarkdownIt
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from pipelines.errors import UserError
from pipelines.policy import Dashboard
from serving.dashboard.data import collection, endpoints, loading, tables, words
from serving.dashboard.data.collection import Drug
from serving.dashboard.data.endpoints import Endpoint, NoAnswer, Refused, ask
from serving.dashboard.data.tables import Question, usual_responses
from serving.dashboard.data.tables import profiles as measured_profiles
from serving.dashboard.data.uploads import Profiles
from serving.dashboard.pages import answers as trust
from serving.dashboard.pages import choosing, compare, fronts, monitoring, predict, progress
from serving.dashboard.pages.progress import Job
from serving.modalities import pairs, profiles
from serving.problems import get_problem
from tests.evaluation.made_evidence import made_evidence
from tests.servers import free_port
from tests.serving import dashboard_platform as made
from tests.serving.dashboard_platform import GENES, IMAGES, LABELS, RESPONSE, Platform
from tests.training.tiny import ROOT

SCRIPT = str(ROOT / "serving" / "dashboard_app.py")


@pytest.fixture
def here(dashboard_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    monkeypatch.chdir(dashboard_platform.folder)
    monkeypatch.delenv(endpoints.ENDPOINTS, raising=False)
    return dashboard_platform


def endpoint(platform: Platform, name: str) -> Endpoint:
    return Endpoint(name, "production", f"{platform.url}/{name}")


def test_production_comes_first_and_the_environment_before_params() -> None:
    dashboard = Dashboard({"a@staging": "http://h:2", "a": "http://h:1/invocations", "b": "http://h:3/"})
    found = endpoints.endpoints(dashboard, {})
    assert [(each.alias, each.url) for each in found["a"]] == [("production", "http://h:1"), ("staging", "http://h:2")]
    assert found["b"][0].url == "http://h:3"
    other = endpoints.endpoints(dashboard, {endpoints.ENDPOINTS: "a=http://else:9  c@staging=https://x"})
    assert [(task, each.url) for task, (each,) in other.items()] == [("a", "http://else:9"), ("c", "https://x")]
    with pytest.raises(UserError, match=r"ONCOLINEAGE_ENDPOINTS: 'a:9'"):
        endpoints.endpoints(dashboard, {endpoints.ENDPOINTS: "a:9"})
    starts = [each.how_to_start for each in (found["a"][0], Endpoint("a", "staging", "https://h"))]
    assert starts == ["make serve TASK=a PORT=1", "make serve TASK=a STAGE=staging"]


def of_lines(platform: Platform, lines: int, drugs: list[Drug]) -> Question:
    folder = platform.folder / "data" / RESPONSE
    found = list(collection.cell_lines(folder))[:lines]
    expression = measured_profiles(folder / "expression.parquet", "cell_line_id", found)
    return pairs.of_pairs({"expression": expression}, {}, drugs)


def test_a_real_model_takes_what_the_page_asks_and_many_rows_go_in_parts_and_come_back_in_order(here: Platform) -> None:
    drugs = collection.drugs(here.folder / "data" / RESPONSE)
    response = of_lines(here, 2, [drugs[0], Drug(None, "mine", "CC(=O)Nc1ccc(O)cc1")])
    answers = ask(endpoint(here, RESPONSE), response.rows, response.names, explain=True)
    table = ranked(answers, response.about, {str(drugs[0].drug_id): 1.0})
    own = table[table["drug"] != "mine"]
    assert len(table) == 4 and len(own) == 2
    assert (own["low"] < own["prediction"]).all() and (own["prediction"] < own["high"]).all()
    assert table.loc[table["drug"] == "mine", "note"].str.contains("not known").all()
    assert table["usual"].notna().sum() == 2
    found = tables.contributions(answers[0])
    assert found["value"].sum() + answers[0]["base"] == pytest.approx(answers[0]["prediction"], abs=1e-4)
    question, reported = of_lines(here, 3, drugs), list[tuple[int, int]]()
    target, rows = endpoint(here, RESPONSE), len(question.rows)
    whole, before = ask(target, question.rows, question.names), len(here.asked)
    parts = ask(target, question.rows, question.names, rows_at_once=5, progress=lambda *how: reported.append(how))
    assert [row["prediction"] for row in parts] == pytest.approx([row["prediction"] for row in whole])
    assert len(here.asked) - before == math.ceil(rows / 5) > 2
    assert reported[0] == (0, rows) and reported[-1] == (rows, rows)


def test_a_refusal_names_the_sample(here: Platform) -> None:
    table = pd.read_parquet(here.folder / "data" / LABELS / "expression.parquet").set_index("sample_id")
    question = profiles.of_profiles(table.iloc[:12])
    question.rows[10]["expression"]["GENE1"] = -5.0
    with pytest.raises(Refused, match=r"“S10”.*GENE1.*below 0"):
        ask(endpoint(here, LABELS), question.rows, question.names, rows_at_once=4)


def test_a_server_that_fails_is_down_or_slow_is_reported_and_not_blamed_on_the_file(
    here: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = Endpoint(RESPONSE, "production", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(NoAnswer, match="No model answers at") as caught:
        ask(down, [{"a": 1}], ["a"])
    assert caught.value.command == down.how_to_start
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
        ask(Endpoint(RESPONSE, "staging", f"{here.url}/slow"), [{"a": 1}], ["a"], seconds=0.3)
    assert time.monotonic() - began < 10
    for status, body, message in (
        (504, "Request processing time exceeded limit", "did not answer within the time limit"),
        (503, '{"message": "too many large requests wait"}', "is busy with other requests"),
        (500, '{"message": "the model failed"}', "Its terminal shows why"),
        (200, '{"predictions": []}', "gave 0 answers to 1 rows"),
        (200, "<html>a shop</html>", "no endpoint of this platform"),
    ):
        response = requests.Response()
        response.status_code, response._content = status, body.encode()
        monkeypatch.setattr(requests, "post", Mock(return_value=response))
        with pytest.raises(NoAnswer, match=message):
            ask(Endpoint(RESPONSE, "production", "http://127.0.0.1:1"), [{"a": 1}], ["a"])


def test_a_job_ends_where_nobody_waits_for_it_and_hides_the_text_of_its_faults() -> None:
    begun, ended = threading.Event(), threading.Event()

    def long(job: Job) -> None:
        begun.set()
        try:
            while True:
                job.report(1, 4)
                time.sleep(0.01)
        except CancelledError:
            ended.set()
            raise

    job = Job(long)
    assert begun.wait(20) and not job.done()
    job.cancel()
    assert job.done() and job.cancelled() and not job.succeeded and ended.wait(20)
    failed = Job(lambda job: dict[str, str]()["a secret of a patient"])
    assert failed.wait(20) and failed.error is not None
    assert "secret" not in str(failed.error) and "KeyError" in str(failed.error)


def test_what_is_believed_for_a_while_is_asked_again_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.st, "session_state", {})
    asked = itertools.count(1)

    def again(believed: float = math.inf, fresh: bool = False) -> int:
        found = progress.job("look", lambda job: next(asked), believed=believed, fresh=fresh)
        assert found.wait(20)
        return int(found.result())

    assert again() == again(60) == 1
    job = progress.known("look")
    assert job is not None and job.ended is not None
    job.ended -= 61
    assert again() == 1 and again(60) == 2 and again(fresh=True) == 3


def test_a_loaded_module_is_there_at_once_while_another_thread_loads_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, gate = "takes_long_to_load", threading.Event()
    monkeypatch.setattr(loading, "gate", gate, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    text = "from serving.dashboard.data import loading\nbegun = True\nloading.gate.wait(30)\nwhole = True\n"
    (tmp_path / f"{name}.py").write_text(text)
    with ThreadPoolExecutor(3) as threads:
        wholes = [threads.submit(lambda: loading.load(name).whole)]
        while not hasattr(sys.modules.get(name), "begun"):
            time.sleep(0.01)
        wholes.append(threads.submit(lambda: loading.load(name).whole))
        try:
            threads.submit(loading.load, "json").result(10)
            assert not any(each.done() for each in wholes)  # half a module is not handed out
        finally:
            gate.set()
        assert [each.result(10) for each in wholes] == [True, True]


IMPORTS = """
import sys, threading, time
from serving.dashboard.data import loading

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:] and not loading._ONE_AT_A_TIME._is_owned():
            outside.append((threading.current_thread().name, name))

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

outside = []
sys.meta_path.insert(0, Watch())
at = AppTest.from_file(sys.argv[1], default_timeout=120).run()
assert not at.exception and not at.error and len(at.button) == 1, at
assert len(at.selectbox(key="line drug_response").options) > 20
heavy = ("pandas", "mlflow", "torch", "altair", "rdkit", "scipy", "matplotlib", "sklearn", "requests")
assert not [name for name in heavy if name in sys.modules]
at.selectbox(key="line drug_response").select_index(0).run()
at.button(key="predict drug_response").click().run()
for page in ("predict", "compare", "registry", "monitoring"):
    at._page_hash = calc_hash(page)
    for _ in range(3):  # the request, its answers, and the explanation
        at.run()
        assert not at.exception, at.exception
        assert all(job.wait(120) for job in at.session_state["jobs"].values())
assert "mlflow.store.tracking.sqlalchemy_store" in sys.modules and "altair" in sys.modules
migrations = "mlflow.store.db.trace_analytics"  # files of MLflow's, run by Alembic one by one
print([each for each in outside if not each[1].startswith(migrations)])
"""


def test_the_first_page_loads_nothing_heavy_and_no_two_threads_import_at_once(here: Platform) -> None:
    """On Python 3.11 two threads that import parts of the same packages may wait for each other for ever."""
    large = ("numpy", "PIL", "pyarrow", "mlflow", "sqlalchemy", "alembic", "altair", "narwhals", "requests", "rdkit")
    command = [sys.executable, "-c", IMPORTS, SCRIPT, *large]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | here.environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_unknown_features_are_left_out_a_missing_table_imputed_and_a_needed_one_demanded() -> None:
    values = pd.DataFrame({"tp53": [1.0], "FOO": [2.0], "EGFR": [math.nan]}, index=["S1"])
    known = {"genes": ["TP53|7157", "EGFR|1956"], "known": ["TP53|7157", "EGFR|1956", "KRAS|3845"]}
    question = profiles.of_profiles(values, known)
    assert question.rows == [{"expression": {"TP53|7157": 1.0, "EGFR|1956": None}, "sample_id": "S1"}]
    assert question.notes == ["The model does not know 1 column, left out: FOO."]

    def of(columns: dict[str, dict[str, float]]) -> dict[str, pd.DataFrame]:
        return {omics: pd.Series(values).to_frame(omics[0].upper()) for omics, values in columns.items()}

    expression, mutation, proteins = {"A": 1.0, "B": 2.0}, {"A": 1.0, "B": math.nan}, {"A": 1.0, "B": 1.0}
    tables_of = of({"expression": expression, "mutation": mutation, "proteins": proteins})
    contract: dict[str, Any] = {"features": {"expression": ["E"], "mutation": ["M"]}, "required": ["expression"]}
    drug = [Drug("D1", "a drug", None)]
    question = pairs.of_pairs(tables_of, {"A": "lung"}, drug, contract)
    assert [row["mutation"] for row in question.rows] == [{"M": 1.0}, None]
    assert [row.get("tissue") for row in question.rows] == ["lung", None]
    assert "smiles" not in question.rows[0] and question.rows[0]["drug_id"] == "D1"
    assert question.notes == ["The model does not look at proteins; it was left out."]
    assert question.only(1).names == ["B with a drug"]
    two = of({"mutation": {"A": 1.0, "B": 0.0}, "copy_number": {"C": 2.0}})
    contract = {"features": {"expression": ["E"], "mutation": ["M"], "copy_number": ["C"]}, "required": []}
    question = pairs.of_pairs(two, {}, drug, contract)
    assert [row["mutation"] for row in question.rows] == [{"M": 1.0}, {"M": 0.0}, None]
    assert [row["copy_number"] for row in question.rows] == [None, None, {"C": 2.0}]
    needs_mutation = {**contract, "required": ["mutation", "smiles"]}
    assert len(pairs.of_pairs(two, {}, drug, needs_mutation).rows) == 2  # samples without it are not asked about
    del contract["required"]
    with pytest.raises(Refused, match=r"needs a table of expression, which these samples lack"):
        pairs.of_pairs(two, {}, drug, contract)
    with pytest.raises(Refused, match="Nothing was measured"):
        pairs.of_pairs({}, {}, drug, {**contract, "required": []})


def test_measured_lines_of_a_molecule_go_with_the_question_and_what_cannot_is_refused(here: Platform) -> None:
    folder = here.folder / "data" / RESPONSE
    lines = list(collection.cell_lines(folder))[:4]
    genes = list(measured_profiles(folder / "expression.parquet", "cell_line_id", lines))
    contract: dict[str, Any] = {"features": {"expression": genes}, "required": [], "pilot": True}
    drugs = [Drug(None, "your molecule", "CCO")]
    asked, place = of_lines(here, 1, drugs), (folder, ["expression"])
    text = f"cell_line_id,ln_ic50\n{lines[1]}, 1.5\n{lines[2]}\t-2\n"
    question = pairs.with_measured(lambda _: asked, text, place, drugs, contract)
    assert [row["measured"] for row in question.rows] == [None, 1.5, -2.0]
    assert [row["cell_line_id"] for row in question.rows[1:]] == lines[1:3] and len(question.about) == 3
    assert {row["smiles"] for row in question.rows} == {"CCO"}
    for wrong, of, said in (
        (text, {**contract, "pilot": False}, "takes no measured lines"),
        (f"{lines[1]} 1\n{lines[2]} high", contract, "Measured line 2"),
        ("NOBODY 1", contract, "has no profile of NOBODY"),
    ):
        with pytest.raises(Refused, match=said):
            pairs.with_measured(lambda _: asked, wrong, place, drugs, of)


def ranked(answers: list[dict[str, Any]], about: pd.DataFrame, usual: dict[str, float] | None = None) -> pd.DataFrame:
    return get_problem("regression").ranked(answers, about, lambda: usual or {})


def answer(prediction: float, **more: Any) -> dict[str, Any]:
    novelty = {"out_of_distribution": 0.4, "out_of_distribution_threshold": 1.0, "model_version": "3"}
    return {"prediction": prediction, "low": prediction - 1, "high": prediction + 1, "coverage": 0.9, **novelty, **more}


def test_the_most_sensitive_drug_comes_first_and_no_sample_beyond_the_threshold_is_familiar() -> None:
    about = pd.DataFrame({"sample": list("aabb"), "drug": list("xyxy"), "drug_id": list("xyxy")})
    table = ranked([answer(2), answer(-1, note="unlike the training data; no mutation"), answer(0), answer(3)], about)
    assert table["drug"].tolist() == ["y", "x", "x", "y"] and table["rank"].tolist() == [1, 2, 1, 2]
    assert tables.notes_of(table) == ["1 of 4 predictions: no mutation."]
    table = ranked([answer(2), answer(-1), answer(0), answer(3)], about, {"x": 1.0})
    assert table["against_usual"].tolist()[1] == 1.0 and table["usual"].isna().tolist()[0]
    rows = [
        {"label": label, "probabilities": {"resistant": 1 - p, "sensitive": p}, "labels": held, "threshold": 1.5}
        for label, p, held in (("resistant", 0.2, ["resistant"]), ("sensitive", 0.7, ["resistant", "sensitive"]))
    ]
    rows += [{"label": "resistant"}, {"label": "resistant", "labels": []}]
    classes = get_problem("classification").ranked(rows, about, dict)
    assert list(classes["drug"])[:2] == ["y", "x"] and list(classes["sensitive"])[:2] == [0.7, 0.2]
    assert list(classes["holds"]) == ["either is possible", "resistant alone", "not known", "neither fits"]
    assert list(classes["called_below"])[:2] == [1.5, 1.5] and classes["called_below"].isna().tolist()[2:] == [True] * 2
    for score, limit, familiar, level in (  # a sample beyond the threshold is not called familiar
        (1.0, 1.0, True, "fine"),
        (1.1, 1.0, False, "warning"),
        (None, 1.0, False, "warning"),
        (0.4, None, None, "unknown"),
    ):
        given = answer(1, out_of_distribution=score, out_of_distribution_threshold=limit)
        table = ranked([given], about[:1])
        assert table.loc[0, "familiar"] is familiar
        text, found = trust.familiarity(table, "predictions")
        assert (found, "do not hold" in text) == (level, familiar is False)


def test_the_probability_of_every_class_is_in_the_download_and_no_cell_is_a_formula() -> None:
    rows = [
        {"label": "=1+1", "probability": 0.75, "probabilities": {"ALL": 0.75, "HEM": 0.25}},
        {"label": "HEM", "probability": 1.0, "probabilities": {"HEM": 1.0}},
    ]
    answered = get_problem("classification").table(rows, pd.DataFrame({"sample": ["+a", "S,−1"]}))
    found = pd.read_csv(io.BytesIO(tables.csv_of(answered.assign(value=[-1.5, 2]))), encoding="utf-8-sig")
    assert found["probability_ALL"].tolist()[0] == 0.75 and math.isnan(found["probability_ALL"].tolist()[1])
    assert found["probability_HEM"].tolist() == [0.25, 1.0] and found["value"].tolist() == [-1.5, 2]
    assert found["sample"].tolist() == ["'+a", "S,−1"] and found["label"].tolist() == ["'=1+1", "HEM"]
    assert tables.csv_of(answered[:0]).startswith("\ufeffsample,label".encode())


def test_contributions_are_sorted_named_and_complete() -> None:
    def contributions(values: dict[str, float], target: str = "") -> pd.DataFrame:
        named = [{"feature": name, "value": value, "target": name[:1]} for name, value in values.items()]
        return tables.contributions({"attributions": named}, *([target] if target else []))

    drug = ("atom:element_C", "bond:conjugated", "molecule:none", "token:c1", "fingerprint:3", "drug:known")
    others = {"expression:TP53|7157": 0.1, "mutation:BRAF": -0.7, "tissue:large_intestine": 0.05, "all_others": 3.0}
    found = contributions({**dict.fromkeys(drug, 0.05), **others})
    assert list(found["feature"]) == ["BRAF", "TP53", "large intestine", "the drug itself", "all others together"]
    assert list(found["kind"]) == ["mutation", "expression", "tissue", "", ""]
    assert list(found["value"])[3:] == pytest.approx([0.3, 3.0]) and found["value"].sum() == pytest.approx(2.75)
    assert list(contributions({"A1": 1.0, "B2": 2.0}, "B")["feature"]) == ["B2"]
    assert tables.contributions({}).empty
    assert tables.base_of({"base": {"A": 1.5}}, "A") == 1.5 and tables.base_of({}) is None


def test_a_molecule_is_drawn_as_it_was_asked_about_or_not_at_all() -> None:
    found = pairs.drawing([0.4, -0.4, 0.2], "ethanol & co", "CCO", "ln IC50 (µM)")
    assert found is not None and "<svg" in found[0] and "all together +0.2" in found[1]
    assert found[2]["contribution"].tolist() == [0.4, -0.4, 0.2]
    for smiles in (None, "CCCCO", "no molecule"):
        assert pairs.drawing([0.4, -0.4, 0.2], "a drug", smiles, "") is None


def test_no_score_is_written_without_its_interval_and_text_of_others_is_text() -> None:
    assert words.with_interval({"value": 0.7654, "low": 0.7, "high": 0.8}) == "0.765\u00a0[0.700,\u00a00.800]"
    low = words.with_interval({"value": -0.5, "low": -0.75, "high": 0.25}, sign="+")
    assert low == "−0.500\u00a0[−0.750,\u00a0+0.250]"
    for missing in ({}, {"low": None, "high": 0.8}, {"low": math.nan, "high": 1}):
        said = {"value": 0.7, **missing}
        assert words.with_interval(said) == words.share_with_interval(said) == "– (no interval)"
    nasty = "a_b_ *c* [x](http://y) <b>z</b> `q` $x$ :red[r] # h | ~~s~~"
    shown = MarkdownIt("commonmark").renderInline(words.plain(nasty))
    assert "<em>" not in shown and "<a " not in shown and "<b>" not in shown and "<code>" not in shown
    assert re.search(r"(?<!\\)[:$]", words.plain(nasty)) is None


def standings(folder: Path, rows: list[dict[str, Any]] | str) -> Any:
    (folder / RESPONSE / "comparison").mkdir(parents=True, exist_ok=True)
    (folder / RESPONSE / "leaderboard.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return compare.standings(RESPONSE, folder)


def test_no_comparison_of_earlier_fits_broken_leaderboard_or_score_without_an_interval_is_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"make train TASK=drug_response"):
        compare.standings(RESPONSE, tmp_path)
    for broken in ("{", '[{"architecture": "mlp"}]'):
        with pytest.raises(UserError, match=r"leaderboard\.json"):
            standings(tmp_path, broken)
    found = standings(tmp_path, [made._row("mlp", 0.8), {**made._row("xgboost", 0.9), "low": None}])
    assert list(compare.scores(found)["architecture"]) == ["MLP"]  # a score without an interval is in no chart
    board = compare.board(found)
    assert board["Score"].tolist() == ["0.800\u00a0[0.780,\u00a00.820]", "– (no interval)"]
    assert board["Standing"].tolist() == ["not compared yet"] * 2 and found.table["simulated"].all()
    assert found.table[["value", "low", "high"]].notna().to_numpy().tolist() == [[True] * 3, [False] * 3]
    assert found.table["margin"].notna().all() and found.table["cost_fit_seconds"].tolist() == [1.5, 1.5]
    rows = [made._row("mlp", 0.8), made._row("mean_effects", 0.7)]
    assert standings(tmp_path, rows).notes == []
    path = tmp_path / RESPONSE / "comparison" / "comparison.json"
    text = json.dumps({"rows": [{**row, "standing": "best"} for row in rows], "notes": ["mlp is best"], "pairs": []})
    path.write_text(text)
    found = standings(tmp_path, rows)
    assert found.notes == ["mlp is best"] and compare.board(found)["Standing"].tolist() == ["best", "best"]
    path.write_text(text.replace("run of mlp", "an earlier run"))
    assert standings(tmp_path, rows).notes == []


def test_the_worst_stress_is_shown_where_a_model_has_one(tmp_path: Path) -> None:
    rows = [made._row("mlp", 0.8), made._row("xgboost", 0.7)]
    assert "Worst stress" not in compare.board(standings(tmp_path, rows))
    rows[0]["worst_stress"] = {"kind": "slide_and_stain", "value": 0.6, "low": 0.5, "high": 0.7}
    found = standings(tmp_path, rows)
    said = "0.600\u00a0[0.500,\u00a00.700] (slide and stain)"
    assert compare.board(found)["Worst stress"].tolist() == [said, "–"]
    assert found.table["worst_stress_low"].tolist()[0] == 0.5  # of the file that is offered


def test_the_front_of_a_study_is_read_and_a_broken_one_named(tmp_path: Path) -> None:
    assert fronts.fronts(RESPONSE, tmp_path) == {}
    path = tmp_path / RESPONSE / "fronts" / "elastic_net.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(made.front()))
    study = fronts.fronts(RESPONSE, tmp_path)["elastic_net"]
    assert (study["chosen"]["trial"], len(study["table"]), len(study["hyperparameters"])) == (1, 4, 4)
    for broken in ("{", "[]", '{"points": []}'):
        path.write_text(broken)
        with pytest.raises(UserError, match=r"elastic_net\.json.*make tune TASK=drug_response ARCH=elastic_net"):
            fronts.fronts(RESPONSE, tmp_path)


def test_reports_are_read_in_order_and_a_broken_one_is_named(here: Platform) -> None:
    found, unreadable = monitoring.reports_of(RESPONSE, here.folder / "reports")
    assert unreadable == ["2026-11-20T16-55-12-258605Z"]
    table = monitoring.over_time(found)
    assert list(table["share"]) == [0.02, 0.4] and list(table["drifted"]) == ["0 of 3", "1 of 3"]
    assert found[1].share.split() == ["40.0", "%", "[20.0,", "60.0]"]
    assert monitoring.reports_of("no_task", here.folder / "reports") == ([], [])


def test_coverage_is_shown_with_its_interval() -> None:
    interval, held = (get_problem(name).promise for name in ("regression", "classification"))
    text = trust.coverage(0.9, made_evidence(), interval).replace("\u00a0", " ")
    assert text.startswith("Each interval is made to hold the measured value in 90 % of cases; ")
    assert text.endswith("on test data it did in 91.0 % [85.0, 95.0].")
    assert trust.coverage(0.9, None, held).endswith("in 90\u00a0% of cases.")
    assert "without a promise" in trust.coverage(None, made_evidence(), interval)
    scores = trust.scores(made_evidence(), ["margin", "r2", "rmse"])
    assert [word for _, word, _ in scores] == ["Margin", "R²"] and all("[" in value for _, _, value in scores)


def test_drugs_and_lines_are_called_by_their_names_and_missing_or_broken_data_is_reported(tmp_path: Path) -> None:
    for look in (collection.cell_lines, collection.drugs, collection.samples):
        with pytest.raises(UserError, match="dvc pull"):
            look(tmp_path)
    assert collection.example_images(tmp_path) == {} and collection.features(tmp_path / "a.parquet", "id") == []
    assert usual_responses(tmp_path, "ln_ic50") == {}
    for broken in ("cell_line_id,name\nL1,HeLa,too,many\n", "name\nHeLa\n", 'cell_line_id,name\nL1,"HeLa\n'):
        (tmp_path / "cell_lines.csv").write_text(broken)
        with pytest.raises(UserError, match=r"cell_lines\.csv: cannot be read as a table with the column cell_line_id"):
            collection.cell_lines(tmp_path)
    text = "drug_id,name,smiles\nA:1,Erlotinib,C\nB:1,Erlotinib,C\nA:2,Nutlin-3a,\nA:3,,CC\n"
    (tmp_path / "drugs.csv").write_text(text)
    found = {str(drug.drug_id): drug for drug in collection.drugs(tmp_path)}
    labels = {"A:1": "Erlotinib (A:1)", "B:1": "Erlotinib (B:1)", "A:2": "Nutlin-3a", "A:3": "A:3"}
    assert {drug: each.label for drug, each in found.items()} == labels
    assert found["A:2"].smiles is None and found["A:1"].smiles == "C"
    (tmp_path / "cell_lines.csv").write_text("cell_line_id,name,tissue\nL1,HeLa,cervix\nL2,HeLa,cervix\nL3,X,\n")
    for omics, lines in (("expression", ["L1", "L2"]), ("mutation", ["L2", "L3"])):
        pd.DataFrame({"cell_line_id": lines, "G": [1.0, 2.0]}).to_parquet(tmp_path / f"{omics}.parquet")
    offered = collection.cell_lines(tmp_path, ("expression",))
    assert [line.label for line in offered.values()] == ["HeLa – cervix (L1)", "HeLa – cervix (L2)"]
    assert offered["L1"].tissue == "cervix"
    known = ("expression", "mutation", "methylation")
    assert list(collection.cell_lines(tmp_path, known, ())) == ["L1", "L2", "L3"]  # a model that needs none of them
    assert list(collection.cell_lines(tmp_path, known, ("expression", "mutation"))) == ["L2"]
    with pytest.raises(UserError, match=r"methylation\.parquet"):
        collection.cell_lines(tmp_path, known, ("methylation",))


def opened() -> AppTest:
    return AppTest.from_file(SCRIPT, default_timeout=60).run()


def test_a_table_is_demanded_only_if_the_model_needs_it(here: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"mutation": Profiles(pd.DataFrame({"M": [1.0]}, index=["my cells"]), {"my cells": "lung"}, [])}

    def given(task: str, omics: list[str], folder: Path, key: str, needed: list[str] | None = None) -> Any:
        with choosing.frame.errors_shown():
            choosing._check(files, needed or ())
            return files
        return {}

    monkeypatch.setattr(choosing, "own_files", given)
    monkeypatch.setattr(choosing, "source", lambda *what: choosing.OWN)
    monkeypatch.setattr(predict, "_contract", lambda endpoint: {"required": ["expression", "smiles"]})
    at = opened()
    assert not at.exception and "needs a table of expression beside the others" in at.error[0].value
    monkeypatch.setattr(predict, "_contract", lambda endpoint: {"required": []})
    at = opened()
    before = len(here.asked)
    assert not at.exception and not at.error
    at.button(key=f"predict {RESPONSE}").click().run()
    assert not at.exception and not at.warning
    work = at.session_state["jobs"][f"ask {RESPONSE}"]
    assert work.wait(60) and len(here.asked) > before
    assert set(here.asked[-1][1]["dataframe_records"][0]) >= {"mutation", "drug_id"}


def test_an_incomplete_request_and_a_model_that_is_not_there_say_what_to_do(here: Platform) -> None:
    at = opened()
    before = len(here.asked)
    at.button(key=f"predict {RESPONSE}").click().run()
    assert not at.exception and "Choose a cell line first" in at.warning[0].value
    assert len(here.asked) == before
    at.selectbox(key=f"endpoint {RESPONSE}").select("previous").run()
    at.selectbox(key=f"line {RESPONSE}").select_index(0).run()
    at.button(key=f"predict {RESPONSE}").click().run()
    until_done(at)
    assert any("No model answers at" in each.value for each in at.error)
    assert any("make serve TASK=drug_response STAGE=previous PORT=" in code.value for code in at.code)
    tried = at.session_state["jobs"][f"ask {RESPONSE}"]
    at.button(key=f"again ask {RESPONSE}").click().run()
    assert at.session_state["jobs"][f"ask {RESPONSE}"] is not tried
    at.sidebar.selectbox(key="task").select(made.UNSERVED).run()
    assert not at.exception and "has no endpoint yet" in at.info[0].value
    assert any("make serve TASK=leukemia_cell" in code.value for code in at.code)


def test_broken_parameters_are_reported_and_the_server_keeps_to_this_machine_and_shows_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    said = theme["server"]["address"], theme["browser"]["gatherUsageStats"], theme["client"]["showErrorDetails"]
    assert said == ("127.0.0.1", False, "none")
    monkeypatch.chdir(tmp_path)
    for text in ("", "seed: [\n"):
        at = opened()
        assert not at.exception and "params.yaml" in at.error[0].value.replace("\\", ""), text
        (tmp_path / "params.yaml").write_text("seed: [\n")


def until_done(at: AppTest) -> AppTest:
    """Run the page until a run starts no further job: the request, its answers, the explanation; none may raise."""
    drawn: list[Any] | None = None
    for _ in range(20):
        at.run()
        assert not at.exception, at.exception
        jobs = list(at.session_state["jobs"].values()) if "jobs" in at.session_state else []
        if jobs == drawn:  # all had ended before this run
            return at
        assert all(job.wait(120) for job in jobs)
        drawn = jobs
    raise AssertionError("the page goes on starting jobs")


@pytest.fixture
def drawn(here: Platform, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    mlflow.set_tracking_uri(None)  # what was set would win over the environment
    for name, value in here.environment.items():
        monkeypatch.setenv(name, value)
    return opened()


PAGES = [("compare", RESPONSE, 0), ("compare", IMAGES, 2), ("registry", RESPONSE, 0)]


@pytest.mark.parametrize(("name", "task", "pictures"), PAGES)
def test_a_page_without_a_model_is_drawn(drawn: AppTest, name: str, task: str, pictures: int) -> None:
    drawn.sidebar.selectbox(key="task").select(task).run()
    drawn._page_hash = calc_hash(name)
    until_done(drawn)
    assert drawn.title[0].value == name.capitalize() and not drawn.error
    pieces = [*(one.value for one in drawn.subheader), *(one.proto.body for one in drawn.get("html"))]
    text = "Explanations of two models" if name == "compare" else "drug_response: mlp"
    assert any(text in each for each in pieces)
    if name == "compare":
        assert any("Trials by quality and cost" in each for each in pieces) == (task == RESPONSE)
        drawn.selectbox(key=f"explained {task} 1").select_index(0).run()  # beside itself
        assert not drawn.exception and not drawn.error and len(drawn.get("image")) == pictures


def test_drift_and_the_glossary_with_every_term_that_a_page_explains_are_drawn(drawn: AppTest) -> None:
    rooms = (ROOT / "serving" / room for room in ("dashboard/pages", "modalities", "problems"))
    code = "\n".join(path.read_text() for room in rooms for path in room.glob("*.py"))
    asked = {key for call in re.findall(r"\bmeans\((\"[^)]*)\)", code) for key in re.findall(r'"(\w+)"', call)}
    assert len(asked) > 20 and asked <= set(words.terms())
    drawn._page_hash = calc_hash("monitoring")
    until_done(drawn)
    assert [each.value for each in drawn.error] == ["Time to train again."]
    drawn._page_hash = calc_hash("glossary")
    assert len(drawn.run().markdown) >= len(words.terms())
    assert words.metric_means("r2_over_baseline", "mean_effects").startswith("Share of mean effects's squared error")


@pytest.mark.parametrize(
    ("task", "chooser", "heading"),
    [
        (RESPONSE, "line", "Atoms behind it"),
        (made.CALLS, "line", "Drugs for simulated line"),
        (LABELS, "chosen", "Genes behind it"),
        (GENES, "chosen", "Predicted genes of"),
        (IMAGES, None, "%"),
    ],
)
def test_answers_of_every_task_are_drawn(drawn: AppTest, task: str, chooser: str | None, heading: str) -> None:
    drawn.sidebar.selectbox(key="task").select(task).run()
    if task == RESPONSE:
        drawn.selectbox(key=f"endpoint {task}").select(made.GRAPH).run()
    if chooser is not None:
        drawn.selectbox(key=f"{chooser} {task}").select_index(0).run()
    drawn.button(key=f"predict {task}").click().run()
    until_done(drawn)
    missing = words.plain(f"{task} has no version 1; see")  # one task is registered
    assert [each.value for each in drawn.error if not each.value.startswith(missing)] == []
    assert any(heading in each.value for each in drawn.subheader)
    assert any("training data" in each.value for each in [*drawn.success, *drawn.warning])
