"""What would make a network of genes lie: genes mixed up, two on one pixel, a start that saw its answer."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from tests.training.image_samples import SMALL, write_stages
from tests.training.profile_samples import PREDICTORS, TARGETS, gene_samples, labels_samples, with_values
from tests.training.tiny_sets import tiny_set
from training.architectures import get_architecture, names
from training.estimator import FitContext
from training.features import gene_layout
from training.features.expression_profile import STUDY_VARIANCE, ProfileFeatures, chosen_targets
from training.features.gene_layout import GeneLayout, genome_order
from training.networks.gene_image_network import GeneImageNetwork
from training.networks.gene_modules import WindowEmbedding
from training.networks.gene_network import GeneNetwork, RecurrentGeneNetwork, gene_positions, ridge
from training.networks.transfer import TransferModule, head_width, of_one_channel, settle_batch_norm, tapped

ROUNDING = 1e-4
TRAIN, HELD_OUT = gene_samples(96), gene_samples(48, seed=1)


def built(name: str, **others: Any) -> GeneNetwork:
    architecture = get_architecture(name, "profiles", "multi_target")
    point = {**architecture.defaults, "learning_rate": 5e-3, "depth": 1}
    made = tiny_set("profiles", "multi_target", Path()).build(architecture, point, **others)
    assert isinstance(made, GeneNetwork)
    return made


@pytest.fixture(scope="module", params=["dnn", "attention_gru"])  # the contract suite fits the others
def model(request: pytest.FixtureRequest) -> GeneNetwork:
    return built(request.param).fit(TRAIN, HELD_OUT)


def test_a_gene_moves_its_own_window_alone() -> None:
    embedding, inputs = WindowEmbedding(10, 4, 3), torch.zeros(1, 10)
    changed = inputs.clone()
    changed[0, 5] = 1.0
    moved = (embedding(changed) - embedding(inputs)).abs().sum(dim=2)[0] > 0
    assert moved.tolist() == [False, True, False]


def test_a_start_by_ridge_is_that_of_an_unseen_patient() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(24, 8))
    targets = inputs @ rng.normal(size=(8, 2)) + rng.normal(size=(24, 2))
    inputs, targets = inputs - inputs.mean(axis=0), targets - targets.mean(axis=0)
    patients = np.repeat(np.arange(12), 2).astype(str)
    weights, unseen = ridge(inputs, targets, patients)

    def solved(penalty: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.solve(x.T @ x + penalty * np.eye(8), x.T @ y)

    # The penalty that was chosen is the one that gives these weights.
    penalties = [8 * each for each in (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0)]
    error, penalty = min((np.abs(solved(each, inputs, targets) - weights).max(), each) for each in penalties)
    assert error < 1e-8
    for patient in np.unique(patients):
        own = patients == patient
        center, level = inputs[~own].mean(axis=0), targets[~own].mean(axis=0)
        beta = solved(penalty, inputs[~own] - center, targets[~own] - level)
        np.testing.assert_allclose(unseen[own], (inputs[own] - center) @ beta + level, atol=1e-6)


def test_the_start_lies_in_the_prediction_whole() -> None:
    estimator = built("dnn", linear_start=1.0, epochs=0).fit(TRAIN, HELD_OUT)
    inputs = ProfileFeatures().fit(TRAIN).transform(TRAIN)
    target = (TRAIN.target - TRAIN.target.mean(axis=0)) / TRAIN.target.std(axis=0)
    weights, _ = ridge(inputs, target, TRAIN.table["patient_id"].to_numpy(str))
    expected = ProfileFeatures().fit(TRAIN).transform(HELD_OUT) @ weights
    expected = expected * TRAIN.target.std(axis=0) + TRAIN.target.mean(axis=0)
    np.testing.assert_allclose(estimator.predict(HELD_OUT), expected, rtol=0, atol=ROUNDING)


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="must be one of table, correlation"):
        gene_positions(ProfileFeatures().fit(TRAIN), TRAIN, "alphabet")


def test_a_permuted_order_is_another_and_the_seed_s(model: GeneNetwork) -> None:
    name = model.architecture
    permuted, again, other = (built(name, permutation=seed, epochs=1).fit(TRAIN) for seed in (1, 1, 2))
    assert permuted.gene_order == again.gene_order != other.gene_order
    assert permuted.gene_order != model.gene_order and sorted(permuted.gene_order) == sorted(model.gene_order)


def test_an_attribution_is_of_the_gene_that_it_names(model: GeneNetwork) -> None:
    """A gene at its training mean adds nothing, wherever the order has put it."""
    gene = HELD_OUT.predictors[4]
    values = HELD_OUT.values.copy()
    values[:, HELD_OUT.genes.index(gene)] = np.nan
    attribution = model.attribute(with_values(HELD_OUT, values), np.zeros(len(HELD_OUT), dtype=int))
    added = np.abs(attribution.values).mean(axis=0)
    assert added[attribution.names.index(gene)] < 1e-6
    assert (np.delete(added, attribution.names.index(gene)) > 1e-6).all()


def test_the_steps_are_windows_of_the_genes_in_their_order(model: GeneNetwork) -> None:
    if isinstance(model, RecurrentGeneNetwork):  # evidence names the window of each gene
        assert [gene for step in model.steps for gene in step] == model.gene_order
        assert {len(step) for step in model.steps[:-1]} <= {model.window} and len(model.steps[-1]) <= model.window


def test_the_cost_counts_the_work_of_every_step(model: GeneNetwork) -> None:
    cost, inputs, outputs = model.cost(), len(PREDICTORS), len(TARGETS)
    assert cost["parameters"] > inputs * outputs
    if model.architecture == "dnn":  # 2 members with a layer of 16 units
        assert cost["multiply_adds"] == 2 * (inputs + outputs) * 16 + inputs * outputs
    else:  # 6 windows in 2 directions, 3 gates of a GRU, 16 units on an embedding of 16; 2 members
        assert cost["multiply_adds"] > 6 * 2 * 3 * 16 * (16 + 16) * 2


# Gene images

SIDE = 32
SEED = 3
LABELS = ("profiles", "classification")
NETWORKS = [name for name in names(*LABELS) if issubclass(get_architecture(name, *LABELS).estimator, GeneImageNetwork)]


def _genes(count: int) -> list[str]:
    return [f"GENE{number}" for number in range(count)]


def _samples(count: int = 40, *, seed: int = 0) -> ExpressionSamples:
    found = labels_samples(count, seed=seed)
    return replace(found, values=found.values[:, :30], genes=found.genes[:30], about_genes=found.about_genes[:30])


@settings(deadline=None, max_examples=40)
@example(count=2, smallest=8, kind="similarity")
@example(count=37, smallest=8, kind="similarity")
@given(count=st.integers(1, 300), smallest=st.integers(1, 40), kind=st.sampled_from(["given", "chromosome"]))
def test_every_gene_has_a_pixel_of_its_own(count: int, smallest: int, kind: Any) -> None:
    rng, genes = np.random.default_rng(count), _genes(count)
    places = {"chromosome": rng.integers(1, 23, count), "start": rng.integers(1, 999, count)}
    values = rng.normal(size=(20, count)).astype(np.float32)
    layout = GeneLayout(kind, smallest).fit(values, genes, pd.DataFrame(places, genes))
    assert layout.side >= smallest and (layout.side == smallest or (layout.side - 1) ** 2 < count)
    assert layout.pixel.shape == (count,) and len(np.unique(layout.pixel)) == count
    assert layout.pixel.min() >= 0 and layout.pixel.max() < layout.side**2
    images = layout.transform(values)
    assert images.shape == (20, 1, layout.side, layout.side)
    np.testing.assert_array_equal(layout.of_genes(images), values)
    assert (images != 0).sum() == (values != 0).sum(), "an empty pixel holds something"
    table = layout.table()
    assert table["gene"].tolist() == list(layout.genes) == genes
    np.testing.assert_array_equal(images[0, 0, table["row"], table["column"]], values[0])
    again = GeneLayout.from_state(layout.state())
    np.testing.assert_array_equal(again.transform(values), images)
    assert (again.genes, again.kind, again.side) == (layout.genes, layout.kind, layout.side)


BLOCK = np.arange(64) % 4  # of 64 genes in four blocks that rise and fall together, in turn in the table


def _layout(kind: Any, seed: int = 0) -> GeneLayout:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 4))[:, BLOCK] + rng.normal(0, 0.3, (60, 64))
    return GeneLayout(kind, 8).fit(values, _genes(64), pd.DataFrame(), seed)


def _spread(layout: GeneLayout, block: np.ndarray = BLOCK) -> float:
    """Return the mean distance of two genes of one block, in pixels."""
    place = layout.table()[["row", "column"]].to_numpy(float)
    same = (block[:, None] == block[None]) & ~np.eye(len(block), dtype=bool)
    return float(np.linalg.norm(place[:, None] - place[None], axis=2)[same].mean())


def test_genes_that_rise_and_fall_together_become_neighbors() -> None:
    rng, similar = np.random.default_rng(0), _layout("similarity")
    # In blocks of 4 by 4 pixels two genes are 2.1 apart; wherever they fall, 4.2.
    assert _spread(similar) < 0.75 * _spread(_layout("given"))
    assert _spread(similar) < min(_spread(similar, rng.permutation(BLOCK)) for _ in range(50))


def test_a_layout_depends_on_the_seed_and_on_nothing_else() -> None:
    pixels = []
    for elsewhere, seed in ((1, 0), (2, 0), (2, 1)):
        np.random.seed(elsewhere)  # noqa: NPY002  # an embedding that draws from the global state would show it
        pixels.append(_layout("similarity", seed).pixel)
    np.testing.assert_array_equal(pixels[0], pixels[1])
    assert (pixels[0] != pixels[2]).any()


def test_genes_along_the_genome_follow_chromosome_and_start() -> None:
    places = {
        **{"unknown": ("", np.nan), "m": ("MT", 5), "y": ("chrY", 1), "x_late": ("X", 900), "x_early": ("chrX", 80)},
        **{"ten": ("chr10", 1), "two": ("2", 7), "scaffold": ("chrUn_KI270", 3), "one_late": ("chr1", 10_000)},
        **{"one_early": ("1", 9_999), "one_nowhere": ("1", np.nan)},
    }
    about = pd.DataFrame.from_dict(places, orient="index", columns=["chromosome", "start"])
    genes = list(places)
    found = [genes[position] for position in genome_order(genes, about)]
    assert found[:8] == ["one_early", "one_late", "two", "ten", "x_early", "x_late", "y", "m"]
    assert set(found[8:]) == {"unknown", "scaffold", "one_nowhere"}
    table = GeneLayout("chromosome", 1).fit(np.zeros((2, 11)), genes, about).table()
    assert table.sort_values(["row", "column"])["gene"].tolist() == found
    numbers = pd.DataFrame({"chromosome": [10.0, 2.0, np.nan], "start": ["5", "7", "1"]}, index=["a", "b", "c"])
    assert genome_order(["new", "a", "b", "c"], numbers).tolist() == [2, 1, 0, 3]


def test_genes_without_positions_or_too_many_for_the_exact_assignment_are_refused() -> None:
    most = gene_layout.MOST_SIMILAR
    kinds: dict[Any, Any] = {"chromosome": (2, r"chromosome and start in genes\.csv")}
    for kind, (count, said) in (kinds | {"similarity": (most + 1, f"at most {most} genes")}).items():
        with pytest.raises(UserError, match=said):
            GeneLayout(kind).fit(np.zeros((2, count)), _genes(count), pd.DataFrame({"chromosome": "1"}, _genes(count)))


# Features


@pytest.mark.parametrize("scaling", ["standard", "min_max", "none"])
def test_scales_are_those_of_the_training_rows(scaling: Any) -> None:
    train, other = _samples(), _samples(20, seed=1)
    other = with_values(other, other.values * 50)
    features = ProfileFeatures("all", scaling).fit(train)
    values, logged = features.transform(train), train.logged().astype(np.float64)
    shown = {"standard": ("mean", "std"), "min_max": ("min", "max")}
    for name, expected in zip(shown.get(scaling, ()), (0, 1), strict=False):
        np.testing.assert_allclose(getattr(values, name)(axis=0), expected, atol=1e-5)
    if scaling == "min_max":
        assert features.transform(other).max() == 1, "what exceeds the training range is not clipped"
    if scaling == "none":
        np.testing.assert_allclose(values, logged, atol=1e-6)
    np.testing.assert_array_equal(features.transform(train.take(np.array([5, 2]))), values[[5, 2]])
    mean = with_values(train.take(np.array([0])), 2 ** logged.mean(axis=0, keepdims=True) - 1)
    np.testing.assert_allclose(features.transform(mean)[0], features.middle, atol=1e-4)


@pytest.mark.parametrize("selection", ["all", "variance", "top_5"])
def test_a_selection_keeps_the_genes_that_vary_in_the_table_s_order(selection: str) -> None:
    values = _samples().values.copy()
    values[:, 4] = 7.0
    samples = with_values(_samples(), values)
    variance = samples.logged().astype(np.float64).var(axis=0)
    kept = {
        "all": np.delete(np.arange(30), 4),
        "variance": np.flatnonzero(variance > STUDY_VARIANCE),
        "top_5": np.sort(np.argsort(-variance)[:5]),
    }[selection]
    assert 2 <= len(kept) < 30
    assert ProfileFeatures(selection).fit(samples).genes == [samples.genes[column] for column in kept]
    with pytest.raises(UserError, match=rf"of 30 genes 0 are left by the selection '{selection}'"):
        ProfileFeatures(selection).fit(with_values(samples, np.ones_like(values)))


# From three channels to one


@pytest.mark.parametrize("name", NETWORKS)
def test_one_channel_gives_what_three_equal_channels_give(name: str) -> None:
    torch.manual_seed(0)
    stages = get_architecture(name, *LABELS).estimator.backbone.build(name, "none")
    images = torch.randn(2, 1, SIDE, SIDE)
    with torch.no_grad():
        whole = nn.Sequential(*stages).eval()
        expected = [whole[0](images.expand(-1, 3, -1, -1)), whole(images.expand(-1, 3, -1, -1))]
        assert of_one_channel(stages) is stages
        for part, wanted in zip((whole[:1], whole), expected, strict=True):
            torch.testing.assert_close(part(images), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    first = next(part for part in stages[0].modules() if isinstance(part, nn.Conv2d))
    assert first.in_channels == first.weight.shape[1] == 1


def test_trained_weights_keep_their_meaning(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = get_architecture("resnet50", *LABELS).estimator.backbone.create(False)
    path = write_stages(network, network, tmp_path / "resnet50.safetensors")
    own, theirs = nn.Sequential(*_build("resnet50")._stages(str(path))).state_dict(), network.state_dict()
    torch.testing.assert_close(own["0.0.weight"], theirs["conv1.weight"].sum(dim=1, keepdim=True))
    torch.testing.assert_close(own["4.2.conv3.weight"], theirs["layer4.2.conv3.weight"])


def test_the_head_is_told_where_in_a_gene_image_something_is() -> None:
    stages: list[nn.Module] = [nn.Identity(), nn.Identity(), nn.AvgPool2d(4)]
    left, right = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    left[..., 0, 0], right[..., 7, 7] = 1.0, 1.0
    for grid, differ in ((0, False), (4, True)):
        (_, one), (_, other) = (tapped(nn.Sequential(*stages), image, 0, grid, 3) for image in (left, right))
        seen = [torch.cat(each, dim=1) for each in (one, other)]
        assert bool((seen[0] != seen[1]).any()) == differ
        assert head_width(stages, 1, 8, grid) == seen[0].shape[1] == (4 if grid else 2 * 2)


@pytest.mark.parametrize("frozen", [0, 2])
def test_a_wide_head_sees_every_gene_whatever_is_frozen(frozen: int) -> None:
    stages: list[nn.Module] = [nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1)]
    width = 16 + head_width(stages, 1, 4, 4)
    module = TransferModule(stages, frozen=frozen, width=width, classes=3, dropout=0.0, grid=4, wide=True).eval()
    with torch.no_grad():
        cast(nn.Linear, module.head[2]).weight[:, 16:] = 0  # what the maps say
        changed = torch.rand(1, 1, 4, 4).repeat(17, 1, 1, 1)
        for pixel in range(16):
            changed[pixel, 0, pixel // 4, pixel % 4] += 1
        logits = module(changed)
    assert ((logits[:16] - logits[16]).abs().sum(dim=1) > 1e-4).all()


def test_settled_statistics_are_those_of_the_images_and_of_no_frozen_part() -> None:
    stages: list[nn.Module] = [nn.BatchNorm2d(1), nn.BatchNorm2d(1)]
    module = TransferModule(stages, frozen=1, width=head_width(stages, 1, 4, 4), classes=2, dropout=0.5, grid=4).train()
    images = 5 + 3 * torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(SEED))
    module(images - 100)  # what was seen before must leave no trace
    settle_batch_norm(module, [*images.split(32), images[:1]])
    frozen, trained = cast(Any, module.frozen[0]), cast(Any, module.tail[0])
    assert float(frozen.running_mean) == 0.0
    assert float(trained.running_mean) == pytest.approx(float(images.mean()), rel=1e-3)
    assert trained.momentum == 0.1 and module.training


def test_a_network_without_validation_rows_answers_with_settled_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_architecture("resnet50", *LABELS).estimator, "backbone", SMALL)
    fitted = _build("resnet50", epochs=2, noise=0.0, mixup=0.0).fit(_samples(), None, FitContext())
    before = {key: value.clone() for key, value in fitted.module_.state_dict().items() if "running" in key}
    fitted._settle(_samples(), FitContext())()
    after = fitted.module_.state_dict()
    assert before and all(torch.allclose(value, after[key], atol=1e-5) for key, value in before.items())


# The networks


def _build(name: str, mode: str = "full", **others: Any) -> Any:
    architecture = get_architecture(name, *LABELS)
    chosen = {**architecture.defaults, "mode": mode, "dropout": 0.0, "batch_size": 16, **others}
    settings = {"epochs": 1, "seed": SEED, "device": "cpu", "weights": "none", "image_size": SIDE}
    return architecture.build(chosen, **{key: value for key, value in settings.items() if key not in chosen})


def test_there_is_a_gene_to_explain_for_each_sample() -> None:
    for output in (None, np.array([1])):
        with pytest.raises(ValueError, match="target genes"):
            chosen_targets(gene_samples(24), output)


def test_integrated_gradients_add_up_on_genes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    train, unseen, seen = _samples(), _samples(2, seed=1), list[np.ndarray]()
    monkeypatch.setattr(get_architecture("resnet50", *LABELS).estimator, "backbone", SMALL)
    # Partly frozen: one epoch on every weight is too rough a function for any integral.
    fitted = _build("resnet50", "partial").fit(train)

    def spied(layout: GeneLayout, images: np.ndarray) -> np.ndarray:
        seen.append(images.reshape(len(images), -1))
        return seen[-1][:, layout.pixel]

    monkeypatch.setattr(GeneLayout, "of_genes", spied)
    # Genes add up to what a profile differs in from the mean profile, of which nothing is to be said.
    mean = 2 ** train.logged().astype(np.float64).mean(axis=0) - 1
    explained = fitted.attribute(with_values(unseen, np.stack([unseen.values[0], mean])), np.array([1, 1]))
    assert explained.names == list(unseen.genes) and explained.values.shape == (2, 30)
    assert explained.relative_error < 0.05
    size = np.abs(explained.values[0]).max()
    assert size > 0 and np.abs(explained.values[1]).max() < 1e-3 * size
    assert explained.prediction[1] == pytest.approx(explained.base[1], abs=1e-3 * size)
    elsewhere = np.delete(seen[0], fitted.layout_.pixel, axis=1)
    assert elsewhere.shape == (2, SIDE * SIDE - 30) and (elsewhere == 0).all()


def test_trials_of_a_study_share_a_layout_and_others_do_not() -> None:
    train, context, made = _samples(), FitContext(), []
    for layout, selection in (("similarity", "all"), ("similarity", "all"), ("given", "all"), ("similarity", "top_9")):
        network = _build("vgg19", layout=layout, selection=selection)
        network._learn_images(train, context)
        made.append(network.layout_)
    assert made[0] is made[1] and len({id(each) for each in made}) == 3 and len(made[3].genes) == 9


def test_a_network_learns_what_the_genes_say() -> None:
    train, unseen = _samples(90), _samples(45, seed=1)
    fitted = _build("resnet50", "head", epochs=30).fit(train)
    assert (fitted.predict(unseen) == unseen.target).mean() > 0.6
