"""What raw ``images`` must satisfy: files that decode, in classes that can be split."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from pipelines.errors import Finding
from pipelines.expectations import Check, Suite, report_files
from pipelines.expectations.checks import between
from pipelines.modalities.images import ImagesTask as Task
from pipelines.samples.images import (
    IMAGES_FOLDER,
    IMAGES_TABLE,
    class_alike,
    entries,
    read_listed,
    without_images,
)
from pipelines.samples.raw_files import is_of_system
from pipelines.text_values import quoted

Tables = dict[str, pd.DataFrame]

# The formats that are read, and the endings of their files. Others need a plug-in that runs more than a decoder.
ENDINGS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
MODES = ("RGB", "L", "P", "RGBA")
_NUMBERS = ("bytes", "width", "height", "bits")
_FACTS = ("format", "mode", *_NUMBERS, "animated", "opaque", "error")


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Read what can be read of a raw folder; every image is decoded once.

    Returns
    -------
    tables
        ``images`` (a row a file: what its header says and whether it decodes), ``classes`` (a row a class: how many
        images and groups) and, where it is sound, ``images.csv``.
    findings
        What is in the folders and is no image, and what is wrong with ``images.csv``.
    """
    files, findings = _files(folder / IMAGES_FOLDER, task)
    images = _inspected(files, task.validate.largest_pixels)
    tables = {"images": images}
    subjects: pd.Series | None = pd.Series(index=images["sample_id"], dtype=object)
    if (folder / IMAGES_TABLE).exists():
        notes: list[Finding] = []
        listed, faults = read_listed(folder / IMAGES_TABLE, images, notes)
        findings += [*faults, *notes]
        if not faults:
            tables[IMAGES_TABLE] = listed
            subjects = listed.set_index("file")["subject_id"]
        else:
            subjects = None  # how many groups there are is not known
    tables["classes"] = _classes(images, subjects, task).assign(
        without=[without_images(folder, label, task) for label in task.data.classes]
    )
    return tables, findings


def suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    """Return the suites of ``tables``."""
    made: list[Suite | Finding] = [_classes_suite(tables["classes"], task)]
    if len(images := tables["images"]):
        made.append(_images_suite(images, task))
    return made


def counts(tables: Tables, task: Task) -> dict[str, Any]:
    """Count the images of each class, formats and sides; images of unknown subjects are counts, not findings."""
    images, classes = tables["images"], tables["classes"]
    counted: dict[str, Any] = {
        "rows": dict(zip(classes["file"], classes["images"].tolist(), strict=True)),
        "formats": images["format"].value_counts().to_dict(),
    }
    sides = images[["width", "height"]].dropna()
    if len(sides):
        counted["sides"] = {"smallest": int(sides.to_numpy().min()), "largest": int(sides.to_numpy().max())}
    if (listed := tables.get(IMAGES_TABLE)) is not None:
        counted["subjects"] = int(listed["subject_id"].nunique())
        counted["without_subject"] = int(listed["subject_id"].isna().sum())
    return counted


def _files(root: Path, task: Task) -> tuple[list[Path], list[Finding]]:
    """Return the files in the class folders, and findings on anything else in them, which is not read."""
    files, findings = [], []

    def stray(path: Path, message: str) -> None:
        name = "/".join(_shown(part) for part in path.relative_to(root.parent).parts)
        findings.append(Finding("folder_known", name, message))

    if passed := sorted(_of_systems(root)):
        message = f"{len(passed)} files of operating systems are ignored ({quoted(passed, 3)})"
        findings.append(Finding("folder_known", IMAGES_FOLDER, message, count=len(passed), severity="warning"))
    for path in entries(root):
        if path.name in task.data.classes and path.is_dir():
            for inside in entries(path):
                if inside.is_dir():
                    stray(inside, "is a folder inside a class; move its images up")
                elif not inside.is_file():
                    stray(inside, "is no file (a link to nowhere?); copy it again")
                else:
                    files.append(inside)
        elif path.is_dir():
            alike = class_alike(path.name, task.data.classes)
            advice = "add it there or move it away" if alike is None else f"rename it to {alike!r} if it is this class"
            stray(path, f"is not among data.classes ({quoted(task.data.classes, len(task.data.classes))}); {advice}")
        else:
            stray(path, "lies outside the class folders; move it into its class or out of images/")
    return files, findings


