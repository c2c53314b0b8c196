"""Reading images and tables, with every check, against a torchvision DataLoader and plain pandas.

The streaming reader of PanCanAtlas against pandas: each alone in a process, in time and peak memory.
"""

import contextlib
import dataclasses
import functools
import itertools
import operator
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from pipelines.files import cores
from pipelines.params import read_params
from pipelines.samples.images import read_images
from pipelines.simulate.cells import simulate_blood_cell
from pipelines.simulate.expression import simulate_tumor_type
from pipelines.simulate.response import Size, simulate_drug_response
from tests.bench.measured import Job, Record, compare, in_a_process
from training.networks.augment import StainJitter, augment, augmentation

SIZE, BATCH, STRENGTH = 96, 64, 0.5
FULL_SIZE = 224  # pixels, of the images of `../shared/data` and of `data.size` in params.yaml
DECODING = 1.5  # times the speed of a DataLoader


def loader(folder: Path, changes: list[v2.Transform], size: int = SIZE) -> DataLoader:
    """Return torchvision's way: each image is opened, resized and changed by itself, whenever it is asked for."""
    first, _ = ImageFolder(str(folder / "images"))[0]  # all images of the folder have one size
    resized = v2.Resize((size, size), InterpolationMode.BICUBIC)
    change = v2.Compose([v2.CenterCrop(min(first.size)), resized, v2.PILToTensor(), *changes])
    data = ImageFolder(str(folder / "images"), change)
    return DataLoader(data, BATCH, shuffle=bool(changes), num_workers=cores(), persistent_workers=True)


def image_reading(small: bool = False) -> list[Record]:
    """Decode images once, and train on augmented ones for an epoch.

    Ours decodes each file once, in threads, into one array, and augments batches of it; the DataLoader decodes and
    augments each image anew in every epoch, in as many worker processes as it may use cores, which stay up. The first
    records are the first epoch's decoding alone, of small images and of such as real collections have; both go through
    the same files. Ours there also checks the table, hashes each file and writes the array to disk, which later runs
    and studies map instead of decoding.
    """
    task: Any = read_params().task("blood_cell")
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, size=SIZE, crop=1.0))
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, caches = Path(name), itertools.count()
        simulate_blood_cell(folder / "raw", per_class=10 if small else 60)
        pixels = read_images(folder / "raw", task, cache=folder / "cache").samples.pixels
        rounds, change = 3 if small else 7, augmentation(STRENGTH, SIZE)

        shutil.copytree(folder / "raw", folder / "full")
        for path in (folder / "full").rglob("*.jpg"):
            Image.open(path).resize((FULL_SIZE, FULL_SIZE)).save(path, quality=90)

        def decoded(raw: str, size: int) -> None:
            sized = dataclasses.replace(task, data=dataclasses.replace(task.data, size=size))
            read_images(folder / raw, sized, cache=folder / f"cache-{next(caches)}")

        def epoch() -> None:
            for rows in torch.randperm(len(pixels)).split(BATCH):
                augment(torch.from_numpy(pixels[rows.numpy()]).permute(0, 3, 1, 2).float(), change)

        plain, full = loader(folder / "raw", []), loader(folder / "full", [], FULL_SIZE)
        changed = loader(folder / "raw", [v2.ToDtype(torch.float32), *alone_transforms()])
        sides = ("ours", f"DataLoader of {cores()} worker{'' if cores() == 1 else 's'}")
        jobs: list[tuple[str, int, Job, DataLoader]] = [
            ("decoding", SIZE, lambda: decoded("raw", SIZE), plain),
            ("decoding", FULL_SIZE, lambda: decoded("full", FULL_SIZE), full),
            ("an augmented epoch", SIZE, epoch, changed),
        ]
        records = []
        for what, size, mine, theirs in jobs:
            records.append(
                compare(
                    f"{what}, {len(pixels)} images to {size} px",
                    mine,
                    lambda theirs=theirs: list(theirs),  # type: ignore[misc]
                    rounds=rounds,
                    value=lambda seconds: len(pixels) / seconds,
                    unit="images/s",
                    bound=DECODING if size == FULL_SIZE and not small else None,
                    sides=sides,
                )
            )
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
    tasks: dict[str, Any] = read_params().tasks
    rounds = 3 if small else 9
    with tempfile.TemporaryDirectory() as name:
        profiles, pairs = Path(name) / "profiles", Path(name) / "pairs"
        simulate_tumor_type(profiles, patients=320 if small else 3000)
        size = Size(lines=60, molecules=20, genes=200, programs=4) if small else Size(400, 100, 1000, 8)
        simulate_drug_response(pairs, size)
        expression, response = tasks["tumor_type"], tasks["drug_response"]
        omics: tuple[str, ...] = tuple(response.data.omics)
        response = dataclasses.replace(response, validate=dataclasses.replace(response.validate, minimum_rows=1))
        shape, count = plain_expression(profiles)[0].shape, len(plain_response(pairs, omics)[0])
        jobs: dict[str, tuple[Job, Job]] = {
            f"expression, {shape[0]} profiles of {shape[1]} genes": (
                lambda: expression.read(profiles),
                lambda: plain_expression(profiles),
            ),
            f"response, {count} pairs and {len(omics)} omics": (
                lambda: response.read(pairs),
                lambda: plain_response(pairs, omics),
            ),
        }
        more: dict[str, Any] = {"unit": "ms", "higher_is_better": False, "sides": ("with checks", "pandas without")}
        more |= {"rounds": rounds, "value": lambda seconds: 1e3 * seconds}
        return [compare(f"reading {title}", *sides, **more) for title, sides in jobs.items()]


