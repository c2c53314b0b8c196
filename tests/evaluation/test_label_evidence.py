"""Evidence of a classifier of profiles that misleads: genes not its own, parts that do not add up, luck of a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from evaluation.evidence import build
from evaluation.evidence.build import evidence_of
from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.evidence.profiles import layout_of, stability
from evaluation.explain.profiles import TOP, explain_profiles
from evaluation.figures import profiles
from evaluation.problems import measures_of
from pipelines.datasets import Prepared
from pipelines.files import jsonable
from pipelines.params import Params, PerBudget, read_params
from pipelines.samples.expression import ExpressionSamples
from pipelines.tasks.profiles_classification import ProfilesClassification
from training.contract import contract_class
from training.estimator import Attribution, Classifier, Estimator, FitContext
from training.model.cross_fit import CrossFitted
from training.model.final_fit import Fitted
from training.model.predictor import Predictor
from training.problems.classification import with_probabilities

ROOT = Path(__file__).parents[2]
NAME = "tumor_type"
SEED = 20261126
CLASSES = ("A", "B", "C")
GENES = tuple(f"G{number}|{1000 + number}" for number in range(200))
LEVEL = 6.0  # mean of every gene, in log2 units
RAISED = {"A": (0, 1), "B": (2, 3), "C": (4, 5)}  # genes that are high in a class: one speaks for it, one against it
WEIGHTS = np.random.default_rng(3).normal(0, 0.02, (len(CLASSES), len(GENES)))
for _code, (_for, _against) in enumerate(RAISED.values()):
    WEIGHTS[_code, [_for, _against]] = 1.5, -0.5


class Planted(Classifier):
    """A linear model whose weights are known; it adds ``gap`` of what it says to its attributions."""

    def __init__(self, gap: float = 0.0) -> None:
        self.gap = gap

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        return self

    def weights(self) -> np.ndarray:
        return WEIGHTS

    def _centered(self, samples: ExpressionSamples) -> np.ndarray:
        return np.nan_to_num(samples.logged(GENES).astype(np.float64) - LEVEL)  # unknown ones are as in the mean

    def predict_proba(self, samples: ExpressionSamples) -> np.ndarray:
        odds = np.exp(self._centered(samples) @ self.weights().T)
        return odds / odds.sum(axis=1, keepdims=True)

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution | None:
        assert output is not None
        values = self._centered(samples) * self.weights()[output]
        return Attribution(
            list(GENES), values * (1 + self.gap), np.zeros(len(values)), values.sum(axis=1), "planted gradients"
        )

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> Self:
        return self


class Blind(Planted):
    """Looks at no gene."""

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> None:
        return None


class Imaged(Planted):
    """Sees its genes as an image of 20 by 20, in whose middle they lie in a square of their own, reversed."""

    def layout_table(self) -> pd.DataFrame:
        place = np.arange(len(GENES))[::-1]
        return pd.DataFrame({"gene": GENES, "row": 2 + place // 15, "column": 2 + place % 15})


class Seeded(Planted):
    """Names 30 genes whatever its seed is, and 20 more that lie elsewhere for each ``luck`` of the seed.

    Where it is integrated finely, it names those of another luck.
    """

    fits: list[tuple[int, list[str], list[str]]]
    steps: tuple[int, ...] = (4, 16)
    luck: tuple[int, ...] = (0, 1, 1)

    def __init__(self, seed: int = 0, gap: float = 0.0) -> None:
        super().__init__(gap)
        self.seed = seed

    def fit(
        self, train: ExpressionSamples, validation: ExpressionSamples | None = None, context: FitContext | None = None
    ) -> Self:
        held_out = [] if validation is None else validation.table["sample_id"].tolist()
        type(self).fits.append((self.seed, train.table["sample_id"].tolist(), held_out))
        return self

    def weights(self) -> np.ndarray:
        luck = self.luck[self.seed - SEED] if len(self.steps) == 1 else 5
        weights = np.zeros((len(CLASSES), len(GENES)))
        weights[:, :30] = 1.0
        weights[:, 40 + 20 * luck : 60 + 20 * luck] = 1.0
        return weights


def ensemble(*members: Estimator) -> CrossFitted:
    made = CrossFitted(of="planted", hyperparameters={}, modality="profiles", problem="classification")
    made.members_ = list(members)
    return made


@dataclass(frozen=True)
class Setting:
    """All that `evidence_of` takes."""

    task: ProfilesClassification
    params: Params
    fitted: Fitted
    prepared: Prepared
    predictions: pd.DataFrame

    def run(self, estimator: Estimator) -> Evaluation:
        model = Predictor()
        model.estimator = estimator
        kind: Any = contract_class("profiles", "classification")
        model.contract = kind(
            task=NAME,
            architecture="planted",
            baseline=self.task.evaluate.baseline,
            task_text="",
            coverage=0.9,
            classes=list(CLASSES),
            temperature=1.0,
            threshold=0.5,
            genes=list(GENES),
            known=list(GENES),
        )
        return Evaluation(self.task, self.fitted, model, self.predictions, self.prepared, self.params.seed)

    def evidence(self, estimator: Estimator | None = None) -> Evidence:
        return evidence_of(self.run(estimator or Planted()), None)

    def with_seeds(self, seeds: int) -> Setting:
        evaluate = replace(self.task.evaluate, stability_seeds=PerBudget(seeds, 0))
        return replace(self, task=replace(self.task, evaluate=evaluate))

    @property
    def test(self) -> ExpressionSamples:
        samples: ExpressionSamples = self.prepared.side("test")
        return samples


@pytest.fixture(autouse=True)
def counted(quiet: None) -> None:
    """Fits are counted anew in each test."""
    Seeded.fits = []


@pytest.fixture(scope="module")
def run_id(place: Path) -> str:
    """Give a run in a tracking store of its own."""
    experiment = mlflow.create_experiment(NAME, (place / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment, log_system_metrics=False) as run:
        mlflow.log_param("architecture", "planted")
    found: str = run.info.run_id
    return found


@pytest.fixture(scope="module")
def setting(run_id: str) -> Setting:
    params = read_params(ROOT / "params.yaml")
    task = params.task(NAME)
    assert isinstance(task, ProfilesClassification)
    changed = {"resamples": 200, "explained_samples": PerBudget(1000, 1), "stability_seeds": PerBudget(0, 0)}
    task = replace(task, evaluate=replace(task.evaluate, **changed))  # type: ignore[arg-type]
    n = 180
    codes = np.arange(n) % len(CLASSES)
    values = np.random.default_rng(0).normal(LEVEL, 0.5, (n, len(GENES)))
    for code, raised in enumerate(RAISED.values()):
        values[np.ix_(codes == code, raised)] += 2.0
    ids = [f"S{row:03}" for row in range(n)]
    patients = [f"patient {row // 6 * 3 + row % 3}" for row in range(n)]  # two samples each, of one class
    table = pd.DataFrame({"sample_id": ids, "patient_id": patients, "label": np.array(CLASSES)[codes], "digest": ids})
    table = table.assign(target=codes.astype(np.int64), simulated=True)
    samples = ExpressionSamples(
        table,
        values.astype(np.float32),
        np.arange(n),
        GENES,
        pd.DataFrame(index=pd.Index(GENES)),
        "log2",
        classes=CLASSES,
    )
    side = np.array(["train", "train", "validation", "test", "test", "test"])[np.arange(n) // 30]
    fold = np.where(side == "test", -1, np.arange(n) // 30)
    split = table.assign(group=patients, split=side, fold=fold)
    prepared = Prepared(samples, split, "0" * 64, {})
    probabilities = Planted().predict_proba(prepared.side("test"))
    naive = np.full(probabilities.shape, 1 / 3)
    rows = split.iloc[prepared.rows("test")].reset_index(drop=True)
    predictions = with_probabilities(rows, CLASSES, probabilities, 1.0, naive)
    fitted = Fitted(NAME, "planted", "quick", run_id, "models:/m-0", {}, "log_loss", 0.5, prepared.sha256, 1.0, {})
    return Setting(task, params, fitted, prepared, predictions)


@pytest.fixture(scope="module")
def found(setting: Setting) -> Evidence:
    return setting.evidence()


# The genes of each class.


def test_the_planted_genes_lead_their_class_with_their_sign(found: Evidence) -> None:
    table = found.tables["genes_by_class"]
    assert list(table) == ["class", "rank", "gene", "mean", "mean_abs", "rows"]
    for label, (speaks_for, speaks_against) in RAISED.items():
        of_class = table[table["class"] == label]
        assert of_class["rank"].tolist() == list(range(1, TOP + 1))
        assert of_class["gene"].iloc[:2].tolist() == [GENES[speaks_for], GENES[speaks_against]]
        assert of_class["mean"].iloc[0] > 0 > of_class["mean"].iloc[1]
        assert (of_class["mean_abs"].diff().dropna() <= 0).all()
        assert (of_class["mean_abs"] >= of_class["mean"].abs() - 1e-12).all()


def test_a_class_without_a_row_is_left_out_and_the_others_keep_theirs(setting: Setting) -> None:
    rows = np.flatnonzero(setting.test.target != 1)
    some = setting.test.take(rows)
    explained = explain_profiles(Planted(), some, CLASSES, some.target)
    assert explained is not None
    assert set(explained[0].genes["class"]) == {"A", "C"}
    assert np.isnan(explained[0].by_class).all(axis=1).tolist() == [False, True, False]
    figure = profiles.genes_by_class(explained[0].by_class, GENES, CLASSES, "t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["A", "C"]


def test_a_model_that_looks_at_no_gene_has_no_explanation(setting: Setting) -> None:
    found = setting.evidence(Blind())
    assert found.sections["explanation"] == {"method": None, "checks": []}
    assert not {"genes_by_class", "layout"} & {*found.tables, *found.figures}
    assert not any(name.startswith("explanation") for name in found.logged)


# Figures, and the run.


def test_the_layout_map_shows_a_gene_at_its_pixel(setting: Setting) -> None:
    found = setting.evidence(Imaged())
    layout = found.tables["layout"]
    assert list(layout) == ["gene", "row", "column"]
    place_of = dict(zip(layout["gene"], zip(layout["row"] - 2, layout["column"] - 2, strict=True), strict=True))
    assert set(place_of) == set(GENES)
    panels = [axes for axes in found.figures["layout"].axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == list(CLASSES)
    for axes, (speaks_for, speaks_against) in zip(panels, RAISED.values(), strict=True):
        pixels = np.asarray(axes.images[0].get_array())
        top, bottom = (np.unravel_index(pick, pixels.shape) for pick in (int(pixels.argmax()), int(pixels.argmin())))
        for place, gene in ((top, GENES[speaks_for]), (bottom, GENES[speaks_against])):
            assert place == place_of[gene]


def test_an_ensemble_shows_the_layout_of_its_first_and_others_have_none(found: Evidence) -> None:
    pd.testing.assert_frame_equal(layout_of(ensemble(Imaged(), Planted())), Imaged().layout_table())  # type: ignore[arg-type]
    assert layout_of(Planted()) is None
    assert "layout" not in found.tables and "layout" not in found.figures


def test_genes_heat_map_and_layout_are_artifacts_of_the_run(setting: Setting, run_id: str, tmp_path: Path) -> None:
    found = setting.evidence(Imaged())
    with mlflow.start_run(run_id=run_id, log_system_metrics=False):
        mlflow.log_metrics(found.to_log())
        build._write(found, tmp_path)
    client = MlflowClient()
    kept = {item.path for folder in ("tables", "figures") for item in client.list_artifacts(run_id, folder)}
    assert {"tables/genes_by_class.csv", "tables/layout.csv"} <= kept
    assert {"figures/genes_by_class.png", "figures/layout.png"} <= kept
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "layout.csv"), Imaged().layout_table())
    metrics = client.get_run(run_id).data.metrics
    logged = {"explanation_additivity_error", "explanation_deletion_drop", "explanation_deletion_drop_random"}
    assert logged <= set(metrics)
    json.dumps(jsonable({"test": found.test, **found.sections}))


# Whether that can be believed.


def test_attributions_that_add_up_are_complete(found: Evidence) -> None:
    assert found.logged["explanation_additivity_error"] < 1e-6
    section = found.sections["explanation"]
    assert section["additive"] and section["method"] == "planted gradients" and section["rows"] == 90
    assert section["checks"][0]["name"] == "completeness" and section["checks"][0]["value"] < 1e-6
    assert section["top"]["B"][:2] == [GENES[2], GENES[3]]
    assert found.warnings == []


@pytest.mark.parametrize(("gap", "additive"), [(0.04, True), (0.2, False), (-0.2, False)])
def test_attributions_that_miss_the_logit_are_told(setting: Setting, gap: float, additive: bool) -> None:
    found = setting.evidence(Planted(gap=gap))
    assert found.logged["explanation_additivity_error"] == pytest.approx(abs(gap))
    assert found.sections["explanation"]["additive"] is additive
    assert found.warnings == ([] if additive else [f"attributions miss the prediction by {abs(gap):.1%}"])


def test_masking_the_named_genes_takes_confidence_and_random_ones_do_not(found: Evidence, setting: Setting) -> None:
    fell = found.sections["explanation"]["deletion"]
    assert fell["passed"] and fell["genes"] == 50
    assert found.logged["explanation_deletion_drop"] == fell["drop_top"] > 0.3
    assert found.logged["explanation_deletion_drop_random"] == fell["drop_random"] < 0.3
    difference = fell["difference"]
    assert difference["value"] == pytest.approx(fell["drop_top"] - fell["drop_random"])
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    # By hand: the 50 genes that speak most for a row's class are set to the training mean.
    test = setting.test
    centered, rows = test.logged(GENES).astype(np.float64) - LEVEL, np.arange(len(test))
    order = np.argsort(-centered * WEIGHTS[test.target], axis=1, kind="stable")[:, :50]
    masked = centered.copy()
    np.put_along_axis(masked, order, 0.0, axis=1)
    before, after = (np.exp(values @ WEIGHTS.T) for values in (centered, masked))
    lost = [(odds / odds.sum(axis=1, keepdims=True))[rows, test.target] for odds in (before, after)]
    assert fell["drop_top"] == pytest.approx((lost[0] - lost[1]).mean())


def test_genes_that_are_named_wrongly_do_not_pass_the_deletion_test(setting: Setting) -> None:
    class Swapped(Planted):
        """Says of each gene what its neighbor does: they add up all the same."""

        def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution | None:
            true = super().attribute(samples, output)
            assert true is not None
            return replace(true, values=true.values[:, np.arange(len(GENES)) ^ 1])

    found = setting.evidence(Swapped())
    assert found.sections["explanation"]["additive"]
    assert not found.sections["explanation"]["deletion"]["passed"]
    assert found.warnings == ["masking the named genes moves predictions no more than masking random ones"]


# Stability over seeds.


@pytest.mark.parametrize(("seeds", "expected"), [(1, 0.6), (2, (0.6 + 0.6 + 1.0) / 3)])
def test_stability_is_the_mean_overlap_of_all_pairs_of_seeds(setting: Setting, seeds: int, expected: float) -> None:
    model = Seeded(seed=SEED)
    found = setting.with_seeds(seeds).evidence(model)
    assert found.logged["explanation_stability_top_50"] == pytest.approx(expected)
    assert found.sections["explanation"]["stability"] == {"top": 50, "overlap": pytest.approx(expected)}
    assert [seed for seed, _, _ in Seeded.fits] == [SEED + draw for draw in range(1, seeds + 1)]
    assert model.steps == (4, 16)  # the explained model is still integrated finely


def test_seeds_are_not_mixed_with_the_members_of_an_ensemble(setting: Setting) -> None:
    """Members that name other genes change nothing: a single fit is compared with single fits on its own rows."""

    class Other(Planted):
        def weights(self) -> np.ndarray:
            return np.roll(WEIGHTS, 100, axis=1)

    seeds = setting.with_seeds(2)
    found = seeds.evidence(ensemble(Seeded(seed=SEED), Other(), Other()))
    assert found.logged["explanation_stability_top_50"] == pytest.approx((0.6 + 0.6 + 1.0) / 3)
    table = setting.prepared.table
    outside = table[table["split"] != "test"]
    for _, train, held_out in Seeded.fits:  # what the first member was fitted on: all folds but the first
        assert train == outside.loc[outside["fold"] != 0, "sample_id"].tolist()
        assert held_out == outside.loc[outside["fold"] == 0, "sample_id"].tolist()


def test_no_seed_and_no_question_have_no_stability(setting: Setting) -> None:
    explained = measures_of("classification").explained(setting.run(Planted()))
    rows = np.arange(6)
    assert stability(setting.run(Planted()), explained, rows, 2) is None  # has no seed
    assert stability(setting.run(ensemble(Planted())), explained, rows, 2) is None
    assert stability(setting.run(Seeded(seed=SEED)), explained, rows, 0) is None
    assert Seeded.fits == []
    found = setting.evidence(Seeded(seed=SEED))
    assert "explanation_stability_top_50" not in found.logged
    assert found.sections["explanation"]["stability"] is None
