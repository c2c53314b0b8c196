"""No row may vanish uncounted: what the rules for missing values drop, keep and count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.modalities.pairs import MissingPolicy, PairsTask
from pipelines.samples import Kept
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.response import ResponseSamples, keep_samples, required_fields
from tests.pipelines.expression_folder import edited
from tests.pipelines.response_folder import write_response_folder
from tests.pipelines.response_tables import make_tables, profile, shipped_task, shuffled, with_profile

LINES, DRUGS = 10, 6
OMICS = ("expression", "mutation", "copy_number", "methylation")
LENIENT = MissingPolicy("impute", "impute", "impute", "impute", "one_hot", "one_hot")
TABLES = make_tables(LINES, DRUGS)


def task_of(**rules: str) -> PairsTask:
    """Return the task that drops nothing but what ``rules`` say."""
    task = shipped_task()
    return replace(task, data=replace(task.data, missing=replace(LENIENT, **rules)))  # type: ignore[arg-type]


def kept(tables: ResponseTables, **rules: str) -> Kept:
    return keep_samples(tables, task_of(**rules))


def test_a_gap_in_a_profile_does_not_make_it_missing_and_an_optional_file_may_be() -> None:
    gapped = profile(TABLES, "expression", "L01").copy()
    gapped[3] = np.nan
    outcome = kept(with_profile(TABLES, "expression", "L01", gapped), expression="drop")
    assert outcome.counts["rows"]["kept"] == LINES * DRUGS
    np.testing.assert_array_equal(outcome.samples.omics["expression"].loc["L01"], gapped)
    nothing = pd.DataFrame({"cell_line_id": pd.Series(dtype=object)})  # as of an optional file that is not there
    outcome = kept(replace(TABLES, omics=TABLES.omics | {"methylation": nothing}))
    assert outcome.counts["without"]["methylation"] == {"rule": "impute", "kept": LINES}
    assert outcome.samples.omics["methylation"].shape == (LINES, 0) and len(outcome.samples) == 60


def test_rows_without_a_target_are_dropped_for_training_and_kept_for_prediction() -> None:
    targets = TABLES.response["ln_ic50"].where(TABLES.response.index % 10 > 0)
    missing = int(targets.isna().sum())
    outcome = kept(replace(TABLES, response=TABLES.response.assign(ln_ic50=targets)))
    assert outcome.counts["rows"]["dropped"]["without_target"] == missing == 6
    assert np.isfinite(outcome.samples.target).all()

    bare = replace(TABLES, response=TABLES.response.drop(columns="ln_ic50"))
    unlabelled = keep_samples(bare, task_of(), labelled=False)
    assert len(unlabelled.samples) == LINES * DRUGS
    assert "target" not in unlabelled.samples.pairs and "without_target" not in unlabelled.counts["rows"]["dropped"]


@st.composite
def holed(draw: st.DrawFn) -> tuple[ResponseTables, PairsTask]:
    """Return tables with holes of every kind, and any rules."""
    tables = make_tables(LINES, DRUGS)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    some = st.sampled_from([0.0, 0.2, 0.6, 1.0])

    def hit(values: pd.Series, share: float) -> pd.Series:
        return values.astype(object).where(rng.random(len(values)) >= share, None)

    response = tables.response.assign(
        ln_ic50=tables.response["ln_ic50"].where(rng.random(60) >= draw(some)),
        cell_line_id=tables.response["cell_line_id"].where(rng.random(60) >= draw(some), "nobody"),
        drug_id=tables.response["drug_id"].where(rng.random(60) >= draw(some), "nothing"),
        study=[f"study {number}" for number in range(60)],
    )
    omics = {name: table[rng.random(LINES) >= draw(some)] for name, table in tables.omics.items()}
    for table in omics.values():  # rows without a value
        table.loc[rng.random(len(table)) < draw(some), table.columns[1:]] = np.nan
    tables = ResponseTables(
        response,
        tables.cell_lines.assign(tissue=hit(tables.cell_lines["tissue"], draw(some))),
        tables.drugs.assign(smiles=hit(tables.drugs["smiles"], draw(some))),
        omics,
    )
    rules = {name: draw(st.sampled_from(["drop", "impute"])) for name in OMICS}
    rules |= {name: draw(st.sampled_from(["drop", "one_hot"])) for name in ("tissue", "smiles")}
    return tables, task_of(**rules)


@settings(max_examples=30, deadline=None)
@given(holed())
def test_every_row_is_kept_or_counted_under_one_rule(case: tuple[ResponseTables, PairsTask]) -> None:
    tables, task = case
    outcome = keep_samples(tables, task)
    samples, counts = outcome.samples, outcome.counts
    rows = counts["rows"]
    assert (rows["raw"], rows["kept"]) == (len(tables.response), len(samples))
    assert rows["kept"] + sum(rows["dropped"].values()) == rows["raw"]
    assert min(rows["dropped"].values()) >= 0

    # What is kept has what must not be missing, and nothing that has it is dropped.
    response = tables.response
    whole = response["ln_ic50"].notna()
    whole &= response["cell_line_id"].isin(tables.cell_lines["cell_line_id"])
    whole &= response["drug_id"].isin(tables.drugs["drug_id"])
    for name in required_fields(task.data.missing, OMICS):
        if name in OMICS:
            measured = tables.omics[name].set_index("cell_line_id").dropna(how="all")
            whole &= response["cell_line_id"].isin(measured.index)
        elif name == "tissue":
            whole &= response["cell_line_id"].isin(tables.cell_lines.dropna(subset="tissue")["cell_line_id"])
        else:
            whole &= response["drug_id"].isin(tables.drugs.dropna(subset="smiles")["drug_id"])
    expected = response[whole]
    assert samples.pairs["study"].tolist() == expected["study"].tolist()
    np.testing.assert_array_equal(samples.target, expected["ln_ic50"].to_numpy(np.float64))

    consistent(samples)
    assert counts["cell_lines"]["kept"] == len(samples.cell_lines) == samples.pairs["cell_line_id"].nunique()
    assert counts["drugs"]["kept"] == len(samples.drugs) == samples.pairs["drug_id"].nunique()
    for name in OMICS:
        assert counts["without"][name]["kept"] == samples.omics[name].isna().all(axis=1).sum()


def consistent(samples: ResponseSamples) -> None:
    """Check that indices, tables and pairs of ``samples`` agree."""
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
    for omics in OMICS:
        for position in (0, 17, 59):
            row = samples.omics[omics].to_numpy()[samples.cell[position]]
            np.testing.assert_array_equal(row, profile(TABLES, omics, samples.pairs["cell_line_id"][position]))


def test_ids_of_digits_stay_text_and_keep_their_zeros(tmp_path: Path) -> None:
    """A CSV file has no types: 007 must not become 7, which no parquet file names."""
    folder = write_response_folder(tmp_path)

    def numbered(table: pd.DataFrame) -> None:
        table["cell_line_id"] = table["cell_line_id"].str.replace("LINE-", "00")

    for file in ("cell_lines.csv", "response.parquet", *(f"{omics}.parquet" for omics in OMICS)):
        edited(file, numbered)(folder)
    task = shipped_task()
    outcome = keep_samples(read_response_tables(folder, task), task)
    assert outcome.counts["rows"]["dropped"]["unknown_cell_line"] == 0
    assert outcome.samples.cell_lines.index[0] == "0001"
    assert outcome.samples.pairs["sample_id"].iloc[0] == "GDSC1|0001|DRUG-1"
    consistent(outcome.samples)


def test_take_moves_pairs_indices_and_targets_together() -> None:
    samples, every = kept(TABLES).samples, np.arange(60)
    for rows in (np.array([5, 3, 3, 59]), np.array([-1]), every[:0], every % 7 == 2, every < 0):
        taken, positions = samples.take(rows), every[rows]
        assert taken.pairs["sample_id"].tolist() == samples.pairs["sample_id"].iloc[positions].tolist()
        np.testing.assert_array_equal(taken.target, samples.target[positions])
        consistent(taken)
        assert taken.omics is samples.omics  # shared, not copied
