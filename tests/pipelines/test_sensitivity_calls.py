"""A call that depends on test rows, a threshold that is not the published one, a drug called by that of another."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.datasets import prepare, read_prepared, write_prepared
from pipelines.errors import DataError, UserError
from pipelines.params import ParamsError, read_params
from pipelines.samples.formats import read_response_tables
from pipelines.samples.molecules import parent
from pipelines.samples.response import ResponseSamples, keep_samples
from pipelines.samples.sensitivity import call_by_training_rows, learn_thresholds, waterfall
from pipelines.tasks.pairs_classification import PairsClassification, Threshold
from pipelines.validate import validate_folder
from tests.pipelines.response_folder import write_response_folder
from tests.pipelines.response_tables import ROOT, make_tables, samples_of, shipped_task, shuffled, split_of

METHODS = ("waterfall", "quantile", "otsu")
RULE = Threshold("waterfall", 5.0)
SHIPPED = (ROOT / "params.yaml").read_text()
CALLED = "      threshold: {method: waterfall, prior_rows: 5}\n"


def params_text(threshold: str = CALLED, **edits: str) -> str:
    """Return the shipped file with its first task made a classification; ``edits`` replace the value of a key."""
    text = SHIPPED.replace("problem: regression", "problem: classification", 1)
    text = re.sub(r"(\n      target: ln_ic50[^\n]*\n)", rf"\1{threshold}", text, count=1)
    text = text.replace("metric: rmse", "metric: log_loss", 1).replace("metric: r2 ", "metric: roc_auc ", 1)
    for key, value in edits.items():
        text = re.sub(rf"(\n      {key}: ).*", rf"\g<1>{value}", text, count=1)
    return text


def written(folder: Path, text: str) -> Path:
    (folder / "params.yaml").write_text(text)
    return folder / "params.yaml"


@pytest.fixture
def task(tmp_path: Path) -> PairsClassification:
    return cast(PairsClassification, read_params(written(tmp_path, params_text())).task("drug_response"))


def samples(lines: int = 24, drugs: int = 12) -> ResponseSamples:
    return samples_of(make_tables(lines, drugs), shipped_task())


EVERY = samples()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(METHODS), st.floats(0, 20))
def test_test_rows_change_no_threshold_and_no_call_of_another_row(seed: int, method: str, prior: float) -> None:
    rng = np.random.default_rng(seed)
    train, others = np.split(rng.permutation(len(EVERY)), 2)
    response = rng.normal(2, 2, len(EVERY))
    of_test, of_training = response.copy(), response.copy()
    of_test[others] = rng.normal(0, 100, len(others))
    of_training[train] += 1
    rule = Threshold(method, prior, share=0.3)  # type: ignore[arg-type]
    first, second, third = (
        call_by_training_rows(replace(EVERY, pairs=EVERY.pairs.assign(target=values)), rule, train)
        for values in (response, of_test, of_training)
    )
    assert first.thresholds == second.thresholds
    np.testing.assert_array_equal(first.target[train], second.target[train])
    np.testing.assert_array_equal(first.pairs["threshold"], second.pairs["threshold"])
    # Training rows do change them, all by about as much: the property is not empty.
    assert (third.pairs["threshold"] > first.pairs["threshold"] + 0.1).mean() > 0.9


def test_thresholds_do_not_depend_on_the_order_of_rows() -> None:
    every, mixed = (samples_of(tables, shipped_task()) for tables in (make_tables(), shuffled(make_tables(), 3)))
    for method in METHODS:
        rule = Threshold(method, 5.0)  # type: ignore[arg-type]
        assert learn_thresholds(every, rule) == learn_thresholds(mixed, rule)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=40, unique=True))
def test_the_waterfall_is_the_published_one(values: list[float]) -> None:
    """By the published steps, in their order: from the highest response down, and with true distances to the line."""
    falling = np.sort(np.array(values))[::-1]
    rank = np.arange(len(falling)) / len(falling)  # any scale of the axes has the same farthest point
    found = waterfall(np.array(values))
    if np.corrcoef(-falling, rank)[0, 1] > 0.95:
        assert found == np.median(falling)
        return
    start, end = np.array([rank[0], falling[0]]), np.array([rank[-1], falling[-1]])
    along = (end - start) / np.linalg.norm(end - start)
    offset = np.column_stack([rank, falling]) - start
    distance = np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0])
    assert distance[np.flatnonzero(falling == found)[0]] == pytest.approx(distance.max(), rel=1e-9, abs=1e-12)


def test_few_rows_draw_a_drug_towards_the_threshold_over_all() -> None:
    every = samples(lines=30, drugs=4)
    drug = every.drugs.index[every.drug]
    one_row = np.flatnonzero(drug == "D01")[:1]
    train = every.take(np.concatenate([np.flatnonzero((drug != "D01") & (drug != "D02")), one_row]))
    found, own = learn_thresholds(train, RULE), float(every.target[one_row[0]])
    assert found.by_drug["D01"] == pytest.approx((own + 5 * found.overall) / 6)
    many = waterfall(every.target[drug == "D00"])
    assert found.by_drug["D00"] == pytest.approx((30 * many + 5 * found.overall) / 35)
    assert learn_thresholds(train, replace(RULE, prior_rows=0.0)).by_drug["D01"] == own


def test_an_unseen_drug_has_the_threshold_over_all_unless_its_molecule_is_known() -> None:
    every = samples(drugs=4)
    drug = every.drugs.index[every.drug]
    found = learn_thresholds(every.take(np.flatnonzero(drug != "D03")), RULE)
    assert "D03" not in found.by_drug
    d00, d01, d02 = (found.by_drug[drug] for drug in ("D00", "D01", "D02"))
    for drug_id, smiles, expected in (
        *(("D03", "CCCCO", found.overall), ("nobody knows", None, found.overall), ("D99", "CO", d00)),
        ("another id", "OCC", d01),  # its molecule in another spelling
        *(("D01", "OC", d01), ("D02", None, d02)),  # the id counts first
    ):
        assert found.of(pd.DataFrame({"smiles": [smiles]}, index=[drug_id])).tolist() == [expected]


def test_a_molecule_under_two_ids_has_the_threshold_of_the_more_measured_one() -> None:
    tables = make_tables(drugs=3)
    every = samples_of(replace(tables, drugs=tables.drugs.assign(smiles=["CO", "CO", "CCO"])), shipped_task())
    few = np.flatnonzero(every.drug == 0)[:3]
    found = learn_thresholds(every.take(np.concatenate([few, np.flatnonzero(every.drug > 0)])), RULE)
    assert found.by_molecule[str(parent("CO"))] == found.by_drug["D01"] != found.by_drug["D00"]


def test_training_rows_of_one_class_are_refused_and_measured_responses_and_calls_are_separate() -> None:
    tables, every = make_tables(), samples()
    alike = replace(tables, response=tables.response.assign(ln_ic50=np.float32(2)))
    with pytest.raises(UserError, match="calls all 100 training rows resistant; choose another method"):
        call_by_training_rows(samples_of(alike, shipped_task()), RULE, np.arange(100))
    called = call_by_training_rows(every, RULE, np.arange(len(every))).take(np.arange(7))
    np.testing.assert_array_equal(called.measured.target, every.target[:7])
    np.testing.assert_array_equal(called.called.target, called.target)
    assert called.measured is called.measured, "a study's memory knows samples by their identity"


def test_prepare_learns_on_the_training_side_and_counts_the_calls(task: PairsClassification) -> None:
    task = replace(task, split=replace(task.split, **vars(split_of("cell_blind"))))
    tables = make_tables(lines=40)
    made = prepare(keep_samples(tables, task), task, seed=1)
    assert made.samples.thresholds == learn_thresholds(made.samples.measured.take(made.rows("train")), RULE)
    below = made.table["response"] < made.table["threshold"]
    np.testing.assert_array_equal(made.table["target"], below.astype(int))
    assert made.counts["sensitive"] == made.table.groupby("split")["target"].sum().to_dict()
    regression = replace(shipped_task(), split=task.split)
    assert made.sha256 == prepare(keep_samples(tables, regression), regression, seed=1).sha256


def test_another_rule_or_other_responses_want_another_prepare(
    task: PairsClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = replace(task, split=replace(task.split, **vars(split_of("random"))))
    folder = write_response_folder(Path("data/screen"))
    made = prepare(keep_samples(read_response_tables(folder, small), small), small, seed=1)
    write_prepared(made, Path("prepared/screen"), small, 1)
    again = read_prepared("screen", small)
    assert again.samples.thresholds == made.samples.thresholds
    pd.testing.assert_frame_equal(again.table, made.table, check_dtype=False)
    other = replace(small, data=replace(small.data, threshold=Threshold("quantile", 5.0, 0.3)))
    for task_of in (other, replace(shipped_task(), split=small.split)):
        with pytest.raises(UserError, match=r"the targets are not those in .*dvc repro -f prepare@screen"):
            read_prepared("screen", task_of)
    table = pd.read_parquet(folder / "response.parquet")
    table["ln_ic50"] = table["ln_ic50"] + 0.001  # the calls stay, what was measured does not
    table.to_parquet(folder / "response.parquet", index=False)
    with pytest.raises(UserError, match="the targets are not those in"):
        read_prepared("screen", small)


@pytest.mark.parametrize(
    ("text", "line_of", "says"),
    [
        (params_text(CALLED.replace("waterfall", "median")), "threshold:", "one of waterfall, quantile, otsu"),
        (params_text(CALLED.replace("5}", "-1}")), "threshold:", "prior_rows is -1.*at least 0"),
        (params_text(""), "    data:", "params.tasks.drug_response.data lacks threshold"),
        (params_text().replace("problem: classification", "problem: regression", 1), "threshold:", "unknown key"),
        (params_text(target="auc"), "target_range:", r"from -20 to 20 is none of areas .* write \[0.0, 1.2\]"),
    ],
)
def test_a_fault_in_the_rule_is_refused_with_its_line(text: str, line_of: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if line_of in each)
    with pytest.raises(ParamsError, match=rf"line {line}: .*{says}"):
        read_params(path)


def test_areas_are_validated_in_their_range(tmp_path: Path) -> None:
    text = SHIPPED.replace("target: ln_ic50", "target: auc", 1)
    text = text.replace("target_range: [-20.0, 20.0]", "target_range: [0.0, 1.2]", 1)
    of_areas: Any = read_params(written(tmp_path, text)).task("drug_response")
    folder = write_response_folder(tmp_path / "raw")
    with pytest.raises(DataError, match=r"response\.parquet, column auc: the column is missing"):
        read_response_tables(folder, of_areas)
    table = pd.read_parquet(folder / "response.parquet")
    table["auc"] = 1 / (1 + np.exp(-table["ln_ic50"] / 3))
    table.loc[[3, 5], "auc"] = [1.5, -0.1]
    table.to_parquet(folder / "response.parquet", index=False)
    (fault,) = validate_folder(folder, "screen", of_areas).errors
    assert (fault.expectation, fault.column, fault.rows) == ("target_in_range", "auc", (4, 6))