LEAST = 1.0  # times pandas' speed, of a matrix of full size
MOST_MEGABYTES = 4000.0  # of ours, of a matrix of full size

READER = """
from pathlib import Path
from pipelines.sources import pancan
from pipelines.sources.expression_folder import write_expression
write_expression(pancan.read(Path("matrix.tsv"), Path("clinical.csv")), Path("ours"))
"""
WHOLE_TABLE = """
import pandas as pd
table = pd.read_csv("matrix.tsv", sep="\\t", index_col="gene_id").T.astype("float32")
table.rename_axis("sample_id").reset_index().to_parquet("other.parquet", index=False)
"""


def write_pancan(folder: Path, genes: int, samples: int, blocks: int = 50) -> None:
    """Write a matrix and a clinical table laid out as PanCanAtlas; its rows are drawn from ``blocks`` times 2 rows."""
    rng = np.random.default_rng(0)
    patients = [f"TCGA-{number // 10_000:02d}-{number % 10_000:04d}" for number in range(samples)]
    with (folder / "clinical.csv").open("w") as file:
        file.write("bcr_patient_barcode,type\n")
        file.writelines(f"{patient},{('BRCA', 'LUAD', 'COAD')[n % 3]}\n" for n, patient in enumerate(patients))
    rows = []
    for _ in range(2 * min(blocks, genes)):
        values = rng.lognormal(5, 2, samples) - 5
        cells = [f"{value:.4f}" for value in values]
        for missing in rng.integers(samples, size=samples // 100 + 1):
            cells[missing] = "NA"
        rows.append("\t".join(cells) + "\n")
    with (folder / "matrix.tsv").open("w") as file:
        file.write("\t".join(["gene_id", *(f"{patient}-01A-11R-A000-07" for patient in patients)]) + "\n")
        for number in range(genes):
            file.write(f"G{number}|{number}\t")
            file.write(rows[number % len(rows)])


def pancan_reader(small: bool = False) -> list[Record]:
    """Compare the streaming reader of PanCanAtlas with pandas' reading, transposing and writing; once each."""
    genes, samples = (1000, 500) if small else (20_531, 11_069)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_pancan(Path(folder), genes, samples)
        megabytes = Path("matrix.tsv").stat().st_size / 1e6
        ours, memory = in_a_process("-c", READER)
        other, peak = in_a_process("-c", WHOLE_TABLE)
    name, sides = f"PanCanAtlas matrix of {genes} x {samples}, {megabytes:.0f} MB", ("streamed", "pandas")
    speed, most = (None, None) if small else (LEAST, MOST_MEGABYTES)
    return [
        Record(name, ours, other, other / ours, "s", bound=speed, sides=sides),
        Record(f"{name}, memory", memory, peak, peak / memory, "MB", most, bound_on="ours", sides=sides),
    ]
