"""``head`` mode on cached features against a backbone in every epoch; scoring against bare forward passes."""

import contextlib
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.params import read_params
from pipelines.samples.images import ImageSamples, read_images
from pipelines.simulate.cells import simulate_blood_cell
from tests.bench.measured import Record, compare
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.estimator import FitContext
from training.model.cost import alone
from training.model.cross_fit import CrossFitted
from training.networks.cell_network import viewed
from training.networks.transfer import BATCH

LEAST = 10  # times faster, which is what is asked for
MOST = 1.3  # times as long as the forward passes that scoring needs
SAME_WITHIN = 0.01  # of the mean accuracy over the trials: sums in another order may move an image or two


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

    def _frozen(
        self, samples: ImageSamples, view: int, strength: float, *, jitter: bool = False, progress: bool = False
    ) -> np.ndarray:
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
    points: list[dict[str, Any]] = [
        {
            "learning_rate": float(10 ** rng.uniform(-3.5, -1.5)),
            "dropout": float(rng.uniform(0, 0.5)),
            "weight_decay": float(10 ** rng.uniform(-4, -0.5)),
        }
        for _ in range(trials)
    ]
    seconds, accuracies = [0.0, 0.0], [list[float](), list[float]()]
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
    ours, other = (float(np.mean(each)) for each in accuracies)
    print(f"mean validation accuracy {ours:.4f} and {other:.4f}")
    # One image of ten is too much of an accuracy to say that it differs.
    if not small and not abs(ours - other) <= SAME_WITHIN:
        raise AssertionError(f"cached features reach {ours:.4f}, a backbone in every epoch {other:.4f}")
    name = f"head mode, {trials} trials of {epochs} epochs, {len(train)} + {len(validation)} images of 96 px"
    sides, bound = ("features cached", "backbone in every epoch"), None if small else LEAST
    cached, plain = seconds
    return [Record(name, cached, plain, plain / cached, "s", bound=bound, sides=sides)]


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

        name = f"scoring {count} image{'s' * (count > 1)} of {size} px, five members in {mode} mode, four views"
        more: dict[str, Any] = {"bound": None if small else MOST, "higher_is_better": False, "clock": time.process_time}
        whole, sides = functools.partial(model.outputs, asked), ("ours", "bare forward passes")
        records.append(compare(name, whole, bare, rounds=rounds, sides=sides, **more))
    return records
