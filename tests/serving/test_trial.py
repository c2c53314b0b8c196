"""A version that is tried: better, equal and worse ones are told apart at the declared error rates."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests

from serving.beside import is_canary
from serving.drift.trial import LEVEL, compare
from serving.sequential import confidence_sequence
from tests.empty_store import working_in
from tests.serving import served

LIMITS: dict[str, Any] = {"margin": 0.02, "most": 0.1}
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
        table = pd.DataFrame({**of, "model_version": version, "time": np.arange(rows), "sample_sha256": names})
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


def test_a_share_of_clients_is_always_the_same() -> None:
    clients = [f"client {number}" for number in range(2000)]
    chosen = {each for each in clients if is_canary(each, 0.1)}
    assert 0.07 < len(chosen) / len(clients) < 0.13
    assert chosen == {each for each in clients if is_canary(each, 0.1)}
    assert chosen <= {each for each in clients if is_canary(each, 0.3)}
    assert not any(is_canary(each, 0.0) for each in clients) and all(is_canary(each, 1.0) for each in clients)


CANARY = pytest.param(("--canary", "1.0"), marks=pytest.mark.soak)


@pytest.mark.parametrize("options", [("--shadow", "staging"), CANARY])
def test_both_versions_answer_and_are_logged_under_one_id(options: tuple[str, str], tmp_path: Path) -> None:
    with working_in(tmp_path):
        task, prepared = served.profiles_prepared()
        contract = served.save_fitted(TASK, "majority_class", task, prepared, tmp_path / "model")
        one = prepared.samples.take(np.arange(1))
        for number, alias in (("1", "production"), ("2", "staging")):
            assert served.register(TASK, contract, tmp_path / "model", one, alias=alias) == number
        served.with_policy(tmp_path)
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
    found = pd.concat([pd.read_parquet(path) for path in log.rglob("*.parquet")])
    assert {str(each) for each in found["model_version"]} >= {"2"}
    if options[0] == "--shadow":
        both = found.groupby("request_id")["model_version"].nunique()
        assert (both == 2).any() and seen == {"1"}
