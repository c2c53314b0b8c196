"""``head`` mode on cached features against a backbone in every epoch; explanations of many samples against each."""

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.params import read_params
from pipelines.samples.images import ImageSamples, read_images
from pipelines.simulate.cells import simulate_blood_cell
from tests.bench.measured import Record, compare, paired
from tests.training.profile_samples import TARGETS, gene_samples, labels_samples
from training.architectures import get_architecture
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.estimator import FitContext
from training.model.cross_fit import CrossFitted
from training.model.track import alone
from training.networks.cell_network import viewed
from training.networks.transfer import BATCH

LEAST = 10  # times faster, which is what is asked for
MOST = 1.3  # times as long as the forward passes that scoring needs
SAME_WITHIN = 0.01  # of the mean accuracy over the trials: features are kept as float16, which may move an image or two


class EveryEpoch(EfficientNetLite0):
    """The same network without a cache: its frozen stages run over the same views anew in every epoch."""

    def _training_logits(self, train: ImageSamples, context: FitContext) -> Callable[[torch.Tensor], torch.Tensor]:
        def logits(rows: torch.Tensor) -> torch.Tensor:
            images = self._float(train.pixels[train.index[rows.numpy()]])
            views = torch.randint(self.views, (len(rows),))
            for view in views.unique():
                images[views == view] = viewed(images[views == view], int(view), self.strength)
            with torch.no_grad():
                maps, seen = self.module_.before(self._normalized(images))
            return self.module_.head(self.module_.summary(maps, seen))

        return logits

    def _frozen(self, samples: ImageSamples, view: int, strength: float, progress: bool = False) -> np.ndarray:
        return super()._frozen(alone(samples, len(samples)), view, strength)  # pixels in memory are not cached


def frozen_head_trials(small: bool = False) -> list[Record]:
    """Time the trials of a study in ``head`` mode, with cached features and with the backbone in every epoch.

    One pass: all trials of a study share the features, and the first pays for them. Both must come to the same mean
    validation accuracy, but for a hundredth.
    """
    trials, epochs, per_class = (3, 3, 10) if small else (20, 12, 40)
    task: Any = read_params().task("blood_cell")
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, size=96))
    rng = np.random.default_rng(0)
    points: list[dict[str, Any]] = []
    for _ in range(trials):
        drawn = {"learning_rate": 10 ** rng.uniform(-3.5, -1.5), "dropout": rng.uniform(0, 0.5)}
        drawn["weight_decay"] = 10 ** rng.uniform(-4, -0.5)
        points.append({name: float(value) for name, value in drawn.items()})
    seconds, heads = [0.0, 0.0], [torch.empty(0), torch.empty(0)]
    accuracies: tuple[list[float], list[float]] = ([], [])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where the cache starts empty
        simulate_blood_cell(Path("raw"), per_class=per_class)
        samples = read_images(Path("raw"), task, cache=Path("cache")).samples
        held_out = np.arange(len(samples)) % 5 == 0
        train, validation = samples.take(~held_out), samples.take(held_out)
        settings: dict[str, Any] = {"mode": "head", "epochs": epochs, "patience": epochs, "seed": 1, "device": "cpu"}
        settings["penalty"] = None  # a start that needs no epoch would leave nothing to compare
        networks = (EfficientNetLite0, EveryEpoch)
        contexts = [FitContext() for _ in networks]
        for turn, point in enumerate(points):
            for number in (0, 1) if turn % 2 == 0 else (1, 0):
                network = networks[number]
                began = time.perf_counter()
                fitted = network(**point, **settings).fit(train, validation, contexts[number])
                seconds[number] += time.perf_counter() - began
                accuracies[number].append(fitted.trained_.history[-1]["validation_accuracy"])
                heads[number] = fitted.module_.head.state_dict()["2.weight"]
    ours, other = (float(np.mean(each)) for each in accuracies)
    apart = sum(one != another for one, another in zip(*accuracies, strict=True))
    name = f"head mode, {trials} trials of {epochs} epochs, {len(train)} + {len(validation)} images of 96 px"
    sides = ("features cached", "backbone in every epoch")
    bound = None if small else LEAST
    record = Record(name, seconds[0], seconds[1], seconds[1] / seconds[0], "s", bound=bound, sides=sides)
    print(f"mean validation accuracy {ours:.4f} and {other:.4f}, ", end="")
    print(f"{apart} trials differ, weights of the last head by {(heads[0] - heads[1]).norm() / heads[1].norm():.1e}")
    if not small:  # one image of ten is too much of an accuracy to say that it differs
        check_same_accuracy(ours, other)
    return [record]


