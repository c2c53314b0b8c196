"""Tasks on images: their settings in ``params.yaml`` and the reader of their raw folder."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.params import Evaluate, PerBudget, Split, Task, TuneTransfer
from pipelines.problems import WORST_STRESS
from pipelines.samples import Kept
from pipelines.typed_yaml import Checks


@dataclass(frozen=True)
class ImagesData:
    """Classes, crop and size of the images of a raw folder."""

    classes: tuple[str, ...]  # folder names below `images/`, in the order of the probabilities
    crop: float  # share of the shorter side that is kept around the center, before resizing
    size: int  # side of the square that every image is decoded to, in pixels
    collections: tuple[str, ...] = ()  # names of the published collections that the images are of


@dataclass(frozen=True)
class ValidateImages:
    """Bounds of the validation of raw images."""

    minimum_per_class: int  # images that every class must have
    smallest_side: int  # in pixels
    largest_pixels: int  # of an image; a larger one is refused before it is decoded


_STRESSED = PerBudget(40, 300)  # of models that were registered before there was such an entry


@dataclass(frozen=True)
class EvaluateImages(Evaluate):
    """How a fitted model of images is evaluated."""

    stressed_samples: PerBudget = _STRESSED  # test rows of the stress tests, at most


@dataclass(frozen=True)
class ImagesSplit(Split):
    """How images are assigned."""

    fewest_groups: int = 0  # with fewer all groups are tested in turn, see `pipelines.split.rotation_parts`; 0: never
    rotation: int = 8  # parts that are tested in turn


@dataclass(frozen=True)
class TuneImages(TuneTransfer):
    """How architectures of images are tuned."""

    # What trees may see: features of a frozen network that was trained on ImageNet, or descriptors of color and shape.
    tree_features: tuple[Literal["embedding", "descriptors"], ...] = ("embedding", "descriptors")
    # Hyperparameters of a study's first trial, by architecture, in place of the architecture's own defaults.
    first: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagesTask(Task):
    """A task on images."""

    modes = ("random", "subject_blind")

    data: ImagesData
    validate: ValidateImages
    split: ImagesSplit
    tune: TuneImages
    evaluate: EvaluateImages

    def check(self, checks: Checks) -> None:
        """Refuse classes that are no folder names, and sizes and counts out of range."""
        super().check(checks)
        classes, crop, size = self.data.classes, self.data.crop, self.data.size
        checks.require(len(classes) >= 2, "data.classes", "names fewer than two classes")
        checks.require(len(set(classes)) == len(classes), "data.classes", "names a class twice")
        plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) for name in classes)
        checks.require(plain, "data.classes", "must be names of folders: letters, digits, _ . and -")
        checks.require(0 < crop <= 1, "data.crop", f"is {crop:g}; it lies above 0 and is at most 1")
        checks.require(16 <= size <= 1024, "data.size", f"is {size}; it must be between 16 and 1024 pixels")
        checks.at_least(3, "validate.minimum_per_class")
        checks.at_least(1, "validate.smallest_side", "validate.largest_pixels")
        checks.filled("tune.modes", "tune.weights", "tune.tree_features")
        checks.at_least(0, "split.fewest_groups")
        checks.at_least(2, "split.rotation")
        checks.at_least(1, "evaluate.stressed_samples")

    @property
    def tunable(self) -> tuple[str, ...]:
        """Return what `tune.metric` may be: also the worst value of a metric under the stress tests."""
        return (*super().tunable, *(WORST_STRESS + name for name in super().tunable))

    def read(
        self,
        folder: Path | str,
        *,
        labelled: bool = True,
        optional: Collection[str] = (),
        classes: Sequence[str] = (),
        **rules: Any,
    ) -> Kept:
        """Read images, see `pipelines.samples.images.read_images`, which takes ``rules``."""
        from pipelines.samples.images import read_images

        return read_images(folder, self, labelled=labelled, every_class=not classes, **rules)

    def stressed(self, samples: Any, others: Any, seed: int) -> dict[str, Any]:
        """Return images under each kind of stress, see `pipelines.samples.stressed_images.stressed`."""
        from pipelines.samples.stressed_images import stressed

        return stressed(samples, others, seed)