def _of_systems(root: Path) -> list[str]:
    """Return the files that operating systems wrote, without hidden ones."""
    found = [*root.glob("*"), *root.glob("*/*")] if root.is_dir() else []
    return [
        path.relative_to(root).as_posix() for path in found if not path.name.startswith(".") and is_of_system(path.name)
    ]


def _shown(name: str) -> str:
    """Return a file's name as it can be printed and written to a table."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _inspected(files: list[Path], largest: int) -> pd.DataFrame:
    """Return a row for each file; decoders release the interpreter's lock, so threads are enough."""
    with _no_limit_of_pillow(), ThreadPoolExecutor() as pool:
        inspected = pool.map(lambda path: _inspect(path, largest), files)
        facts = list(tqdm(inspected, total=len(files), desc="images", unit="image", disable=None))
    names = [(path.parent.name, _shown(path.name)) for path in files]
    frame = pd.DataFrame(facts, columns=list(_FACTS), dtype=object).astype(dict.fromkeys(_NUMBERS, float))
    frame.insert(0, "label", pd.Series([label for label, _ in names], dtype=object))
    frame.insert(0, "sample_id", pd.Series([f"{label}/{name}" for label, name in names], dtype=object))
    frame["printable"] = pd.Series([path.name.isprintable() for path in files], dtype=object)
    return frame


@contextlib.contextmanager
def _no_limit_of_pillow() -> Iterator[None]:
    # Ours is applied to the header; Pillow's would warn or raise before the image's size is known.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _inspect(path: Path, largest: int) -> dict[str, Any]:
    """Return `_FACTS` of a file, None for those that are not known; nothing above ``largest`` pixels is decoded."""
    facts: dict[str, Any] = dict.fromkeys(_FACTS)
    try:
        facts["bytes"] = path.stat().st_size
        if not facts["bytes"]:
            return facts
        with Image.open(path, formats=tuple(ENDINGS)) as image:
            # Cameras append a preview to a JPEG, which Pillow calls MPO.
            facts["format"] = "JPEG" if image.format == "MPO" else image.format
            facts["width"], facts["height"] = image.size
            if image.width * image.height > largest:
                return facts
            facts["mode"], facts["bits"] = image.mode, _bits(image, path)
            facts["animated"] = bool(getattr(image, "is_animated", False))
            image.load()
            facts["opaque"] = not image.has_transparency_data or _alpha(image).getextrema()[0] == 255
    except UnidentifiedImageError:
        facts["error"] = f"is no image ({', '.join(ENDINGS)}); write it as one of these, or move it away"
    except Exception as error:  # Pillow raises many types for a broken file
        facts["error"] = f"cannot be decoded ({' '.join(str(error).split())}); copy it again"
    return facts