def check_same_accuracy(ours: float, other: float) -> None:
    """Fail where the two ways do not come to the same: being faster is then worth nothing."""
    if not abs(ours - other) <= SAME_WITHIN:
        raise AssertionError(f"cached features reach {ours:.4f}, a backbone in every epoch {other:.4f}")


def image_scoring(small: bool = False) -> list[Record]:
    """Score images by five members and four views, against bare forward passes in as large batches of ready tensors.

    Frozen stages run once a view for all members, trained ones and heads once a member and view, on both sides.
    """
    size, rounds = (32, 3) if small else (96, 5)
    cases = [("partial", 8)] if small else [("head", 1), ("head", 256), ("partial", 256)]
    task: Any = read_params().task("blood_cell")
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, size=size))
    records = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        simulate_blood_cell(Path("raw"), per_class=10 if small else 60)
        samples = read_images(Path("raw"), task, cache=Path("cache")).samples.alone()
    for mode, count in cases:
        settings = {"mode": mode, "epochs": 1, "views": 1, "seed": 1, "device": "cpu"}
        kind: dict[str, Any] = {"modality": "images", "problem": "classification", "hyperparameters": settings}
        train, asked = samples.take(np.arange(0, len(samples), 5)), samples.take(np.arange(count)).alone()
        model = CrossFitted(of="efficientnet_lite0", **kind).fit(train, folds=np.arange(len(train)) % 5)
        members: Any = model.members_
        for member in members:
            member.test_views_ = 4  # the most
        images = members[0]._float(asked.pixels)
        views = [members[0]._normalized(viewed(images, view, members[0].strength)) for view in range(4)]

        def bare(views: Any = views, members: Any = members) -> None:
            with torch.inference_mode():
                for batch in (batch for view in views for batch in view.split(BATCH)):
                    seen = members[0].module_.before(batch)
                    for member in members:
                        member.module_.head(member.module_.summary(*seen)).softmax(dim=1)

        whole = functools.partial(model.outputs, asked)
        ours, other, ratio = paired(whole, bare, rounds=rounds, clock=time.process_time)
        name = f"scoring {count} image{'s' * (count > 1)} of {size} px, five members in {mode} mode, four views"
        bound, sides = None if small else MOST, ("ours", "bare forward passes")
        records.append(Record(name, ours, other, 1 / ratio, "s", bound, higher_is_better=False, sides=sides))
    return records


EXPLAINED: Sequence[tuple[str, str, str]] = (
    ("SHAP (trees)", "xgboost", "profiles classification"),
    ("Integrated Gradients (dense)", "dnn", "profiles multi_target"),
    ("Integrated Gradients (recurrent)", "gru", "profiles multi_target"),
)


def explanations(small: bool = False) -> list[Record]:
    """Explain samples in one call of ``attribute`` and in one call a sample; both must say the same."""
    count, rounds = (8, 3) if small else (64, 5)
    records = []
    for method, architecture, kind in EXPLAINED:
        of_genes = kind == "profiles multi_target"
        train = gene_samples() if of_genes else labels_samples(120)
        samples: Any = train.take(np.arange(count))
        outputs = np.arange(count) % (len(TARGETS) if of_genes else 3)
        found = get_architecture(architecture, *kind.split())
        estimator = found.build(dict(found.defaults), epochs=2, rounds=40, seed=0, device="cpu").fit(train)

        def whole(estimator: Any = estimator, samples: Any = samples, outputs: np.ndarray = outputs) -> np.ndarray:
            return estimator.attribute(samples, outputs).values

        def one_by_one(estimator: Any = estimator, samples: Any = samples, outputs: np.ndarray = outputs) -> np.ndarray:
            rows = [np.array([row]) for row in range(len(samples))]
            return np.concatenate([estimator.attribute(samples.take(row), outputs[row]).values for row in rows])

        np.testing.assert_allclose(whole(), one_by_one(), rtol=1e-3, atol=1e-4)
        name = f"{method}, {architecture}, {count} samples of {len(samples.inputs)} genes"
        records.append(compare(name, whole, one_by_one, sides=("in one call", "a call a sample"), rounds=rounds))
    return records
