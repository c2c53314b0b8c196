"""What a model does not know, or what is in another unit, must not be answered as if it were known."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipelines.datasets import Prepared
from pipelines.params import Params
from pipelines.samples.cell_masks import OUTSIDE, cell_masks
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.images import ImageSamples
from pipelines.samples.molecules import parent, stereochemistry
from pipelines.samples.response import ResponseSamples
from tests.serving.served import split
from tests.training.image_samples import image_contract, image_task, in_memory, labeled
from tests.training.profile_samples import CLASSES, gene_samples, labels_samples, with_values
from tests.training.tiny import NAME, build, question, response_contract, response_task
from training.architectures import get_architecture
from training.contract import UNLIKE, Contract, contract_class, make_contract
from training.features.summaries import choose_panels
from training.features.units import outside, unit_of
from training.modalities.pairs import unseen_half_width
from training.model.cross_fit import FinalFit, fit_final
from training.model.novelty import SHARE, Novelty, View, fit_novelty
from training.model.predictor import Predictor, views_of
from training.model.track import make_reference, save_model

Row = dict[str, Any]
Answer = Callable[..., dict[str, Any]]
Change = Callable[..., Any]
UNSEEN = 9.0  # half width for drugs that are not known; nothing measured
NO_KNOWN_MOLECULE = "CCOC(=O)C1CCN(CC1)C(=O)NC"


@pytest.fixture(scope="module")
def final(prepared: Prepared) -> FinalFit:
    architecture = get_architecture("xgboost", "pairs", "regression")
    settings = {"rounds": 40, "epochs": 10, "seed": 3, "device": "cpu"}
    return fit_final(architecture, architecture.defaults, prepared, members=1, settings=settings)


@pytest.fixture(scope="module")
def predictor(prepared: Prepared, params: Params, final: Any, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    made: Any = make_contract(NAME, "xgboost", response_task(params), prepared=prepared, final=final)
    contract, folder = replace(made, unseen_half_width=UNSEEN), tmp_path_factory.mktemp("model")
    baseline = build("mean_effects").fit(prepared.side("train"))
    save_model(final.estimator, baseline, contract, folder, make_reference(contract, prepared, final))
    return Predictor().read(folder)


@pytest.fixture(scope="module")
def row(prepared: Prepared, predictor: Predictor) -> Row:
    """Return a good row of an unseen line with all tables, like the training data, whose drug has a SMILES."""
    test, contract = prepared.side("test"), cast(Any, predictor.contract)
    needed = (*contract.features, "smiles", "tissue")
    for found, unlike in zip(contract.request(test).to_dict("records"), cast(Any, predictor.unlike(test)), strict=True):
        if not unlike and all(found[name] is not None for name in needed):
            return {str(key): value for key, value in found.items()}
    raise AssertionError("no such row")


@pytest.fixture
def answer(predictor: Predictor, row: Row) -> Answer:
    """Return a function that gives the answer to the row with other values."""

    def of(**other: Any) -> dict[str, Any]:
        (found,) = predictor.predict(None, pd.DataFrame([{**row, **other}])).to_dict("records")
        return {str(column): value for column, value in found.items()}

    return of


def test_a_known_drug_has_its_interval_and_its_id_a_molecule(answer: Answer, row: Row, predictor: Predictor) -> None:
    known, contract = answer(), cast(Any, predictor.contract)
    assert known["drug_known"] is True and known["note"] is None and known["coverage"] == 0.9
    assert known["high"] - known["low"] < 2 * UNSEEN
    (alone,) = contract.read(pd.DataFrame([{**row, "smiles": None}])).drugs["smiles"]
    assert alone == contract.drugs[row["drug_id"]] is not None
    for change in (str.lower, "\u00a0{}\u200b".format, str):  # an id that reads like a known one is that one
        same = answer(drug_id=change(row["drug_id"]), smiles=None)
        assert all(same[name] == known[name] for name in ("drug_known", "prediction", "low", "high"))


@pytest.mark.parametrize("drug_id", [None, "NEW"])
def test_an_unseen_molecule_is_named_and_has_the_interval_of_unseen_drugs(answer: Answer, drug_id: str | None) -> None:
    unseen = answer(drug_id=drug_id, smiles=NO_KNOWN_MOLECULE)
    assert unseen["drug_known"] is False and unseen["note"]
    if unseen["coverage"] is not None:  # where it is unlike the training drugs, nothing is promised at all
        assert unseen["high"] - unseen["low"] == pytest.approx(2 * UNSEEN)


def test_without_measured_width_an_unseen_drug_has_no_interval(prepared: Prepared, params: Params, final: Any) -> None:
    contract = make_contract(NAME, "xgboost", response_task(params), prepared=prepared, final=final)
    samples = replace(prepared.samples, drugs=prepared.samples.drugs.assign(smiles=NO_KNOWN_MOLECULE))
    samples.drugs.index = pd.Index([f"new {number}" for number in range(len(samples.drugs))])
    found = pd.DataFrame(contract.answer(np.zeros(len(samples)), samples))
    assert found[["low", "high", "coverage"]].isna().all(axis=None) and not found["drug_known"].any()


def test_a_salt_is_its_drug_and_another_molecule_is_not(answer: Answer, row: Row, predictor: Predictor) -> None:
    for drug_id in (row["drug_id"], None, "NEW"):
        salt = answer(smiles=f"OS(=O)(=O)O.{row['smiles']}", drug_id=drug_id)
        assert salt["drug_known"] is True and salt["note"]
        assert salt["prediction"] == pytest.approx(answer(drug_id=drug_id)["prediction"])
    drugs = cast(Any, predictor.contract).drugs.values()
    other = answer(smiles=next(smiles for smiles in drugs if smiles and parent(smiles) != parent(row["smiles"])))
    assert other["drug_known"] is False and "another molecule" in other["note"]


def test_two_tautomers_are_one_molecule_and_two_enantiomers_are_not() -> None:
    assert parent("Oc1ccccn1") == parent("O=c1cccc[nH]1") and parent("CC(=O)[O-].[Na+]") == parent("CC(=O)O")
    assert parent("C[C@H](N)C(=O)O") == parent("C[C@@H](N)C(=O)O")
    assert stereochemistry("C[C@H](N)C(=O)O") != stereochemistry("C[C@@H](N)C(=O)O")
    assert stereochemistry("CC(N)C(=O)O") is None


def test_an_unknown_tissue_is_told_and_one_in_another_case_is_known(answer: Answer, row: Row) -> None:
    assert "Mars" in answer(tissue="Mars")["note"]
    assert answer(tissue=f" {row['tissue'].upper()}")["note"] is answer(tissue="not reported")["note"] is None


def test_the_width_for_unseen_drugs_is_measured_on_drugs_that_the_fit_has_not_seen(prepared: Prepared) -> None:
    architecture = get_architecture("mean_effects", "pairs", "regression")
    rows, seen = prepared.side("validation"), []

    def refit(train: Any, validation: Any) -> Any:
        seen.append((set(np.unique(train.drug)), set(np.unique(validation.drug))))
        return architecture.build({}).fit(train, validation)

    assert unseen_half_width(prepared, refit, 0.9) is None  # too few drugs for 90 %
    width = unseen_half_width(prepared, refit, 0.5)
    train, watched = seen[-1]
    assert watched <= train and len(train) < len(np.unique(prepared.side("train").drug))
    held = ~np.isin(rows.drug, list(train))
    assert held.any() and width is not None
    most = np.abs(rows.target - rows.target.mean())[held].max()
    assert 0.2 * most < width < 5 * most


@pytest.mark.parametrize(
    ("omics", "change"), [("expression", lambda x: x * math.log10(2)), ("copy_number", lambda x: 50 + 0 * x)]
)
def test_a_profile_in_another_unit_is_told_not_promised(answer: Answer, row: Row, omics: str, change: Change) -> None:
    found = answer(**{omics: {gene: change(value) for gene, value in row[omics].items()}})
    assert "unit" in found["note"] and omics in found["note"]
    assert found["low"] is None and found["high"] is None and found["coverage"] is None


_CHANGES: dict[str, list[Change]] = {
    "log2_tpm_plus_1": [lambda x: x * math.log(2), lambda x: x * math.log10(2), lambda x: np.exp2(x) - 1],
    "linear": [lambda x: np.log2(x + 1), lambda x: np.log(x + 1), lambda x: x / 1e6, lambda x: 1000 * x],
    "copy_number": [lambda x: 2 * x, lambda x: np.log2(np.maximum(x, 0.01)), lambda x: np.rint(2 * x)],
    "methylation": [lambda x: 100 * x],
}


@given(st.sampled_from([(scale, change) for scale in _CHANGES for change in _CHANGES[scale]]), st.integers(0, 2**31))
def test_no_training_profile_is_called_foreign_and_every_changed_one_is(drawn: tuple[str, Change], seed: int) -> None:
    scale, change = drawn
    rng, shape = np.random.default_rng(seed), (60, 400)
    if scale == "copy_number":
        values = np.exp2(rng.normal(0, 0.3, shape))
    elif scale == "methylation":
        values = rng.beta(0.5, 0.5, shape)
    else:
        tpm = rng.lognormal(2, 2, (1, 400)) * rng.lognormal(0, 0.5, shape)
        tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
        values = np.log2(tpm + 1) if scale == "log2_tpm_plus_1" else tpm
    unit, genes = unit_of(values[:50], scale), [f"G{number}" for number in range(400)]
    assert unit is not None
    assert all(outside(change(values[50:]), genes, unit, "x"))
    assert not any(outside(values[:50], genes, unit, "x"))


def test_rows_beyond_threshold_are_told(answer: Answer, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert predictor.novelty is not None
    monkeypatch.setattr(predictor, "novelty", replace(predictor.novelty, threshold=-1.0))
    found = answer()
    assert UNLIKE in found["note"] and found["coverage"] is None and found["low"] is None


# Novelty: strange inputs that pass make the warning worthless, as do known ones that do not

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
    return Known(contract, samples, unseen, fit_novelty(views, about["fold"].to_numpy(), about["group"].to_numpy()))


def _label_contract(samples: ExpressionSamples, genes: list[str]) -> Any:
    panels = choose_panels(samples.logged(genes), genes) if genes else {}
    sure: dict[str, Any] = {"classes": list(CLASSES), "temperature": 1.0, "threshold": 0.5, "panels": panels}
    return contract_class("profiles", "classification")(**_ABOUT, **sure, genes=genes, known=list(samples.genes))


@pytest.fixture(scope="module")
def known_of(prepared: Prepared) -> Callable[[str], Known]:
    """Return a function that gives what novelty knows of a family, fitted once."""

    def of(family: str) -> Known:
        if family == "profiles":
            samples = _leveled(0)
            return _known(_label_contract(samples, list(samples.genes)), split(samples), _leveled(9))
        if family == "images":
            return _known(image_contract(image_task(48)), split(in_memory(400, 48)), in_memory(300, 48, first=5_000))
        if family == "responses":
            return _known(response_contract("elastic_net", prepared), prepared, prepared.side("test"))
        samples = gene_samples(500)
        sure: dict[str, Any] = {"targets": list(samples.targets), "spreads": [1.0] * 4, "half_widths": [None] * 4}
        taken = {"genes": list(samples.predictors), "known": list(samples.genes)}
        contract = contract_class("profiles", "multi_target")(**_ABOUT, **sure, **taken)
        return _known(contract, split(samples), gene_samples(500, seed=5))

    return functools.cache(of)


@pytest.mark.parametrize("family", ["profiles", "genes", "images", "responses"])
def test_known_rows_are_rarely_odd_once_saved_too(family: str, known_of: Any, tmp_path: Path) -> None:
    known: Known = known_of(family)
    scores = known.scores(known.unseen)
    assert np.isfinite(scores).all() and (scores >= 0).all()
    # Few lines are unseen.
    assert (scores > known.novelty.threshold).mean() <= (0.15 if family == "responses" else 4 * SHARE)
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


# Planted outliers

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
def test_something_else_is_found(family: str, what: str, change: Change, known_of: Any) -> None:
    known: Known = known_of(family)
    if family == "images":
        some = known.unseen.take(np.arange(60)).alone()
        pixels = change(some.pixels.astype(np.float64), np.random.default_rng(4))
        other = replace(some, pixels=pixels.clip(0, 255).astype(np.uint8))
    else:
        values = change(known.unseen.values.clip(0).astype(np.float64), np.random.default_rng(3))
        if family == "genes":  # logged profiles have but two programs and little noise besides
            values = values.clip(0, 100)
        other = with_values(known.unseen, values)
    assert known.share_beyond(other) > 0.9


class Thumbnails:
    """An estimator whose embedding is a small image."""

    def embedded(self, samples: Any) -> np.ndarray:
        return samples.pixels[samples.index, ::4, ::4].reshape(len(samples), -1).astype(np.float32)

    def outputs_embedded(self, samples: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(samples), 3), 1 / 3), self.embedded(samples)


def smears(count: int, first: int = 0, side: int = 48) -> ImageSamples:
    """Return stained cells: a dark nucleus, cytoplasm around it, and a light background; no two are stained alike."""
    images = []
    for number in range(first, first + count):
        rng = np.random.default_rng([number, side])
        rows, columns = np.mgrid[:side, :side]
        away = np.hypot(rows - rng.uniform(20, 28), columns - rng.uniform(20, 28))[..., None]
        density = np.where(away < rng.uniform(8, 10), [0.8, 1.4, 0.6], np.where(away < 14, [0.3, 0.6, 0.2], 0.1))
        pixels = 256 * np.exp(-density * rng.normal(1, 0.05, 3)) + rng.normal(0, 5, (side, side, 3))
        images.append(pixels.clip(0, 255).astype(np.uint8))
    return labeled(np.stack(images), np.arange(count) % 3)


@pytest.fixture(scope="module")
def of_images() -> Predictor:
    """Return a model of images with a reference."""
    train, model = smears(400), Predictor()
    model.contract, estimator = image_contract(image_task(48)), Thumbnails()
    model.estimator = cast(Any, estimator)
    views = views_of(model.contract, train, estimator.embedded(train))
    model.novelty = fit_novelty(views, np.arange(400) % 5, np.arange(400))
    return model


LIGHT, STAIN, BACKGROUND = "light, focus or texture", "stain of the cell", "background"
SIDES: dict[str, tuple[Change, set[str], set[str]]] = {  # what is done, which sides a note names, and which not
    "background": (lambda pixels, cell: np.where(cell, pixels, pixels * [0.6, 0.8, 1.0]), {BACKGROUND}, {STAIN}),
    "stain": (lambda pixels, cell: np.where(cell, pixels * [0.5, 0.6, 0.85], pixels), {STAIN}, {BACKGROUND}),
    "light": (lambda pixels, cell: 0.5 * pixels, {STAIN, BACKGROUND, LIGHT}, set()),
    "place": (lambda pixels, cell: np.roll(pixels, 24, axis=1), {"what the model sees of the cell"}, set()),
}


@pytest.mark.parametrize("what", SIDES)
def test_the_note_names_the_side_of_an_image_that_is_unlike(what: str, of_images: Predictor) -> None:
    (change, named, unnamed), samples = SIDES[what], smears(60, first=5_000)
    cell = (cell_masks(samples) != OUTSIDE)[..., None]
    changed = replace(samples, pixels=change(samples.pixels, cell).clip(0, 255).astype(np.uint8))
    home, other = of_images.answer(samples), of_images.answer(changed)
    assert home["note"].notna().mean() <= 4 * SHARE
    notes = other["note"].dropna()
    assert len(notes) > 0.9 * len(samples) and notes.str.endswith(UNLIKE).all()
    for side in named:
        assert notes.str.contains(side).mean() > 0.9, side
    for side in unnamed:
        assert notes.str.contains(side).mean() < 0.2, side
    unlike = (other["out_of_distribution"] > other["out_of_distribution_threshold"]).to_numpy()
    np.testing.assert_array_equal(unlike, other["note"].notna())
    np.testing.assert_array_equal(unlike, cast(Any, of_images.unlike(changed)))


@pytest.mark.parametrize(
    "smiles", ["C" * 40, "NCC(=O)" * 12 + "O", "[NH3][Pt]([NH3])(Cl)Cl", "OC(=O)" + "C(F)(F)" * 9 + "F"]
)
def test_a_drug_unlike_any_trained_is_found(known_of: Any, smiles: str) -> None:
    responses: Known = known_of("responses")
    samples = question(responses.train, line="L", drug="D", smiles=smiles)
    assert responses.scores(samples)[0] > responses.novelty.threshold


def test_another_line_with_a_known_drug_is_found(known_of: Any) -> None:
    responses, rng = known_of("responses"), np.random.default_rng(2)
    samples: ResponseSamples = responses.unseen
    omics = {name: table.copy() for name, table in samples.omics.items()}
    for table in omics.values():
        table[:] = rng.permuted(table.to_numpy(), axis=1)
    assert responses.share_beyond(replace(samples, omics=omics)) > 0.9
    empty = replace(samples, omics={name: table * np.nan for name, table in omics.items()})
    assert responses.share_beyond(empty) < 0.05, "a line that was not measured is not odd for it"
    assert np.isfinite(responses.scores(empty)).all()


def test_a_model_that_looks_at_nothing_finds_nothing_odd() -> None:
    samples = labels_samples(60)
    assert (_known(_label_contract(samples, []), split(samples), samples).scores(samples) == 0).all()
