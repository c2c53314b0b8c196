"""A model that met the line in the first study has not been tested on the second: lines held out, studies unmixed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipelines.datasets import OFF_QUESTION, prepare, read_prepared, write_prepared
from pipelines.errors import UserError
from pipelines.groups import sample_identities
from pipelines.modalities.pairs import PairsSplit
from pipelines.samples.formats import ResponseTables
from pipelines.split import NO_FOLD, SIDES, SplitError, guard, split_samples, split_sha256
from tests.pipelines.response_folder import write_response_folder
from tests.pipelines.response_tables import NAME, make_tables, samples_of, shipped_task, shuffled
from tests.pipelines.response_tables import split_of as pair_split
from tests.pipelines.test_split_integrity import Screen, in_order, screens

FIRST, SECOND = "GDSC1", "GDSC2"


def split_of(**settings: Any) -> PairsSplit:
    return pair_split("cross_study", **{"train_study": FIRST, "test_study": SECOND} | settings)


TASK = replace(shipped_task(), split=split_of())


def measured_again(tables: ResponseTables, lines: int | None = None) -> ResponseTables:
    """Return the tables with the first ``lines`` lines in a second study too, and its drugs under ids of their own."""
    second = tables.response.assign(
        study=SECOND, drug_id="other " + tables.response["drug_id"], ln_ic50=tables.response["ln_ic50"] + 1
    )
    if lines is not None:
        second = second[second["cell_line_id"].str[1:].astype(int) < lines]
    renamed = tables.drugs.assign(drug_id="other " + tables.drugs["drug_id"])
    return replace(
        tables,
        response=pd.concat([tables.response, second], ignore_index=True),
        drugs=pd.concat([tables.drugs, renamed], ignore_index=True),
    )


def split_table(tables: ResponseTables, seed: int = 5, **settings: Any) -> pd.DataFrame:
    return split_samples(samples_of(tables, TASK), split_of(**settings), seed)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(screen=screens(), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99), third=st.booleans())
def test_lines_stay_apart_studies_unmixed_and_only_the_question_is_kept(
    screen: Screen, seed: int, order: int, third: bool
) -> None:
    response = screen.tables.response
    own = response[response["study"] == FIRST]
    again = own[np.random.default_rng(order).random(len(own)) < 0.7].assign(study=SECOND)
    others = [own.head(20).assign(study="GDSC3")] if third else []
    tables = replace(screen.tables, response=pd.concat([own, again, *others], ignore_index=True))
    samples = samples_of(tables, TASK)
    try:
        table = split_samples(samples, split_of(), seed)
    except SplitError as error:
        assert "group" in str(error)
        reject()

    assert table["sample_id"].is_monotonic_increasing and table["sample_id"].is_unique
    assert set(table["split"]) == set(SIDES)
    assert set(table.loc[table["split"] == "test", "study"]) == {SECOND}
    assert set(table.loc[table["split"] != "test", "study"]) == {FIRST}
    assert set(table.loc[table["split"] == "test", "fold"]) == {NO_FOLD}
    assert set(table.loc[table["split"] != "test", "fold"]) == {0, 1, 2}

    # No line on two sides or in two folds, whatever its name.
    line = table["cell_line_id"].replace({b: a for a, b in screen.same_lines})
    for place in ("split", "fold"):
        assert table.groupby(line)[place].nunique().max() == 1
        assert table.groupby("group")[place].nunique().max() == 1

    # Every row of the question, and no other.
    held_out = set(line[table["split"] == "test"])
    pairs = samples.pairs
    true_line = pairs["cell_line_id"].replace({b: a for a, b in screen.same_lines})
    tested = (pairs["study"] == SECOND) & true_line.isin(held_out)
    trained = (pairs["study"] == FIRST) & true_line.isin(set(line) - held_out)
    assert set(table["sample_id"]) == set(pairs.loc[tested | trained, "sample_id"])

    again_table = split_samples(samples_of(shuffled(tables, order), TASK), split_of(), seed)
    assert split_sha256(again_table) == split_sha256(table)


def test_shares_are_those_of_the_lines_and_lines_of_both_studies_are_held_out_in_proportion_too() -> None:
    counts = split_table(measured_again(make_tables(50, 3)), test=0.3, validation=0.1).drop_duplicates("group")["split"]
    for side, share in {"test": 0.3, "validation": 0.1, "train": 0.6}.items():
        assert abs((counts == side).sum() - share * 50) <= 1
    tables = measured_again(make_tables(100, 4), lines=40)  # of 100 lines the second study has 40
    for seed in range(5):
        tested = split_table(tables, seed).query("split == 'test'")["cell_line_id"].nunique()
        assert 6 <= tested <= 10  # a fifth of 40


def test_a_study_that_is_not_there_is_named_with_those_that_are() -> None:
    unknown: list[tuple[dict[str, Any], str]] = [({"test_study": "CTRP"}, "CTRP"), ({"train_study": ""}, "")]
    for changed, name in unknown:
        with pytest.raises(SplitError, match=f"'{name}', which is no study of the data; the studies are GDSC1, GDSC2"):
            split_table(measured_again(make_tables()), **changed)
    with pytest.raises(SplitError, match=r"study GDSC2 has 3 groups of cell lines, at least 4 are needed"):
        split_table(measured_again(make_tables(), lines=3))
    assert set(split_table(measured_again(make_tables(), lines=12))["split"]) == set(SIDES)


def test_guard_finds_a_row_of_the_other_study_and_a_test_line_among_the_training_rows() -> None:
    samples = samples_of(measured_again(make_tables(30, 4)), TASK)
    table = split_samples(samples, split_of(), 5)
    samples = in_order(samples, table)
    identities = sample_identities(samples, "cross_study")
    guard(table, identities, split_of())
    for side, study in (("train", SECOND), ("validation", SECOND), ("test", FIRST)):
        first = table.index == table.index[table["split"] == side][0]
        with pytest.raises(SplitError, match=rf"the split leaks: sample .* of study {study} is on side {side}"):
            guard(table.assign(study=table["study"].where(~first, study)), identities, split_of())
    tested = table.loc[table["split"] == "test", "cell_line_id"].iloc[0]
    row = table.index[table["split"] == "train"][0]
    pairs = samples.pairs.copy()
    pairs.loc[row, "cell_line_id"] = tested
    with pytest.raises(SplitError, match=r"1 cell line\(s\) on two sides"):
        guard(table, sample_identities(replace(samples, pairs=pairs), "cross_study"), split_of())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_response_folder(tmp_path / "data" / NAME)
    path = tmp_path / "data" / NAME / "response.parquet"
    response = pd.read_parquet(path).drop_duplicates(["cell_line_id", "drug_id"]).assign(study=FIRST)
    pd.concat([response, response.assign(study=SECOND)]).to_parquet(path, index=False)
    return tmp_path


def test_what_is_left_out_is_counted_and_other_data_and_other_studies_are_refused(place: Path) -> None:
    written = prepare(TASK.read(place / "data" / NAME), TASK, 3)
    write_prepared(written, place / "prepared" / NAME, TASK, 3)
    read = read_prepared(NAME, TASK)
    rows = read.counts["rows"]
    assert rows["kept"] == len(read.samples) == len(read.table)
    assert rows["kept"] + sum(rows["dropped"].values()) == rows["raw"]
    assert rows["dropped"][OFF_QUESTION] > 0
    pd.testing.assert_frame_equal(read.samples.pairs, written.samples.pairs)
    assert read.sha256 == written.sha256
    path = place / "data" / NAME / "response.parquet"
    table = pd.read_parquet(path)
    more = pd.concat([table, table.head(1).assign(study="GDSC3")])  # of no side, so that no id of the split is missing
    for changed in (table.iloc[1:], more):
        changed.to_parquet(path, index=False)
        with pytest.raises(UserError, match="the split is not of the data in"):
            read_prepared(NAME, TASK)
    table.to_parquet(path, index=False)
    other = replace(TASK, split=split_of(train_study=SECOND, test_study=FIRST))
    with pytest.raises(SplitError, match="the split leaks"):
        read_prepared(NAME, other)
