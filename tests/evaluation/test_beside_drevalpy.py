"""A comparison with drevalpy that is of other rows: its predictions that are lost, doubled or of another data set."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.comparison.drevalpy import KEYS, NAIVE, content, read_file, read_results, run, write_data
from evaluation.comparison.drevalpy_split import __file__ as SPLIT
from evaluation.comparison.paired import paired_difference
from evaluation.evidence.build import PREDICTIONS, file_sha256
from evaluation.evidence.evidence_file import evidence_path
from evaluation.problems import measures_of
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import write_json
from tests.evaluation.made_evidence import made_evidence
from tests.training.tiny import NAME, tiny_params, tiny_prepared

PROGRAM = os.environ.get("DREVALPY")


@pytest.fixture(scope="module")
def prepared(place: Path) -> Prepared:
    return tiny_prepared(place / "data" / NAME)


@pytest.fixture(scope="module")
def ours(place: Path, prepared: Prepared) -> pd.DataFrame:
    """Predictions of a model that is evaluated."""
    tested = prepared.table.iloc[prepared.tested].reset_index(drop=True)
    noise = np.random.default_rng(0).normal(0, 1, len(tested))
    table = tested.assign(prediction=tested["target"] + noise, baseline=tested["target"].mean())
    path = evidence_path(NAME, "elastic_net")
    path.parent.mkdir(parents=True)
    table.to_parquet(path.parent / PREDICTIONS)
    found = measures_of("regression").metrics(table["target"], table["prediction"], baseline=table["baseline"])
    changes: dict[str, Any] = {
        "test__metrics": {key: {"value": one, "low": one, "high": one} for key, one in found.items()}
    }
    changes |= {"hashes__predictions.sha256": file_sha256(path.parent / PREDICTIONS), "simulated": True}
    changes["hashes__split.sha256"] = prepared.sha256
    write_json(path, made_evidence(architecture="elastic_net", **changes))
    return table


def left(ours: pd.DataFrame, folder: Path, transformation: str = "None", model: str = "Ridge") -> Path:
    """Leave what drevalpy leaves: here the same predictions as ours, in another order."""
    path = folder / "results" / transformation / "oncolineage" / "LCO" / model / "predictions/predictions_split_0.csv"
    path.parent.mkdir(parents=True)
    columns = {value: key for key, value in KEYS.items()} | {"target": "response", "prediction": "predictions"}
    ours.rename(columns=columns)[list(columns.values())].sample(frac=1, random_state=1).to_csv(path, index=False)
    return path


def test_a_model_with_itself_differs_by_nothing(ours: pd.DataFrame, prepared: Prepared, tmp_path: Path) -> None:
    left(ours, tmp_path)
    left(ours, tmp_path, transformation="drug_mean")
    params = tiny_params()
    said = content(NAME, params, prepared, tmp_path, "elastic_net")
    rows = said["sections"][0]["blocks"][1]["rows"]
    assert {row[0] for row in rows} == {"elastic_net", "drevalpy: Ridge", "drevalpy: Ridge (drug_mean)"}
    assert {row[-1] for row in rows} == {"+0.000 [+0.000, +0.000]"} and said["simulated"]
    again = ours.assign(prediction=read_file(next(tmp_path.rglob("predictions_split_0.csv")), ours))
    found = paired_difference(params.task(NAME), ours, again, "r2", resamples=100)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    with pytest.raises(UserError, match="mlp of drug_response is not evaluated"):
        content(NAME, params, prepared, tmp_path, "mlp")
    with pytest.raises(UserError, match="another split"):
        content(NAME, params, replace(prepared, sha256="0" * 64), tmp_path, "elastic_net")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[1:], "is missing .1 in all"),
        (lambda table: pd.concat([table, table[:2]]), "is there twice .2 in all"),
        (lambda table: pd.concat([table, table[:1].assign(pubchem_id="strange")]), "strange is no test row of ours"),
        (lambda table: table.assign(response=table["response"] + 1e-3), "column response"),
        (lambda table: table.assign(predictions=np.nan), "column predictions: nan"),
        (lambda table: table.drop(columns="predictions"), "has no column predictions"),
    ],
)
def test_other_rows_than_ours_are_refused_by_name(
    ours: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    path = left(ours, tmp_path)
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(UserError, match=message) as refused:
        read_results(tmp_path, ours)
    assert "predictions_split_0.csv" in str(refused.value)


@dataclass
class Rows:
    """What the split asks of a data set of drevalpy."""

    cell_line_ids: np.ndarray
    drug_ids: np.ndarray

    def copy(self) -> "Rows":
        return replace(self)

    def mask(self, kept: np.ndarray) -> None:
        self.cell_line_ids, self.drug_ids = self.cell_line_ids[kept], self.drug_ids[kept]


def test_the_split_that_it_reads_is_ours(prepared: Prepared, ours: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_data(prepared, tmp_path)
    assert folder == write_data(prepared, tmp_path)
    table = pd.read_csv(folder / "data/oncolineage/oncolineage.csv")
    code: dict[str, Any] = {"__file__": str(folder / "split.py")}
    exec(compile((folder / "split.py").read_text(), SPLIT, "exec"), code)
    [fold] = code["create_splits"](Rows(*(table[key].to_numpy() for key in KEYS)), None)
    for side, rows in fold.items():
        assert set(zip(rows.cell_line_ids, rows.drug_ids, strict=True)) == {
            tuple(row) for row in prepared.table.loc[prepared.table["split"] == side, list(KEYS.values())].to_numpy()
        }
    lines = pd.read_csv(folder / "data/oncolineage/cell_line_names.csv", index_col="cell_line_name")
    assert set(lines.drop_duplicates().index) == set(table["cell_line_name"])  # as drevalpy reads them
    assert write_data(replace(prepared, table=prepared.table.assign(target=0.0)), tmp_path) != folder


def test_what_it_cannot_learn_from_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    samples = prepared.samples
    with pytest.raises(UserError, match="not measured, and drevalpy needs"):
        write_data(replace(prepared, samples=replace(samples, omics={})), tmp_path)
    twice = replace(prepared, table=prepared.table.assign(drug_id="one"))
    with pytest.raises(UserError, match="measured in two studies"):
        write_data(twice, tmp_path)
    with pytest.raises(UserError, match="no split mode cross_study"):
        run(tmp_path / "drevalpy", tmp_path, "cross_study", [NAIVE], "None")
    with pytest.raises(UserError, match="drevalpy is not there"):
        run(tmp_path / "drevalpy", tmp_path, "cell_blind", [NAIVE], "None")


@pytest.mark.skipif(not PROGRAM, reason="DREVALPY names no program drevalpy of an environment of its own")
def test_drevalpy_fits_our_rows(prepared: Prepared, ours: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_data(prepared, tmp_path)
    run(Path(str(PROGRAM)), folder, "cell_blind", ["KNNRegressor"], "None")
    found = read_results(folder, ours)
    assert set(found) == {"KNNRegressor", NAIVE}
    learnt = prepared.table[prepared.table["split"] != "test"]
    tissue = prepared.samples.cell_lines["tissue"]
    mean, of_drug = learnt["target"].mean(), learnt.groupby("drug_id")["target"].mean()
    of_tissue = learnt.groupby(learnt["cell_line_id"].map(tissue))["target"].mean()
    effect = ours["cell_line_id"].map(tissue).map(of_tissue).fillna(mean) - mean
    assert found[NAIVE] == pytest.approx((ours["drug_id"].map(of_drug) + effect).to_numpy(), abs=1e-5)
