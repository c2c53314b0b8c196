"""What would make a leaderboard lie: differences of chance called proved, stale predictions, runs out of view."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import evaluation.comparison.architectures
import evaluation.comparison.ranking
from evaluation.comparison.architectures import FILTER, compare, enough_resamples, log, view, write
from evaluation.comparison.page import SIMULATED, as_text, content
from evaluation.comparison.ranking import agreement, agreement_text, gene_table
from evaluation.evidence.build import PREDICTIONS, file_sha256
from evaluation.evidence.evidence_file import evidence_path
from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, read_params
from pipelines.report import as_html, read_figures

ROOT = Path(__file__).parents[2]
TASK = "drug_response"
ERRORS = {"mean_effects": 2.0, "xgboost": 0.50, "mlp": 0.501, "elastic_net": 1.0}


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    # Evidence whole and signed is the matter of its own tests; here it holds what a comparison reads.
    for module in (evaluation.comparison.architectures, evaluation.comparison.ranking):
        monkeypatch.setattr(module, "read_evidence", read_json)
    return read_params(ROOT / "params.yaml")


def predictions(error: float, groups: int = 25, size: int = 4) -> pd.DataFrame:
    """What a model predicts; models share most of their errors, and differ in how large these are."""
    rng, rows = np.random.default_rng(1), groups * size
    measured = rng.normal(0, 2, rows)
    own = np.random.default_rng(int(1000 * error)).normal(0, 0.02, rows)
    names = [(f"s{row}", f"g{row // size}", f"d{row % size}") for row in range(rows)]
    made = pd.DataFrame(names, columns=["sample_id", "group", "drug_id"]).assign(target=measured)
    made["prediction"] = measured + error * rng.normal(0, 1, rows) + own
    return made.assign(baseline=rng.normal(0, 2, rows))


def evaluated(folder: Path, architecture: str, frame: pd.DataFrame, run_id: str = "none", **more: Any) -> None:
    """Leave what the fit and evaluate stages leave."""
    path = evidence_path(TASK, architecture, folder / "reports")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path.parent / PREDICTIONS)
    found = measures_of("regression").metrics(frame["target"], frame["prediction"], baseline=frame["baseline"])
    metrics = {name: {"value": value, "low": value - 0.02, "high": value + 0.02} for name, value in found.items()}
    evidence = {
        **{"architecture": architecture, "budget": "quick", "simulated": True, "seconds": 1.5},
        **{"run_id": run_id, "model_uri": "models:/m-none", "sha256": f"hash of {architecture}"},
        "validation": {"metric": "rmse", "value": 1.0},
        "test": {"metrics": metrics},
        "cost": {"cost_latency_ms_batch_1": 2.0, "cost_fit_seconds": 3.0, "cost_model_megabytes": 0.5},
        "hashes": {"predictions.sha256": file_sha256(path.parent / PREDICTIONS)},
    }
    write_json(path, evidence | more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for architecture, error in ERRORS.items():
        evaluated(tmp_path, architecture, predictions(error))
    return tmp_path


def compared(folder: Path, params: Params) -> dict[str, Any]:
    return compare(TASK, params, reports=folder / "reports")


def test_what_differs_by_chance_is_not_called_better(folder: Path, params: Params) -> None:
    found = compared(folder, params)
    assert [row["architecture"] for row in found["rows"]][2:] == ["elastic_net", "mean_effects"]
    first, second = (row["architecture"] for row in found["rows"][:2])
    assert {first, second} == {"xgboost", "mlp"}
    assert found["best"]["indistinguishable"] == [second]
    assert [row["standing"] for row in found["rows"]] == ["best", "indistinguishable", "worse", "worse"]
    assert f"not significantly better than {second}" in found["notes"][1]


def test_every_pair_is_compared_and_corrected_for_all(folder: Path, params: Params) -> None:
    pairs = compared(folder, params)["pairs"]
    assert len({frozenset((pair["first"], pair["second"])) for pair in pairs}) == len(pairs) == 6
    proved = [pair for pair in pairs if pair["significant"]]
    assert len(proved) == 5
    assert all(pair["p_corrected"] >= pair["p"] for pair in pairs)
    assert min(pair["p_corrected"] for pair in pairs) == pytest.approx(6 * min(pair["p"] for pair in pairs))
    assert all(pair["difference"] >= 0 for pair in pairs)  # the better one stands first
    assert 30 * 29 / 2 * 2 / (enough_resamples(30, 1000, 0.05) + 1) <= 0.005  # many pairs leave room for significance


def test_less_is_better_puts_the_smallest_error_first(folder: Path, params: Params, tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("metric: r2  ", "metric: rmse")
    (tmp_path / "params.yaml").write_text(text)
    found = compared(folder, read_params(tmp_path / "params.yaml"))
    assert found["metric"] == "rmse"
    values = [row["value"] for row in found["rows"]]
    assert values == sorted(values)
    assert found["rows"][-1]["architecture"] == "mean_effects"
    assert all(pair["difference"] >= 0 for pair in found["pairs"])


def test_predictions_of_another_fit_than_the_evidence_are_refused(folder: Path, params: Params) -> None:
    predictions(0.8).to_parquet(evidence_path(TASK, "mlp", folder / "reports").parent / PREDICTIONS)
    with pytest.raises(UserError, match=r"mlp.*not what the evidence was measured on"):
        compared(folder, params)


def test_models_of_other_test_rows_are_refused_by_name(folder: Path, params: Params) -> None:
    evaluated(folder, "mlp", predictions(0.501).iloc[3:])
    with pytest.raises(UserError, match=r"mlp.*other test rows"):
        compared(folder, params)


def test_one_architecture_is_compared_with_nothing(tmp_path: Path, params: Params) -> None:
    evaluated(tmp_path, "mlp", predictions(0.5))
    found = compared(tmp_path, params)
    write(found, tmp_path / "comparison")
    assert found["pairs"] == []
    assert "nothing is compared" in found["notes"][1]
    assert not (tmp_path / "comparison" / "differences.png").exists()


def test_what_is_written_replaces_what_was_there_and_says_that_data_is_simulated(folder: Path, params: Params) -> None:
    found, out = compared(folder, params), folder / "comparison"
    out.mkdir()
    (out / "old.png").write_text("old")
    write(found, out)
    assert sorted(path.name for path in out.iterdir()) == [
        *("comparison.html", "comparison.json", "comparison.md"),
        *("differences.png", "intervals.png", "quality_against_cost.png"),
    ]
    page = (out / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    for text in (page, (out / "comparison.md").read_text()):
        assert "The data is simulated" in text
    assert SIMULATED in read_json(out / "comparison.json")["notes"] and SIMULATED in as_text(found)
    found["rows"][0]["architecture"] = "<b>&"
    assert "<b>&" not in as_html(content(found), read_figures(out))


@pytest.fixture(scope="module")
def client(place: Path) -> MlflowClient:
    return MlflowClient()


def in_view(client: MlflowClient) -> set[str]:
    runs = client.search_runs([tracking.experiment(TASK)], FILTER, max_results=1000)
    return {run.info.run_id for run in runs}


def test_one_run_holds_it_all_and_the_filter_shows_the_newest_fits(
    tmp_path: Path, params: Params, client: MlflowClient
) -> None:
    experiment = tracking.experiment(TASK)
    old, new, other = (client.create_run(experiment, tags={"stage": "evaluate"}).info.run_id for _ in range(3))
    evaluated(tmp_path, "mlp", predictions(0.5), run_id=old)
    evaluated(tmp_path, "xgboost", predictions(1.0), run_id=other)
    first = compared(tmp_path, params)
    assert view(first, client) == []
    assert in_view(client) == {old, other}

    evaluated(tmp_path, "mlp", predictions(0.4), run_id=new, sha256="another")
    found = compared(tmp_path, params)
    assert found["id"] != first["id"]
    write(found, tmp_path / "comparison")
    assert view(found, client) == []
    assert in_view(client) == {new, other}

    run_id = log(found, tmp_path / "comparison")
    assert log(found, tmp_path / "comparison") == run_id  # the same comparison again is the same run
    run = client.get_run(run_id)
    best = found["best"]
    assert {key: run.data.metrics[f"best_r2{key}"] for key in ("", "_low", "_high")} == {
        "": best["value"], "_low": best["low"], "_high": best["high"],
    }  # fmt: skip
    assert run.data.metrics["r2_xgboost"] == found["rows"][1]["value"]
    assert run.data.tags["best_architecture"] == "mlp"
    assert run.data.tags["stage"] == "compare"
    assert run.data.tags["simulated"] == "true"
    assert client.get_run(new).data.tags["comparison"] == run.data.tags["comparison"] == found["id"]
    assert {Path(file.path).name for file in client.list_artifacts(run_id, "comparison")} >= {
        *("comparison.json", "comparison.md", "comparison.html", "intervals.png")
    }


def test_a_fit_that_the_store_does_not_have_is_named(params: Params, client: MlflowClient) -> None:
    rows = [{"architecture": "mlp", "run_id": "0" * 32}]
    (warning,) = view({"task": TASK, "id": "x", "rows": rows}, client)
    assert "mlp" in warning
    assert "not in the tracking store" in warning


def genes_of(**classes: str) -> pd.DataFrame:
    return pd.DataFrame(
        [(label, gene) for label, genes in classes.items() for gene in genes], columns=["class", "gene"]
    )


def ranked(models: Path, name: str, found: pd.DataFrame, file: str = "genes_by_class.csv") -> None:
    (models / name).mkdir(parents=True)
    found.assign(rank=1, mean=0.5, mean_abs=0.5, rows=3).to_csv(models / name / file, index=False)


def test_agreement_is_the_share_of_genes_that_both_name_for_a_class(tmp_path: Path) -> None:
    models, names = tmp_path, ["linear", "trees", "network", "majority"]
    ranked(models, "linear", genes_of(BRCA="abcd", LUAD="efgh"))
    ranked(models, "trees", genes_of(BRCA="abxy", LUAD="efgz"))
    ranked(models, "network", genes_of(BRCA="efgh", LUAD="abcd"))  # the same genes, of the other class
    (models / "majority").mkdir()
    assert agreement(models, "linear", names) == {"trees": (2 / 4 + 3 / 4) / 2, "network": 0.0}
    assert agreement(models, "trees", names) == {"linear": (2 / 4 + 3 / 4) / 2, "network": 0.0}
    assert agreement(models, "majority", names) == {}
    rows: list[dict[str, Any]] = [{"architecture": name, "agreement": agreement(models, name, names)} for name in names]
    assert "0.62" in agreement_text(rows) and agreement_text(rows[3:]) == ""


def test_a_table_is_read_with_names_that_look_like_numbers(tmp_path: Path) -> None:
    names = pd.DataFrame({"class": ["01", "1"], "gene": ["0071", "71"]})
    ranked(tmp_path, "one", names)
    pd.testing.assert_frame_equal(gene_table(tmp_path / "one"), names)  # type: ignore[arg-type]


def test_predictors_of_targets_are_compared_target_by_target(tmp_path: Path) -> None:
    for name, genes in (("lstm", genes_of(ESR1="abc", ERBB2="def")), ("ridge", genes_of(ESR1="abz", ERBB2="xyz"))):
        ranked(tmp_path, name, genes.rename(columns={"class": "target"}), "predictors_by_target.csv")
    assert agreement(tmp_path, "lstm", ["lstm", "ridge"]) == {"ridge": pytest.approx((2 / 3 + 0) / 2)}
