"""What would make a comparison lie: chance called proved, stale or other rows, other resamples, runs out of view."""

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from scipy.stats import spearmanr
from sklearn.metrics import r2_score, roc_auc_score

from evaluation.comparison.architectures import FILTER, compare, enough_resamples, log, view, write
from evaluation.comparison.page import SIMULATED, as_text, content
from evaluation.comparison.paired import holm, matched, paired_difference
from evaluation.comparison.ranking import agreement, agreement_text, gene_table
from evaluation.evidence.build import PREDICTIONS, file_sha256
from evaluation.evidence.evidence_file import evidence_path
from evaluation.metrics import group_counts
from evaluation.problems import measures_of
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import read_params
from pipelines.report import as_html, read_figures
from tests.evaluation.made_evidence import made_evidence

ROOT = Path(__file__).parents[2]
TASK = "drug_response"
PARAMS = read_params(ROOT / "params.yaml")
LABELS = ("a", "b", "c")
ERRORS = {"mean_effects": 2.0, "xgboost": 0.50, "mlp": 0.501, "elastic_net": 1.0}


def predicted(name: str, error: float, seed: int, groups: int = 12, size: int = 4) -> pd.DataFrame:
    """Predictions of a model whose errors are ``error`` large; what is measured is the same for every model."""
    fixed, own = np.random.default_rng(7), np.random.default_rng(seed)
    rows = groups * size
    names = [(f"s{row:03}", f"g{row // size:02}", f"d{row % size}") for row in range(rows)]
    table = pd.DataFrame(names, columns=["sample_id", "group", "drug_id"])
    if name == "drug_response":
        measured = fixed.normal(0, 2, rows)
        return table.assign(target=measured, prediction=measured + error * own.normal(0, 1, rows), baseline=0.0)
    if name == "gene_expression":
        for gene in ("x", "y"):
            measured = fixed.normal(5, 1, rows)
            table[f"target_{gene}"] = measured
            table[f"prediction_{gene}"] = measured + error * own.normal(0, 1, rows)
            table[f"baseline_{gene}"] = 5.0
        return table
    code = fixed.integers(0, len(LABELS), rows)
    scores = np.eye(len(LABELS))[code] + error * own.normal(0, 1, (rows, len(LABELS)))
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    table = table.assign(target=code)
    for kind, values in (("probability", shares), ("baseline", np.tile([0.5, 0.3, 0.2], (rows, 1)))):
        table = table.assign(**{f"{kind}_{label}": values[:, place] for place, label in enumerate(LABELS)})
    return table


def predictions(error: float) -> pd.DataFrame:
    return predicted(TASK, error, seed=int(1000 * error), groups=25)


