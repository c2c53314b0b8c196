"""What would make the warning worthless: strange inputs that pass, or known ones that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipelines.datasets import Prepared
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.response import ResponseSamples
from tests.serving.served import images_prepared, split
from tests.training.contract_builders import image_contract, response_contract
from tests.training.image_samples import TASK, in_memory
from tests.training.profile_samples import CLASSES, gene_samples, labels_samples, with_values
from tests.training.tiny import NAME, question, response_task, tiny_params, tiny_prepared
from training.contract import Contract, contract_class
from training.features.summaries import choose_panels
from training.model.novelty import SHARE, Novelty, View, fit_novelty

_ABOUT: dict[str, Any] = {"task": "a", "architecture": "x", "baseline": "y", "task_text": "{}", "coverage": 0.9}


@dataclass(frozen=True)
class Known:
    """What novelty was fitted on, and unseen rows of the same kind."""

    contract: Contract
    train: Any
    unseen: Any
    novelty: Novelty

    def scores(self, samples: Any) -> np.ndarray:
        return self.novelty.scores(self.contract.views(samples, self.contract.describe(samples)))

    def share_beyond(self, samples: Any) -> float:
        return float((self.scores(samples) > self.novelty.threshold).mean())


def _leveled(seed: int) -> ExpressionSamples:
    """Return profiles each of whose genes has a level of its own, as real ones have."""
    samples = labels_samples(600, seed=seed)
    return with_values(samples, samples.values * 2 ** np.random.default_rng(7).normal(0, 2, len(samples.genes)))


def _known(contract: Contract, prepared: Prepared, unseen: Any) -> Known:
    rows = prepared.rows("train", "validation")
    samples, about = prepared.samples.take(rows), prepared.table.iloc[rows]
    views = contract.views(samples, contract.describe(samples))
    novelty = fit_novelty(views, about["fold"].to_numpy(), about["group"].to_numpy())
    return Known(contract, samples, unseen, novelty)


def _label_contract(samples: ExpressionSamples) -> Any:
    genes = list(samples.genes)
    panels = choose_panels(samples.logged(genes), genes)
    sure: dict[str, Any] = {"classes": list(CLASSES), "temperature": 1.0, "threshold": 0.5}
    return contract_class("profiles", "classification")(**_ABOUT, **sure, genes=genes, known=genes, panels=panels)


@pytest.fixture(scope="module")
def profiles() -> Known:
    return _known(_label_contract(_leveled(0)), split(_leveled(0)), _leveled(9))


@pytest.fixture(scope="module")
def genes() -> Known:
    samples = gene_samples(500)
    sure: dict[str, Any] = {"targets": list(samples.targets), "spreads": [1.0] * 4, "half_widths": [None] * 4}
    taken = {"genes": list(samples.predictors), "known": list(samples.genes)}
    contract = contract_class("profiles", "multi_target")(**_ABOUT, **sure, **taken)
    return _known(contract, split(samples), gene_samples(500, seed=5))


@pytest.fixture(scope="module")
def images() -> Known:
    task, prepared = images_prepared(400, 48)
    contract = image_contract(TASK, "x", task, prepared.samples, 1.0, 0.2)
    return _known(contract, prepared, in_memory(300, 48, first=5_000))


@pytest.fixture(scope="module")
def responses(tmp_path_factory: pytest.TempPathFactory) -> Known:
    prepared = tiny_prepared(tmp_path_factory.mktemp("raw"))
    contract = response_contract(NAME, "elastic_net", response_task(tiny_params()), prepared, 1.0, 0.9)
    return _known(contract, prepared, prepared.side("test"))


# Known inputs


@pytest.mark.parametrize("family", ["profiles", "genes", "images", "responses"])
def test_few_rows_of_the_same_kind_are_called_odd_and_their_scores_are_saved(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    known: Known = request.getfixturevalue(family)
    scores = known.scores(known.unseen)
    assert np.isfinite(scores).all() and (scores >= 0).all()
    # Few lines are unseen.
    assert known.share_beyond(known.unseen) <= (0.15 if family == "responses" else 4 * SHARE)
    assert known.share_beyond(known.train) <= 2 * SHARE
    if family != "responses":
        assert (scores > known.novelty.threshold / 3).mean() > 0.5, "the threshold lies far beyond all that is known"
    known.novelty.save(tmp_path)
    again = replace(known, novelty=Novelty.load(tmp_path))  # np.load refuses pickles here
    assert again.novelty.threshold == known.novelty.threshold
    np.testing.assert_array_equal(again.scores(known.unseen), scores)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000_000
    for row in (0, len(known.unseen) - 1):
        assert known.scores(known.unseen.take(np.array([row])))[0] == pytest.approx(scores[row], rel=1e-4), "alone"


def test_rows_whose_noise_the_components_follow_are_not_called_odd() -> None:
    rng = np.random.default_rng(0)  # 60 lines of 160 genes without any structure
    line = np.repeat(np.arange(60), 4)
    views = {"copy_number": View("profile", rng.normal(size=(60, 160)), line)}
    novelty = fit_novelty(views, line % 5, line)
    assert (novelty.scores(views) > novelty.threshold).mean() <= 2 * SHARE
    odd = {"copy_number": View("profile", 3 * rng.normal(size=(60, 160)), line)}
    assert (novelty.scores(odd) > novelty.threshold).mean() > 0.95


def test_the_rate_is_kept_on_average_over_many_draws() -> None:
    beyond = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        loadings = rng.normal(0, 1, (3, 12))

        def drawn(count: int, rng: np.random.Generator = rng, loadings: np.ndarray = loadings) -> dict[str, View]:
            values, rows = rng.normal(0, 1, (count, 3)) @ loadings + rng.standard_t(5, (count, 12)), np.arange(count)
            return {"summary": View("summary", values[:, :5], rows), "genes": View("profile", values, rows)}

        novelty = fit_novelty(drawn(400), np.arange(400) % 5, np.arange(400))
        beyond.append((novelty.scores(drawn(500)) > novelty.threshold).mean())
    assert SHARE / 3 < np.mean(beyond) < 2 * SHARE, np.mean(beyond)


# Planted outliers

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
OF_PROFILES: dict[str, Change] = {
    "genes in another order": lambda values, rng: values[:, rng.permutation(values.shape[1])],
    "another platform's scale": lambda values, rng: values * 12,
    "logged twice": lambda values, rng: np.log2(values + 1),
    "counts of a shallow library": lambda values, rng: rng.poisson(values / 200).astype(float),
    "nothing measured": lambda values, rng: np.zeros_like(values),
    "another organism": lambda values, rng: 2 ** rng.normal(5, 2.5, values.shape) - 0.5,
}
OF_IMAGES: dict[str, Change] = {
    "noise": lambda pixels, rng: rng.integers(0, 256, pixels.shape),
    "one color": lambda pixels, rng: 0 * pixels + rng.integers(0, 256, (len(pixels), 1, 1, 3)),
    "inverted": lambda pixels, rng: 255 - pixels,
    "blue and red swapped": lambda pixels, rng: pixels[..., ::-1] * np.array([1.0, 0.6, 1.0]),
    "gray": lambda pixels, rng: pixels.mean(axis=3, keepdims=True).repeat(3, axis=3),
    "out of focus": lambda pixels, rng: gaussian_filter(pixels, (0, 4, 4, 0)),
    "overexposed": lambda pixels, rng: pixels * 1.6,
}
OUTLIERS = [("images", what, change) for what, change in OF_IMAGES.items()]
OUTLIERS += [(family, what, change) for family in ("profiles", "genes") for what, change in OF_PROFILES.items()]


@pytest.mark.parametrize(("family", "what", "change"), OUTLIERS, ids=[f"{each[0]}, {each[1]}" for each in OUTLIERS])
def test_a_sample_of_something_else_is_found(
    family: str, what: str, change: Change, request: pytest.FixtureRequest
) -> None:
    known: Known = request.getfixturevalue(family)
    if family == "images":
        pixels = change(known.unseen.pixels.astype(np.float64), np.random.default_rng(4))
        other = replace(known.unseen, pixels=pixels.clip(0, 255).astype(np.uint8))
    else:
        values = change(known.unseen.values.clip(0).astype(np.float64), np.random.default_rng(3))
        if family == "genes":  # logged profiles have but two programs and little noise besides
            values = values.clip(0, 100)
        other = with_values(known.unseen, values)
    assert known.share_beyond(other) > 0.9


@pytest.mark.parametrize(
    "smiles", ["C" * 40, "NCC(=O)" * 12 + "O", "[NH3][Pt]([NH3])(Cl)Cl", "OC(=O)" + "C(F)(F)" * 9 + "F"]
)
def test_a_drug_unlike_any_trained_is_found(responses: Known, smiles: str) -> None:
    samples = question(responses.train, line="L", drug="D", smiles=smiles)
    assert responses.scores(samples)[0] > responses.novelty.threshold


def test_another_line_with_a_known_drug_is_found(responses: Known) -> None:
    samples: ResponseSamples = responses.unseen
    rng = np.random.default_rng(2)
    omics = {name: table.copy() for name, table in samples.omics.items()}
    for table in omics.values():
        table[:] = rng.permuted(table.to_numpy(), axis=1)
    assert responses.share_beyond(replace(samples, omics=omics)) > 0.9
    empty = replace(samples, omics={name: table * np.nan for name, table in omics.items()})
    assert responses.share_beyond(empty) < 0.05, "a line that was not measured is not odd for it"
    assert np.isfinite(responses.scores(empty)).all()


def test_a_model_that_looks_at_nothing_finds_nothing_odd() -> None:
    samples = labels_samples(60)
    contract = replace(_label_contract(samples), genes=[], panels={})
    assert (_known(contract, split(samples), samples).scores(samples) == 0).all()
