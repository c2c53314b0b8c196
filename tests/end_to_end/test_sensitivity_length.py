"""Sensitive and resistant lines, and areas under the curve, on the whole length: every command, in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient, pyfunc

from evaluation.promotion.card import MARKDOWN
from pipelines.simulate.response import Size, simulate_drug_response
from serving.answers import answer_example
from tests.empty_store import empty_store
from tests.end_to_end.checkout import Checkout, checked_out
from tests.end_to_end.small_platform import small_params

CALLS, AREAS = "calls", "areas"
ARCHITECTURES = ("mean_effects", "elastic_net")
SIZE = Size(molecules=16, genes=80)  # fewer lines than are shipped prove no margin


def _params() -> dict[str, Any]:
    few: dict[str, Any] = {f"tune.{key}": {"quick": 1, "full": 1} for key in ("trials", "epochs", "rounds")}
    few |= {"data.omics": ["expression", "mutation"]}
    params, areas = (
        small_params(name, like="drug_response", models=ARCHITECTURES, waive=True, changes=few | changes)
        for name, changes in (
            (CALLS, {"problem": "classification", "fit.members": {"quick": 5, "full": 5}}),
            (
                AREAS,
                {
                    **{"data.target": "auc", "validate.target_range": [0.0, 1.2]},
                    "fit.members": {"quick": 1, "full": 1},
                },
            ),
        )
    )
    calls = params["tasks"][CALLS]
    calls["data"]["threshold"] = {"method": "waterfall", "prior_rows": 5}
    calls["tune"]["metric"], calls["evaluate"]["metric"] = "log_loss", "within_drug_roc_auc"
    params["tasks"] |= areas["tasks"]
    params["models"] |= areas["models"]
    return params


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Make a checkout, and bring both tasks to their leaderboards."""
    with checked_out(tmp_path_factory.mktemp("checkout"), _params()) as made:
        empty_store(made.root)
        data = made.root / "data"
        simulate_drug_response(data / CALLS, SIZE)
        shutil.copytree(data / CALLS, data / AREAS)
        table = pd.read_parquet(data / AREAS / "response.parquet")
        table["auc"] = 1 / (1 + np.exp(-(table["ln_ic50"] - 1) / 2))
        table.drop(columns="ln_ic50").to_parquet(data / AREAS / "response.parquet", index=False)
        for task in (CALLS, AREAS):
            made.train(task, ARCHITECTURES)
        yield made


def test_evidence_has_every_metric_with_its_interval_and_the_thresholds(here: Checkout) -> None:
    rows = {row["architecture"]: row for row in here.read(f"reports/{CALLS}/leaderboard.json")}
    assert set(rows) == set(ARCHITECTURES)
    assert rows["mean_effects"]["value"] == 0.5, "a share of a drug ranks nothing within it"
    assert rows["elastic_net"]["margin_low"] > 0.05, "what was planted is to be learnt"
    evidence = here.read(f"reports/{CALLS}/models/elastic_net/evidence.json")
    metrics = evidence["test"]["metrics"]
    wanted = {"accuracy", "f1_sensitive", "balanced_accuracy", "pr_auc", "prevalence", "roc_auc", "log_loss", "brier"}
    wanted |= {"ece", "within_drug_roc_auc", "within_drug_pr_auc", "within_drug_prevalence", "margin"}
    assert wanted <= set(metrics)
    for name in wanted:
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"], name
    assert metrics["pr_auc"]["low"] > metrics["prevalence"]["value"]
    assert evidence["test"]["thresholds"]["learnt_on"] == "training rows"
    assert evidence["explanation"]["checks"] and evidence["calibration"]["temperature"] > 0
    folder = here.root / "reports" / CALLS / "models" / "elastic_net"
    assert {path.stem for path in folder.glob("*.png")} >= {"precision_recall", "roc_curves", "calibration"}
    predicted = pd.read_parquet(folder / "predictions.parquet")
    np.testing.assert_array_equal(predicted["target"], (predicted["response"] < predicted["threshold"]).astype(int))
    by_drug = pd.read_csv(folder / "by_drug.csv", dtype={"drug_id": str}).set_index("drug_id")
    thresholds = predicted.groupby("drug_id")["threshold"].first()
    np.testing.assert_allclose(by_drug["threshold"].loc[thresholds.index], thresholds)
    logged = MlflowClient().get_run(evidence["run_id"]).data.metrics
    assert logged["test_within_drug_roc_auc_low"] == metrics["within_drug_roc_auc"]["low"]


def test_areas_are_predicted_in_their_own_unit_on_the_same_split(here: Checkout) -> None:
    calls, areas = (here.read(f"prepared/{task}/split.json") for task in (CALLS, AREAS))
    assert calls["sha256"] == areas["sha256"] and set(calls["sensitive"]) == {"train", "validation", "test"}
    rows = {row["architecture"]: row for row in here.read(f"reports/{AREAS}/leaderboard.json")}
    assert rows["elastic_net"]["margin_low"] > 0
    predicted = pd.read_parquet(here.root / "reports" / AREAS / "models" / "elastic_net" / "predictions.parquet")
    assert predicted["target"].between(0, 1).all() and predicted["prediction"].between(-0.5, 1.5).all()


def test_a_candidate_is_registered_promoted_scored_and_answers(
    here: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    here.stage(CALLS, "elastic_net")
    assert here.run("evaluation.compare", "--task", CALLS) == 0
    card = (here.root / "reports" / CALLS / "candidate" / MARKDOWN).read_text()
    assert "within_drug_roc_auc" in card.replace("\\", "") and "sensitive or resistant" in card
    capsys.readouterr()
    assert answer_example(f"models:/{CALLS}@staging") == 2, "with the code that it brings, and nothing of the checkout"

    model = f"models:/{CALLS}@staging"
    assert here.run("evaluation.score", "--model", model, "--data", f"data/{CALLS}") == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scores["metrics"]["within_drug_roc_auc"]["low"] > 0.5 and scores["metrics"]["prevalence"]["value"] < 1

    served = pyfunc.load_model(model)
    folder = here.root / "data" / CALLS
    profile = pd.read_parquet(folder / "expression.parquet").set_index("cell_line_id").iloc[0]
    row: dict[str, Any] = {"expression": profile.astype(float).to_dict()}
    drugs = pd.read_csv(folder / "drugs.csv").dropna(subset="smiles")
    known = row | {"smiles": drugs["smiles"].iloc[0], "drug_id": str(drugs["drug_id"].iloc[0])}
    unknown = row | {"smiles": "CC(=O)Oc1ccccc1C(=O)O", "drug_id": "NEW"}
    answer = served.predict(pd.DataFrame([known, unknown]), params={"explain": True})
    assert set(answer["label"]) <= {"sensitive", "resistant"}
    np.testing.assert_array_equal(answer["label"] == "sensitive", answer["probability_sensitive"] > 0.5)
    thresholds = served.unwrap_python_model().contract.thresholds
    assert answer["threshold"].tolist() == [thresholds["by_drug"][known["drug_id"]], thresholds["overall"]]
    assert answer["drug_known"].tolist() == [True, False] and "not known" in answer["note"].iloc[1]
    assert answer["coverage"].tolist() == [0.9, None]  # nothing is promised of a drug that is not known
    assert answer["model_version"].notna().all() and all(each["feature"] for each in answer["attributions"].iloc[0])
    with pytest.raises(Exception, match="row 0, field smiles"):
        served.predict(pd.DataFrame([row | {"smiles": "no molecule"}]))
