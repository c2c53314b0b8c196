"""What raw ``images`` must satisfy: files that decode, in classes that can be split."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from pipelines.errors import Finding
from pipelines.expectations import Check, Suite, between, report_files
from pipelines.modalities.images import ImagesTask as Task
from pipelines.samples.images import IMAGES_FOLDER, IMAGES_TABLE, class_alike, entries, read_listed, without_images
from pipelines.samples.raw_files import ENDINGS, FORMATS, is_of_system
from pipelines.text_values import quoted

Tables = dict[str, pd.DataFrame]

MODES = ("RGB", "L", "P", "RGBA")
_NUMBERS = ("bytes", "width", "height", "bits")
_FACTS = ("format", "mode", *_NUMBERS, "animated", "opaque", "error")


def read(folder: Path, task: Task) -> tuple[Tables, list[Finding]]:
    """Return the tables ``images`` (a row a file), ``classes`` (a row a class) and, if sound, ``images.csv``."""
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
        subjects = None if faults else listed.set_index("file")["subject_id"]
    without = [without_images(folder, label, task) for label in task.data.classes]
    tables["classes"] = _classes(images, subjects, task).assign(without=without)
    return tables, findings


def suites(tables: Tables, task: Task) -> list[Suite | Finding]:
    """Return the suites of ``tables``."""
    images = tables["images"]
    return [_classes_suite(tables["classes"], task), *([_images_suite(images, task)] if len(images) else [])]


def counts(tables: Tables, task: Task) -> dict[str, Any]:
    """Count the images of each class and format; images of unknown subjects are counts, not findings."""
    images, classes = tables["images"], tables["classes"]
    counted: dict[str, Any] = {
        "rows": dict(zip(classes["file"], classes["images"].tolist(), strict=True)),
        "formats": images["format"].value_counts().to_dict(),
    }
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

    every = [*root.glob("*"), *root.glob("*/*")]
    ignored = [path for path in every if is_of_system(path.name) and not path.name.startswith(".")]
    if ignored:
        names = sorted(path.relative_to(root).as_posix() for path in ignored)
        message = f"{len(names)} files of operating systems are ignored ({quoted(names, 3)})"
        findings.append(Finding("folder_known", IMAGES_FOLDER, message, count=len(names), severity="warning"))
    for path in map(Path, entries(root)):
        if path.name in task.data.classes and path.is_dir():
            for inside in map(Path, entries(path)):
                if inside.is_file():
                    files.append(inside)
                else:
                    stray(inside, "is a folder or a broken link inside a class; move its images up, or copy it again")
        elif path.is_dir():
            alike = class_alike(path.name, task.data.classes)
            advice = "add it there or move it away" if alike is None else f"rename it to {alike!r} if it is this class"
            stray(path, f"is not among data.classes ({quoted(task.data.classes, len(task.data.classes))}); {advice}")
        else:
            stray(path, "lies outside the class folders; move it into its class or out of images/")
    return files, findings


def _shown(name: str) -> str:
    """Return a file's name as it can be printed and written to a table."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _inspected(files: list[Path], largest: int) -> pd.DataFrame:
    """Return a row for each file; decoders release the interpreter's lock, so threads are enough."""
    # Our limit is applied to the header; Pillow's would warn or raise before the image's size is known.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with ThreadPoolExecutor() as pool:
            inspected = pool.map(lambda path: _inspect(path, largest), files)
            facts = list(tqdm(inspected, total=len(files), desc="images", unit="image", disable=None))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    frame = pd.DataFrame(facts, columns=list(_FACTS), dtype=object).astype(dict.fromkeys(_NUMBERS, float))
    names = [f"{path.parent.name}/{_shown(path.name)}" for path in files]
    return frame.assign(
        sample_id=pd.Series(names, dtype=object),
        label=pd.Series([path.parent.name for path in files], dtype=object),
        printable=pd.Series([path.name.isprintable() for path in files], dtype=object),
    )


