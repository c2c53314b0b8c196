"""Evidence of a gene predictor that hides something: a cohort that fails, attributions that do not add up."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import r2_score, root_mean_squared_error

from evaluation.evidence import build
from evaluation.evidence.multi_target import in_interval, interval_check
from evaluation.evidence.parts import Evidence
from evaluation.explain.profiles import PREDICTORS as TOP
from evaluation.explain.profiles import orders_of_genes
from evaluation.problems.multi_target import target_spreads
from pipelines.files import jsonable
from pipelines.params import PerBudget, read_params
from pipelines.samples.expression import ExpressionSamples
from tests.evaluation.planted import Known, Setting, ensemble, profile_samples, split_by
from training.estimator import Attribution, Estimator
from training.problems.multi_target import with_targets

ROOT = Path(__file__).parents[2]
PREDICTORS = [f"P{number}" for number in range(30)]
TARGETS = ["T|1", "T|2", "U", "V"]
WEIGHTS = np.random.default_rng(5).normal(0, 0.4, (len(PREDICTORS), len(TARGETS)))
WEIGHTS[7] = [3, -3, 3, 3]  # the predictor that decides
SPREAD = np.array([1.0, 1.0, 10.0, 0.1])  # log2 units in which a target moves


class Planted(Known):
    """A linear model, the truth, that adds ``gap`` of what it says to its attributions of the targets ``at``."""

    def __init__(self, gap: float = 0.0, at: Sequence[int] = (0, 1, 2, 3)) -> None:
        self.gap, self.at = gap, at

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        imputed = np.nan_to_num(samples.logged(PREDICTORS).astype(np.float64))  # by the mean profile, which is zero
        return 5 + imputed @ WEIGHTS * SPREAD

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution | None:
        assert output is not None
        target = int(output[0])
        values = samples.logged(PREDICTORS).astype(np.float64) * WEIGHTS[:, target] * SPREAD[target]
        scale = 1 + self.gap if target in self.at else 1
        base = np.full(len(samples), 5.0)
        return Attribution(PREDICTORS, values * scale, base, self.predict(samples)[:, target], "planted")


class Ordered(Planted):
    """Reads its genes in windows of seven, in the order ``start`` on."""

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.start = start

    @property
    def gene_order(self) -> list[str]:
        return PREDICTORS[self.start :] + PREDICTORS[: self.start]

    @property
    def steps(self) -> list[list[str]]:
        return [self.gene_order[at : at + 7] for at in range(0, len(PREDICTORS), 7)]


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def setting(run_id: str) -> Setting:
    """Return a model that is nearly right on the cohort ``A``, knows nothing of ``low`` and half of ``C&D``."""
    rng, n = np.random.default_rng(0), 240
    inputs = rng.normal(0, 1, (n, len(PREDICTORS)))
    label = np.array(["A", "low", "C&D"], dtype=object)[np.arange(n) % 3]
    label[-1] = "rare"
    genes = (*PREDICTORS, *TARGETS)
    samples = profile_samples(np.hstack([inputs, 5 + inputs @ WEIGHTS * SPREAD]), genes, label)
    side = np.where(np.arange(n) < 120, "train", "test")
    prepared = split_by(samples.aimed(TARGETS, PREDICTORS), side, np.where(side == "train", 0, -1))
    test, spread = prepared.side("test"), target_spreads(prepared.side("train").target)
    wrong = {"A": 0.1, "low": 2.0, "C&D": 0.5, "rare": 0.1}
    noise = rng.normal(size=test.target.shape) * spread
    predicted = test.target + noise * np.array([[wrong[one]] for one in test.table["label"]])
    baseline = np.tile(prepared.side("train").target.mean(axis=0), (len(test), 1))
    rows = prepared.table.iloc[prepared.rows("test")]
    half = np.quantile(np.abs(test.target - predicted), 0.9, axis=0, method="higher")
    contract = {"genes": PREDICTORS, "known": PREDICTORS + TARGETS, "targets": TARGETS, "spreads": [1.0] * 4}
    made = Setting(
        read_params(ROOT / "params.yaml").task("gene_expression"),
        prepared,
        with_targets(rows, TARGETS, test.target, predicted, baseline),
        {**contract, "half_widths": half.tolist()},
        run_id,
    )
    return made.evaluated(resamples=200, explained_samples=PerBudget(30, 30))


@pytest.fixture(scope="module")
def found(setting: Setting) -> Evidence:
    return setting.evidence(Planted())


def changed(setting: Setting, column: str, values: Any) -> Evidence:
    return replace(setting, predictions=setting.predictions.assign(**{column: values})).evidence(Planted())


def of_kind(predictions: pd.DataFrame, kind: str, genes: Sequence[str] = TARGETS) -> np.ndarray:
    return predictions[[f"{kind}_{gene}" for gene in genes]].to_numpy()


def test_the_numbers_are_those_of_the_predictions_by_another_library(found: Evidence, setting: Setting) -> None:
    measured, predicted, baseline = (
        of_kind(setting.predictions, kind) for kind in ("target", "prediction", "baseline")
    )
    spread = setting.prepared.side("train").target.std(axis=0)
    assert found.metrics["r2"].value == pytest.approx(r2_score(measured, predicted))
    assert found.metrics["margin"].value == pytest.approx(r2_score(measured, predicted) - r2_score(measured, baseline))
    table = found.tables["by_gene"]
    assert table["r2"].is_monotonic_decreasing
    by_gene = table.set_index("gene").loc[TARGETS]
    each: dict[str, Any] = {"multioutput": "raw_values"}
    np.testing.assert_allclose(by_gene["r2"], r2_score(measured, predicted, **each))
    np.testing.assert_allclose(by_gene["rmse_sd"] * spread, root_mean_squared_error(measured, predicted, **each))
    np.testing.assert_allclose(by_gene["baseline_rmse"], root_mean_squared_error(measured, baseline, **each))
    np.testing.assert_allclose(by_gene["sd"], spread)
    assert ((by_gene["r2_low"] < by_gene["r2"]) & (by_gene["r2"] < by_gene["r2_high"])).all()


def test_a_cohort_on_which_the_model_fails_shows_and_no_cohort_is_none(found: Evidence, setting: Setting) -> None:
    rows: dict[str, Any] = {row["cohort"]: row for row in found.tables["by_cohort"].to_dict("records")}
    assert rows["A"]["rmse_sd_high"] < 0.2 < rows["C&D"]["rmse_sd_low"]
    assert rows["C&D"]["rmse_sd_high"] < 1 < rows["low"]["rmse_sd_low"]
    assert rows["A"]["margin_low"] > 0 > rows["low"]["margin_high"]
    assert all(row["baseline_rmse_sd"] > 0.5 for row in rows.values())
    of_a = setting.predictions[setting.predictions["label"] == "A"]
    assert rows["A"]["r2"] == pytest.approx(r2_score(of_kind(of_a, "target"), of_kind(of_a, "prediction")))
    worst = found.sections["strata"]["worst"]
    assert (worst["column"], worst["name"], worst["value"]) == ("label", "low", pytest.approx(rows["low"]["r2"]))
    unknown = changed(setting, "label", pd.Series([None] * len(setting.predictions), dtype=object))
    assert unknown.metrics["r2"] == found.metrics["r2"]
    assert "by_cohort" not in unknown.tables and "error_by_cohort" not in unknown.figures


def test_the_run_takes_every_metric_table_and_figure_whatever_a_cohort_is_called(
    found: Evidence, setting: Setting, run_id: str, tmp_path: Path
) -> None:
    found |= build.learning(setting.run(Planted()))
    tables = {**found.tables, **setting.evidence(Ordered(start=3)).tables}
    ordered = replace(found, tables=tables, drawings={"molecule_1": "<svg/>"})
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        mlflow.log_metrics(found.to_log({"r2", "rmse", "rmse_sd", "margin"}))
        build._write(ordered, tmp_path)
    client = MlflowClient()
    kept = client.get_run(run_id).data.metrics
    assert kept["interval/r2_low"] == found.metrics["r2"].low  # and not the R2 of the cohort of that name
    strata = {row["name"]: row["metrics"]["r2"] for row in found.sections["strata"]["rows"]}
    assert kept["by_label/low/r2"] == strata["low"]["value"]
    assert kept["by_label/C_D/r2_high"] == strata["C&D"]["high"]
    assert {"test/interval_coverage", "explanation/additivity_error", "interval/margin_low"} <= set(kept)
    logged = {item.path for folder in ("tables", "figures") for item in client.list_artifacts(run_id, folder)}
    assert logged >= {f"figures/{name}.png" for name in found.figures}
    assert logged >= {"tables/gene_order.csv", "figures/molecule_1.svg"}
    assert len(pd.read_csv(tmp_path / "learning_curves.csv")) > 1
    assert {"residuals_by_level", "worst_and_best_genes", "error_by_cohort", "learning_curves"} <= set(found.figures)
    table = pd.read_csv(tmp_path / "gene_order.csv")
    pd.testing.assert_frame_equal(table, ordered.tables["gene_order"])
    assert table["gene"].tolist() == PREDICTORS[3:] + PREDICTORS[:3]
    assert table["position"].tolist() == list(range(1, 31))
    assert table["window"].tolist() == [1] * 7 + [2] * 7 + [3] * 7 + [4] * 7 + [5] * 2


def test_what_is_constant_in_the_test_rows_or_was_not_measured_is_counted_and_left_out(setting: Setting) -> None:
    found = changed(setting, "target_U", 5.0)
    assert found.test["undefined_targets"]["r2"] == 1 and found.tables["by_gene"]["gene"].iloc[-1] == "U"
    assert (found.tables["by_cohort"]["constant_genes"] == 1).all()
    assert jsonable(found.test)["by_gene"][-1]["r2"] is None
    holes = setting.predictions["target_V"].where(np.arange(len(setting.predictions)) % 4 > 0)
    found = changed(setting, "target_V", holes)
    assert 0.8 < found.sections["interval"]["by_gene"]["V"] <= 1
    assert {row["name"]: row["n"] for row in found.sections["worst"]["rows"]}["V"] == holes.notna().sum()
    diagonal = found.figures["measured_against_predicted"].axes[0].lines[0]
    assert np.isfinite(np.asarray(diagonal.get_ydata())).all()
    nothing = changed(setting, "target_V", np.nan)
    assert nothing.test["undefined_targets"]["rmse"] == 1
    assert np.isnan(nothing.sections["interval"]["by_gene"]["V"])


def test_intervals_cover_as_told(found: Evidence, setting: Setting) -> None:
    section = found.sections["interval"]
    assert section["coverage"] == 0.9
    assert section["covered_on_test"] == pytest.approx(0.9, abs=0.02) == found.logged["test/interval_coverage"]
    contract: Any = setting.run(Planted()).contract
    narrow = replace(contract, half_widths=[*contract.half_widths[:2], 0.0, contract.half_widths[3]])
    check = interval_check(in_interval(setting.predictions, narrow), narrow)
    assert check["worst"] == {"gene": "U", "covered": 0.0}
    assert check["covered_on_test"] == pytest.approx(0.9 * 3 / 4, abs=0.02)


def test_the_planted_predictor_leads_every_target_and_attributions_that_do_not_add_up_are_named(
    found: Evidence, setting: Setting
) -> None:
    table = found.tables["predictors_by_target"]
    assert list(table) == ["target", "rank", "gene", "mean", "mean_abs"]
    assert table.groupby("target").size().to_dict() == dict.fromkeys(TARGETS, TOP)
    assert set(table.loc[table["rank"] == 1, "gene"]) == {"P7"}
    assert (table.groupby("target")["mean_abs"].diff().dropna() <= 0).all()
    top = found.tables["top_predictors"]
    assert top[["gene", "targets"]].iloc[0].tolist() == ["P7", len(TARGETS)] and len(top) == len(PREDICTORS)
    assert found.sections["explanation"]["additive"] and found.warnings == []
    completeness, deletion = found.sections["explanation"]["checks"]
    assert completeness["name"] == "completeness" and completeness["value"] < 1e-6
    assert deletion["name"] == "deletion" and 0 < deletion["low"] < deletion["value"] < deletion["high"]
    wrong = setting.evidence(Planted(gap=0.8, at=[3]))  # of the target whose unit is small
    assert wrong.sections["explanation"]["worst_target"]["gene"] == "V"
    assert wrong.sections["explanation"]["worst_target"]["additivity_relative_error"] == pytest.approx(0.8)
    assert wrong.logged["explanation/additivity_error"] == pytest.approx(0.2, abs=0.05)
    assert "V by 80.0%" in wrong.warnings[0]


def test_rows_of_every_cohort_are_explained_and_a_model_may_name_no_gene(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ExpressionSamples] = []
    monkeypatch.setattr(Planted, "attribute", lambda self, samples, output: seen.append(samples))
    found = setting.evidence(Planted())
    assert found.sections["explanation"] == {"method": None, "checks": []}  # it names no gene
    assert (
        set(found.tables) == {"by_gene", "by_cohort", "calibration", "predicted", "strata"}
        and "explanation/additivity_error" not in found.logged
    )
    counts = seen[0].table["label"].value_counts()
    assert counts.sum() == 30 and counts["rare"] == 1
    assert counts.drop("rare").between(9, 10).all()


def test_members_that_read_in_the_same_order_are_listed_once_and_others_each() -> None:
    def orders(*members: Estimator) -> dict[Any, Any]:
        found = orders_of_genes(ensemble(*members))
        assert found is not None
        return found.groupby("member")["gene"].agg(list).to_dict()

    turned = PREDICTORS[3:] + PREDICTORS[:3]
    assert orders(Ordered(3), Ordered(3)) == {"all": turned}
    assert orders(Ordered(3), Ordered(0)) == {"0": turned, "1": PREDICTORS}
    assert orders_of_genes(Planted()) is None
