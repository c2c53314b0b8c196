"""What the loaders share: a folder written whole; images as a source lists them, and their raw folder ``images``."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipelines.errors import UserError
from pipelines.samples.images import IMAGES_FOLDER, IMAGES_TABLE
from pipelines.text_values import folded, quoted

_NAMED = re.compile(r"(?P<code>[A-Za-z]+)_[0-9]+\.jpe?g", re.IGNORECASE)  # BA_100102.jpg: code of the cell type, number
_COPY = re.compile(
    r"(?:copy (?:\([0-9]+\) )?of )?(?P<stem>.+?)(?: - copy(?: \([0-9]+\))?| copy(?: [0-9]+)?| ?\([0-9]+\))?"
    r"(?P<ending>\.[a-z]+)",
    re.IGNORECASE,
)  # as Windows, macOS and browsers name copies
_LEFT_BEHIND = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
"""What systems leave in folders, besides hidden files; in small letters."""


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


@dataclass(frozen=True)
class SourceImages:
    """The images of a source, and what was passed over or read under another name."""

    images: list[SourceImage]
    notes: tuple[str, ...] = ()


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
        raise UserError(f"{quoted(sorted(doubled))}: two images have this name; name them apart")
    return files


def class_folders(folder: Path, classes: Collection[str], layout: str) -> SourceImages:
    """Return the images of a layout with a folder a class and files such as ``BA_100102.jpg``.

    Images in folders inside a class are of the class. Copies that a file manager made, ``BA_1 (1).jpg`` beside
    ``BA_1.jpg`` with the same bytes, are passed over.

    Raises
    ------
    UserError
        The folders are not those of the layout, one is empty, or a file's name is not of the layout.
    """
    notes: list[str] = []
    root, folders = find_folder(folder, classes, layout, notes)
    unknown = [path.name for path in entries(root) if path.is_dir() and path not in folders.values()]
    if unknown:
        raise UserError(
            f"{root}: {quoted(unknown)} is no class of {layout}, whose folders are "
            f"{', '.join(classes)}; move it elsewhere"
        )
    images, copies, wrong = [], [], []
    for label in classes:
        files = list(_files_in(folders[label], notes))
        held = {path.name.casefold(): path for path in files}
        for path in files:
            if _NAMED.fullmatch(path.name):
                images.append(SourceImage(path, path.name, label))
            elif is_copy(path, held):
                copies.append(f"{label}/{path.name}")
            else:
                wrong.append(f"{label}/{path.name}")
    if wrong:
        message = "is not named as in {layout}, such as BA_100102.jpg; name it so, or move it elsewhere"
        raise UserError(f"{root}: {quoted(wrong)} {message.format(layout=layout)}")
    if empty := sorted(set(classes) - {image.label for image in images}):
        raise UserError(f"{root}: {quoted(empty)} is empty; unpack the archive again")
    notes += passed_over(copies)
    return SourceImages(images, (*notes, *_strangers(images)))


def passed_over(copies: Sequence[str]) -> list[str]:
    """Return a note on files that were passed over as `is_copy` tells; none if there are none."""
    return [f"passed over {len(copies)} copies of images that lie beside them: {quoted(copies)}"] if copies else []


def _files_in(folder: Path, notes: list[str]) -> Iterator[Path]:
    for path in entries(folder):
        if path.is_dir():
            notes.append(f"images in the folder {str(path)!r} are read as of the class around it")
            yield from _files_in(path, notes)
        else:
            yield path


def is_copy(path: Path, held: Mapping[str, Path]) -> bool:
    """Return whether a file is named as a copy of another one in its folder, by name in small letters, of its bytes."""
    found = _COPY.fullmatch(path.name)
    origin = held.get(f"{found['stem']}{found['ending']}".casefold()) if found else None
    return origin is not None and origin != path and origin.read_bytes() == path.read_bytes()


def _strangers(images: list[SourceImage]) -> list[str]:
    """Return a warning on images whose name begins as those of another class do."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    codes = {image: _NAMED.sub(r"\g<code>", image.name).upper() for image in images}
    for image, code in codes.items():
        counts[code][image.label] += 1
    odd = [f"{image.label}/{image.name}" for image, code in codes.items()
           if 10 * counts[code][image.label] <= counts[code].most_common(1)[0][1]]  # fmt: skip
    return (
        [f"warning: {len(odd)} images are named as those of another class: {quoted(odd)}; look at them"] if odd else []
    )


