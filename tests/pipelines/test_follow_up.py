"""A follow-up is read as written, or dropped and counted; nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable
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

ROOT = Path(__file__).parents[2]
NAME = "breast_survival"
TIME, EVENT = "relapse_days", "relapse"
TASK: Any = read_params(ROOT / "params.yaml").task(NAME)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound raw folder."""
    folder = tmp_path_factory.mktemp("clean")
    simulate_breast_survival(folder, patients=120)
    return folder


def _read(clean: Path, folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Any:
    """Read a copy whose samples.csv was changed."""
    (folder / "expression.parquet").write_bytes((clean / "expression.parquet").read_bytes())
    change(pd.read_csv(clean / SAMPLES_FILE, dtype=str)).to_csv(folder / SAMPLES_FILE, index=False)
    return TASK.read(folder)


def test_events_may_be_truth_values_and_samples_without_follow_up_are_counted(clean: Path, tmp_path: Path) -> None:
    whole, words = TASK.read(clean).samples, {"1": "TRUE", "0": "False"}
    kept = _read(clean, tmp_path, lambda table: table.assign(relapse=table[EVENT].map(words)))
    np.testing.assert_array_equal(kept.samples.target, whole.target)
    for column, word in ((TIME, ""), (EVENT, "not reported")):

        def without(table: pd.DataFrame, column: str = column, word: str = word) -> pd.DataFrame:
            return table.assign(**{column: [*table[column][:-1], word]})

        kept = _read(clean, tmp_path, without)
        assert kept.counts["rows"]["dropped"]["without_follow_up"] == 1
        assert len(kept.samples) == len(whole) - 1
    with pytest.raises(DataError, match=TIME):
        _read(clean, tmp_path, lambda table: table.drop(columns=TIME))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_every_cell_is_read_or_dropped_and_never_guessed(time: str, event: str) -> None:
    found = read_follow_up(pd.DataFrame({TIME: [time], EVENT: [event]}, dtype=object), TASK.data)
    assert found.known.shape == (1,)
    if found.known[0]:
        assert float(time) > 0 and np.isfinite(float(time))
        assert event.strip().lower() in ("1", "0", "1.0", "0.0", "true", "false")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("horizons: [365.0, 1095.0, 1825.0, 2190.0]", "horizons: [365.0]"),
        ("horizons: [365.0, 1095.0, 1825.0, 2190.0]", "horizons: [1825.0, 365.0]"),
        ("horizon: 1825.0 ", "horizon: 1000.0 "),
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
    assert (table["patient_id"].nunique(), len(table)) == (120, 132)
    assert 0.25 < 1 - table[EVENT].mean() < 0.6
    assert log_hazard(np.random.default_rng(0).normal(size=(500, 6))).std() > 0.8
    assert log_hazard(np.zeros((1, 6)))[0] == 0
