"""Evidence that is not what it says: edited, of an older schema, or with a number where there is none."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from evaluation.evidence.evidence_file import evidence_sha256, read_evidence, seal
from evaluation.evidence.regression import worst_drugs
from evaluation.metrics import mean_of_rows
from pipelines.errors import UserError
from pipelines.files import write_json
from tests.evaluation.made_evidence import made_cell_evidence as made_evidence
from tests.evaluation.planted import Known, Setting
from tests.evaluation.test_atoms import CONTRACT
from tests.training.tiny import response_task, tiny_params

BOOTSTRAP: dict[str, Any] = {"resamples": 400, "confidence": 0.95, "seed": 3}


def test_evidence_is_read_as_it_was_sealed_and_refused_where_it_was_edited_or_cut(tmp_path: Path) -> None:
    evidence, path = made_evidence(), tmp_path / "evidence.json"
    write_json(path, evidence)
    assert read_evidence(path) == evidence
    evidence["worst"]["rows"][0]["value"] = 0.99
    write_json(path, evidence)
    with pytest.raises(UserError, match="edited"):
        read_evidence(path)
    path.write_text(json.dumps(made_evidence())[:100])
    with pytest.raises(UserError, match="not JSON"):
        read_evidence(path)


@pytest.mark.parametrize("schema", [2, 4, "3", None])
def test_another_schema_is_refused_with_what_to_do(schema: Any, tmp_path: Path) -> None:
    evidence = {**made_evidence(), "schema": schema}
    write_json(tmp_path / "evidence.json", {**evidence, "sha256": evidence_sha256(evidence)})
    with pytest.raises(UserError, match="run the evaluate stage again"):
        read_evidence(tmp_path / "evidence.json")


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("test metrics margin low", "0.4", "test.metrics.margin.low"),
        ("test metrics margin", KeyError, "test.metrics"),
        ("worst unit", "planet", "worst.unit"),
        ("coverage observed", 1.2, "coverage.observed"),
        ("explanation checks 0 name", "trust me", "explanation.checks.0.name"),
        ("hashes model.sha256", "none", "hashes.model.sha256"),
        ("more", 1, "the top"),
        ("comparisons", [], "the top"),  # a candidate has cohorts too
    ],
)
def test_a_fault_is_named_by_its_place_though_the_hash_is_right(
    path: str, value: Any, place: str, tmp_path: Path
) -> None:
    part: Any = (evidence := made_evidence())
    *outer, last = path.split()
    for key in outer:
        part = part[int(key)] if isinstance(part, list) else part[key]
    if value is KeyError:
        del part[last]
    else:
        part[last] = value
    evidence["sha256"] = evidence_sha256(evidence)
    write_json(tmp_path / "evidence.json", evidence)
    with pytest.raises(UserError, match=re.escape(f"evidence.json, {place}: ")):
        read_evidence(tmp_path / "evidence.json")
    with pytest.raises(UserError, match=re.escape(place)):
        seal(evidence)


def test_numbers_that_are_not_finite_are_null_and_the_hash_is_of_what_is_written() -> None:
    evidence = made_evidence(coverage={"declared": 0.9, **dict.fromkeys(("observed", "low", "high"), np.nan)})
    assert evidence["coverage"]["observed"] is None
    assert evidence_sha256(json.loads(json.dumps(evidence))) == evidence["sha256"]


def setting(predictions: pd.DataFrame) -> Setting:
    prepared: Any = SimpleNamespace(side=lambda side: None)
    return replace(Setting(response_task(tiny_params()), prepared, predictions, CONTRACT), seed=3).evaluated(
        resamples=400
    )


def test_coverage_resamples_groups_and_not_rows_and_is_shown_on_both_sides_of_novelty() -> None:
    groups = np.repeat(np.arange(20), 30)
    covered = np.repeat(np.arange(20) < 18, 30).astype(float)  # whole groups are missed
    run = setting(pd.DataFrame({"group": groups})).run(Known())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run.model), "unlike", lambda *_: groups >= 17)
        found = run.coverage(covered)
        patch.setattr(type(run.model), "unlike", lambda *_: None)
        by_row = setting(pd.DataFrame({"group": np.arange(600)})).run(Known()).coverage(covered)
    assert found["observed"] == by_row["observed"] == pytest.approx(0.9)
    assert found["high"] - found["low"] > 3 * (by_row["high"] - by_row["low"])
    like, unlike = (found["by_novelty"][side] for side in ("like", "unlike"))
    assert (like["rows"], like["observed"], unlike["rows"]) == (510, 1, 90)
    assert unlike["observed"] == pytest.approx(1 / 3) and "by_novelty" not in by_row


def test_the_mean_of_several_columns_weighs_them_alike_and_leaves_out_what_is_unknown() -> None:
    values = np.array([[1.0, 0.0, np.nan], [np.nan, 1.0, np.nan], [np.nan, 0.0, np.nan]])
    assert mean_of_rows(values, [0, 1, 2], **BOOTSTRAP).value == pytest.approx((1 + 1 / 3) / 2)
    assert np.isnan(mean_of_rows(np.full(4, np.nan), range(4), **BOOTSTRAP).value)
    assert np.isnan(mean_of_rows(np.ones(4), np.zeros(4), **BOOTSTRAP).low)


def test_the_drug_that_is_predicted_worst_comes_first_whatever_the_split_keeps_apart() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [(f"L{i}", drug) for i in range(40) for drug in ("A", "B", "flat")], columns=["cell_line_id", "drug_id"]
    )
    frame["target"] = np.where(frame["drug_id"] == "flat", 2.0, rng.normal(100, 1, len(frame)))
    frame["prediction"] = frame["target"] + np.where(frame["drug_id"] == "B", 2.0, 0.2) * rng.normal(size=len(frame))
    for group in ("cell_line_id", "drug_id"):
        rows = worst_drugs(setting(frame.assign(group=frame[group])).run(Known()), {"B": "bee"})["rows"]
        assert [row["name"] for row in rows] == ["B", "A", "flat"]
        assert rows[0]["label"] == "bee" and "label" not in rows[1]
        assert np.isnan(rows[2]["value"])  # a drug to which all lines respond alike has no variance to explain
        for row in rows[:2]:
            part = frame[frame["drug_id"] == row["name"]]
            assert row["value"] == pytest.approx(r2_score(part["target"], part["prediction"]), abs=1e-9)
            assert row["low"] < row["value"] < row["high"]
        assert rows[0]["high"] < rows[1]["low"]
