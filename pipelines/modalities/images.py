"""Tasks on images: their settings in ``params.yaml`` and the reader of their raw folder."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.params import Task, TuneTransfer
from pipelines.samples import Kept
from pipelines.typed_yaml import Checks


@dataclass(frozen=True)
class ImagesData:
    """Classes, crop and size of the images of a raw folder."""

    classes: tuple[str, ...]  # folder names below `images/`, in the order of the probabilities
    crop: float  # share of the shorter side that is kept around the center, before resizing
    size: int  # side of the square that every image is decoded to, in pixels


@dataclass(frozen=True)
class ValidateImages:
    """Bounds of the validation of raw images."""

    minimum_per_class: int  # images that every class must have
    smallest_side: int  # in pixels
    largest_pixels: int  # of an image; a larger one is refused before it is decoded


@dataclass(frozen=True)
class ImagesTask(Task):
    """A task on images."""

    modes = ("random", "subject_blind")

    data: ImagesData
    validate: ValidateImages
    tune: TuneTransfer

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
        checks.filled("tune.modes", "tune.weights")

    def read(self, folder: Path | str, *, labelled: bool = True, optional: Collection[str] = (), **rules: Any) -> Kept:
        """Read images, see `pipelines.samples.images.read_images`, which takes ``rules``."""
        from pipelines.samples.images import read_images

        return read_images(folder, self, labelled=labelled, **rules)
