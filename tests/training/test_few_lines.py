"""What a linear model would say of new lines where it knows hardly more lines than genes: anything at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from pipelines.datasets import prepare
from pipelines.simulate.response import Size, simulate_drug_response
from tests.training.tiny import NAME, build, tiny_params
from training.architectures import get_architecture
from training.features.cell_line import CellLineFeatures

GENES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("few lines")
    simulate_drug_response(found, Size(lines=48, molecules=14, genes=GENES, programs=2))
    return found


@pytest.mark.parametrize(
    ("split", "interactions"),
    [
        ({"mode": "cell_blind", "train_study": "", "test_study": ""}, False),
        ({"mode": "cross_study", "train_study": "SIM1", "test_study": "SIM2"}, True),
    ],
)
def test_directions_in_which_training_lines_happen_not_to_differ_decide_nothing(
    split: dict[str, str], interactions: bool, folder: Path
) -> None:
    params = tiny_params()
    task: Any = params.task(NAME)
    task = replace(task, split=replace(task.split, **split))
    prepared = prepare(task.read(folder), task, params.seed)
    train, test = prepared.side("train"), prepared.side("test")
    assert len(np.unique(train.cell)) == GENES  # as many directions as lines: the last ones are nearly nothing
    architecture = get_architecture("elastic_net", "pairs", "regression")
    model = build(architecture, {**architecture.defaults, "interactions": interactions}).fit(train)
    assert r2_score(train.target, model.predict(train)) > 0.4
    assert r2_score(test.target, model.predict(test)) > -0.5  # was -465


def _fitted(lines: int) -> tuple[CellLineFeatures, dict[str, pd.DataFrame], np.ndarray]:
    """Return features of some of many like lines, the tables of these, and how the others spread."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(lines + 2000, 40)) @ rng.normal(size=(40, 40)) + 5).add_prefix("G")
    about = pd.DataFrame({"tissue": "lung"}, index=table.index)
    known = {"expression": table.iloc[:lines]}
    features = CellLineFeatures(("expression",), components=64).fit(about.iloc[:lines], known)
    return features, known, features.transform(about, {"expression": table}).astype(np.float64)


def test_the_spread_of_other_lines_is_found_from_the_training_lines_and_of_many_lines_it_is_theirs() -> None:
    features, known, every = _fitted(60)
    told = features.unseen_spread(known)[: features.width - 1]
    true = every[60:, :-1].std(axis=0) / every[:60, :-1].std(axis=0)
    assert true[-1] > 2.5 > 1.2 > true[0]  # the last component deceives, the first does not
    seen = np.isfinite(told)
    assert seen.sum() >= 38 and (told >= 1).all()
    assert np.abs(np.log(told[seen] / np.maximum(true[seen], 1))).max() < np.log(2)
    features, known, _ = _fitted(1500)
    assert features.unseen_spread(known).max() < 1.1


def test_a_table_without_components_or_with_one_line_is_left_as_it_is() -> None:
    table = pd.DataFrame({"A": [1.0, 2.0, 4.0], "B": [3.0, 1.0, 1.0]})
    about = pd.DataFrame({"tissue": "lung"}, index=table.index)
    plain = CellLineFeatures(("expression",)).fit(about, {"expression": table})
    assert plain.unseen_spread({"expression": table}).tolist() == [1.0, 1.0, 1.0]
    alone = CellLineFeatures(("expression",), components=4).fit(about[:1], {"expression": table[:1]})
    assert len(alone.unseen_spread({"expression": table[:1]})) == alone.width