def find_folder(
    folder: Path, inside: Collection[str], layout: str, notes: list[str] | None = None
) -> tuple[Path, dict[str, Path]]:
    """Return the one folder, from ``folder`` on down, that holds a folder for each name in ``inside``, and those.

    Archives are unpacked into folders of their own, often twice over. A folder's name may differ in case, in blanks and
    underscores, and by an s at the end; ``notes`` takes which do.

    Raises
    ------
    UserError
        There is none or several, or two folders in it have one name.
    """
    refuse_no_folder(folder)
    best: tuple[int, Path, list[str]] = (0, folder, [])
    root: Path | None = None
    chosen: dict[str, Path] = {}
    for where, held, _ in os.walk(folder):
        held[:] = sorted(name for name in held if _is_content(name))
        found = {name: [path for path in held if path == name or _alike(path) == _alike(name)] for name in inside}
        if root is None and (doubled := [paths for paths in found.values() if len(paths) > 1]):
            raise UserError(
                f"{where}: {' and '.join(map(repr, doubled[0]))} may be one class; put them into one folder"
            )
        if all(found.values()):
            held.clear()  # what lies inside is of this folder
            if root is not None:
                raise UserError(
                    f"{folder}: {str(root)!r} and {where!r} are both laid out as {layout}; "
                    "name one of them, or put their images together"
                )
            root = Path(where)
            if notes is not None:
                notes += [f"the folder {path!r} is read as {name!r}" for name, (path,) in found.items() if path != name]
            chosen = {name: root / path for name, (path,) in found.items()}
        there = [name for name, paths in found.items() if paths]
        if len(there) > best[0]:
            best = (len(there), Path(where), sorted(set(held) - {path for paths in found.values() for path in paths}))
    if root is not None:
        return root, chosen
    count, root, other = best
    if not count:
        packed = [
            path.name for path in entries(folder) if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".rar")
        ]
        todo = f"; unpack {quoted(packed)}" if packed else ""
        message = f"no folder in it holds {', '.join(sorted(inside))}{todo}"
    else:
        here = {_alike(path.name) for path in entries(root)}
        lacking = [name for name in inside if _alike(name) not in here]
        message = f"{str(root)!r} lacks {quoted(lacking)}"
        message += f"; is it {quoted(other)} there? name it so" if other else "; unpack the archive again"
    raise UserError(f"{folder}: is not laid out as {layout}; {message}")


def _alike(name: str) -> str:
    return re.sub(r"[\s._-]+", "_", folded(name)).removesuffix("s")


def _is_content(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _LEFT_BEHIND


def refuse_no_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises
    ------
    UserError
        It is a file, such as an archive, or is not there.
    """
    if folder.is_file():
        raise UserError(f"{folder}: is a file; unpack it, if it is an archive, and name the folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")


def entries(folder: Path) -> list[Path]:
    """Return what stands in a folder, in order, without hidden files and what systems leave there."""
    return sorted(path for path in folder.iterdir() if _is_content(path.name))


def visible(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files below a folder that a pattern matches, in any case, without those that `entries` leaves out."""
    wanted = [re.compile(fnmatch.translate(pattern), re.IGNORECASE) for pattern in patterns]
    return sorted(
        path
        for path in folder.rglob("*")
        if any(each.match(path.name) for each in wanted)
        and all(map(_is_content, path.relative_to(folder).parts))
        and path.is_file()
    )