def evaluated(folder: Path, architecture: str, frame: pd.DataFrame, run_id: str = "none") -> None:
    """Leave what the fit and evaluate stages leave."""
    path = evidence_path(TASK, architecture, folder / "reports")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path.parent / PREDICTIONS)
    found = measures_of("regression").metrics(frame["target"], frame["prediction"], baseline=frame["baseline"])
    metrics = {name: {"value": one, "low": one - 0.02, "high": one + 0.02} for name, one in found.items()}
    changes = {"simulated": True, "cost__cost_fit_seconds": 3.0, "test__metrics": metrics}
    changes["hashes__predictions.sha256"] = file_sha256(path.parent / PREDICTIONS)
    write_json(path, made_evidence(architecture=architecture, run_id=run_id, **changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for architecture, error in ERRORS.items():
        evaluated(tmp_path, architecture, predictions(error))
    return tmp_path


def compared(folder: Path, metric: str = "r2") -> dict[str, Any]:
    task = PARAMS.task(TASK)
    task = replace(task, evaluate=replace(task.evaluate, metric=metric))
    with contextlib.chdir(folder):
        return compare(TASK, replace(PARAMS, tasks={**PARAMS.tasks, TASK: task}))


@pytest.mark.parametrize("metric", ["r2", "rmse"])
def test_every_pair_is_compared_and_what_differs_by_chance_is_not_called_better(metric: str, folder: Path) -> None:
    found = compared(folder, metric)
    assert [row["architecture"] for row in found["rows"]][2:] == ["elastic_net", "mean_effects"]
    values = [row["value"] for row in found["rows"]]
    assert values == sorted(values, reverse=metric == "r2")  # the smallest error first
    first, second = (row["architecture"] for row in found["rows"][:2])
    assert {first, second} == {"xgboost", "mlp"} and found["best"]["indistinguishable"] == [second]
    assert [row["standing"] for row in found["rows"]] == ["best", "indistinguishable", "worse", "worse"]
    assert f"not significantly better than {second}" in found["notes"][1]
    pairs = found["pairs"]
    assert len({frozenset((pair["first"], pair["second"])) for pair in pairs}) == len(pairs) == 6
    assert sum(pair["significant"] for pair in pairs) == 5
    assert all(pair["p_corrected"] >= pair["p"] for pair in pairs)
    assert min(pair["p_corrected"] for pair in pairs) == pytest.approx(6 * min(pair["p"] for pair in pairs))
    assert all(pair["difference"] >= 0 for pair in pairs)  # the better one stands first
    assert 30 * 29 / 2 * 2 / (enough_resamples(30, 1000, 0.05) + 1) <= 0.005  # many pairs leave room for significance


def test_other_fits_and_test_rows_are_refused_and_one_model_compared_with_nothing(folder: Path) -> None:
    evaluated(folder / "one", "mlp", predictions(0.5))
    found = compared(folder / "one")
    write(found, folder / "one" / "comparison")
    assert found["pairs"] == [] and "nothing is compared" in found["notes"][1]
    assert not (folder / "one" / "comparison" / "differences.png").exists()
    predictions(0.8).to_parquet(evidence_path(TASK, "mlp", folder / "reports").parent / PREDICTIONS)
    with pytest.raises(UserError, match=r"mlp.*not what the evidence was measured on"):
        compared(folder)
    evaluated(folder, "mlp", predictions(0.501).iloc[3:])
    with pytest.raises(UserError, match=r"mlp.*other test rows"):
        compared(folder)


def test_what_is_written_replaces_what_was_there_and_says_that_data_is_simulated(folder: Path) -> None:
    found, out = compared(folder), folder / "comparison"
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


def test_one_run_holds_it_all_and_the_filter_shows_the_newest_fits(tmp_path: Path, place: Path) -> None:
    experiment, client = tracking.experiment(TASK), MlflowClient()

    def in_view() -> set[str]:
        return {run.info.run_id for run in client.search_runs([experiment], FILTER, max_results=1000)}

    old, new, other = (client.create_run(experiment, tags={"stage": "evaluate"}).info.run_id for _ in range(3))
    evaluated(tmp_path, "mlp", predictions(0.5), run_id=old)
    evaluated(tmp_path, "xgboost", predictions(1.0), run_id=other)
    first = compared(tmp_path)
    assert view(first, client) == []
    assert in_view() == {old, other}
    evaluated(tmp_path, "mlp", predictions(0.4), run_id=new)
    found = compared(tmp_path)
    assert found["id"] != first["id"]
    write(found, tmp_path / "comparison")
    assert view(found, client) == []
    assert in_view() == {new, other}
    run_id = log(found, tmp_path / "comparison")
    assert log(found, tmp_path / "comparison") == run_id  # the same comparison again is the same run
    run, best = client.get_run(run_id).data, found["best"]
    for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert run.metrics[f"best/r2{suffix}"] == best[key]
    assert run.metrics["r2/xgboost"] == found["rows"][1]["value"]
    assert run.tags.items() >= {"best_architecture": "mlp", "stage": "compare", "simulated": "true"}.items()
    assert client.get_run(new).data.tags["comparison"] == run.tags["comparison"] == found["id"]
    assert {Path(file.path).name for file in client.list_artifacts(run_id, "comparison")} >= {
        *("comparison.json", "comparison.md", "comparison.html", "intervals.png")
    }
    (warning,) = view({"task": TASK, "id": "x", "rows": [{"architecture": "mlp", "run_id": "0" * 32}]}, client)
    assert "mlp" in warning and "not in the tracking store" in warning


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
    found, share = agreement(models, names), (2 / 4 + 3 / 4) / 2
    assert found["linear"] == {"trees": share, "network": 0.0} and found["trees"] == {"linear": share, "network": 0.0}
    rows: list[dict[str, Any]] = [{"architecture": name, "agreement": found.get(name, {})} for name in names]
    assert "0.62" in agreement_text(rows) and agreement_text(rows[3:]) == ""
    looks_like_numbers = pd.DataFrame({"class": ["01", "1"], "gene": ["0071", "71"]})
    ranked(models, "one", looks_like_numbers)
    pd.testing.assert_frame_equal(gene_table(models / "one"), looks_like_numbers)  # type: ignore[arg-type]
    for name, genes in (("lstm", genes_of(ESR1="abc", ERBB2="def")), ("ridge", genes_of(ESR1="abz", ERBB2="xyz"))):
        ranked(models, name, genes.rename(columns={"class": "target"}), "predictors_by_target.csv")
    assert agreement(models, ["lstm", "ridge"])["lstm"] == {"ridge": pytest.approx((2 / 3 + 0) / 2)}  # by target


METRIC = {"drug_response": "r2", "blood_cell": "accuracy", "gene_expression": "r2"}


def naive_metric(name: str, metric: str, frame: pd.DataFrame) -> float:
    if name == "gene_expression":
        scores = [r2_score(frame[f"target_{gene}"], frame[f"prediction_{gene}"]) for gene in ("x", "y")]
        return float(np.mean(scores))
    if metric == "within_drug_spearman":
        inside = [spearmanr(part["target"], part["prediction"])[0] for _, part in frame.groupby("drug_id")]
        return float(np.mean(inside))
    if name == "drug_response":
        return float(r2_score(frame["target"], frame["prediction"]))
    shares = frame[[f"probability_{label}" for label in LABELS]].to_numpy()
    return float(roc_auc_score(frame["target"], shares, multi_class="ovr"))


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("drug_response", "r2"),
        ("drug_response", "within_drug_spearman"),
        ("blood_cell", "roc_auc"),
        ("gene_expression", "r2"),
    ],
)
def test_it_is_what_measuring_both_models_on_each_resample_gives(name: str, metric: str) -> None:
    ours, theirs = predicted(name, 0.8, seed=1), predicted(name, 1.2, seed=2)
    found = paired_difference(PARAMS.task(name), ours[::-1], theirs, metric, resamples=40, confidence=0.8, seed=5)
    labels, differences = np.unique(ours["group"]), list[float]()
    for counts in group_counts(len(labels), 40, 5):
        names = [label for label, times in zip(labels, counts, strict=True) for _ in range(times)]
        drawn = (pd.concat([frame[frame["group"] == label] for label in names]) for frame in (ours, theirs))
        one, other = (naive_metric(name, metric, frame) for frame in drawn)
        differences.append(one - other)
    assert found.difference == pytest.approx(naive_metric(name, metric, ours) - naive_metric(name, metric, theirs))
    assert [found.low, found.high] == pytest.approx(np.quantile(differences, [0.1, 0.9]))
    rarer = min(np.sum(np.array(differences) <= 0), np.sum(np.array(differences) >= 0))
    assert found.p == pytest.approx(min(1, 2 * (rarer + 1) / 41))


