"""What the loaders share: a folder written whole; images as a source lists them, and their raw folder ``images``."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipelines.faults import ROWS_SHOWN, UserError
from pipelines.samples.images import IMAGES_FOLDER, IMAGES_TABLE

_NAMED = re.compile(r"[A-Za-z]+_[0-9]+\.jpe?g", re.IGNORECASE)  # BA_100102.jpg: code of the cell type, number


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes
    ----------
    path
        Where it lies.
    name
        File name that it gets.
    label
        Its class.
    subject
        Whose cell it is, None where the source does not say.
    part
        Part of the source that it stems from, such as an official fold; None where there are none.
    """

    path: Path
    name: str
    label: str
    subject: str | None = None
    part: str | None = None


def write_raw(images: Sequence[SourceImage], out: Path) -> None:
    """Write a raw folder of kind ``images``, whole or not at all; files are copied byte for byte.

    Names that would stand twice in a class are preceded by their part. ``images.csv`` is written where subjects are
    known; its column ``part`` tells official folds, which the platform's own split does not follow.

    Raises
    ------
    UserError
        ``out`` is there already, two images would have one name, or a file cannot be copied.
    """
    refuse_existing(out)
    files = _file_names(images)
    with written_folder(out) as whole:
        for image, file in zip(tqdm(images, desc="copy", unit="image", disable=None), files, strict=True):
            target = whole / IMAGES_FOLDER / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image.path, target)
        _write_table(images, files, whole / IMAGES_TABLE)


def refuse_existing(out: Path) -> None:
    """Refuse a target that is there already, unless it is an empty folder.

    Raises
    ------
    UserError
        It is there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already; name a new folder, or remove it")


@contextlib.contextmanager
def written_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``out`` that takes its place once the block ends without an error.

    Raises
    ------
    UserError
        ``out`` is there already, or something cannot be written or copied.
    """
    refuse_existing(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
            whole = Path(folder) / out.name
            whole.mkdir()
            yield whole
            whole.replace(out)
    except OSError as error:  # pyarrow's own bear neither a file name nor a reason apart
        where, reason = error.filename or out, error.strerror or " ".join(str(error).split())
        raise UserError(f"{where}: {reason}; nothing was written to {out}") from error


def _write_table(images: Sequence[SourceImage], files: list[str], path: Path) -> None:
    if any(image.subject is not None for image in images):
        table = pd.DataFrame([(image.label, image.subject, image.part) for image in images])
        table.columns = pd.Index(["label", "subject_id", "part"])
        table.insert(0, "file", files)
        table.to_csv(path, index=False)


def _file_names(images: Sequence[SourceImage]) -> list[str]:
    # File systems that do not tell a from A would let one image replace the other.
    plain = [f"{image.label}/{image.name}" for image in images]
    times = Counter(map(str.casefold, plain))
    files = [
        f"{image.label}/{image.part}_{image.name}" if image.part and times[name.casefold()] > 1 else name
        for image, name in zip(images, plain, strict=True)
    ]
    if doubled := [file for file, count in Counter(map(str.casefold, files)).items() if count > 1]:
        raise UserError(f"{listed(doubled)}: two images have this name; keep one of each")
    return files


def class_folders(folder: Path, classes: Collection[str], layout: str) -> list[SourceImage]:
    """Return the images of a layout with a folder a class and files such as ``BA_100102.jpg``.

    Raises
    ------
    UserError
        The folders are not those of the layout, one is empty, or a file's name is not of the layout.
    """
    root = find_folder(folder, classes, layout)
    unknown = [path.name for path in entries(root) if path.is_dir() and path.name not in classes]
    if unknown:
        raise UserError(f"{root}: {listed(unknown)} is no class of {layout}; its folders are {', '.join(classes)}")
    images = [SourceImage(path, path.name, label) for label in classes for path in entries(root / label)]
    if empty := sorted(set(classes) - {image.label for image in images}):
        raise UserError(f"{root}: {listed(empty)} is empty; unpack the archive again")
    if wrong := [f"{image.label}/{image.name}" for image in images if not _NAMED.fullmatch(image.name)]:
        raise UserError(f"{root}: {listed(wrong)} is not named as in {layout}, such as BA_100102.jpg; remove it")
    return images


def find_folder(folder: Path, inside: Collection[str], layout: str) -> Path:
    """Return ``folder`` or the first folder below it that holds folders of all names in ``inside``.

    Archives are unpacked into folders of their own, often twice over.

    Raises
    ------
    UserError
        There is none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    for where, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if set(inside) <= set(folders):
            return Path(where)
    raise UserError(f"{folder}: is not laid out as {layout}; no folder in it holds {', '.join(sorted(inside))}")


def entries(folder: Path) -> list[Path]:
    """Return what stands in a folder, in order, without hidden files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def listed(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - ROWS_SHOWN} more" if len(names) > ROWS_SHOWN else ""
    return ", ".join(sorted(names)[:ROWS_SHOWN]) + more
