"""Images: a table of samples, and all pixels in one array that is decoded once and cached on the disk."""

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageOps

from pipelines.code_closure import loaded_code
from pipelines.errors import DataError, Finding
from pipelines.files import cores, written_whole
from pipelines.modalities.images import ImagesData, ImagesTask
from pipelines.samples import Kept
from pipelines.samples.formats import read_table
from pipelines.samples.raw_files import FORMATS, is_of_system
from pipelines.samples.rows import Rows
from pipelines.samples.table_text import letters_of
from pipelines.text_values import folded, is_unknown, known, quoted

IMAGES_FOLDER = "images"
IMAGES_TABLE = "images.csv"
CACHE = Path("cache")
_TOGETHER = 16  # files that a thread takes at a time, at most
_ALIKE = 0.85  # share of the letters that two names of a class have in common


@dataclass(frozen=True)
class ImageSamples(Rows):
    """Labeled images."""

    modality: ClassVar[str] = "images"
    within: ClassVar[None] = None  # no sample is a part of another

    # a row a sample: `sample_id` (its file below `images/`), `label`, `subject_id` (None where unknown), `digest`
    # (SHA-256 of the file), and `target` (position of the label among `classes`) where it is known
    table: pd.DataFrame
    pixels: np.ndarray  # RGB, uint8, (images, size, size, 3); memory-mapped where from files; shared by all subsets
    index: np.ndarray  # for each sample its row in `pixels`, (n,)
    classes: tuple[str, ...]  # in the order of probabilities
    made: str = ""  # crop and size of the pixels: part of the key of whatever is cached of them
    # What was made of pixels in memory, by `pipelines.samples.cell_masks.per_image`; not of other samples' pixels.
    found: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def target(self) -> np.ndarray:
        """Return the position of each label among ``classes``, int64, shape ``(n,)``."""
        return self.table["target"].to_numpy(np.int64)

    @property
    def digests(self) -> list[str]:
        """Return the SHA-256 of each sample's file."""
        return self.table["digest"].tolist()

    def take(self, rows: np.ndarray) -> Self:
        """Return the samples at ``rows`` (positions, or a boolean mask); the pixels are shared."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        table = self.table.iloc[positions].reset_index(drop=True)
        return replace(self, table=table, index=self.index[positions])

    def alone(self) -> Self:
        """Return the samples with only their own pixels, in memory."""
        return replace(self, pixels=np.array(self.pixels[self.index]), index=np.arange(len(self)))


def list_images(folder: Path, task: ImagesTask, *, labelled: bool = True, every_class: bool = True) -> pd.DataFrame:
    """Return the table of `ImageSamples` of the images in a raw folder, ordered by ``sample_id``.

    Other columns of ``images.csv`` are kept. ``labelled``: ``target`` is added. `DataError` where ``images.csv`` and
    the folders disagree, or no class has an image, or with ``every_class`` one has none.
    """
    root = folder / IMAGES_FOLDER
    files = {label: [entry.name for entry in entries(root / label) if entry.is_file()] for label in task.data.classes}
    lacking = [label for label, inside in files.items() if not inside]
    if lacking and (every_class or len(lacking) == len(files)):
        found = [(f"{IMAGES_FOLDER}/{label}", without_images(folder, label, task)) for label in lacking]
        raise DataError([Finding("class_has_images", file, message) for file, message in found])
    named = [(f"{label}/{name}", label) for label, inside in files.items() for name in inside]
    table = pd.DataFrame(sorted(named), columns=["sample_id", "label"])
    table["subject_id"] = pd.Series([None] * len(table), dtype=object)
    if (folder / IMAGES_TABLE).is_file():
        listed, findings = read_listed(folder / IMAGES_TABLE, table, [])
        if findings:
            raise DataError(findings)
        listed = listed.rename(columns={"file": "sample_id"}).drop(columns="label")
        table = table.drop(columns="subject_id").merge(listed, on="sample_id", how="left", validate="one_to_one")
    paths = [root / name for name in table["sample_id"]]
    hashed = in_threads(lambda part: [hashlib.sha256(paths[row].read_bytes()) for row in part], len(paths))
    table["digest"] = [content.hexdigest() for content in hashed]
    if labelled:
        table["target"] = table["label"].map({name: code for code, name in enumerate(task.data.classes)})
    return table


def entries(folder: Path) -> list["os.DirEntry[str]"]:
    """Return the entries of a folder by name, without hidden files and those that operating systems write."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as inside:  # knows files from folders without asking for each, as a `Path` would
        return sorted((entry for entry in inside if not is_of_system(entry.name)), key=lambda entry: entry.name)


