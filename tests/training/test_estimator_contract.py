"""The contract of estimators: a new file in `training.architectures` passes this suite or does not land.

Over every architecture and a tiny data set of its modality and problem, see `tests.training.tiny_sets`.
"""

import json
import pickle
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.base import clone

from pipelines.errors import UserError
from pipelines.params import read_params
from tests.training.image_samples import SMALL
from tests.training.profile_samples import CLASSES, GENES
from tests.training.tiny import ROOT
from tests.training.tiny_sets import TinySet, tiny_set, tiny_sets
from training.architectures import Architecture, get_architecture, names
from training.architectures.mean_effects import MeanEffects
from training.estimator import Attribution, Classifier, Estimator, FitContext
from training.model.cross_fit import CrossFitted
from training.networks.transfer import MODES

ROUNDING = 1e-4  # two runs of one model on different batches differ by the rounding of sums, no more
FEW: dict[str, Any] = {"rounds": 10, "trees": 5, "epochs": 2}
QUICKEST = ("alexnet", "resnet50")  # backbones, of cells and of gene images; the second stands on `SMALL` here
LARGEST_MODEL = 150e6  # bytes
PARAMS = read_params(ROOT / "params.yaml")
LABELS = ("profiles", "classification")


def trained(modality: str, problem: str) -> list[str]:
    """Return the architectures that params.yaml trains on such tasks, or all of a seam that has no task there."""
    tasks = [name for name, task in PARAMS.tasks.items() if (task.modality, task.problem) == (modality, problem)]
    return sorted({each for task in tasks for each in PARAMS.architectures(task)}) or names(modality, problem)


def light(modality: str, problem: str) -> list[str]:
    """Return the architectures of which many fits are affordable.

    Of networks with a backbone the quickest, and one of each role where an adapter makes all of another problem.
    """
    roles: dict[str, str] = {}
    for name in trained(modality, problem):
        made = get_architecture(name, modality, problem)
        roles.setdefault(made.role if hasattr(made, "of") else name, name)
    deep = [name for name in roles.values() if has_backbone(name, modality, problem)]
    quick = [name for name in deep if name in QUICKEST][:1]
    assert bool(quick) == bool(deep), f"name in QUICKEST a backbone of {modality}"
    return [name for name in roles.values() if name not in deep or name in quick]


def has_backbone(name: str, modality: str, problem: str) -> bool:
    return hasattr(get_architecture(name, modality, problem).estimator, "backbone")


EVERY = [(name, *seam) for seam in tiny_sets() for name in trained(*seam)]
LIGHT = [(name, *seam) for seam in tiny_sets() for name in light(*seam)]
QUICK = [each for each in EVERY if each in LIGHT or not has_backbone(*each)]  # of backbones one, as the code is theirs


