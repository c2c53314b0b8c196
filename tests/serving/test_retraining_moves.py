"""A report that says more than was done, or a second promotion after a kill, makes the history a lie."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from evaluation.promotion.gate import Verdict
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.policy import CHECKS
from serving.continuous_training import steps as under_test
from serving.continuous_training.loop import STOP, OutdatedError, State, Step, begin, go, read_state
from serving.continuous_training.report import Snapshot, report
from serving.continuous_training.steps import FINGERPRINT, Plan, look, move, registered
from tests.empty_store import empty_store
from tests.evaluation.made_evidence import made_evidence

ROOT = Path(__file__).parents[2]
TASK = "drug_response"


PARAMS = read_params(ROOT / "params.yaml")
PLAN = Plan(TASK, PARAMS, ("mean_effects", "elastic_net"), "ada", "f" * 64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    folder = tmp_path_factory.mktemp("store")
    uri = empty_store(folder)
    client = MlflowClient(uri, uri)
    client.create_registered_model(TASK)
    for number in (1, 2, 3):
        tags = {"data.sha256": str(number)}
        client.create_model_version(TASK, source=f"{folder}/{number}", run_id=f"run{number}", tags=tags)
    return client


@pytest.fixture
def registry(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setattr(under_test, "MlflowClient", lambda: store)
    for alias in store.get_registered_model(TASK).aliases:
        store.delete_registered_model_alias(TASK, alias)
    return store


def test_production_is_what_the_candidate_is_held_against_and_only_an_alias_makes_known(registry: MlflowClient) -> None:
    assert look(PLAN) == {"aliases": {}, "served": None}
    unknown = replace(PLAN, name="blood_cell")
    assert look(unknown) == {"aliases": {}, "served": None} and registered(unknown) is None
    for alias, version in (("staging", "2"), ("production", "1")):
        registry.set_registered_model_alias(TASK, alias, version)
        served = {"alias": alias, "version": version, "run_id": f"run{version}", "data.sha256": version}
        assert look(PLAN)["served"] == served
    registry.delete_registered_model_alias(TASK, "staging")
    registry.set_model_version_tag(TASK, "2", FINGERPRINT, PLAN.fingerprint)
    assert registered(PLAN) is None  # data that came back has to bring its version back
    for alias in ("candidate", "staging"):
        registry.set_registered_model_alias(TASK, alias, "2")
        assert registered(PLAN) == "2"
        registry.delete_registered_model_alias(TASK, alias)


@pytest.fixture
def promoted(registry: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    def promote(name: str, to: str, version: str, **named: Any) -> None:
        assert named["by"] == "ada" and named["why"] == "retraining ffffffffffff"
        asked.append((to, version))
        registry.set_registered_model_alias(name, to, version)

    monkeypatch.setattr(under_test.registry, "promote", promote)
    return asked


def test_a_move_is_made_once_and_a_version_in_production_is_not_sent_back_to_staging(
    registry: MlflowClient, promoted: list[tuple[str, str]]
) -> None:
    registry.set_registered_model_alias(TASK, "staging", "2")
    known: dict[str, dict[str, Any]] = {"look": look(PLAN), "register": {"version": "3"}}
    first = move(PLAN, known, "staging")
    assert first == {"version": "3", "alias": "staging", "before": "2", "done": "version 3 is in staging"}
    assert move(PLAN, known, "staging") == first  # killed before the note was written
    assert promoted == [("staging", "3")]
    registry.delete_registered_model_alias(TASK, "staging")
    registry.set_registered_model_alias(TASK, "production", "3")
    known["look"] = look(PLAN)
    moved = move(PLAN, known, "staging")
    assert moved["done"] == "version 3 is in production" and len(promoted) == 1
    assert "- `staging`: not moved, version 3 is in production" in written({**known, "staging": moved})


def test_evidence_against_a_production_of_yesterday_is_collected_anew(registry: MlflowClient, tmp_path: Path) -> None:
    registry.set_registered_model_alias(TASK, "production", "2")
    seen, judged = iter(["1", "2", "2"]), list[str]()

    def judge(known: Mapping[str, Any]) -> Mapping[str, Any]:
        if known["evidence"]["production"] == "1":
            return under_test.judge(PLAN, known, "staging")
        judged.append(known["evidence"]["production"])
        return {}

    loop = [
        Step("look", "", lambda _: {}),
        Step("evidence", "", lambda _: {"production": next(seen)}),
        Step("register", "", lambda _: {"version": "3"}),
        Step("gate", "", judge),
    ]
    state = begin(read_state(tmp_path / "state.json"), fingerprint="f", components={}, by="ada")
    with pytest.raises(OutdatedError, match="production was moved to version 2"):
        go(state, loop, lambda line: None)
    again = read_state(tmp_path / "state.json")
    assert list(again.results) == ["look"]
    go(again, loop, lambda line: None)
    assert judged == ["2"]


def test_the_gate_stops_the_loop_and_says_why(registry: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [Verdict(check, "pass", "fine") for check in CHECKS]
    monkeypatch.setattr(under_test.registry, "judged", lambda *_, **__: verdicts)
    known: dict[str, dict[str, Any]] = {"register": {"version": "3"}, "evidence": {"production": None}}
    assert STOP not in under_test.judge(PLAN, known, "staging")
    verdicts[2] = Verdict("production", "fail", "worse | by far")
    refused = under_test.judge(PLAN, known, "staging")
    assert refused[STOP] == "version 3 may not go to staging: production: worse | by far"
    text = written({"register": known["register"], "gate": refused})
    assert "| production | ❌ fail | worse \\| by far |" in text
    assert "not touched" in text
    monkeypatch.setattr(under_test.registry, "judged", lambda *_, **__: verdicts[:2])
    assert STOP in under_test.judge(PLAN, known, "staging")  # a check that was not made has not passed


def test_production_is_in_the_loop_only_where_the_policy_says_so() -> None:
    assert [step.name for step in under_test.steps(PLAN)][-1] == "staging"
    tasks = {TASK: replace(PARAMS.policy.task(TASK), promote="production")}
    bold = replace(PLAN, params=replace(PARAMS, policy=replace(PARAMS.policy, tasks=tasks)))
    assert [step.name for step in under_test.steps(bold)][-2:] == ["gate_of_production", "production"]


def test_what_changed_while_it_ran_and_what_nobody_answers_for_is_not_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "components", lambda *_: {"data": "other"})
    monkeypatch.setattr(under_test.registry, "register", lambda *_, **__: pytest.fail("registered"))
    with pytest.raises(UserError, match="changed while the loop ran"):
        under_test.register(PLAN, {})
    monkeypatch.setattr(tracking, "git", lambda *_: None)
    for name in ("BY", "GITHUB_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="the history needs a name"):
        under_test.whoever()
    monkeypatch.setenv("GITHUB_ACTOR", "grace")
    assert under_test.whoever() == "grace" and under_test.whoever("lin") == "lin"


PRODUCTION = {
    **{"with": "xgboost", "kind": "production", "version": "1", "difference": -0.015, "low": -0.03, "high": 0.001}
}


def written(found: Mapping[str, Mapping[str, Any]], **more: Any) -> str:
    content = {
        **{"fingerprint": PLAN.fingerprint, "components": {"data": "d" * 64}, "by": PLAN.by, "finished": None},
        "started": "2026-11-20T12:00:00+00:00",
        "steps": {name: {"result": result} for name, result in found.items()},
    }
    samples = pd.DataFrame({"sample_id": ["TCGA-AA-0001"], "group": ["TCGA-AA"], "split": ["test"]})
    after = samples.assign(sample_id=["TCGA-BB-0002"], group=["TCGA-BB"])
    given: dict[str, Any] = {
        "before": Snapshot(samples, "5" * 64, {"seed": 1, "policy.note": "a|b\nc"}),
        "after": Snapshot(after, "6" * 64, {"seed": 2}),
        **{"evidence": None, "outcome": "done"},
    }
    return report(PLAN.name, State(Path("none"), content), **{**given, **more})


def test_the_report_says_what_differs() -> None:
    found: dict[str, Any] = {
        "look": {"served": {"alias": "production", "version": "1", "data.sha256": "a" * 64}},
        "check": {"warnings": 2, "findings": ["drug_under_two_ids"]},
        "register": {"version": "2"},
        "staging": {"version": "2", "alias": "staging", "before": "1", "done": "version 2 is in staging"},
    }
    evidence = made_evidence(simulated=True, test__metrics__ece=dict.fromkeys(("value", "low", "high")))
    evidence["comparisons"].append({**evidence["comparisons"][0], **PRODUCTION})
    text = written(found, evidence=evidence, outcome="version 2 is in staging")
    assert "The data is simulated." in text
    for line in (
        "| samples | 1 | 1 | 1 | 1 |",
        "| groups | 1 | 1 | 1 | 1 |",
        f"| `data.sha256` | `{'a' * 12}` | `{'d' * 12}` |",
        f"| `split.sha256` | `{'5' * 12}` | `{'6' * 12}` |",
        "| `seed` | `1` | `2` |",
        "| `policy.note` | `a\\|b c` | – |",
        "| r2 | 0.800 | [0.750, 0.850] |",
        "| ece | – | [–, –] |",
        "| **production**: `xgboost`, version 1 | r2 | -0.015 | [-0.030, +0.001] |",
        "| naive: `mean_effects` | r2 | +0.200 | [+0.100, +0.300] |",
        "- `staging`: version 1 → version 2",
    ):
        assert line in text.splitlines(), line
    assert "2 warnings" in text and "`drug_under_two_ids`" in text
    assert f"make promote TASK={TASK} TO=production VERSION=2" in text
    assert "TCGA" not in text, "a report names no patient"
    # A table's rows are as wide as its head, whatever a reason holds.
    for rows, of_table in itertools.groupby(text.splitlines(), lambda line: line.startswith("|")):
        assert not rows or len({line.replace("\\|", "").count("|") for line in of_table}) == 1
    production = {"version": "2", "before": "1", "done": "version 2 is in production", "alias": "production"}
    text = written({**found, "staging": {**found["staging"], "before": None}, "production": production})
    assert "- `staging`: nothing → version 2" in text and "- `production`: version 1 → version 2" in text
    assert f"To roll back: `make rollback TASK={TASK}" in text and "Production was not touched" not in text
    real = written({}, evidence=made_evidence())
    assert "simulated" not in real and "No version was in production to compare with." in real


def test_evidence_and_choice_are_of_this_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "read_evidence", lambda path: {"sha256": "b"})
    assert under_test.candidate(TASK, {"evidence": {"sha256": "b"}}) == {"sha256": "b"}
    with pytest.raises(UserError, match="not the evidence of this loop"):
        under_test.candidate(TASK, {"evidence": {"sha256": "a"}})
    monkeypatch.setattr(under_test, "choose", lambda name, params, among: {"architecture": "+".join(among)})
    assert under_test.best_of(PLAN) == "elastic_net"
