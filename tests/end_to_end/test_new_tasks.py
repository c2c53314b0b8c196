"""A task of a known modality and problem needs an entry in params.yaml and a folder in data, and no code.

The new tasks differ from the shipped ones where code might depend on them: other labels, other genes, few samples,
another scale, one target gene.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient, pyfunc
from mlflow.exceptions import MlflowException
from PIL import Image

from pipelines.simulate.response import Size, simulate_drug_response
from tests.end_to_end.small_platform import checked_out, small_params

pytestmark = pytest.mark.slow
SEED = 5
GENES = [f"ENSG{number:05d}" for number in range(30)]


@dataclasses.dataclass(frozen=True)
class NewTask:
    """A task that the repository does not have: ``changes`` to the entry ``like`` in params.yaml."""

    name: str
    like: str
    sample: Callable[[Path], None]
    changes: dict[str, Any]
    models: tuple[str, ...]  # the baseline, and the one that is served
    answers: set[str]  # labels, or genes that are predicted


def write_profiles(folder: Path, values: np.ndarray, labels: list[str]) -> None:
    ids = [f"P{number:03d}" for number in range(len(values))]
    folder.mkdir(parents=True)
    frame = pd.DataFrame(values.astype(np.float32), columns=GENES)
    frame.insert(0, "sample_id", ids)
    frame.to_parquet(folder / "expression.parquet", index=False)
    about = {"sample_id": ids, "patient_id": [f"D{number // 2:03d}" for number in range(len(ids))], "label": labels}
    pd.DataFrame(about).to_csv(folder / "samples.csv", index=False)


def subtypes(folder: Path) -> None:
    """Write 72 standardized profiles of donors of two samples each; the labels look like numbers."""
    rng = np.random.default_rng(SEED)
    label = (np.arange(72) // 2) % 2
    values = rng.normal(size=(72, len(GENES)))
    values[:, :6] += 1.5 * (2 * label[:, None] - 1)
    write_profiles(folder, values, [str(one + 1) for one in label])


def one_gene(folder: Path) -> None:
    """Write 72 logged profiles in which one gene follows from three others."""
    rng = np.random.default_rng(SEED)
    values = np.clip(rng.normal(6, 1.5, (72, len(GENES))), 0, None)
    values[:, 9] = np.clip(values[:, :3].mean(axis=1) + rng.normal(0, 0.2, 72), 0, None)
    write_profiles(folder, values, ["blood"] * 72)


def areas(folder: Path) -> None:
    """Write areas under the curve in place of concentrations."""
    simulate_drug_response(folder, Size(molecules=16, genes=80))  # fewer lines than are shipped prove no margin
    table = pd.read_parquet(folder / "response.parquet")
    table["auc"] = 1 / (1 + np.exp(-(table.pop("ln_ic50") - 1) / 2))
    table.to_parquet(folder / "response.parquet", index=False)


def smears(folder: Path) -> None:
    """Write 48 images of two classes that the shipped tasks do not have, of 12 patients."""
    rng = np.random.default_rng(SEED)
    rows = []
    for number in range(48):
        label = ("round", "lobed")[number % 2]
        image = rng.integers(200, 230, (40, 40, 3)).astype(np.uint8)
        size = 14 if label == "round" else 6
        image[20 - size : 20 + size, 20 - size : 20 + size] = rng.integers(60, 120, (2 * size, 2 * size, 3))
        path = folder / "images" / label / f"s{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        rows.append({"file": f"{label}/{path.name}", "label": label, "subject_id": f"K{number // 4}"})
    pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)


def first_profile(folder: Path) -> dict[str, Any]:
    profile = pd.read_parquet(folder / "expression.parquet").iloc[0].drop("sample_id")
    return {"expression": {gene: float(value) for gene, value in profile.items()}}


_FEW: dict[str, Any] = {"data.exclude": {}, "split.folds": 3, "validate.minimum_genes": 20}
_FEW |= {"tune.rounds": {"quick": 10, "full": 10}, "evaluate.explained_samples": {"quick": 6, "full": 6}}
_MEMBERS = {"quick": 1, "full": 3}
SUBTYPE = NewTask(
    *("subtype", "tumor_type", subtypes),
    _FEW | {"data.scale": "as_is", "data.minimum_patients": 5, "tune.layouts": ["given"], "fit.members": _MEMBERS},
    ("majority_class", "logistic_regression"),
    {"1", "2"},
)
ONE_GENE = NewTask(
    *("one_gene", "gene_expression", one_gene),
    _FEW
    | {"data.predictors": "all", "data.targets": GENES[9], "data.target_count": 1}
    | {"fit.members": {"quick": 3, "full": 3}},
    ("mean_expression", "ridge"),
    {GENES[9]},
)
CALLS = NewTask(
    *("calls", "drug_response", areas),
    {f"tune.{key}": {"quick": 1, "full": 1} for key in ("trials", "epochs", "rounds")}
    | {"data.omics": ["expression", "mutation"], "fit.members": {"quick": 5, "full": 5}}
    | {"data.target": "auc", "validate.target_range": [0.0, 1.2]}
    | {"problem": "classification", "data.threshold": {"method": "waterfall", "prior_rows": 5}}
    | {"tune.metric": "log_loss", "evaluate.metric": "within_drug_roc_auc"},
    ("mean_effects", "elastic_net"),
    {"sensitive", "resistant"},
)
SMEAR = NewTask(
    *("smear", "blood_cell", smears),
    {"data.classes": ["round", "lobed"], "data.size": 32, "split.folds": 3, "fit.members": _MEMBERS}
    | {"tune.weights": "none", "evaluate.stressed_samples": {"quick": 8, "full": 8}},
    ("majority_class", "xgboost"),
    {"round", "lobed"},
)


@pytest.mark.parametrize("task", [ONE_GENE, SMEAR, CALLS], ids=lambda task: task.name)  # SUBTYPE: test_servers
def test_a_new_task_is_trained_registered_scored_and_served(
    task: NewTask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = small_params(task.name, changes=task.changes, like=task.like, models=task.models, waive=True)
    with checked_out(tmp_path, params) as here:
        task.sample(tmp_path / "data" / task.name)
        here.train(task.name, task.models)
        assert here.read(f"reports/{task.name}/validation.json")["passed"]
        assert here.leaderboard(task.name)[task.models[-1]]["margin_low"] > 0, "what was planted is to be learnt"
        here.stage(task.name, task.models[-1])
        scores = here.score(task.name, Path("data") / task.name, capsys)
        assert scores["n"] >= 48 and scores["metrics"]["margin"]["value"] > 0
        served = pyfunc.load_model(f"models:/{task.name}@staging")
        asked = served.input_example.to_dict("records")
        for answer in served.predict(pd.DataFrame(asked)).to_dict("records"):
            if "label" in answer:
                assert answer["label"] in task.answers
                assert set(answer.get("probabilities", task.answers)) == task.answers
            else:
                assert set(answer["prediction"]) == task.answers
                assert all(answer["low"][name] < answer["prediction"][name] for name in task.answers)
        field = next(iter(asked[0]))
        with pytest.raises((MlflowException, ValueError), match=f"(?s)row 1.*{field}|{field}"):
            served.predict(pd.DataFrame([asked[0], {field: "no"}]))
        if task is SMEAR:
            of_run = MlflowClient().list_artifacts(here.evidence(task.name, task.models[-1])["run_id"], "figures")
            assert "figures/learning_curves.png" in {file.path for file in of_run}, "of boosting, too"
        if task is not CALLS:
            return
        folder = tmp_path / "reports" / task.name / "models" / task.models[-1]
        metrics = here.evidence(task.name, task.models[-1])["test"]["metrics"]
        assert metrics["within_drug_roc_auc"]["low"] > 0.5 and metrics["pr_auc"]["low"] > metrics["prevalence"]["value"]
        assert here.leaderboard(task.name)["mean_effects"]["value"] == 0.5, "a share of a drug ranks nothing within it"
        predicted = pd.read_parquet(folder / "predictions.parquet")
        np.testing.assert_array_equal(predicted["target"], (predicted["response"] < predicted["threshold"]).astype(int))
        by_drug = pd.read_csv(folder / "by_drug.csv", dtype={"drug_id": str}).set_index("drug_id")
        thresholds = predicted.groupby("drug_id")["threshold"].first()
        np.testing.assert_allclose(by_drug["threshold"].loc[thresholds.index], thresholds)