@dataclass
class Case:
    """An architecture with its data, and the model that it becomes."""

    architecture: Architecture
    tiny: TinySet

    def rows(self, side: str) -> Any:
        return self.tiny.rows(side, self.architecture)

    def fit(self, point: dict[str, Any] | None = None, context: FitContext | None = None, **others: Any) -> Estimator:
        built = self.tiny.build(self.architecture, point, **others)
        return built.fit(self.rows("train"), self.rows("validation"), context)

    @cached_property
    def model(self) -> Estimator:
        return self.fit()

    @cached_property
    def short(self) -> Estimator:
        """Return a model that was fitted for a moment: not what it learnt is in question, but what it depends on."""
        return self.fit(**FEW)

    @cached_property
    def explained(self) -> list[Attribution | None]:
        """Return what the model explains; an integral of a large network takes seconds."""
        return self.explain(self.model, 99 if self.is_quick else 1)

    @cached_property
    def unseen(self) -> Any:
        return self.rows("unseen")

    @cached_property
    def few(self) -> Any:
        return self.unseen.take(np.arange(min(self.tiny.explained, 1 if self.has_backbone else 12)))

    @property
    def has_backbone(self) -> bool:
        return hasattr(self.architecture.estimator, "backbone")

    def explain(self, model: Estimator, most: int = 99) -> list[Attribution | None]:
        """Return the explanation of each output that may be asked for, or of the first ``most``."""
        choices = [None] if self.tiny.choices is None else range(min(self.tiny.choices, most))
        return [model.attribute(self.few, None if code is None else np.full(len(self.few), code)) for code in choices]

    @property
    def is_quick(self) -> bool:
        return (self.architecture.name, self.architecture.modality, self.architecture.problem) in QUICK

    @property
    def modes(self) -> tuple[dict[str, Any], ...]:
        """Return the modes of transfer learning, which have spaces of their own; other architectures have one.

        A probe needs trained weights: see `tests.training.test_image_contract`.
        """
        return tuple({"mode": mode} for mode in MODES if mode != "probe") if self.has_backbone else ({},)

    def drawn(self, seed: int, mode: dict[str, Any]) -> dict[str, Any]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        settings = self.tiny.settings | ({"modes": [mode["mode"]]} if mode else {})
        return self.architecture.space(study.ask(), settings) if self.architecture.space else {}


