"""A version that is tried: better, equal and worse ones are told apart at the declared error rates, and moved."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient

from pipelines.errors import UserError
from serving import registry, trial
from serving.beside import is_canary
from serving.drift.trial import LEVEL, Found, compare
from serving.problems import get_problem
from serving.sequential import Mean, confidence_sequence
from serving.trial import REFUSED, TAKE_BACK, act
from tests.empty_store import working_in
from tests.evaluation.made_evidence import TASK as MADE
from tests.evaluation.made_evidence import made_policy
from tests.serving import made_registry, served
from tests.serving.made_registry import BY, POLICY, compared_with, made_version
from tests.serving.test_signatures import make_signer

SERVED = SimpleNamespace(task=MADE, half_width=1.0, half_widths=[1.0, None, 0.1], targets=["ACTB", "GAPDH", "TP53"])


def apart(problem: str) -> dict[str, Any]:
    found = get_problem(problem)
    return {"answer": found.tried, "apart": partial(found.apart, SERVED), "lost": partial(found.lost, SERVED)}


LIMITS: dict[str, Any] = {"margin": 0.02, "most": 0.1, **apart("classification")}
TASK = served.PROFILES


def planted(
    rows: int, right: tuple[float, float], rng: np.random.Generator, *, paired: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a log of two versions that are right so often, and the labels."""
    names = [f"{number:05}" for number in range(rows)]
    hard = rng.random(rows)  # the same rows are hard for both
    tables = []
    for version, share in zip("12", right, strict=True):
        label = np.where(hard < share, "a", "b")
        of = {"request_id": names if paired else [f"{each} {version}" for each in names], "row": 0, "label": label}
        of |= {"model_version": version, "time": np.arange(rows), "sample_sha256": names, "row_sha256": names}
        table = pd.DataFrame(of)
        tables.append(table if paired else table.iloc[int(version) - 1 :: 2])
    return pd.concat(tables, ignore_index=True), pd.DataFrame({"sample_sha256": names, "measured": "a"})


def test_the_interval_holds_whenever_one_looks() -> None:
    missed = 0
    for seed in range(300):
        numbers = np.random.default_rng(seed).random(400) < 0.2
        found = confidence_sequence(numbers, 0.1)
        missed += not found.low <= 0.2 <= found.high  # the ends are the tightest of all times
    assert missed / 300 <= 0.1 and found.high - found.low < 0.25
    with pytest.raises(ValueError, match="beyond 0 to 1"):
        confidence_sequence([0.5, 1.5])
    assert confidence_sequence([])[1:] == (0.0, 1.0, 0)


@pytest.mark.parametrize("paired", [True, False])
def test_better_and_worse_versions_are_told_from_equal_ones(paired: bool) -> None:
    decisions = {}
    for name, right in {"better": (0.8, 0.9), "worse": (0.9, 0.8), "equal": (0.85, 0.85)}.items():
        made = [compare(*_given(right, seed, paired), **LIMITS).decision for seed in range(40)]
        decisions[name] = made
    assert decisions["better"].count("better") >= 38 and decisions["worse"].count("worse") >= 38
    wrong = [each for each in decisions["equal"] if each in ("better", "worse")]
    assert len(wrong) <= max(2, LEVEL * 40)
    if paired:  # rows on which both agree tell that they are alike
        assert decisions["equal"].count("alike") >= 38


def _given(right: tuple[float, float], seed: int, paired: bool) -> tuple[pd.DataFrame, tuple[str, str], pd.DataFrame]:
    log, labels = planted(4000, right, np.random.default_rng(seed), paired=paired)
    return log, ("1", "2"), labels


def test_without_labels_only_disagreement_is_known() -> None:
    rng = np.random.default_rng(0)
    log, _ = planted(2000, (0.9, 0.6), rng, paired=True)
    found = compare(log, ("1", "2"), None, **LIMITS)
    assert found.decision == "disagrees" and found.gain is None
    assert found.disagreement is not None and found.disagreement.low < 0.3 < found.disagreement.high
    log, _ = planted(2000, (0.9, 0.89), rng, paired=True)
    assert compare(log, ("1", "2"), None, **LIMITS).decision == "go on"
    log, _ = planted(50, (0.9, 0.6), rng, paired=True)
    assert compare(log, ("1", "2"), None, **LIMITS).decision == "go on", "too few rows"


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("problem", "times"), [("regression", 20), ("multi_target", 3)])
def test_versions_that_answer_numbers_are_told_apart_by_errors_in_widths_of_the_interval(
    problem: str, times: int, paired: bool
) -> None:
    scale, several = np.array(SERVED.half_widths, np.float64), problem == "multi_target"
    scale[1] = 1e9  # without an interval it does not count

    def decided(spreads: tuple[float, float], seed: int) -> Found:
        rng = np.random.default_rng(seed)
        log, labels = planted(2000, (1, 1), rng, paired=paired)
        truth = rng.normal(size=(len(labels), 3)) * 3 * scale
        spread = log["model_version"].map(dict(zip("12", spreads, strict=True))).to_numpy()[:, None]
        answers = truth[log["sample_sha256"].astype(int)] + spread * scale * rng.normal(size=(len(log), 3))
        labels = labels[["sample_sha256"]].assign(**{f"measured_{place}": truth[:, place] for place in range(3)})
        log["prediction"] = [json.dumps(dict(zip(SERVED.targets, row, strict=True))) for row in answers.tolist()]
        if not several:
            labels = labels[["sample_sha256"]].assign(measured=truth[:, 0])
            log["prediction"] = answers[:, 0]
        return compare(log, ("1", "2"), labels, **LIMITS | apart(problem))

    made = {spreads: [decided(spreads, seed) for seed in range(times)] for spreads in ((1, 0.7), (0.7, 1), (1, 1))}
    assert [each.decision for each in made[1, 0.7]].count("better") >= 0.95 * times
    assert [each.decision for each in made[0.7, 1]].count("worse") >= 0.95 * times
    assert sum(each.decision in ("better", "worse") for each in made[1, 1]) <= max(2, LEVEL * times) / 2
    wild = decided((0.7, 1e9), 0)  # an error counts as one width, whatever its size
    assert wild.gain is not None and -1 < wild.gain.value < -0.5


