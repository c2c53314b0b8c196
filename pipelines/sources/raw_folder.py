"""Raw folders written whole or not at all; images of a source, and their raw folder ``images``."""

import contextlib
import fnmatch
import itertools
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from pipelines.errors import UserError
from pipelines.samples.images import IMAGES_FOLDER, IMAGES_TABLE, entries
from pipelines.samples.raw_files import is_of_system
from pipelines.text_values import quoted

ROW_GROUP_SAMPLES = 16_384  # every row group repeats the description of each of the many columns
_NAMED = re.compile(r"[A-Za-z]+_[0-9]+\.jpe?g", re.IGNORECASE)  # BA_100102.jpg: code of the cell type, number


class SourceImage(NamedTuple):
    """An image of a source, its file name, its class, the person, and the official fold; None where not known."""

    path: Path
    name: str
    label: str
    subject: str | None = None
    part: str | None = None


def write_raw(images: Sequence[SourceImage], out: Path) -> None:
    """Write a raw folder of kind ``images`` as `written_folder` does; files are copied byte for byte.

    Names that would be duplicates in a class are preceded by their part. ``images.csv`` is written where subjects are
    known; its column ``part`` has official folds, which the platform's own split does not follow.
    """
    files = _file_names(images)
    with written_folder(out) as whole:
        for image, file in zip(tqdm(images, desc="copy", unit="image", disable=None), files, strict=True):
            target = whole / IMAGES_FOLDER / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image.path, target)
        if any(image.subject is not None for image in images):
            rows = [(file, *image[2:]) for file, image in zip(files, images, strict=True)]
            table = pd.DataFrame(rows, columns=["file", "label", "subject_id", "part"])
            table.to_csv(whole / IMAGES_TABLE, index=False)


def refuse_existing(out: Path) -> None:
    """Raise a `UserError` if a target is there already, unless it is an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; name a new folder, or remove it")


@contextlib.contextmanager
def written_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` that takes its place once the block ends without an error."""
    refuse_existing(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            whole = Path(folder) / out.name
            whole.mkdir()
            yield whole
            whole.replace(out)
    except OSError as error:  # those of pyarrow have neither a file name nor a reason
        where, reason = error.filename or out, error.strerror or " ".join(str(error).split())
        raise UserError(f"{where}: {reason}; nothing was written to {out}") from error


def write_features(
    path: Path, key: str, ids: Sequence[str], names: Sequence[str], columns: Iterable[np.ndarray]
) -> None:
    """Write a Parquet table of the column ``key`` and a column of numbers a feature, null where NaN."""
    arrays = [pa.array(np.ascontiguousarray(column), from_pandas=True) for column in columns]
    # Dictionaries and statistics cost more than they give where a column holds few and mostly different values.
    pyarrow.parquet.write_table(
        pa.table([pa.array(ids, pa.string()), *arrays], names=[key, *names]),
        path,
        row_group_size=ROW_GROUP_SAMPLES,
        use_dictionary=False,
        write_statistics=False,
    )


def _file_names(images: Sequence[SourceImage]) -> list[str]:
    plain = [f"{image.label}/{image.name}" for image in images]
    times = Counter(map(str.casefold, plain))  # file systems that ignore case would replace one by the other
    files = [
        f"{image.label}/{image.part}_{image.name}" if image.part and times[name.casefold()] > 1 else name
        for image, name in zip(images, plain, strict=True)
    ]
    if doubled := [file for file, count in Counter(map(str.casefold, files)).items() if count > 1]:
        raise UserError(f"{quoted(sorted(doubled))}: two images have this name; name them apart")
    return files


CLASS_FOLDERS = {
    "blood_cells": (
        "Blood Cell Images for Cancer Detection",  # Kaggle, doi 10.34740/kaggle/dsv/10500753, CC BY 4.0
        ("basophil", "erythroblast", "monocyte", "myeloblast", "seg_neutrophil"),
    ),
    "pbc": (
        "PBC (Barcelona)",  # Acevedo et al. 2020, normal peripheral blood cells, doi 10.17632/snkd93bnjr.1
        ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
}
"""Layouts with a folder a class, files such as ``BA_100102.jpg``, and no subjects: what each is, and its classes."""


def read_class_folders(folder: Path, layout: str) -> list[SourceImage]:
    """Return the images of one of `CLASS_FOLDERS`; a `UserError` on other folders, empty ones, and other file names."""
    what, classes = CLASS_FOLDERS[layout]
    root = find_folder(folder, classes, what)
    if unknown := [path.name for path in entries(root) if path.is_dir() and path.name not in classes]:
        todo = f"whose folders are {', '.join(classes)}; move it elsewhere"
        raise UserError(f"{root}: {quoted(unknown)} is no class of {what}, {todo}")
    images = [SourceImage(path, path.name, label) for label in classes for path in filled(root / label)]
    if wrong := [f"{image.label}/{image.name}" for image in images if not _NAMED.fullmatch(image.name)]:
        raise UserError(f"{root}: {quoted(wrong)} is not named as in {what}, such as BA_100102.jpg; move it elsewhere")
    return images


def misnamed(images: Iterable[SourceImage]) -> list[str]:
    """Return a warning on images of `read_class_folders` whose name begins as those of another class do."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    codes = {image: image.name.partition("_")[0].upper() for image in images}
    for image, code in codes.items():
        counts[code][image.label] += 1
    most = {code: max(of.values()) for code, of in counts.items()}
    if odd := [f"{of.label}/{of.name}" for of, code in codes.items() if 10 * counts[code][of.label] <= most[code]]:
        return [f"warning: {len(odd)} images are named as those of another class: {quoted(odd)}; look at them"]
    return []


def find_folder(folder: Path, inside: Collection[str], layout: str) -> Path:
    """Return the one folder, from ``folder`` on down, that holds a folder for each name in ``inside``."""
    refuse_no_folder(folder)
    lacking: dict[str, list[str]] = {}
    for where, held, _ in os.walk(folder):
        held[:] = sorted(itertools.filterfalse(is_of_system, held))
        lacking[where] = sorted(set(inside) - set(held))
        if not lacking[where]:
            held.clear()  # what is inside belongs to this folder
    found = [where for where, names in lacking.items() if not names]
    if len(found) == 1:
        return Path(found[0])
    if found:
        todo = "name one of them, or put their images together"
        raise UserError(f"{folder}: {quoted(found)} are both laid out as {layout}; {todo}")
    best = min(lacking, key=lambda where: len(lacking[where]))
    todo = f"{best!r} lacks folders named {quoted(lacking[best])}; unpack the archive again, or name them so"
    raise UserError(f"{folder}: is not laid out as {layout}; {todo}")


def refuse_no_folder(folder: Path) -> None:
    """Raise a `UserError` if it is a file, such as an archive, or is not there."""
    if folder.is_file():
        raise UserError(f"{folder}: is a file; unpack it, if it is an archive, and name the folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")


def filled(folder: Path) -> list[Path]:
    """Return the `entries` of a folder; raise a `UserError` if there is none."""
    if found := entries(folder):
        return list(map(Path, found))
    raise UserError(f"{folder}: is empty; unpack the archive again")


def visible(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that match a pattern, in any case, without those that `entries` leaves out."""
    wanted = re.compile(fnmatch.translate(pattern), re.IGNORECASE)
    files = (path for path in folder.rglob("*") if wanted.match(path.name) and path.is_file())
    return sorted(path for path in files if not any(map(is_of_system, path.relative_to(folder).parts)))
