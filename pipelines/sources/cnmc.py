"""C-NMC 2019, the ISBI challenge on leukemic blasts (TCIA, doi 10.7937/tcia.2019.dc64i46r, CC BY 3.0).

``fold_0`` to ``fold_2`` hold ``all`` and ``hem`` with files ``UID_<subject>_<image>_<cell>_<label>.bmp``. The images of
the preliminary test phase have numbers for names; a table says which file of the first kind each was.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.raw_folder import SourceImage, SourceImages, entries, find_folder, visible
from pipelines.sources.tables import annotation_rows
from pipelines.text_values import quoted

CLASSES = ("all", "hem")
FOLDS = ("fold_0", "fold_1", "fold_2")
TEST = "C-NMC_test_prelim_phase_data"
TEST_LABELS = f"{TEST}_labels.csv"
NAME = "C-NMC 2019"
_UID = re.compile(
    r"UID_(?P<subject>[Hh]?[0-9]+)_(?P<image>[0-9]+)_(?P<cell>[0-9]+)_(?P<label>all|hem)\.bmp", re.I | re.A
)
_CODES = {"1": "all", "1.0": "all", "0": "hem", "0.0": "hem"}


class Uid(NamedTuple):
    """What a file's name says."""

    subject: str
    image: int
    cell: int
    label: str


def parse(name: str) -> Uid:
    """Return what a file's name says.

    Normal subjects are written with an H, one of them also ``h3``: 3 and H3 are two people, h3 and H3 are one. The set
    writes no zeros before the number; H03 is H3 where somebody did.

    Raises
    ------
    UserError
        The name is not ``UID_<subject>_<image>_<cell>_<label>.bmp``, in whatever case.
    """
    found = _UID.fullmatch(name)
    if found is None:
        raise UserError(
            f"{name}: is not named UID_<subject>_<image>_<cell>_<label>.bmp, as in {NAME}; move it elsewhere"
        )
    return Uid(
        re.sub(r"^(H?)0+(?=[0-9])", r"\1", found["subject"].upper()),
        int(found["image"]),
        int(found["cell"]),
        found["label"].lower(),
    )


def read(folder: Path, *, test: bool = False) -> SourceImages:
    """Return the training images below ``folder``; ``test`` adds those of the preliminary test phase.

    Raises
    ------
    UserError
        The folders are not those of the layout, a name does not parse, or names, folders and table disagree.
    """
    root = find_folder(folder, FOLDS, NAME)
    images = [image for fold in FOLDS for image in _fold(root / fold)]
    return SourceImages(images + (_test_images(folder) if test else []))


def _fold(fold: Path) -> list[SourceImage]:
    root = find_folder(fold, CLASSES, NAME)
    images = []
    for label in CLASSES:
        files = entries(root / label)
        if not files:
            raise UserError(f"{root / label}: is empty; unpack the archive again")
        for path in files:
            uid = parse(path.name)
            if uid.label != label:
                raise UserError(f"{path}: says {uid.label} and is in {label}; copy the fold again")
            images.append(SourceImage(path, path.name, label, uid.subject, fold.name))
    return images


def _test_images(folder: Path) -> list[SourceImage]:
    tables = visible(folder, [TEST_LABELS])
    if not tables:
        raise UserError(
            f"{folder}: holds no {TEST_LABELS}; unpack the preliminary test phase there, or leave out --test"
        )
    table = [cells for _, cells in annotation_rows(tables[0], lambda header: ("Patient_ID", "new_names", "labels"))]
    if rows := [row for row, cells in enumerate(table) if not all(cells)]:
        message = "lacks a Patient_ID, a name or a label; download it again"
        raise DataError([Finding.at_rows("key_filled", TEST_LABELS, None, rows, message)])
    files = {path.name.casefold(): path for path in visible(folder, ["*.bmp"]) if path.parent.name == TEST}
    named = [name.casefold() for _, name, _ in table]
    if len(set(named)) < len(named):
        raise UserError(f"{TEST_LABELS}: names an image twice; download it again")
    if differing := sorted(set(files) ^ set(named)):
        raise UserError(f"{quoted(differing)}: is in one of {TEST_LABELS} and {TEST} alone; unpack both again")
    images = []
    for (uid_name, _, code), name in zip(table, named, strict=True):
        uid = parse(uid_name)
        if _CODES.get(code) != uid.label:
            raise UserError(f"{TEST_LABELS}: {uid_name} has label {code}; it must be 1 for all and 0 for hem")
        images.append(SourceImage(files[name], uid_name, uid.label, uid.subject, "test"))
    return images