def without_images(folder: Path, label: str, task: ImagesTask) -> str:
    """Return a message on a class without images, whose folder may have another name or place."""
    there = {path.name: where for where in (IMAGES_FOLDER, ".") for path in entries(folder / where) if path.is_dir()}
    if alike := class_alike(label, [name for name in there if name not in task.data.classes]):
        return f"the class has no image, and the folder {alike!r} looks like it; rename it to {label!r}"
    if there.get(label) == ".":
        return f"the class has no image here, and its folder is beside {IMAGES_FOLDER}/; move it in"
    return "the class has no image; add some, or drop the class from data.classes"


def class_alike(name: str, others: Sequence[str]) -> str | None:
    """Return the one of ``others`` that equals ``name`` but for case, punctuation, a plural or a typo, or None."""
    letters = {letters_of(other).removesuffix("s"): other for other in others}
    found = get_close_matches(letters_of(name).removesuffix("s"), letters, n=1, cutoff=_ALIKE)
    return letters[found[0]] if found else None


def read_listed(path: Path, table: pd.DataFrame, notes: list[Finding]) -> tuple[pd.DataFrame, list[Finding]]:
    """Read ``images.csv``, files as the folders spell them, and list where they disagree; ``notes`` takes warnings."""
    try:
        listed = read_table(path, text=("file", "label", "subject_id"), verbatim=("file",), notes=notes)
    except DataError as error:
        return pd.DataFrame(), list(error.findings)
    found = _files_of(listed, table)
    if len(rows := np.flatnonzero((found != listed["file"]) & found.notna())):
        written = listed["file"].iloc[rows]
        names = f"({quoted(written, 3)}); they are taken for {quoted(found.iloc[rows], 3)}"
        message = f"{len(rows)} files have another name in {IMAGES_FOLDER}/ {names}"
        notes.append(
            Finding.at_rows("file_named", IMAGES_TABLE, "file", rows, message, values=written, severity="warning")
        )
    listed["file"] = found
    return listed, _table_findings(table, listed)