def _bits(image: Image.Image, path: Path) -> int:
    """Return the bits of a channel; Pillow opens 16-bit color as 8-bit RGB without a warning."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # signature, length and type of IHDR, width, height, then the bit depth
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]  # BitsPerSample
    return 8


def _alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")


def _images_suite(images: pd.DataFrame, task: Task) -> Suite:
    """Return the suite of the facts of each file; a fact that is not known is missing and passes."""
    frame = images.assign(
        pixels=images["width"] * images["height"],
        side=images[["width", "height"]].min(axis=1),
        mode=images["mode"].where(images["bits"] <= 8),  # of others only the bits are reported
        suffix=[Path(name).suffix.lower() for name in images["sample_id"]],
    )
    files, rows = [f"{IMAGES_FOLDER}/{name}" for name in images["sample_id"]], list(images.itertuples())
    checks = [
        Check(expectation, report_files(name, files, [message(row) for row in rows], IMAGES_FOLDER))
        for name, expectation, message in _images_expectations(task)
    ]
    return Suite("images", frame, checks)


def _images_expectations(task: Task) -> list[tuple[str, Any, Callable[[Any], str]]]:
    """Return for each expectation its name, itself, and the message on a file that fails it."""
    most, least = task.validate.largest_pixels, task.validate.smallest_side
    suffixes = [(form, suffix) for form, suffixes in ENDINGS.items() for suffix in suffixes]
    known_suffix = gxe.ExpectColumnPairValuesToBeInSet(
        column_A="format", column_B="suffix", value_pairs_set=suffixes, ignore_row_if="either_value_is_missing"
    )

    def among(column: str, *values: Any) -> Any:
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values))

    def within(column: str, **limits: float) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(column=column, **limits)

    def size(row: Any) -> str:
        return f"{row.width:.0f} x {row.height:.0f} pixels"

    def too_large(row: Any) -> str:
        advice = "so it was not decoded; make it smaller, or raise validate.largest_pixels"
        return f"{size(row)} are more than {most}, {advice}"

    def misnamed(row: Any) -> str:
        names = " or ".join(ENDINGS.get(row.format, ()))
        return f"is {row.format} by its content and not by its name; name it {names}, or write it again"

    unprintable = "the name has signs that cannot be printed; rename the file"
    animated = "has several frames; write one to a file of its own"
    transparent = "has transparent pixels; write it onto a background of one color"
    return [
        ("file_name_printable", among("printable", True), lambda _: unprintable),
        ("image_not_empty", within("bytes", min_value=1), lambda _: "the file is empty (0 bytes); copy it again"),
        ("image_readable", gxe.ExpectColumnValuesToBeNull(column="error"), lambda row: str(row.error)),
        ("image_not_too_large", within("pixels", max_value=most), too_large),
        (
            "image_not_too_small",
            within("side", min_value=least),
            lambda row: f"{size(row)}, each side must have {least}; copy it again",
        ),
        ("image_not_animated", among("animated", False), lambda _: animated),
        ("image_mode", among("mode", *MODES), lambda row: f"is in color mode {row.mode}; write it as RGB or gray"),
        (
            "image_eight_bits",
            within("bits", max_value=8),
            lambda row: f"has {row.bits:.0f} bits a channel; scale it to 8",
        ),
        ("image_opaque", among("opaque", True), lambda _: transparent),
        ("file_ending", known_suffix, misnamed),
    ]


def _classes(images: pd.DataFrame, subjects: pd.Series | None, task: Task) -> pd.DataFrame:
    """Return for each class its images, and its groups: subjects, and images of no known subject."""
    labels = list(task.data.classes)
    frame = pd.DataFrame({"file": [f"{IMAGES_FOLDER}/{label}" for label in labels]})
    frame["images"] = images["label"].value_counts().reindex(labels, fill_value=0).to_numpy()
    frame["groups"] = frame["images"].astype(float)
    if task.split.mode == "subject_blind":
        group = images["sample_id"].map(subjects).fillna(images["sample_id"]) if subjects is not None else None
        groups = group.groupby(images["label"]).nunique() if group is not None else pd.Series(dtype=float)
        frame["groups"] = groups.reindex(labels).to_numpy(dtype=float)
    return frame


def _classes_suite(classes: pd.DataFrame, task: Task) -> Suite:
    minimum, folds = task.validate.minimum_per_class, task.split.folds
    needed = max(3, folds + 1)
    # A class is reported once: that it is empty, else that it is small, else that it has few groups.
    frame = classes.assign(
        some=classes["images"].where(classes["images"] > 0).astype(float),
        groups=classes["groups"].where(classes["images"] >= minimum),
    )
    files = classes["file"].tolist()

    small = [f"{count} images, {minimum} are needed to split the class; add some" for count in classes["images"]]
    narrow = [
        f"{count:.0f} groups (subjects, and images of no known subject), test rows and {folds} folds need {needed}; "
        "add subjects, or lower split.folds"
        for count in classes["groups"]
    ]
    checks = [
        between(column, report_files(name, files, messages, IMAGES_FOLDER), low=least)
        for name, column, least, messages in (
            ("class_has_images", "images", 1, classes["without"].tolist()),
            ("class_large_enough", "some", minimum, small),
            ("class_has_groups", "groups", needed, narrow),
        )
    ]
    return Suite("images.classes", frame, checks)
