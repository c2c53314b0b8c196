"""Reading images, with every check, against a torchvision DataLoader."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import tempfile
import warnings
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from pipelines.files import cores
from pipelines.modalities.images import ImagesTask
from pipelines.params import read_params
from pipelines.samples.images import read_images
from pipelines.simulate.cells import simulate_blood_cell
from tests.bench.measured import Record, paired
from training.networks.augment import StainJitter, augment, augmentation

SIZE, BATCH, STRENGTH = 96, 64, 0.5


def loader(folder: Path, changes: list[v2.Transform], workers: int) -> DataLoader:
    """Return torchvision's way: each image is opened, resized and changed by itself, whenever it is asked for."""
    opened = [v2.CenterCrop(crop_side(folder)), v2.Resize((SIZE, SIZE), InterpolationMode.BICUBIC), v2.PILToTensor()]
    data = ImageFolder(str(folder / "images"), v2.Compose([*opened, *changes]))
    return DataLoader(data, BATCH, shuffle=bool(changes), num_workers=workers, persistent_workers=workers > 0)


def crop_side(folder: Path) -> int:
    """Return the side of the central square that both sides look at: all images of the folder have one size."""
    first, _ = ImageFolder(str(folder / "images"))[0]
    return min(first.size)


def image_reading(small: bool = False) -> list[Record]:
    """Decode images once, and train on augmented ones for an epoch.

    Ours decodes each file once, in threads, into one array, and augments batches of it; the DataLoader decodes and
    augments each image anew in every epoch, in as many worker processes as it may use cores, which stay up. The first
    record is the first epoch's decoding alone; both go through the same files. Ours there also hashes each file and
    writes the array to the disk, which later runs and studies map instead of decoding: it is slower the first time.
    """
    task = read_params().task("blood_cell")
    assert isinstance(task, ImagesTask)
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, size=SIZE, crop=1.0))
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, caches = Path(name), itertools.count()
        simulate_blood_cell(folder / "raw", per_class=10 if small else 60)
        pixels = read_images(folder / "raw", task, cache=folder / "cache").samples.pixels
        rounds, change = 3 if small else 7, augmentation(STRENGTH, SIZE)

        def decoded() -> None:
            read_images(folder / "raw", task, cache=folder / f"cache-{next(caches)}")

        def epoch() -> None:
            for rows in torch.randperm(len(pixels)).split(BATCH):
                augment(torch.from_numpy(pixels[rows.numpy()]).permute(0, 3, 1, 2).float(), change)

        plain = loader(folder / "raw", [], cores())
        changes = [v2.ToDtype(torch.float32), *alone_transforms()]
        changed = loader(folder / "raw", changes, cores())
        sides = ("ours", f"DataLoader of {cores()} worker{'' if cores() == 1 else 's'}")
        records = []
        for what, mine, theirs in (("decoding", decoded, plain), ("an augmented epoch", epoch, changed)):
            seconds, other, ratio = paired(mine, lambda theirs=theirs: list(theirs), rounds=rounds)  # type: ignore[misc]
            title = f"{what}, {len(pixels)} images to {SIZE} px"
            records.append(Record(title, len(pixels) / seconds, len(pixels) / other, ratio, "images/s", sides=sides))
    return records


def alone_transforms() -> list[v2.Transform]:
    """Return `augmentation`'s changes for one image at a time."""
    whole = augmentation(STRENGTH, SIZE)
    assert any(isinstance(change, StainJitter) for change in whole.transforms)
    return [v2.Lambda(functools.partial(torch.unsqueeze, dim=0)), *whole.transforms, v2.Lambda(operator.itemgetter(0))]
