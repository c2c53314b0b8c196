"""Faulty follow-ups must not get past `pipelines.validate`, and the user must be told file, column and rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.params import read_params
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.samples.follow_up import read_follow_up
from pipelines.simulate.survival import log_hazard, simulate_breast_survival
from pipelines.typed_yaml import ParamsError
from pipelines.validate import validate_folder

ROOT = Path(__file__).parents[2]
NAME = "breast_survival"
TIME, EVENT = "relapse_days", "relapse"


def _task(**data: Any) -> Any:
    task: Any = read_params(ROOT / "params.yaml").task(NAME)
    return replace(task, data=replace(task.data, **data))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound raw folder."""
    folder = tmp_path_factory.mktemp("clean")
    simulate_breast_survival(folder, patients=120)
    return folder


def _with(clean: Path, folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """Return a copy whose samples.csv was changed."""
    (folder / "expression.parquet").write_bytes((clean / "expression.parquet").read_bytes())
    change(pd.read_csv(clean / SAMPLES_FILE, dtype=str)).to_csv(folder / SAMPLES_FILE, index=False)
    return folder


def _cell(column: str, value: str, row: int = 3) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[row, column] = value
        return table

    return change


def test_the_shipped_sample_is_sound(clean: Path) -> None:
    found = validate_folder(clean, NAME, _task())
    assert found.passed and not found.warnings


@pytest.mark.parametrize("words", [("true", "false"), ("TRUE", "FALSE"), ("1.0", "0.0")])
def test_events_may_be_written_as_truth(clean: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    written = dict(zip("10", words, strict=True))
    folder = _with(clean, tmp_path, lambda table: table.assign(relapse=table[EVENT].map(written)))
    assert validate_folder(folder, NAME, _task()).passed
    expected = _task().read(clean).samples.target
    np.testing.assert_array_equal(_task().read(folder).samples.target, expected)


@pytest.mark.parametrize(
    ("expectation", "column", "value"),
    [
        ("time_number", TIME, "soon"),
        ("time_number", TIME, "inf"),
        ("time_positive", TIME, "0"),
        ("time_positive", TIME, "-12"),
        ("event_truth", EVENT, "2"),
        ("event_truth", EVENT, "deceased"),
    ],
)
def test_a_cell_that_is_none_is_refused_by_row(
    clean: Path, tmp_path: Path, expectation: str, column: str, value: str
) -> None:
    found = validate_folder(_with(clean, tmp_path, _cell(column, value)), NAME, _task())
    told = [each for each in found.errors if each.expectation == expectation]
    assert [(each.file, each.column, each.rows) for each in told] == [(SAMPLES_FILE, column, (4,))]
    assert repr(value) in told[0].message or value in told[0].message


@pytest.mark.parametrize("column", [TIME, EVENT])
@pytest.mark.parametrize("word", ["", "NA", "not reported"])
def test_a_sample_without_a_follow_up_is_dropped_and_told(clean: Path, tmp_path: Path, column: str, word: str) -> None:
    folder = _with(clean, tmp_path, _cell(column, word))
    found = validate_folder(folder, NAME, _task())
    assert found.passed
    told = [(each.expectation, each.rows) for each in found.warnings if each.expectation != "text_known"]
    assert told == [("follow_up_known", (4,))]
    kept = _task().read(folder)
    assert kept.counts["rows"]["dropped"]["without_follow_up"] == 1
    assert len(kept.samples) == len(_task().read(clean).samples) - 1


@pytest.mark.parametrize("column", [TIME, EVENT])
def test_a_missing_column_is_refused(clean: Path, tmp_path: Path, column: str) -> None:
    folder = _with(clean, tmp_path, lambda table: table.drop(columns=column))
    found = validate_folder(folder, NAME, _task())
    assert ("column_exists", column) in [(each.expectation, each.column) for each in found.errors]
    with pytest.raises(DataError, match=column):
        _task().read(folder)


@pytest.mark.parametrize(
    ("expectation", "change"),
    [
        ("events_enough", lambda table: table.assign(relapse="0")),
        ("followed_long_enough", lambda table: table.assign(relapse_days=table[TIME].astype(int).clip(upper=2000))),
        ("time_unit_long", lambda table: table.assign(relapse_days=table[TIME].astype(int) * 100)),
        ("time_unit_short", lambda table: table.assign(relapse_days=table[TIME].astype(int) / 365.25)),
    ],
)
def test_a_follow_up_that_cannot_be_learnt_from_is_refused(
    clean: Path, tmp_path: Path, expectation: str, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    found = validate_folder(_with(clean, tmp_path, change), NAME, _task())
    assert expectation in [each.expectation for each in found.errors]


def test_a_cohort_without_anyone_censored_is_told(clean: Path, tmp_path: Path) -> None:
    found = validate_folder(_with(clean, tmp_path, lambda table: table.assign(relapse="1")), NAME, _task())
    assert found.passed
    assert [each.expectation for each in found.warnings] == ["some_censored"]


def test_horizons_before_every_event_are_refused(clean: Path) -> None:
    found = validate_folder(clean, NAME, _task(horizons=(1.0, 1825.0), horizon=1.0))
    assert [each.expectation for each in found.errors] == ["events_before_horizon"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_whatever_a_cell_holds_is_read_or_dropped_and_never_guessed(time: str, event: str) -> None:
    data = _task().data
    found = read_follow_up(pd.DataFrame({TIME: [time], EVENT: [event]}, dtype=object), data)
    assert found.known.shape == (1,)
    if found.known[0]:
        assert float(time) > 0 and np.isfinite(float(time))
        assert event.strip().lower() in ("1", "0", "1.0", "0.0", "true", "false")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("horizons: [365.0, 1095.0, 1825.0, 2190.0]", "horizons: [365.0]"),
        ("horizons: [365.0, 1095.0, 1825.0, 2190.0]", "horizons: [1825.0, 365.0]"),
        ("horizons: [365.0, 1095.0, 1825.0, 2190.0]", "horizons: [-1.0, 1825.0]"),
        ("horizon: 1825.0 ", "horizon: 1000.0 "),
        ("unit: days ", "unit: weeks "),
        ("time: relapse_days ", "time: ''"),
        ("metric: concordance                 #", "metric: uno_concordance  #"),  # a study cannot optimize it
    ],
)
def test_params_that_make_no_sense_are_refused(tmp_path: Path, key: str, value: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    assert key in text
    (tmp_path / "params.yaml").write_text(text.replace(key, value))
    with pytest.raises(ParamsError, match=NAME):
        read_params(tmp_path / "params.yaml")


def test_the_simulated_hazard_is_what_the_data_shows(clean: Path, tmp_path: Path) -> None:
    """The sample must hold a signal, censoring, and the same bytes for the same seed."""
    simulate_breast_survival(tmp_path, patients=120)
    for file in ("expression.parquet", SAMPLES_FILE):
        assert (tmp_path / file).read_bytes() == (clean / file).read_bytes()
    table = pd.read_csv(clean / SAMPLES_FILE)
    assert table["patient_id"].nunique() == 120
    assert len(table) == 132
    assert 0.25 < 1 - table[EVENT].mean() < 0.6
    activity = np.random.default_rng(0).normal(size=(500, 6))
    assert log_hazard(activity).std() > 0.8
    assert log_hazard(np.zeros((1, 6)))[0] == 0
