"""No row may vanish uncounted, no call depend on test rows: what is kept of pairs, and what is called sensitive."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.datasets import prepare, read_prepared, write_prepared
from pipelines.errors import DataError, UserError
from pipelines.modalities.pairs import MissingPolicy, PairsTask
from pipelines.params import ParamsError, read_params
from pipelines.samples import Kept
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.molecules import parent
from pipelines.samples.response import ResponseSamples, keep_samples, required_fields
from pipelines.samples.sensitivity import call_by_training_rows, learn_thresholds, waterfall
from pipelines.tasks.pairs_classification import Threshold
from pipelines.validate import validate_folder
from tests.pipelines.damages import cell, column
from tests.pipelines.response_tables import (
    ROOT,
    make_tables,
    profile,
    samples_of,
    shipped_task,
    shuffled,
    split_of,
    with_profile,
    write_response_folder,
)

LINES, DRUGS = 10, 6
OMICS = ("expression", "mutation", "copy_number", "methylation")
LENIENT = MissingPolicy("impute", "impute", "impute", "impute", "one_hot", "one_hot")
TABLES = make_tables(LINES, DRUGS)


def task_of(**rules: str) -> PairsTask:
    task = shipped_task()
    return replace(task, data=replace(task.data, missing=replace(LENIENT, **rules)))  # type: ignore[arg-type]


def kept(tables: ResponseTables, **rules: str) -> Kept:
    return keep_samples(tables, task_of(**rules))


def test_a_gap_makes_no_profile_missing_an_optional_file_may_be_and_a_target_must_be_for_training() -> None:
    gapped = profile(TABLES, "expression", "L01").copy()
    gapped[3] = np.nan
    outcome = kept(with_profile(TABLES, "expression", "L01", gapped), expression="drop")
    assert outcome.counts["rows"]["kept"] == LINES * DRUGS
    np.testing.assert_array_equal(outcome.samples.omics["expression"].loc["L01"], gapped)
    nothing = pd.DataFrame({"cell_line_id": pd.Series(dtype=object)})  # as of an optional file that is not there
    outcome = kept(replace(TABLES, omics=TABLES.omics | {"methylation": nothing}))
    assert outcome.counts["without"]["methylation"] == {"rule": "impute", "kept": LINES}
    assert outcome.samples.omics["methylation"].shape == (LINES, 0) and len(outcome.samples) == 60
    bare = replace(TABLES, response=TABLES.response.drop(columns="ln_ic50"))
    unlabelled = keep_samples(bare, task_of(), labelled=False)
    assert len(unlabelled.samples) == LINES * DRUGS
    assert "target" not in unlabelled.samples.pairs and "without_target" not in unlabelled.counts["rows"]["dropped"]


@st.composite
def holed(draw: st.DrawFn) -> tuple[ResponseTables, PairsTask]:
    tables = make_tables(LINES, DRUGS)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    some = st.sampled_from([0.0, 0.2, 0.6, 1.0])

    def hit(table: pd.DataFrame, column: str, instead: str | None = None) -> pd.DataFrame:
        held = table[column].where(rng.random(len(table)) >= draw(some), np.nan if column == "ln_ic50" else instead)
        return table.assign(**{column: held})

    response = hit(hit(hit(tables.response, "ln_ic50"), "cell_line_id", "nobody"), "drug_id", "nothing")
    response = response.assign(study=[f"study {number}" for number in range(60)])
    omics = {name: table[rng.random(LINES) >= draw(some)] for name, table in tables.omics.items()}
    for table in omics.values():  # rows without a value
        table.loc[rng.random(len(table)) < draw(some), table.columns[1:]] = np.nan
    tables = ResponseTables(response, hit(tables.cell_lines, "tissue"), hit(tables.drugs, "smiles"), omics)
    rules = {name: draw(st.sampled_from(["drop", "impute"])) for name in OMICS}
    rules |= {name: draw(st.sampled_from(["drop", "one_hot"])) for name in ("tissue", "smiles")}
    return tables, task_of(**rules)


@settings(max_examples=30, deadline=None)
@given(holed())
def test_every_row_is_kept_or_counted_under_one_rule(case: tuple[ResponseTables, PairsTask]) -> None:
    tables, task = case
    outcome = keep_samples(tables, task)
    samples, counts, response = outcome.samples, outcome.counts, tables.response
    rows = counts["rows"]
    assert (rows["raw"], rows["kept"]) == (len(response), len(samples))
    assert rows["kept"] + sum(rows["dropped"].values()) == rows["raw"]
    assert min(rows["dropped"].values()) >= 0

    # What is kept has what must not be missing, and nothing that has it is dropped.
    there = {"line": tables.cell_lines, "drug": tables.drugs}
    there |= {
        name: table.set_index("cell_line_id").dropna(how="all").reset_index() for name, table in tables.omics.items()
    }
    there |= {"tissue": tables.cell_lines.dropna(subset="tissue"), "smiles": tables.drugs.dropna(subset="smiles")}
    whole = response["ln_ic50"].notna()
    for name in ("line", "drug", *required_fields(task.data.missing, OMICS)):
        key = "drug_id" if name in ("drug", "smiles") else "cell_line_id"
        whole &= response[key].isin(there[name][key])
    expected = response[whole]
    assert samples.pairs["study"].tolist() == expected["study"].tolist()
    np.testing.assert_array_equal(samples.target, expected["ln_ic50"].to_numpy(np.float64))

    consistent(samples)
    assert counts["cell_lines"]["kept"] == len(samples.cell_lines) == samples.pairs["cell_line_id"].nunique()
    assert counts["drugs"]["kept"] == len(samples.drugs) == samples.pairs["drug_id"].nunique()
    for name in OMICS:
        assert counts["without"][name]["kept"] == samples.omics[name].isna().all(axis=1).sum()


def consistent(samples: ResponseSamples) -> None:
    assert len(samples.cell) == len(samples.drug) == len(samples.pairs) == len(samples)
    assert samples.cell_lines.index[samples.cell].tolist() == samples.pairs["cell_line_id"].tolist()
    assert samples.drugs.index[samples.drug].tolist() == samples.pairs["drug_id"].tolist()
    assert samples.pairs.index.tolist() == list(range(len(samples)))
    for table in samples.omics.values():
        assert table.index.equals(samples.cell_lines.index)
        assert set(table.dtypes) <= {np.dtype(np.float32)}


def test_features_stay_with_their_line_whatever_the_order_of_the_files() -> None:
    samples = kept(shuffled(TABLES, 3)).samples
    consistent(samples)
    for omics, position in itertools.product(OMICS, (0, 17, 59)):
        row = samples.omics[omics].to_numpy()[samples.cell[position]]
        np.testing.assert_array_equal(row, profile(TABLES, omics, samples.pairs["cell_line_id"][position]))


def test_take_moves_pairs_indices_and_targets_together() -> None:
    samples, every = kept(TABLES).samples, np.arange(60)
    for rows in (np.array([5, 3, 3, 59]), np.array([-1]), every[:0], every % 7 == 2, every < 0):
        taken, positions = samples.take(rows), every[rows]
        assert taken.pairs["sample_id"].tolist() == samples.pairs["sample_id"].iloc[positions].tolist()
        np.testing.assert_array_equal(taken.target, samples.target[positions])
        consistent(taken)
        assert taken.omics is samples.omics  # shared, not copied


# Calls of sensitivity.

METHODS = ("waterfall", "quantile")
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
def task(tmp_path: Path) -> Any:
    return read_params(written(tmp_path, params_text())).task("drug_response")


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
    offset = np.column_stack([rank, falling]) - [rank[0], falling[0]]
    along = offset[-1] / np.linalg.norm(offset[-1])
    distance = np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0])
    assert distance[np.flatnonzero(falling == found)[0]] == pytest.approx(distance.max(), rel=1e-9, abs=1e-12)


def test_few_rows_draw_a_drug_towards_the_threshold_over_all() -> None:
    every = samples(lines=30, drugs=4)
    drug = every.drugs.index[every.drug]
    one_row = np.flatnonzero(drug == "D01")[:1]
    train = every.take(np.concatenate([np.flatnonzero(~drug.isin(["D01", "D02"])), one_row]))
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
    over_all, (d00, d01, d02) = found.overall, (found.by_drug[drug] for drug in ("D00", "D01", "D02"))
    for drug_id, smiles, expected in (
        *(("D03", "CCCCO", over_all), ("nobody knows", None, over_all), ("D99", "CO", d00)),
        *(("another id", "OCC", d01), ("D01", "OC", d01), ("D02", None, d02)),  # another spelling; the id counts first
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


def test_prepare_learns_on_the_training_side_and_counts_the_calls(task: Any) -> None:
    task = replace(task, split=replace(task.split, **vars(split_of("cell_blind"))))
    tables = make_tables(lines=40)
    made = prepare(keep_samples(tables, task), task, seed=1)
    assert made.samples.thresholds == learn_thresholds(made.samples.measured.take(made.rows("train")), RULE)
    below = made.table["response"] < made.table["threshold"]
    np.testing.assert_array_equal(made.table["target"], below.astype(int))
    assert made.counts["sensitive"] == made.table.groupby("split")["target"].sum().to_dict()
    regression = replace(shipped_task(), split=task.split)
    assert made.sha256 == prepare(keep_samples(tables, regression), regression, seed=1).sha256


def test_new_rules_or_responses_want_a_new_prepare(task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    column("response.parquet", "ln_ic50", lambda table: table["ln_ic50"] + 0.001)(folder)  # the calls stay
    with pytest.raises(UserError, match="the targets are not those in"):
        read_prepared("screen", small)


@pytest.mark.parametrize(
    ("text", "line_of", "says"),
    [
        (params_text(CALLED.replace("waterfall", "median")), "threshold:", "one of waterfall, quantile"),
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
    column("response.parquet", "auc", lambda table: 1 / (1 + np.exp(-table["ln_ic50"] / 3)))(folder)
    for row, value in ((4, 1.5), (6, -0.1)):
        cell("response.parquet", row, "auc", value)(folder)
    (fault,) = validate_folder(folder, "screen", of_areas).errors
    assert (fault.expectation, fault.column, fault.rows) == ("target_in_range", "auc", (4, 6))
