"""C-NMC 2019, the ISBI challenge on leukemic blasts (TCIA, doi 10.7937/tcia.2019.dc64i46r, CC BY 3.0).

``fold_0`` to ``fold_2`` hold ``all`` and ``hem`` with files ``UID_<subject>_<image>_<cell>_<label>.bmp``. The images of
the preliminary test phase have numbers for names; a table says which file of the first kind each was.
"""

import re
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import UserError
from pipelines.sources.raw_folder import SourceImage, filled, find_folder, visible
from pipelines.sources.tables import Layout, read_official
from pipelines.text_values import quoted

CLASSES = ("all", "hem")
FOLDS = ("fold_0", "fold_1", "fold_2")
TEST = "C-NMC_test_prelim_phase_data"
TEST_LABELS = f"{TEST}_labels.csv"
NAME = "C-NMC 2019"
PATTERN = "UID_<subject>_<image>_<cell>_<label>.bmp"
_TEST = Layout(
    "table of the preliminary test phase",
    {"uid": ("Patient_ID",), "file": ("new_names",), "code": ("labels",)},
    needed=("uid", "file", "code"),
    only=True,
)
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
    """Return what a file's name says; a `UserError` if it is not ``UID_<subject>_<image>_<cell>_<label>.bmp``.

    Normal subjects are written with an H: 3 and H3 are two people, and h3, H3 and H03 are one.
    """
    found = _UID.fullmatch(name)
    if found is None:
        raise UserError(f"{name}: is not named {PATTERN}, as in {NAME}; move it elsewhere")
    subject = re.sub(r"^(H?)0+(?=[0-9])", r"\1", found["subject"].upper())
    return Uid(subject, int(found["image"]), int(found["cell"]), found["label"].lower())


def read(folder: Path, *, test: bool = False) -> list[SourceImage]:
    """Return the training images below ``folder``; ``test`` adds those of the preliminary test phase."""
    root = find_folder(folder, FOLDS, NAME)
    images = []
    for fold, classes in [(fold, find_folder(root / fold, CLASSES, NAME)) for fold in FOLDS]:
        for label, path in [(name, path) for name in CLASSES for path in filled(classes / name)]:
            uid = parse(path.name)
            if uid.label != label:
                raise UserError(f"{path}: says {uid.label} and is in {label}; copy the fold again")
            images.append(SourceImage(path, path.name, label, uid.subject, fold))
    return images + (_test_images(folder) if test else [])


def _test_images(folder: Path) -> list[SourceImage]:
    tables = visible(folder, TEST_LABELS)
    if not tables:
        todo = "unpack the preliminary test phase there, or leave out --test"
        raise UserError(f"{folder}: holds no {TEST_LABELS}; {todo}")
    table = read_official(tables[0], _TEST)
    table.require("uid", "file", "code")
    named = [name.casefold() for name in table.frame["file"]]
    if len(set(named)) < len(named):
        raise UserError(f"{TEST_LABELS}: names an image twice; download it again")
    files = {path.name.casefold(): path for path in visible(folder, "*.bmp") if path.parent.name == TEST}
    if differing := sorted(set(files) ^ set(named)):
        raise UserError(f"{quoted(differing)}: is in one of {TEST_LABELS} and {TEST} alone; unpack both again")
    images = []
    for uid_name, code, name in zip(table.frame["uid"], table.frame["code"], named, strict=True):
        uid = parse(uid_name)
        if _CODES.get(code) != uid.label:
            raise UserError(f"{TEST_LABELS}: {uid_name} has label {code}; it must be 1 for all and 0 for hem")
        images.append(SourceImage(files[name], uid_name, uid.label, uid.subject, "test"))
    return images
