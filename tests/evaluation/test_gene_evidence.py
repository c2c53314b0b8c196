"""Evidence of a gene predictor that hides something: a cohort that fails, attributions that do not add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

from evaluation.evidence import build
from evaluation.evidence.build import evidence_of
from evaluation.evidence.multi_target import interval_check
from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.explain.targets import TOP, orders_of_genes
from evaluation.problems.multi_target import target_spreads
from pipelines.datasets import Prepared
from pipelines.files import jsonable
from pipelines.params import PerBudget, read_params, task_text
from pipelines.samples.expression import ExpressionSamples
from pipelines.tasks.profiles_multi_target import ProfilesMultiTarget
from training.contract import contract_class
from training.estimator import Attribution, Estimator, FitContext
from training.model.cross_fit import CrossFitted
from training.model.final_fit import Fitted
from training.model.predictor import Predictor
from training.problems.multi_target import with_targets

ROOT = Path(__file__).parents[2]
SEED = 20261120
PREDICTORS = [f"P{number}" for number in range(30)]
TARGETS = ["T|1", "T|2", "U", "V"]
WEIGHTS = np.random.default_rng(5).normal(0, 0.4, (len(PREDICTORS), len(TARGETS)))
WEIGHTS[7] = [3, -3, 3, 3]  # the predictor that decides
SPREAD = np.array([1.0, 1.0, 10.0, 0.1])  # log2 units in which a target moves


class Planted(Estimator):
    """A linear model, the truth, that adds ``gap`` of what it says to its attributions of the targets ``at``."""

    def __init__(self, gap: float = 0.0, at: Sequence[int] = (0, 1, 2, 3)) -> None:
        self.gap = gap
        self.at = at

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        return self

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        imputed = np.nan_to_num(samples.logged(PREDICTORS).astype(np.float64))  # by the mean profile, which is zero
        return 5 + imputed @ WEIGHTS * SPREAD

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution | None:
        assert output is not None
        target = int(output[0])
        assert (output == target).all()
        values = samples.logged(PREDICTORS).astype(np.float64) * WEIGHTS[:, target] * SPREAD[target]
        said = 1 + self.gap if target in self.at else 1
        every = np.arange(len(samples))
        base = np.full(len(samples), 5.0)
        return Attribution(PREDICTORS, values * said, base, self.predict(samples)[every, output], "planted")

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> Self:
        return self


class Blind(Planted):
    """Looks at no gene."""

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> None:
        return None


class Ordered(Planted):
    """Reads its genes in windows of seven, in the order ``start`` on, and attends to nothing."""

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self.start = start

    @property
    def gene_order(self) -> list[str]:
        return PREDICTORS[self.start :] + PREDICTORS[: self.start]

    @property
    def steps(self) -> list[list[str]]:
        return [self.gene_order[at : at + 7] for at in range(0, len(PREDICTORS), 7)]


def ensemble(*members: Estimator) -> CrossFitted:
    made = CrossFitted(of="lstm", hyperparameters={}, modality="profiles", problem="multi_target")
    made.members_ = list(members)
    return made


@dataclass(frozen=True)
class Setting:
    """All that `evidence_of` takes."""

    task: ProfilesMultiTarget
    fitted: Fitted
    prepared: Prepared
    predictions: pd.DataFrame
    half_widths: list[float | None]

    def model(self, estimator: Estimator) -> Predictor:
        model = Predictor()
        kind: Any = contract_class("profiles", "multi_target")
        model.contract = kind(
            task="gene_expression",
            architecture="planted",
            baseline=self.task.evaluate.baseline,
            task_text=task_text(self.task),
            genes=PREDICTORS,
            known=PREDICTORS + TARGETS,
            targets=TARGETS,
            spreads=[1.0] * len(TARGETS),
            half_widths=self.half_widths,
            coverage=0.9,
        )
        model.estimator = estimator
        return model

    def evidence(self, estimator: Estimator | None = None, audit: dict[str, Any] | None = None) -> Evidence:
        model = self.model(estimator or Planted())
        return evidence_of(Evaluation(self.task, self.fitted, model, self.predictions, self.prepared, SEED), audit)

    def changed(self, column: str, values: Any) -> Setting:
        return replace(self, predictions=self.predictions.assign(**{column: values}))


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def run_id(place: Path) -> str:
    """Give a run that logged two epochs, in a tracking store of its own."""
    experiment = mlflow.create_experiment("gene_expression", (place / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment, log_system_metrics=False) as run:
        for step in range(2):
            mlflow.log_metrics({"step_validation_rmse": 1.0 - step / 2}, step=step)
    found: str = run.info.run_id
    return found


@pytest.fixture(scope="module")
def setting(run_id: str) -> Setting:
    """Return a model that is nearly right on the cohort ``A``, knows nothing of ``low`` and half of ``C&D``."""
    task = read_params(ROOT / "params.yaml").task("gene_expression")
    assert isinstance(task, ProfilesMultiTarget)
    task = replace(task, evaluate=replace(task.evaluate, resamples=200, explained_samples=PerBudget(30, 30)))
    rng = np.random.default_rng(0)
    n = 240
    inputs = rng.normal(0, 1, (n, len(PREDICTORS)))
    truth = 5 + inputs @ WEIGHTS * SPREAD
    label = np.array(["A", "low", "C&D"], dtype=object)[np.arange(n) % 3]
    label[-1] = "rare"
    ids = [f"S{row:03}" for row in range(n)]
    patients = [f"patient {row // 6 * 3 + row % 3}" for row in range(n)]  # two samples each, of one cohort
    table = pd.DataFrame({"sample_id": ids, "patient_id": patients, "label": label, "digest": ids, "simulated": True})
    genes = (*PREDICTORS, *TARGETS)
    samples = ExpressionSamples(
        table,
        np.hstack([inputs, truth]).astype(np.float32),
        np.arange(n),
        genes,
        pd.DataFrame(index=pd.Index(genes)),
        "log2",
    ).aimed(TARGETS, PREDICTORS)
    side = np.where(np.arange(n) < 120, "train", "test")
    split = table.assign(group=patients, split=side, fold=np.where(side == "train", 0, -1))
    prepared = Prepared(samples, split, "0" * 64, {})
    test = prepared.side("test")
    spread = target_spreads(prepared.side("train").target)
    wrong = {"A": 0.1, "low": 2.0, "C&D": 0.5, "rare": 0.1}
    noise = rng.normal(size=test.target.shape) * spread
    predicted = test.target + noise * np.array([[wrong[one]] for one in test.table["label"]])
    baseline = np.tile(prepared.side("train").target.mean(axis=0), (len(test), 1))
    predictions = with_targets(split.iloc[prepared.rows("test")], TARGETS, test.target, predicted, baseline)
    half = np.quantile(np.abs(test.target - predicted), 0.9, axis=0, method="higher")
    fitted = Fitted(
        "gene_expression",
        "planted",
        "quick",
        run_id,
        "models:/m-0",
        {},
        "r2",
        0.5,
        prepared.sha256,
        1.0,
        {},
        cross_validation={"cv_r2_mean": 0.5, "cv_r2_sd": 0.1},
    )
    return Setting(task, fitted, prepared, predictions, half.tolist())


@pytest.fixture(scope="module")
def found(setting: Setting) -> Evidence:
    return setting.evidence()


def of_kind(predictions: pd.DataFrame, kind: str) -> np.ndarray:
    return predictions[[f"{kind}_{gene}" for gene in TARGETS]].to_numpy()


# The numbers.


def test_the_numbers_are_those_of_the_predictions_by_another_library(found: Evidence, setting: Setting) -> None:
    measured, predicted, baseline = (
        of_kind(setting.predictions, kind) for kind in ("target", "prediction", "baseline")
    )
    spread = setting.prepared.side("train").target.std(axis=0)
    assert found.metrics["r2"].value == pytest.approx(r2_score(measured, predicted))
    assert found.metrics["margin"].value == pytest.approx(r2_score(measured, predicted) - r2_score(measured, baseline))
    assert found.metrics["rmse_sd"].value == pytest.approx(
        root_mean_squared_error(measured / spread, predicted / spread)
    )
    table = found.tables["by_gene"]
    errors = ["rmse", "mae", "mse", "rmse_sd", "mae_sd"]
    assert list(table) == ["gene", "r2", "r2_low", "r2_high", *errors, "sd", "baseline_rmse"]
    assert table["r2"].is_monotonic_decreasing
    by_gene = table.set_index("gene").loc[TARGETS]
    each: dict[str, Any] = {"multioutput": "raw_values"}
    np.testing.assert_allclose(by_gene["r2"], r2_score(measured, predicted, **each))
    np.testing.assert_allclose(by_gene["mae"], mean_absolute_error(measured, predicted, **each))
    np.testing.assert_allclose(by_gene["rmse"], root_mean_squared_error(measured, predicted, **each))
    np.testing.assert_allclose(by_gene["mse"], mean_squared_error(measured, predicted, **each))
    np.testing.assert_allclose(
        by_gene["rmse_sd"], root_mean_squared_error(measured / spread, predicted / spread, **each)
    )
    np.testing.assert_allclose(by_gene["mae_sd"], mean_absolute_error(measured / spread, predicted / spread, **each))
    np.testing.assert_allclose(by_gene["baseline_rmse"], root_mean_squared_error(measured, baseline, **each))
    np.testing.assert_allclose(by_gene["sd"], spread)
    assert ((by_gene["r2_low"] < by_gene["r2"]) & (by_gene["r2"] < by_gene["r2_high"])).all()


def test_every_figure_can_be_written(found: Evidence, setting: Setting, tmp_path: Path) -> None:
    for name, figure in found.figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000, name


# Cohorts.


def test_a_cohort_on_which_the_model_fails_shows(found: Evidence, setting: Setting) -> None:
    rows: dict[str, Any] = {row["cohort"]: row for row in found.tables["by_cohort"].to_dict("records")}
    assert rows["A"]["rmse_sd_high"] < 0.2 < rows["C&D"]["rmse_sd_low"]
    assert rows["C&D"]["rmse_sd_high"] < 1 < rows["low"]["rmse_sd_low"]
    assert rows["A"]["margin_low"] > 0 > rows["low"]["margin_high"]
    assert all(row["baseline_rmse_sd"] > 0.5 for row in rows.values())
    of_a = setting.predictions[setting.predictions["label"] == "A"]
    assert rows["A"]["r2"] == pytest.approx(r2_score(of_kind(of_a, "target"), of_kind(of_a, "prediction")))
    assert found.test["by_cohort"]["low"]["rmse_sd"]["value"] == rows["low"]["rmse_sd"]


def test_the_run_takes_every_metric_whatever_a_cohort_is_called(found: Evidence, run_id: str) -> None:
    logged = found.to_log()
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        mlflow.log_metrics(logged)
    kept = MlflowClient().get_run(run_id).data.metrics
    assert kept["test_r2_low"] == found.metrics["r2"].low  # and not the R2 of the cohort of that name
    assert kept["test_r2_cohort_low"] == found.test["by_cohort"]["low"]["r2"]["value"]
    assert kept["test_rmse_sd_cohort_C_D_high"] == found.test["by_cohort"]["C&D"]["rmse_sd"]["high"]
    assert {"test_interval_coverage", "explanation_additivity_error", "test_margin_low"} <= set(kept)


def test_samples_without_a_cohort_are_measured_all_the_same(setting: Setting, found: Evidence) -> None:
    unknown = setting.changed("label", pd.Series([None] * len(setting.predictions), dtype=object)).evidence()
    assert unknown.metrics["r2"] == found.metrics["r2"]
    assert unknown.strata == {}
    assert "by_cohort" not in unknown.tables
    assert "error_by_cohort" not in unknown.figures


# Genes that cannot be measured.


def test_a_gene_that_is_constant_in_the_test_rows_is_counted_and_left_out(setting: Setting) -> None:
    found = setting.changed("target_U", 5.0).evidence()
    others = [gene for gene in TARGETS if gene != "U"]
    measured, predicted = (
        setting.predictions[[f"{kind}_{gene}" for gene in others]] for kind in ("target", "prediction")
    )
    assert found.metrics["r2"].value == pytest.approx(r2_score(measured, predicted))
    assert found.test["undefined_targets"]["r2"] == 1
    assert found.tables["by_gene"]["gene"].iloc[-1] == "U"
    assert np.isnan(found.tables["by_gene"]["r2"].iloc[-1])
    assert (found.tables["by_cohort"]["constant_genes"] == 1).all()
    assert jsonable(found.test)["by_gene"][-1]["r2"] is None


def test_values_that_were_not_measured_do_not_end_the_evaluation(setting: Setting) -> None:
    holes = setting.predictions["target_V"].to_numpy().copy()
    holes[::4] = np.nan
    found = setting.changed("target_V", holes).evidence()
    known = np.isfinite(holes)
    expected = r2_score(holes[known], setting.predictions["prediction_V"][known])
    assert found.tables["by_gene"].set_index("gene").loc["V", "r2"] == pytest.approx(expected)
    assert 0.8 < found.sections["interval"]["by_gene"]["V"] <= 1
    diagonal = found.figures["measured_against_predicted"].axes[0].lines[0]
    assert np.isfinite(np.asarray(diagonal.get_ydata())).all()
    nothing = setting.changed("target_V", np.nan).evidence()
    assert nothing.test["undefined_targets"]["rmse"] == 1
    assert np.isnan(nothing.sections["interval"]["by_gene"]["V"])


# Intervals.


def test_intervals_cover_as_told(found: Evidence, setting: Setting) -> None:
    section = found.sections["interval"]
    assert section["coverage"] == 0.9
    assert section["covered_on_test"] == pytest.approx(0.9, abs=0.02) == found.logged["test_interval_coverage"]
    narrow = replace(setting, half_widths=[*setting.half_widths[:2], 0.0, setting.half_widths[3]])
    check = interval_check(setting.predictions, narrow.model(Planted()).contract)
    assert check["worst"] == {"gene": "U", "covered": 0.0}
    assert check["covered_on_test"] == pytest.approx(0.9 * 3 / 4, abs=0.02)


# Explanations.


def test_attributions_that_add_up_give_no_warning(found: Evidence) -> None:
    assert found.sections["explanation"]["additive"]
    assert found.logged["explanation_additivity_error"] < 1e-6
    assert found.warnings == []
    completeness, deletion = found.sections["explanation"]["checks"]
    assert completeness["name"] == "completeness" and completeness["value"] < 1e-6
    assert deletion["name"] == "deletion" and 0 < deletion["low"] < deletion["value"] < deletion["high"]


def test_genes_that_are_named_wrongly_do_not_pass_the_deletion_test(setting: Setting) -> None:
    class Shifted(Planted):
        """Says of each predictor what its neighbor does."""

        def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution | None:
            true = super().attribute(samples, output)
            assert true is not None
            return replace(true, values=np.roll(true.values, 3, axis=1))

    found = setting.evidence(Shifted())
    assert found.sections["explanation"]["additive"]  # they add up all the same
    assert not found.sections["explanation"]["deletion"]["passed"]
    assert any("masking" in warning for warning in found.warnings)


def test_the_target_whose_attributions_do_not_add_up_is_named_though_its_unit_is_small(setting: Setting) -> None:
    found = setting.evidence(Planted(gap=0.8, at=[3]))
    assert found.sections["explanation"]["worst_target"]["gene"] == "V"
    assert found.sections["explanation"]["worst_target"]["additivity_relative_error"] == pytest.approx(0.8)
    assert found.logged["explanation_additivity_error"] == pytest.approx(0.2, abs=0.05)
    assert "V by 80.0%" in found.warnings[0]


def test_a_model_that_looks_at_no_gene_has_no_explanation(setting: Setting) -> None:
    found = setting.evidence(Blind())
    assert found.sections["explanation"] == {"method": None, "checks": []}
    assert set(found.tables) == {"by_gene", "by_cohort"}
    assert "explanation_additivity_error" not in found.logged


def test_the_planted_predictor_leads_every_target(found: Evidence) -> None:
    table = found.tables["predictors_by_target"]
    assert list(table) == ["target", "rank", "gene", "mean", "mean_abs"]
    assert table.groupby("target").size().to_dict() == dict.fromkeys(TARGETS, TOP)
    assert set(table.loc[table["rank"] == 1, "gene"]) == {"P7"}
    assert (table.groupby("target")["mean_abs"].diff().dropna() <= 0).all()
    top = found.tables["top_predictors"]
    assert top["gene"].iloc[0] == "P7"
    assert top["targets"].iloc[0] == len(TARGETS)
    assert len(top) == len(PREDICTORS)


def test_rows_are_explained_from_every_cohort(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ExpressionSamples] = []
    monkeypatch.setattr(Planted, "attribute", lambda self, samples, output: seen.append(samples))
    setting.evidence()
    counts = seen[0].table["label"].value_counts()
    assert counts.sum() == 30
    assert counts["rare"] == 1
    assert counts.drop("rare").between(9, 10).all()


# The order in which genes are read.


def test_the_order_is_an_artifact_of_its_run(setting: Setting, run_id: str, tmp_path: Path) -> None:
    found = setting.evidence(Ordered(start=3))
    table = found.tables["gene_order"]
    assert list(table) == ["member", "position", "window", "gene"]
    assert table["gene"].tolist() == PREDICTORS[3:] + PREDICTORS[:3]
    assert table["position"].tolist() == list(range(1, 31))
    assert table["window"].tolist() == [1] * 7 + [2] * 7 + [3] * 7 + [4] * 7 + [5] * 2
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        build._write(found, tmp_path)
    (tmp_path / "logged").mkdir()
    logged = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="tables/gene_order.csv", dst_path=str(tmp_path / "logged")
    )
    pd.testing.assert_frame_equal(pd.read_csv(logged), table)


def test_members_that_read_in_the_same_order_are_told_once_and_others_each(setting: Setting) -> None:
    same = orders_of_genes(ensemble(Ordered(3), Ordered(3)))
    assert same is not None and set(same["member"]) == {"all"} and len(same) == len(PREDICTORS)
    apart = orders_of_genes(ensemble(Ordered(3), Ordered(0)))
    assert apart is not None
    read = apart.groupby("member")["gene"].agg(list).to_dict()
    assert read == {"0": PREDICTORS[3:] + PREDICTORS[:3], "1": PREDICTORS}
    assert orders_of_genes(Planted()) is None
    assert "gene_order" not in setting.evidence(Planted()).tables