def _files_of(listed: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """Return the file of each row with slashes, below ``images/``, in the case and spelling of the folders."""
    there, classes = set(table["sample_id"]), set(map(folded, table["label"].unique()))
    if there.issuperset(listed["file"]):
        return listed["file"]
    spelled: dict[str, list[str]] = {}
    for name in table["sample_id"]:
        spelled.setdefault(folded(name), []).append(name)

    def meant(file: str | None, label: str | None) -> str | None:
        if file is None or is_unknown(file):
            return None
        if file in there:
            return file
        parts = [part.strip() for part in file.replace("\\", "/").split("/") if part.strip() not in ("", ".")]
        in_class = len(parts) > 1 and folded(parts[-2]) in classes
        whole = "/".join(parts[-2:] if in_class else [str(label), *parts[-1:]])
        found = [spelled.get(folded(name), []) for name in (whole, unquote(whole))]
        return next((names[0] for names in found if len(names) == 1), file)

    pairs = zip(listed["file"], listed["label"], strict=True)
    return pd.Series([meant(file, label) for file, label in pairs], index=listed.index, dtype=object)


def _table_findings(table: pd.DataFrame, listed: pd.DataFrame) -> list[Finding]:
    """Return where ``images.csv`` and the folders disagree."""
    file, label_of = listed["file"], table.set_index("sample_id")["label"]
    folder = file.map(label_of)
    text = functools.cache(lambda label: folded(known(label) or ""))
    given, expected = (list(map(text, column)) for column in (listed["label"], folder))
    other = np.array(given, dtype=object) != np.array(expected, dtype=object)
    nowhere = "there is no such file below images/{found}; write <class>/<file> as in the folder"
    findings = []
    for column, wrong, message in (
        ("file", file.isna(), "names no file; fill it in"),
        ("file", file.duplicated() & file.notna(), "duplicate file{found}; keep one row for each"),
        ("file", folder.isna() & file.notna(), nowhere),
        ("label", folder.notna() & other, "is not the folder that the file is in{found}; write the folder's name"),
    ):
        if wrong.any():
            values = listed.loc[wrong, column]
            what = message.replace("{found}", f" (found {quoted(values, 3)})" if values.notna().any() else "")
            rows = np.flatnonzero(wrong)
            findings.append(Finding.at_rows("table_matches_folders", IMAGES_TABLE, column, rows, what, values=values))
    if unlisted := sorted(set(label_of.index) - set(file)):
        message = f"lacks {len(unlisted)} files: {quoted(unlisted)}; add a row for each"
        findings.append(Finding("table_matches_folders", IMAGES_TABLE, message, "file"))
    return findings


def read_images(
    folder: Path | str, task: ImagesTask, *, labelled: bool = True, every_class: bool = True, cache: Path = CACHE
) -> Kept:
    """Read a raw folder ``images``; `DataError` names images that cannot be decoded, and faults of `list_images`."""
    folder = Path(folder)
    table = list_images(folder, task, labelled=labelled, every_class=every_class)
    files = [folder / IMAGES_FOLDER / name for name in table["sample_id"]]
    pixels = load_pixels(files, table["digest"].tolist(), task.data, cache)
    counts = {
        "rows": {"raw": len(table), "kept": len(table), "dropped": {}},
        "without": {"subject": {"rule": "alone", "kept": int(table["subject_id"].isna().sum())}},
        **{f"class_{label}": int(count) for label, count in table["label"].value_counts().items()},
    }
    return Kept(ImageSamples(table, pixels, np.arange(len(table)), task.data.classes, decoding(task.data)), counts)


def decoding(data: ImagesData) -> str:
    """Return crop and size as text."""
    return f"crop {data.crop:.6f} size {data.size}"


def load_pixels(files: Sequence[Path], digests: Sequence[str], data: ImagesData, cache: Path = CACHE) -> np.ndarray:
    """Return all images as one memory-mapped array, uint8, ``(files, size, size, 3)``; ``digests`` are of the files."""
    made_of = [decoding(data), *loaded_code(__name__).values(), *digests]
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]
    path = cache / "pixels" / f"{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # the file is missing, or an incomplete copy
        return np.load(path, mmap_mode="r")
    with written_whole(path) as temporary:
        shape = (len(files), data.size, data.size, 3)
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        _decode_all(files, data, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else the name could outlive a power cut, and pixels be zeros
    return np.load(path, mmap_mode="r")


def _decode_all(files: Sequence[Path], data: ImagesData, into: Path) -> None:
    start, each = into.stat().st_size, 3 * data.size**2

    def decode(part: range) -> list[Finding]:
        findings = []
        with into.open("r+b") as place:  # behind the header, in the order of `files`
            place.seek(start + part.start * each)
            for path in (files[row] for row in part):
                try:
                    with Image.open(path, formats=FORMATS) as image:
                        pixels = to_pixels(image, data)
                except Exception as error:  # Pillow raises many types
                    name = f"{IMAGES_FOLDER}/{path.parent.name}/{path.name}"
                    findings.append(Finding("image_readable", name, f"cannot be decoded ({error}); copy it again"))
                else:
                    place.write(pixels.data)
            if hasattr(os, "posix_fadvise"):  # Linux begins to write it to the disk: later on `fsync` waits less
                place.flush()
                os.posix_fadvise(place.fileno(), start + part.start * each, len(part) * each, os.POSIX_FADV_DONTNEED)
        return findings

    if findings := in_threads(decode, len(files)):
        raise DataError(findings)


def in_threads(job: Callable[[range], list[Any]], count: int) -> list[Any]:
    """Return what ``job`` returns of all parts of ``range(count)``; a thread a core takes one after the other."""
    size = min(_TOGETHER, -(-count // (4 * cores())) or 1)
    parts = [range(count)[start : start + size] for start in range(0, count, size)]
    with ThreadPoolExecutor(cores()) as pool:
        return [each for found in pool.map(job, parts) for each in found]


def to_pixels(image: Image.Image, data: ImagesData) -> np.ndarray:
    """Return the upright central square of an opened image in RGB, resized; uint8, shape ``(size, size, 3)``."""
    side = max(1, round(min(image.size) * data.crop))
    pixels = _by_torchvision(image) if side == data.size else None
    if pixels is not None and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        left, top = ((length - side) // 2 for length in image.size)
        return np.ascontiguousarray(pixels[top : top + side, left : left + side])
    ImageOps.exif_transpose(image, in_place=True)
    upright = image if image.mode == "RGB" else image.convert("RGB")
    left, top = ((length - side) // 2 for length in upright.size)
    square = upright if upright.size == (side, side) else upright.crop((left, top, left + side, top + side))
    if side != data.size:
        square = square.resize((data.size, data.size), Image.Resampling.BICUBIC)
    return np.asarray(square)


def _by_torchvision(image: Image.Image) -> np.ndarray | None:
    """Return what Pillow decodes in twice the time: a color JPEG that is opened and not decoded yet; None for others.

    Only where torchvision is loaded already: to import it takes as long as to decode 20,000 images.
    """
    file = getattr(image, "fp", None)
    if "torchvision" not in sys.modules or file is None or (image.format, image.mode) != ("JPEG", "RGB"):
        return None
    from torch import frombuffer, uint8
    from torchvision.io import decode_jpeg

    file.seek(0)
    with contextlib.suppress(RuntimeError):  # Pillow reads it, or says what is wrong with it
        return decode_jpeg(frombuffer(bytearray(file.read()), dtype=uint8)).permute(1, 2, 0).numpy()
    return None