def test_risks_are_compared_with_each_other_and_not_with_labels() -> None:
    rng = np.random.default_rng(0)
    log, labels = planted(1000, (1, 1), rng, paired=True)
    log["prediction"] = rng.random(1000)[log["sample_sha256"].astype(int)]
    limits = LIMITS | apart("survival")
    assert compare(log, ("1", "2"), None, **limits).decision == "go on"
    log.loc[log["model_version"] == "2", "prediction"] = rng.random(1000)
    found = compare(log, ("1", "2"), None, **limits)
    assert found.decision == "disagrees" and found.disagreement is not None and 0.3 < found.disagreement.value < 0.4
    with pytest.raises(UserError, match="labels cannot decide"):
        compare(log, ("1", "2"), labels, **limits)


def test_who_repeats_a_question_or_the_id_of_a_request_has_no_more_weight() -> None:
    log, labels = planted(100, (0.9, 0.6), np.random.default_rng(0), paired=True)
    once = compare(log, ("1", "2"), labels, **LIMITS)
    first = log[log["request_id"] == "00000"]
    asked = [first.assign(request_id=f"again {number}", time=200 + number) for number in range(500)]
    again = pd.concat([log, *asked])
    assert compare(again, ("1", "2"), labels, **LIMITS) == once
    same_id = pd.concat([first.assign(request_id="one", row_sha256=f"{n}", time=n) for n in range(500)])
    assert compare(pd.concat([log, same_id]), ("1", "2"), labels, **LIMITS) == once


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """Give a registry where moves are signed, with version 1 in production and version 2 in staging."""
    key = make_signer(tmp_path / "keys", "ada")
    (folder := tmp_path / "checkout").mkdir()
    with made_registry.empty_registry("sqlite", folder) as client:
        monkeypatch.setenv("ONCOLINEAGE_SIGNERS", str(tmp_path / "keys" / "signers"))
        monkeypatch.setenv("ONCOLINEAGE_SIGNING_KEY", str(key))
        made_version(client)
        for to in ("staging", "production"):
            registry.promote(MADE, to, by=BY, policy=POLICY)
        made_version(client, "others", comparisons=compared_with(1))
        registry.promote(MADE, "staging", by=BY, policy=POLICY)
        yield client


def on_trial(right: tuple[float, float], rows: int = 4000, policy: Any = POLICY) -> int:
    log, labels = planted(rows, right, np.random.default_rng(1), paired=True)
    return act(MADE, ("1", "2"), compare(log, ("1", "2"), labels, **LIMITS), by=BY, policy=policy)


def test_a_worse_version_is_taken_back_and_one_of_which_little_is_known_goes_on(staged: MlflowClient) -> None:
    rows = len(registry.history(MADE))
    assert on_trial((0.9, 0.9), rows=50) == on_trial((0.9, 0.9), rows=60) == 0
    assert [each.action for each in registry.history(MADE)[rows:]] == ["trial"], "told once"
    assert made_registry.aliases(staged) == {"candidate": 2, "production": 1, "staging": 2}
    assert on_trial((0.9, 0.8)) == TAKE_BACK
    last = registry.history(MADE)[-1]
    assert (last.action, last.alias, last.from_version, last.to_version) == ("take back", "staging", 2, None)
    assert all(each in last.why for each in ("beside version 1: worse", "of 4,000 rows", "error rate 0.05"))
    assert made_registry.aliases(staged) == {"candidate": 2, "production": 1}
    assert made_registry.stages(staged) == {1: "Production", 2: "Archived"}
    assert registry.verify(MADE) == []
    with pytest.raises(UserError, match="version 2 is not in staging"):
        on_trial((0.8, 0.9))
    registry.promote(MADE, "staging", 2, by=BY, policy=POLICY)  # it may come again
    assert registry.verify(MADE) == [] and made_registry.aliases(staged)["staging"] == 2


