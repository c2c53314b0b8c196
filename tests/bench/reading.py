"""Reading images and tables, with every check, against a torchvision DataLoader and plain pandas."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from pipelines.files import cores
from pipelines.modalities.images import ImagesTask
from pipelines.modalities.pairs import PairsTask
from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import read_params
from pipelines.samples.images import read_images
from pipelines.simulate.cells import simulate_blood_cell
from pipelines.simulate.expression import simulate_tumor_type
from pipelines.simulate.response import Size, simulate_drug_response
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


def plain_expression(folder: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """Return what a script would: the matrix as float32, and the samples in its order."""
    table = pd.read_parquet(folder / "expression.parquet").set_index("sample_id")
    about = pd.read_csv(folder / "samples.csv").set_index("sample_id").reindex(table.index)
    return table.to_numpy(np.float32), about


def plain_response(folder: Path, omics: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return what a script would: the pairs joined with what is known of lines and drugs, and the omics by line."""
    pairs = pd.read_parquet(folder / "response.parquet")
    pairs = pairs.merge(pd.read_csv(folder / "cell_lines.csv"), on="cell_line_id")
    pairs = pairs.merge(pd.read_csv(folder / "drugs.csv"), on="drug_id")
    return pairs, {name: pd.read_parquet(folder / f"{name}.parquet").set_index("cell_line_id") for name in omics}


def table_reading(small: bool = False) -> list[Record]:
    """Read raw folders into samples: checked, filtered by the task's rules, each profile hashed.

    pandas reads and joins the same files and checks nothing: the ratio is what the checks cost.
    """
    tasks = read_params().tasks
    rounds = 3 if small else 9
    with tempfile.TemporaryDirectory() as name:
        profiles, pairs = Path(name) / "profiles", Path(name) / "pairs"
        simulate_tumor_type(profiles, patients=320 if small else 3000)
        size = Size(lines=60, molecules=20, genes=200, programs=4) if small else Size(400, 100, 1000, 8)
        simulate_drug_response(pairs, size)
        expression, response = tasks["tumor_type"], tasks["drug_response"]
        assert isinstance(expression, ProfilesTask) and isinstance(response, PairsTask)
        omics = tuple(response.data.omics)
        rows = dataclasses.replace(response.validate, minimum_rows=1)
        response = dataclasses.replace(response, validate=rows)
        shape = plain_expression(profiles)[0].shape
        records = []
        for title, mine, theirs in (
            (
                f"expression, {shape[0]} profiles of {shape[1]} genes",
                lambda: expression.read(profiles),
                lambda: plain_expression(profiles),
            ),
            (
                f"response, {len(plain_response(pairs, omics)[0])} pairs and {len(omics)} omics",
                lambda: response.read(pairs),
                lambda: plain_response(pairs, omics),
            ),
        ):
            seconds, other, ratio = paired(mine, theirs, rounds=rounds)
            record = Record(
                *(f"reading {title}", 1e3 * seconds, 1e3 * other, 1 / ratio, "ms"),
                higher_is_better=False,
                sides=("with checks", "pandas without"),
            )
            records.append(record)
    return records