def _inspect(path: Path, largest: int) -> dict[str, Any]:
    """Return `_FACTS` of a file, None for those that are not known; nothing above ``largest`` pixels is decoded."""
    facts: dict[str, Any] = dict.fromkeys(_FACTS)
    try:
        facts["bytes"] = path.stat().st_size
        if not facts["bytes"]:
            return facts
        with Image.open(path, formats=FORMATS) as image:
            # Cameras append a preview to a JPEG, which Pillow calls MPO.
            facts["format"] = "JPEG" if image.format == "MPO" else image.format
            facts["width"], facts["height"] = image.size
            if image.width * image.height > largest:
                return facts
            facts["mode"], facts["bits"] = image.mode, _bits(image, path)
            facts["animated"] = bool(getattr(image, "is_animated", False))
            image.load()
            alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
            facts["opaque"] = alpha is None or alpha.getextrema()[0] == 255
    except UnidentifiedImageError:
        facts["error"] = f"is no image ({', '.join(FORMATS)}); write it as one of these, or move it away"
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


def _images_suite(images: pd.DataFrame, task: Task) -> Suite:
    """Return the suite of the facts of each file; a fact that is not known is missing and passes."""
    frame = images.assign(
        pixels=images["width"] * images["height"],
        side=images[["width", "height"]].min(axis=1),
        mode=images["mode"].where(images["bits"] <= 8),  # of others only the bits are reported
        suffix=[Path(name).suffix.lower() for name in images["sample_id"]],
        endings=[" or ".join(ENDINGS.get(form, ())) for form in images["format"]],
    )
    files, rows = [f"{IMAGES_FOLDER}/{name}" for name in images["sample_id"]], frame.to_dict("records")
    checks = [
        Check(expectation, report_files(name, files, [message.format_map(row) for row in rows], IMAGES_FOLDER))
        for name, expectation, message in _images_expectations(task)
    ]
    return Suite("images", frame, checks)


def _images_expectations(task: Task) -> list[tuple[str, Any, str]]:
    """Return for each expectation its name, itself, and the message on a file that fails it, a format of facts."""
    most, least = task.validate.largest_pixels, task.validate.smallest_side
    suffixes = [(form, suffix) for form, suffixes in ENDINGS.items() for suffix in suffixes]
    known_suffix = gxe.ExpectColumnPairValuesToBeInSet(
        column_A="format", column_B="suffix", value_pairs_set=suffixes, ignore_row_if="either_value_is_missing"
    )

    def among(column: str, *values: Any) -> Any:
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(values))

    def within(column: str, **limits: float) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(column=column, **limits)

    size = "{width:.0f} x {height:.0f} pixels"
    large = f"are more than {most}, so it was not decoded; make it smaller, or raise validate.largest_pixels"
    transparent = "has transparent pixels; write it onto a background of one color"
    misnamed = "is {format} by its content and not by its name; name it {endings}, or write it again"
    return [
        ("file_name_printable", among("printable", True), "the name cannot be printed; rename the file"),
        ("image_not_empty", within("bytes", min_value=1), "the file is empty (0 bytes); copy it again"),
        ("image_readable", gxe.ExpectColumnValuesToBeNull(column="error"), "{error}"),
        ("image_not_too_large", within("pixels", max_value=most), f"{size} {large}"),
        ("image_not_too_small", within("side", min_value=least), f"{size}, each side must have {least}; copy it again"),
        ("image_not_animated", among("animated", False), "has several frames; write one to a file of its own"),
        ("image_mode", among("mode", *MODES), "is in color mode {mode}; write it as RGB or gray"),
        ("image_eight_bits", within("bits", max_value=8), "has {bits:.0f} bits a channel; scale it to 8"),
        ("image_opaque", among("opaque", True), transparent),
        ("file_ending", known_suffix, misnamed),
    ]


def _classes(images: pd.DataFrame, subjects: pd.Series | None, task: Task) -> pd.DataFrame:
    """Return for each class its images and its groups: subjects, and images of none; missing without ``subjects``."""
    labels = list(task.data.classes)
    frame = pd.DataFrame({"file": [f"{IMAGES_FOLDER}/{label}" for label in labels]})
    frame["images"] = images["label"].value_counts().reindex(labels, fill_value=0).to_numpy()
    frame["groups"] = frame["images"].astype(float)
    if task.split.mode == "subject_blind":
        if subjects is None:
            return frame.assign(groups=np.nan)
        group = images["sample_id"].map(subjects).fillna(images["sample_id"])
        frame["groups"] = group.groupby(images["label"]).nunique().reindex(labels).to_numpy(dtype=float)
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