def test_a_better_version_is_promoted_if_the_gate_allows_it(
    staged: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = registry.history(MADE)
    assert on_trial((0.8, 0.9), policy=made_policy(floor=0.8)) == REFUSED
    told = capsys.readouterr()
    assert "fail   floor" in told.out and "the gate refuses; nothing was moved" in told.err
    assert registry.history(MADE) == rows and made_registry.aliases(staged)["production"] == 1
    assert on_trial((0.8, 0.9)) == 0
    last = registry.history(MADE)[-1]
    assert (last.action, last.alias, last.to_version) == ("promote", "production", 2)
    assert "beside version 1: better" in last.why
    assert made_registry.aliases(staged) == {"candidate": 2, "production": 2, "previous": 1}
    assert registry.verify(MADE) == []


def test_what_was_moved_during_a_trial_is_not_moved_by_it(staged: MlflowClient) -> None:
    registry.promote(MADE, "production", 2, by=BY, policy=POLICY)
    made_version(staged, "third", comparisons=compared_with(2))
    registry.promote(MADE, "staging", by=BY, policy=POLICY)
    before = registry.history(MADE)
    for gain in (Mean(0.1, 0.05, 0.15, 900), Mean(-0.1, -0.15, -0.05, 900), Mean(0, -0.5, 0.5, 9)):
        decision: Any = "better" if gain.low > 0 else "worse" if gain.high < 0 else "go on"
        with pytest.raises(UserError, match="version 1 not in production"):
            act(MADE, ("1", "3"), Found(decision, None, gain), by=BY, policy=POLICY)
    assert registry.history(MADE) == before


def test_a_share_of_clients_is_always_the_same() -> None:
    clients = [f"client {number}" for number in range(2000)]
    chosen = {each for each in clients if is_canary(each, 0.1)}
    assert 0.07 < len(chosen) / len(clients) < 0.13
    assert chosen == {each for each in clients if is_canary(each, 0.1)}
    assert chosen <= {each for each in clients if is_canary(each, 0.3)}
    assert not any(is_canary(each, 0.0) for each in clients) and all(is_canary(each, 1.0) for each in clients)


CANARY = pytest.param(("--canary", "1.0"), marks=pytest.mark.soak)


@pytest.mark.parametrize("options", [("--shadow", "staging"), CANARY])
def test_both_versions_answer_and_are_logged_under_one_id(
    options: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with working_in(tmp_path):
        task, prepared = served.profiles_prepared()
        contract = served.save_fitted(TASK, "majority_class", task, prepared, tmp_path / "model")
        one = prepared.samples.take(np.arange(1))
        for number, alias in (("1", "production"), ("2", "staging")):
            assert served.register(TASK, contract, tmp_path / "model", one, alias=alias) == number
        served.with_policy(tmp_path, follow_seconds=1.0)
        rows = json.loads(contract.request(one).to_json(orient="records"))
        log = tmp_path / "log"
        env = {"ONCOLINEAGE_PREDICTION_LOG": str(log), "ONCOLINEAGE_LOG_SALT": "salt"}
        with served.serving(tmp_path, TASK, *options, env=env) as (url, _):
            wanted, latest = {"--shadow": {"1"}, "--canary": {"2"}}[options[0]], time.monotonic() + 120
            seen: set[str] = set()
            asked = 0
            while time.monotonic() < latest:
                answer = requests.post(f"{url}/invocations", json={"dataframe_records": rows}, timeout=60)
                assert answer.status_code == 200
                asked += 1
                seen.add(answer.json()["predictions"][0]["model_version"])
                metrics = requests.get(f"{url}/metrics", timeout=20).text
                if wanted <= seen and 'requests_beside_total{outcome="answered"}' in metrics:
                    break
                time.sleep(0.2)
            assert wanted <= seen, "until the version beside is there, the served one answers"
            MlflowClient().delete_registered_model_alias(TASK, "staging")
            while time.monotonic() < latest:
                answer = requests.post(f"{url}/invocations", json={"dataframe_records": rows}, timeout=60)
                failed = 'requests_beside_total{outcome="failed"}' in requests.get(f"{url}/metrics", timeout=20).text
                if failed and answer.json()["predictions"][0]["model_version"] == "1":
                    break
                time.sleep(0.2)
            assert time.monotonic() < latest, "a version that was taken back is not asked any more"
        MlflowClient().set_registered_model_alias(TASK, "staging", "2")
        monkeypatch.setattr("sys.argv", ["trial", "--task", TASK, "--log", str(log)])
        assert trial.main() == 0 and "version 2 beside version 1: go on" in capsys.readouterr().out
    found = pd.concat([pd.read_parquet(path) for path in log.rglob("*.parquet")])
    assert {str(each) for each in found["model_version"]} >= {"2"}
    if options[0] == "--shadow":
        both = found.groupby("request_id")["model_version"].nunique()
        assert (both == 2).any() and seen == {"1"}
