"""What a notebook would stumble over: another split than the pipeline's, scores without intervals, lost rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from evaluation.library import TaskData, open_task
from pipelines.datasets import prepare
from pipelines.errors import UserError
from pipelines.simulate.cells import simulate_leukemia_cell
from pipelines.simulate.expression import simulate_gene_expression, simulate_tumor_type
from pipelines.simulate.response import simulate_drug_response
from tests.empty_store import working_in
from tests.end_to_end.small_platform import small_params

SAMPLES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "drug_response": (simulate_drug_response, "elastic_net"),
    "tumor_type": (simulate_tumor_type, "logistic_regression"),
    "gene_expression": (simulate_gene_expression, "ridge"),
}


@pytest.fixture(scope="module", params=sorted(SAMPLES))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    (root / "params.yaml").write_text(yaml.safe_dump(small_params(name)))
    SAMPLES[name][0](root / "data")
    return open_task(name, data=root / "data", params=root / "params.yaml")


def test_the_split_is_that_of_the_pipeline_and_a_model_has_scores_with_intervals(task: TaskData) -> None:
    architecture = SAMPLES[task.name][1]
    assert architecture in task.architectures and task.task.evaluate.baseline in task.architectures
    sides = [set(task.split["group"][task.split["split"] == side]) for side in ("train", "validation", "test")]
    assert not (sides[0] & sides[2] or sides[1] & sides[2] or sides[0] & sides[1])
    assert sum(map(len, (task.train, task.validation, task.test))) == len(task.split)
    model = task.estimator(architecture).fit(task.train, task.validation)
    found: Any = task.evaluate(model)
    metric = task.task.evaluate.metric
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert found.loc["margin", "low"] > 0  # as the samples are simulated
    assert found.loc[metric, "value"] == pytest.approx(task.score(model, task.test), abs=0.02)  # before calibration
    naive = task.estimator(task.task.evaluate.baseline).fit(task.learning)
    of_naive: Any = task.evaluate(naive)
    assert of_naive.loc["margin", "value"] == pytest.approx(0, abs=1e-9)


def test_scikit_learn_clones_and_cross_validates_within_groups(task: TaskData) -> None:
    architecture = SAMPLES[task.name][1]
    model = clone(task.estimator(architecture))
    assert model.get_params() == task.estimator(architecture).get_params()
    groups = task.split["group"].to_numpy()[task.prepared.rows("train", "validation")]
    for learnt, held_out in task.folds.split():
        assert not set(groups[learnt]) & set(groups[held_out])
    scores = cross_val_score(model, task.learning, cv=task.folds, scoring=task.score)
    assert len(scores) == task.task.split.folds and np.isfinite(scores).all()
    ids = task.learning.table["sample_id"]
    assert task.learning[[2, 0]].table["sample_id"].tolist() == [ids[2], ids[0]]
    assert len(task.learning[5]) == 1 and len(task.learning[:3]) == 3
    mask = np.arange(len(ids)) < 4
    assert task.learning[mask].table["sample_id"].tolist() == ids[:4].tolist()


def test_a_model_can_be_logged_with_its_scores_and_asked(task: TaskData, tmp_path: Path) -> None:
    model = task.estimator(SAMPLES[task.name][1]).fit(task.train, task.validation)
    with working_in(tmp_path):
        run = mlflow.get_run(task.log(model))
        metric = task.task.evaluate.metric
        assert run.data.metrics[f"test/{metric}"] == pytest.approx(task.evaluate(model).loc[metric, "value"])
        assert run.data.tags["stage"] == "library" and "evidence.sha256" not in run.data.tags
        (logged,) = run.outputs.model_outputs
        loaded = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
        assert len(loaded.predict(loaded.input_example)) == 2


def test_what_is_not_there_is_named() -> None:
    params = Path(__file__).parents[2] / "params.yaml"
    with pytest.raises(UserError, match="nothing"):
        open_task("nothing", params=params)
    with pytest.raises(UserError, match="no/such"):
        open_task("drug_response", data=Path("no/such"), params=params)
    with pytest.raises(UserError, match=r"drug_response has no data\.sise"):
        open_task("drug_response", params=params, changes={"data.sise": 96})
    with pytest.raises(UserError, match="resamples"):
        open_task("drug_response", params=params, changes={"evaluate.resamples": "many"})


def test_unknown_hyperparameters_and_a_task_without_a_test_side_are_refused(task: TaskData, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no depht; it has"):
        task.estimator(SAMPLES[task.name][1], depht=3)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(small_params("leukemia_cell")))
    simulate_leukemia_cell(tmp_path / "data", subjects=12, per_subject=4)
    how: Any = {"data": tmp_path / "data", "params": tmp_path / "params.yaml"}
    few = open_task("leukemia_cell", **how)
    one = open_task("leukemia_cell", **how, changes={"split.fewest_groups": 0})
    assert not len(few.test) and len(one.test)
    model = few.estimator("majority_class").fit(few.train)
    with pytest.raises(UserError, match=r"split\.fewest_groups"):
        few.evaluate(model)
    assert prepare(few.task.read(tmp_path / "data"), few.task, few.params.seed).sha256 == few.prepared.sha256
