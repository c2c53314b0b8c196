"""Evidence of a classifier of profiles that misleads: genes not its own, parts that do not add up, luck of a seed."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence.parts import Evidence
from evaluation.explain.profiles import TOP, genes_by_class, genes_of_classes, layout_of, stability
from evaluation.problems import measures_of
from pipelines.params import PerBudget, read_params
from pipelines.samples.expression import ExpressionSamples
from tests.evaluation.planted import Known, Setting, ensemble, profile_samples, split_by
from training.estimator import Attribution, Classifier, FitContext
from training.problems.classification import with_probabilities

ROOT = Path(__file__).parents[2]
SEED = 20261126
CLASSES = ("A", "B", "C")
GENES = tuple(f"G{number}|{1000 + number}" for number in range(200))
LEVEL = 6.0  # mean of every gene, in log2 units
RAISED = {"A": (0, 1), "B": (2, 3), "C": (4, 5)}  # genes that are high in a class: one speaks for it, one against it
WEIGHTS = np.random.default_rng(3).normal(0, 0.02, (len(CLASSES), len(GENES)))
for _code, (_for, _against) in enumerate(RAISED.values()):
    WEIGHTS[_code, [_for, _against]] = 1.5, -0.5


class Planted(Known, Classifier):
    """A linear model whose weights are known; it adds ``gap`` of what it says to its attributions."""

    def __init__(self, gap: float = 0.0) -> None:
        self.gap = gap

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
        zeros, scale = np.zeros(len(values)), 1 + self.gap
        return Attribution(list(GENES), values * scale, zeros, values.sum(axis=1), "planted gradients")


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

    def __init__(self, seed: int = SEED, gap: float = 0.0) -> None:
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


pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def setting(run_id: str) -> Setting:
    n = 180
    codes = np.arange(n) % len(CLASSES)
    values = np.random.default_rng(0).normal(LEVEL, 0.5, (n, len(GENES)))
    for code, raised in enumerate(RAISED.values()):
        values[np.ix_(codes == code, raised)] += 2.0
    samples = profile_samples(values, GENES, np.array(CLASSES)[codes], classes=CLASSES, target=codes.astype(np.int64))
    side = np.array(["train", "train", "validation", "test", "test", "test"])[np.arange(n) // 30]
    prepared = split_by(samples, side, np.where(side == "test", -1, np.arange(n) // 30))
    probabilities = Planted().predict_proba(prepared.side("test"))
    rows = prepared.table.iloc[prepared.rows("test")].reset_index(drop=True)
    predictions = with_probabilities(rows, CLASSES, probabilities, 1.0, np.full(probabilities.shape, 1 / 3))
    contract: dict[str, Any] = {"classes": list(CLASSES), "temperature": 1.0, "threshold": 0.5}
    contract |= {"genes": list(GENES), "known": list(GENES)}
    task = read_params(ROOT / "params.yaml").task("tumor_type")
    made = Setting(task, prepared, predictions, contract, run_id, SEED)
    few = {"explained_samples": PerBudget(1000, 1), "stability_seeds": PerBudget(0, 0)}
    return made.evaluated(resamples=200, **few)


@pytest.fixture(scope="module")
def found(setting: Setting) -> Evidence:
    return setting.evidence(Planted())


def test_the_planted_genes_lead_their_class_with_their_sign(found: Evidence) -> None:
    table = found.tables["genes_by_class"]
    assert list(table) == ["class", "rank", "gene", "mean", "mean_abs", "rows"]
    for label, (speaks_for, speaks_against) in RAISED.items():
        of_class = table[table["class"] == label]
        assert of_class["rank"].tolist() == list(range(1, TOP + 1))
        assert of_class["gene"].iloc[:2].tolist() == [GENES[speaks_for], GENES[speaks_against]]
        assert of_class["mean"].iloc[0] > 0 > of_class["mean"].iloc[1]
    assert found.sections["explanation"]["top"]["B"][:2] == [GENES[2], GENES[3]]


def test_a_class_without_a_row_is_left_out_and_a_model_that_uses_no_gene_has_no_explanation(setting: Setting) -> None:
    test = setting.prepared.side("test")
    some = test.take(np.flatnonzero(test.target != 1))
    attribution = Planted().attribute(some, some.target)
    assert attribution is not None
    genes, means = genes_of_classes(attribution, CLASSES, some.target)
    assert set(genes["class"]) == {"A", "C"}
    figure = genes_by_class(means, GENES, CLASSES, "t")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["A", "C"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Planted, "attribute", lambda *_: None)
        blind = setting.evidence(Planted())
    assert blind.sections["explanation"] == {"method": None, "checks": []}
    assert not {"genes_by_class", "layout"} & {*blind.tables, *blind.figures}
    assert not any(name.startswith("explanation") for name in blind.logged)


def test_the_layout_shows_a_gene_at_its_pixel(setting: Setting, found: Evidence) -> None:
    imaged = setting.evidence(Imaged())
    layout = imaged.tables["layout"]
    place_of = dict(zip(layout["gene"], zip(layout["row"] - 2, layout["column"] - 2, strict=True), strict=True))
    panels = [axes for axes in imaged.figures["layout"].axes if axes.images]
    assert [axes.get_title(loc="left") for axes in panels] == list(CLASSES)
    for axes, (speaks_for, speaks_against) in zip(panels, RAISED.values(), strict=True):
        pixels = np.asarray(axes.images[0].get_array())
        for pick, gene in ((pixels.argmax(), speaks_for), (pixels.argmin(), speaks_against)):
            assert np.unravel_index(int(pick), pixels.shape) == place_of[GENES[gene]]
    first = layout_of(ensemble(Imaged(), Planted()))  # an ensemble shows the layout of its first
    assert first is not None and first.equals(layout)
    assert "layout" not in found.tables and "layout" not in found.figures


@pytest.mark.parametrize(("gap", "additive"), [(0.0, True), (0.04, True), (-0.2, False)])
def test_attributions_that_miss_the_logit_are_called_so(setting: Setting, gap: float, additive: bool) -> None:
    found = setting.evidence(Planted(gap=gap))
    section = found.sections["explanation"]
    assert found.logged["explanation/additivity_error"] == pytest.approx(abs(gap), abs=1e-6)
    assert section["checks"][0]["name"] == "completeness" and section["rows"] == 90
    assert section["additive"] is additive
    assert found.warnings == ([] if additive else [f"attributions miss the prediction by {abs(gap):.1%}"])


def test_masking_the_named_genes_takes_confidence_and_random_ones_do_not(found: Evidence, setting: Setting) -> None:
    fell = found.sections["explanation"]["deletion"]
    assert fell["passed"] and fell["genes"] == 50
    assert found.logged["explanation/deletion_drop"] == fell["drop_top"] > 0.3 > fell["drop_random"]
    difference = fell["difference"]
    assert difference["value"] == pytest.approx(fell["drop_top"] - fell["drop_random"])
    assert 0 < difference["low"] < difference["value"] < difference["high"]

    class Swapped(Planted):
        """Says of each gene what its neighbor does: they add up all the same."""

        def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution | None:
            true = super().attribute(samples, output)
            assert true is not None
            return replace(true, values=true.values[:, np.arange(len(GENES)) ^ 1])

    wrong = setting.evidence(Swapped())
    assert wrong.sections["explanation"]["additive"] and not wrong.sections["explanation"]["deletion"]["passed"]
    assert wrong.warnings == ["masking the named genes moves predictions no more than masking random ones"]


def test_stability_is_the_mean_overlap_of_all_pairs_of_seeds_not_of_an_ensembles_members(setting: Setting) -> None:
    """Members that name other genes change nothing: a single fit is compared with single fits on its own rows."""

    class Other(Planted):
        def weights(self) -> np.ndarray:
            return np.roll(WEIGHTS, 100, axis=1)

    shares = {1: 0.6, 2: (0.6 + 0.6 + 1.0) / 3}
    for seeds, others in ((1, ()), (2, ()), (2, (Other(), Other()))):
        Seeded.fits, model, expected = [], Seeded(), shares[seeds]
        estimator = ensemble(model, *others) if others else model
        found = setting.evaluated(stability_seeds=PerBudget(seeds, 0)).evidence(estimator)
        assert found.logged["explanation/stability_top_50"] == pytest.approx(expected)
        assert found.sections["explanation"]["stability"] == {"top": 50, "overlap": pytest.approx(expected)}
        assert [seed for seed, _, _ in Seeded.fits] == [SEED + draw for draw in range(1, seeds + 1)]
        assert model.steps == (4, 16)  # the explained model is still integrated finely
    table = setting.prepared.table
    outside = table[table["split"] != "test"]
    for _, train, held_out in Seeded.fits:  # what the first member was fitted on: all folds but the first
        assert train == outside.loc[outside["fold"] != 0, "sample_id"].tolist()
        assert held_out == outside.loc[outside["fold"] == 0, "sample_id"].tolist()
    Seeded.fits, run = [], setting.run(Planted())  # a model without a seed, and a task without seeds
    explained = measures_of("classification").explained(run)
    for estimator, count in ((Planted(), 2), (ensemble(Planted()), 2), (Seeded(), 0)):
        assert stability(setting.run(estimator), explained, np.arange(6), count) is None
    assert Seeded.fits == []