@pytest.mark.parametrize(
    ("name", "metric"), [("drug_response", "rmse"), ("gene_expression", "mae"), ("blood_cell", "log_loss")]
)
def test_positive_means_better_where_less_is_and_over_the_naive_baseline(name: str, metric: str) -> None:
    task, good, poor = PARAMS.task(name), predicted(name, 0.1, seed=1), predicted(name, 3.0, seed=2)
    assert paired_difference(task, good, poor, metric, resamples=100).low > 0
    assert paired_difference(task, poor, good, metric, resamples=100).high < 0
    naive = measures_of(task.problem).naive(good)
    found = paired_difference(task, good, naive, METRIC[name], resamples=100)
    margin = paired_difference(task, good, naive, "margin", resamples=100)
    assert found.low > 0 and margin.difference == pytest.approx(found.difference)  # the baseline's own margin is 0


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda frame: frame.iloc[1:], "s000 of the first"),
        (lambda frame: pd.concat([frame, frame.iloc[[0]].assign(sample_id="new")]), "new of the second"),
        (lambda frame: pd.concat([frame, frame.iloc[[4]]]), "'s004' is a duplicate"),
        (lambda frame: frame.assign(target=frame["target"].where(frame.index != 5, 9.5)), r"target of 1 test.*s005"),
        (lambda frame: frame.assign(group=frame["group"].where(frame.index != 6, "g99")), r"group of 1 test.*s006"),
        (lambda frame: frame.drop(columns="sample_id"), "second model's predictions lack the column sample_id"),
    ],
)
def test_rows_that_are_not_the_same_are_refused(spoilt, said: str) -> None:
    ours, theirs = predicted("drug_response", 0.5, seed=1), predicted("drug_response", 0.7, seed=2)
    with pytest.raises(UserError, match=said):
        paired_difference(PARAMS.task("drug_response"), ours, spoilt(theirs), "r2", resamples=10)


def test_the_order_of_genes_and_classes_one_group_and_unknown_metrics() -> None:
    task, genes = PARAMS.task("gene_expression"), predicted("gene_expression", 0.5, seed=1)
    turned = genes[[*genes.columns[:3], *genes.columns[:2:-1]]]  # matched by name
    found = paired_difference(task, genes, turned, "rmse_sd", resamples=20, scale=pd.Series({"x": 1.0, "y": 9.0}))
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    ours, frame = predicted("blood_cell", 0.5, seed=1), predicted("drug_response", 0.5, seed=1)
    theirs = ours[[*ours.columns[:4], "probability_b", "probability_a", "probability_c", *ours.columns[7:]]]
    with pytest.raises(UserError, match="other classes"):
        matched(PARAMS.task("blood_cell"), ours, theirs)
    for name, table, metric, message in (
        ("drug_response", frame.assign(group="g"), "r2", "1 group"),
        ("drug_response", frame, "accuracy", r"accuracy' cannot be measured.*r2"),
        ("gene_expression", genes, "rmse_sd", "rmse_sd"),
    ):
        with pytest.raises(UserError, match=message):
            paired_difference(PARAMS.task(name), table, table, metric, resamples=10)
    # Sorted 0.01, 0.02, 0.03, 0.04, times 4, 3, 2, 1, never falling.
    assert holm([0.04, 0.01, np.nan, 0.03, 0.02]) == pytest.approx([0.06, 0.04, np.nan, 0.06, 0.06], nan_ok=True)