@pytest.fixture(scope="module", autouse=True)
def small_gene_images() -> Iterator[None]:
    """Put the network of gene images that is fitted many times on `SMALL`: `EVERY` has others on their own backbones.

    ResNet50 itself is fitted as a network of cells, and in `tests.training.test_gene_networks`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(get_architecture(QUICKEST[1], *LABELS).estimator, "backbone", SMALL)
        yield


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], TinySet]:
    return {seam: tiny_set(*seam, tmp_path_factory.mktemp("-".join(seam))) for seam in tiny_sets()}


@pytest.fixture(scope="session")
def kept(sets: dict[tuple[str, str], TinySet]) -> dict[tuple[str, str, str], Case]:
    """Return the cases that many tests ask for, so that their models are fitted once."""
    return {each: Case(get_architecture(*each), sets[each[1:]]) for each in QUICK}


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, sets: dict[tuple[str, str], TinySet], kept: dict[Any, Case]) -> Case:
    return kept.get(request.param) or Case(get_architecture(*request.param), sets[request.param[1:]])


def of(cases: list[tuple[str, str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, indirect=True, ids="-".join, scope="module")


of_every, of_quick, of_light = of(EVERY), of(QUICK), of(LIGHT)
of_tuned = of([each for each in LIGHT if get_architecture(*each).space])


def test_every_architecture_is_under_contract_for_all_that_it_takes() -> None:
    assert {(name, *seam) for seam in tiny_sets() for name in names(*seam)} == set(EVERY)
    assert {name for name, *_ in EVERY} == set(names())


@pytest.mark.parametrize("name", PARAMS.tasks)
def test_a_task_compares_its_baseline_simple_models_and_others(name: str) -> None:
    task = PARAMS.task(name)
    roles = {each: get_architecture(each, task.modality, task.problem).role for each in PARAMS.architectures(name)}
    assert roles[task.evaluate.baseline] == "baseline" and set(roles.values()) == {"baseline", "simple", "model"}


# Predicting


@of_every
def test_an_answer_is_finite_for_any_number_of_rows_and_a_probability_is_one(case: Case) -> None:
    whole, predicted = case.model.outputs(case.unseen), case.model.predict(case.unseen)
    assert whole.shape[1:] == case.tiny.baseline.outputs(case.unseen).shape[1:]
    for count in (len(case.unseen), 1, 0):
        rows = case.unseen.take(np.arange(count))
        answer = case.model.outputs(rows)
        assert answer.shape == (count, *whole.shape[1:]) and answer.dtype == np.float64
        assert np.isfinite(answer).all() and len(case.model.predict(rows)) == count
    if isinstance(case.model, Classifier):
        assert ((whole >= 0) & (whole <= 1)).all()
        assert case.tiny.certain or ((whole > 0) & (whole < 1)).all()
        np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(predicted, whole.argmax(axis=1) if isinstance(case.model, Classifier) else whole)


@of_every
def test_a_graph_answers_as_its_model_and_a_baseline_has_none(case: Case) -> None:
    contract = SimpleNamespace(genes=getattr(case.unseen, "inputs", None), scale=getattr(case.unseen, "scale", None))
    if case.architecture.role == "baseline":
        with pytest.raises(UserError, match=f"{case.architecture.name} cannot be exported"):
            case.model.graph(contract)
        return
    graph = case.model.graph(contract)
    for rows in (case.unseen, case.unseen.take(np.array([3])).alone()):
        given = graph.inputs(rows)
        assert list(given) == list(graph.about) and {len(each) for each in given.values()} == {len(rows)}
        with torch.no_grad():
            found = graph.module(*map(torch.as_tensor, given.values())).numpy()
        np.testing.assert_allclose(found, case.model.outputs(rows), rtol=0, atol=ROUNDING)


@of_every
def test_a_prediction_depends_neither_on_other_rows_nor_on_the_order_of_columns(case: Case) -> None:
    whole, rows = case.model.outputs(case.unseen), np.random.default_rng(0).permutation(len(case.unseen))[:7]
    for some, expected in (
        (case.unseen.take(rows), whole[rows]),
        (case.unseen.take(np.array([3])).alone(), whole[[3]]),
    ):
        np.testing.assert_allclose(case.model.outputs(some), expected, rtol=0, atol=ROUNDING)
    other = case.tiny.reordered(case.unseen)
    if other is not None:
        np.testing.assert_array_equal(case.model.outputs(other), whole)


@of_every
def test_an_unknown_value_counts_as_the_training_mean(case: Case) -> None:
    pair = case.tiny.imputed(case.rows("train"), case.unseen)
    if pair is not None:
        holes, filled = (case.model.outputs(samples) for samples in pair)
        np.testing.assert_allclose(holes, filled, rtol=0, atol=1e-3)
        assert case.architecture.role == "baseline" or not np.array_equal(holes, case.model.outputs(case.unseen))


# Fitting


@of_quick
def test_the_same_seed_gives_the_same_model(case: Case) -> None:
    expected = case.short.outputs(case.unseen)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002  # a model that draws from the global state would show it
    torch.manual_seed(99)
    np.testing.assert_array_equal(case.fit(**FEW).outputs(case.unseen), expected)


@of_every
def test_a_model_is_better_than_the_baseline_on_unseen_rows(case: Case) -> None:
    if case.has_backbone:
        return  # from scratch, on so few: `test_image_contract` and `test_gene_networks` show that they learn
    for samples, bound in zip((case.rows("train"), case.unseen), case.tiny.bounds, strict=True):
        error, naive = case.tiny.error(case.model.outputs(samples), samples), case.tiny.naive(samples)
        assert error < bound * naive or (error == naive and case.architecture.role == "baseline")


@of_light
def test_validation_rows_change_nothing_that_is_learnt_of_features(case: Case) -> None:
    built = case.tiny.build(case.architecture, **FEW)
    other = built.fit(case.rows("train"), case.tiny.odd(case.rows("validation")))
    learnt, again = (model.state().get("features", {}) for model in (case.short, other))
    assert json.dumps(learnt, default=repr) == json.dumps(again, default=repr)
    if not {"patience", "of"} & built.get_params().keys():  # neither stopped early nor linked on them
        np.testing.assert_array_equal(other.outputs(case.unseen), case.short.outputs(case.unseen))


@of_light
def test_unknown_values_do_not_break_a_fit(case: Case) -> None:
    train, unseen = case.tiny.with_holes(case.rows("train")), case.tiny.with_holes(case.unseen)
    if train is None:
        return
    fitted = case.tiny.build(case.architecture).fit(train, case.rows("validation"))
    assert np.isfinite(fitted.outputs(unseen)).all() and np.isfinite(case.model.outputs(unseen)).all()
    if not case.has_backbone and case.architecture.role != "baseline":
        for samples, bound in ((case.rows("train"), 1.0), (case.unseen, case.tiny.bound_with_holes)):
            assert case.tiny.error(fitted.outputs(samples), samples) < bound * case.tiny.naive(samples)


@of_light
def test_the_samples_stay_as_they_are(case: Case) -> None:
    given = [case.rows("train"), case.rows("validation"), case.unseen]
    before = [case.tiny.content(samples) for samples in given]
    fitted = case.tiny.build(case.architecture, **FEW).fit(*given[:2])
    fitted.predict(case.unseen)
    fitted.heatmaps(case.few)
    fitted.attribute(case.few, None if case.tiny.choices is None else np.zeros(len(case.few), int))
    for kept, samples in zip(before, given, strict=True):
        for one, other in zip(kept, case.tiny.content(samples), strict=True):
            assert one.equals(other) if isinstance(one, pd.DataFrame) else np.array_equal(one, other, equal_nan=True)


class StoppedError(Exception):
    pass


@of_light
def test_what_on_step_raises_ends_the_fit(case: Case) -> None:
    called = []

    def on_step(step: int, metrics: dict[str, float]) -> None:
        called.append(step)
        assert metrics and all(isinstance(value, float) for value in metrics.values())
        raise StoppedError

    try:
        case.fit(context=FitContext(on_step))
    except StoppedError:
        assert called == [0]
    else:
        assert not called, "the fit went on after on_step had raised"
        assert "patience" not in case.architecture.build({}).get_params(), "a study could not end a bad trial"


@of_light
def test_a_study_s_memory_changes_no_result(case: Case) -> None:
    train, validation, context = case.rows("train"), case.rows("validation"), FitContext()
    first = case.architecture.first_trial(case.tiny.settings)
    varied = [({**first, key: value}, train) for key, value in (("identity", "none"), ("omics", "all")) if key in first]
    half = train.take(np.arange(len(train)) < len(train) / 2)
    for point, part in [(first, train), *varied, (first, half), (first, train)]:
        shared, fresh = (
            case.tiny.build(case.architecture, point, **FEW).fit(part, validation, given).outputs(validation)
            for given in (context, None)
        )
        np.testing.assert_array_equal(shared, fresh)


@of_light
def test_a_class_without_a_training_sample_keeps_its_column(case: Case) -> None:
    classes = case.tiny.choices or 0
    if not isinstance(case.model, Classifier) or classes < 3 or case.has_backbone:
        return
    train = case.rows("train")
    for missing in (0, classes - 1):
        answer = case.tiny.build(case.architecture).fit(train.take(train.target != missing)).outputs(case.unseen)
        assert answer.shape == (len(case.unseen), classes) and answer[:, missing].max() < 0.4
        if case.architecture.role != "baseline":
            assert (answer.argmax(axis=1) == case.unseen.target)[case.unseen.target != missing].mean() > 0.8


@of_light
def test_boosting_stops_where_the_validation_loss_no_longer_falls(case: Case) -> None:
    known = case.architecture.build({}).get_params()
    if "rounds" not in known or "of" in known:
        return
    others = case.tiny.odd(case.rows("validation"))
    point = {**case.architecture.defaults, "learning_rate": 0.3}
    stopped = case.architecture.build(point, rounds=200, patience=5, device="cpu").fit(case.rows("train"), others)
    assert stopped.cost()["trees"] < 60 * case.model.outputs(case.unseen)[0].size


# Saving


@of_every
def test_a_loaded_model_is_the_same_without_pickle(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = Mock(side_effect=AssertionError("pickle was used"))
    some = case.unseen.take(np.arange(2))
    expected, maps = case.model.outputs(case.unseen), case.model.heatmaps(some)
    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("load", "save"):
        monkeypatch.setattr(torch, name, refuse)
    case.model.save(tmp_path / "model")
    loaded = case.architecture.estimator.load(tmp_path / "model")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "model").iterdir()}
    assert sizes.keys() == {"state.json", "state.safetensors"} and sum(sizes.values()) < LARGEST_MODEL
    json.loads((tmp_path / "model" / "state.json").read_text())
    load_file(tmp_path / "model" / "state.safetensors")
    monkeypatch.undo()
    assert loaded.get_params() == case.model.get_params()
    cost = loaded.cost()
    assert cost == case.model.cost() and cost["parameters"] > 0
    json.dumps(cost)
    np.testing.assert_array_equal(loaded.outputs(case.unseen), expected)
    np.testing.assert_array_equal(loaded.heatmaps(some), maps)
    if maps is not None:
        assert maps.shape == (2, *some.pixels.shape[1:3]) and maps.dtype == np.float32
        assert maps.min() >= 0 and all(largest == 0 or abs(largest - 1) < 1e-5 for largest in maps.max(axis=(1, 2)))
    if not case.is_quick:
        return
    for found, explained in zip(case.explain(loaded, 1), case.explained[:1], strict=True):
        assert (explained is None) == (found is None)
        if explained is not None and found is not None:
            assert found.names == explained.names
            np.testing.assert_allclose(found.values, explained.values, rtol=0, atol=ROUNDING)


@of_light
def test_a_loaded_cross_fitted_model_answers_the_same(case: Case, tmp_path: Path) -> None:
    of, train = case.architecture, case.rows("train")
    point = case.tiny.build(of, **FEW).get_params(deep=False)
    whole = CrossFitted(of=of.name, hyperparameters=point, modality=of.modality, problem=of.problem)
    whole.fit(train, folds=np.arange(len(train)) // 3 % 2)
    assert whole.out_of_fold_.shape == whole.outputs(train).shape and np.isfinite(whole.out_of_fold_).all()
    costs = pd.DataFrame([member.cost() for member in whole.members_])
    for name, value in whole.cost().items():  # of rates the mean
        assert value == pytest.approx(costs[name].mean() if name.endswith("per_second") else costs[name].sum())
    whole.save(tmp_path / "model")
    loaded = CrossFitted.load(tmp_path / "model")
    assert len(loaded.members_) == 2
    np.testing.assert_array_equal(loaded.outputs(case.unseen), whole.outputs(case.unseen))


# Explaining


def check_explained(case: Case, model: Estimator, found: list[Attribution | None], miss: float) -> None:
    if case.tiny.explained == 0 or (found[0] is None and case.architecture.role == "baseline"):
        assert all(each is None or not len(each.values) for each in found)
        return
    for each in found:
        assert each is not None, "an architecture must say what it looks at"
        assert each.values.shape == (len(case.few), len(each.names)) and len(set(each.names)) == len(each.names)
        assert each.base.shape == each.prediction.shape == (len(case.few),)
        assert each.relative_error < (miss if each.method == "integrated_gradients" else 1e-3)
    if len(found) == (case.tiny.choices or 1):
        answered = case.tiny.outputs_of(np.column_stack([each.prediction for each in found if each]))
        np.testing.assert_allclose(answered, model.outputs(case.few), rtol=0, atol=1e-3)


@of_every
def test_explanations_add_up_to_the_answer_and_change_none(case: Case) -> None:
    before = case.model.outputs(case.unseen)
    check_explained(case, case.model, case.explained, case.tiny.miss)
    np.testing.assert_array_equal(case.model.outputs(case.unseen), before)


@of_quick
def test_without_a_choice_it_is_the_predicted_class_that_is_explained(case: Case) -> None:
    if case.tiny.explained == 0 or case.tiny.choices is None or case.architecture.role == "baseline":
        return
    if not isinstance(case.model, Classifier):
        with pytest.raises(ValueError, match="target"):
            case.model.attribute(case.few)
        return
    found, chosen = case.model.attribute(case.few), case.model.attribute(case.few, case.model.predict(case.few))
    assert found is not None and chosen is not None
    np.testing.assert_array_equal(found.prediction, chosen.prediction)


@of([each for each in EVERY if each[1:] == LABELS and get_architecture(*each).role != "baseline"])
def test_a_class_is_explained_by_the_genes_that_make_it(case: Case) -> None:
    if case.has_backbone:
        return
    explained, target = case.model.attribute(case.unseen, case.unseen.target), case.unseen.target
    assert explained is not None
    block = np.array([int(gene.removeprefix("GENE")) // 8 for gene in explained.names])
    for code in range(len(CLASSES)):
        mean = explained.values[target == code].mean(axis=0)
        assert np.argmax([mean[block == each].sum() for each in range(len(GENES) // 8)]) == code


# Hyperparameters


@of_every
def test_an_estimator_can_be_cloned(case: Case) -> None:
    copy = clone(case.model)
    assert copy.get_params() == case.model.get_params() == case.tiny.build(case.architecture).get_params()
    assert not [name for name in vars(copy) if name.endswith("_")], "a clone is not fitted"


@of_every
def test_defaults_are_a_point_of_the_search_space(case: Case) -> None:
    of, first = case.architecture, case.architecture.first_trial(case.tiny.settings)
    assert (of.space is None) == (of.role == "baseline") == (not first)
    if of.space is None:
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna only warns of a value out of range
        assert of.space(optuna.trial.FixedTrial(dict(first)), case.tiny.settings) == first
        trial = study.ask()
        assert of.space(trial, case.tiny.settings) == first
    assert trial.params == first
    params = of.build(first, rounds=7, epochs=7, seed=11, device="cpu").get_params()
    reached = params.get("hyperparameters", params)  # of an adapter those of what it is made of
    assert first.items() <= reached.items() and reached.get("seed", 11) == 11


@of_tuned
@pytest.mark.parametrize("seed", range(2))
def test_every_point_of_the_search_space_can_be_fitted_and_explained(case: Case, seed: int) -> None:
    for mode in case.modes:
        point = case.drawn(seed, mode)
        json.dumps(point)  # what the study stores and the model is saved with
        model = case.fit(point, **FEW, **mode)
        params = model.get_params()
        assert point.keys() <= params.get("hyperparameters", params).keys()
        assert np.isfinite(model.outputs(case.unseen)).all()
        if mode != {"mode": "full"}:  # two epochs on every weight leave too rough a function for an integral
            found = case.explain(model, 1 if case.has_backbone else 99)
            check_explained(case, model, found, max(case.tiny.miss, 0.05))


@of_light
def test_a_killed_fit_goes_on_to_the_same_model(case: Case, tmp_path: Path) -> None:
    seen: list[int] = []

    def killed(step: int, metrics: dict[str, float]) -> None:
        seen.append(step)
        if len(seen) == 2:
            raise StoppedError

    if "epochs" not in case.model.get_params():
        return
    context, whole = FitContext(killed, tmp_path / "checkpoint.pt"), case.fit(epochs=3)
    with pytest.raises(StoppedError):
        case.fit(context=context, epochs=3)
    resumed = case.fit(context=context, epochs=3)
    assert seen == [0, 1, 1, 2]
    np.testing.assert_array_equal(resumed.outputs(case.unseen), whole.outputs(case.unseen))


def test_a_fitted_estimator_that_names_nothing_to_save_is_refused(tmp_path: Path) -> None:
    forgetful = type("Forgetful", (MeanEffects,), {"fitted": (), "featurizers": {}})
    model = forgetful()
    vars(model)["mean_"] = 1.0
    with pytest.raises(TypeError, match="Forgetful was fitted"):
        model.save(tmp_path)
    assert not list(tmp_path.iterdir())
