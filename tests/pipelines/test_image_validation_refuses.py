"""Faulty images must not get past `pipelines.validate`, and the user must be told which file it is."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile

from pipelines.errors import ROWS_SHOWN
from pipelines.modalities.images import ImagesTask
from pipelines.params import read_params
from pipelines.samples.images import read_images
from pipelines.validate import Validation, main, validate_folder
from tests.empty_store import empty_store
from tests.pipelines.image_folder import CLASSES, SIDE, SUBJECTS, picture, write_image_folder

ROOT = Path(__file__).parents[2]
REAL_DATA = ROOT.parent / "shared" / "data"
NAME = "leukemia_cell"
BAD = "images/all/cell_03.png"  # the file that most damages hit
TABLE = "images.csv"

Damage = Callable[[Path], Any]


@pytest.fixture(scope="session")
def task() -> ImagesTask:
    task = read_params(ROOT / "params.yaml").task(NAME)
    assert isinstance(task, ImagesTask)
    return task


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("clean") / NAME)


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clean, tmp_path / "data" / NAME)


def found(validation: Validation) -> set[tuple[str, str]]:
    return {(finding.expectation, finding.file) for finding in validation.findings}


def renamed(folder: Path, new: str) -> Path:
    """Give the file another name, in the table too; return its path."""
    path = (folder / BAD).rename((folder / BAD).with_name(new))
    content = (folder / TABLE).read_text()
    (folder / TABLE).write_text(content.replace("all/cell_03.png", f"all/{new}"))
    return path


def saved(image: Image.Image, suffix: str = ".png", **options: Any) -> Damage:
    """Return a damage that writes ``image`` in the place of the file, in the format of ``suffix``."""

    def damage(folder: Path) -> None:
        path = folder / BAD if suffix == ".png" else renamed(folder, f"cell_03{suffix}")
        image.save(path, **options)

    return damage


def cut(keep: float, suffix: str = ".png") -> Damage:
    """Return a damage that keeps the first share of a file's bytes."""

    def damage(folder: Path) -> None:
        path = folder / BAD if suffix == ".png" else renamed(folder, f"cell_03{suffix}")
        picture(9).save(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return damage


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """Return a PNG file; Pillow writes no 16-bit color and no sizes that are not there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def written(content: bytes) -> Damage:
    return lambda folder: (folder / BAD).write_bytes(content)


def transparent() -> Image.Image:
    image = picture(9).convert("RGBA")
    image.putpixel((3, 3), (10, 20, 30, 0))
    return image


DEEP_COLOR = png(SIDE, SIDE, 16, 2, b"".join(b"\0" + os.urandom(6 * SIDE) for _ in range(SIDE)))
BOMB = png(50_000, 50_000, 8, 0, b"\0" * 1000)
FRAMES = [picture(20), picture(21)]
RNG = np.random.default_rng(3)


@dataclass(frozen=True)
class Fault:
    """A damage, the one finding that must name the file, and what it must say."""

    id: str
    damage: Damage
    expectation: str
    says: str
    file: str = BAD


def bad(suffix: str) -> str:
    return BAD.replace(".png", suffix)


FAULTS = [
    Fault("zero bytes", written(b""), "image_not_empty", "0 bytes"),
    Fault("no image", written(b"file,label\n"), "image_readable", "is no image"),
    Fault("random bytes", written(b"\x89PNG\r\n\x1a\n" + bytes(range(256))), "image_readable", "move it away"),
    Fault("truncated png", cut(0.6), "image_readable", "cannot be decoded"),
    Fault("truncated jpeg", cut(0.6, ".jpg"), "image_readable", "cannot be decoded", bad(".jpg")),
    Fault("truncated header", cut(0.01), "image_readable", "copy it again"),
    Fault("truncated bmp", cut(0.99, ".bmp"), "image_readable", "cannot be decoded", bad(".bmp")),
    Fault("postscript", written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "image_readable", "is no image"),
    Fault("1 x 1", saved(picture(9).resize((1, 1))), "image_not_too_small", "1 x 1 pixels"),
    Fault("one side too small", saved(picture(9).resize((SIDE, 15))), "image_not_too_small", "24 x 15 pixels"),
    Fault("bomb", written(BOMB), "image_not_too_large", "50000 x 50000 pixels are more than 50000000"),
    Fault("animated gif", saved(FRAMES[0].convert("P"), ".gif", save_all=True, append_images=FRAMES[1:]),
          "image_not_animated", "several frames", bad(".gif")),
    Fault("animated png", saved(FRAMES[0], save_all=True, append_images=FRAMES[1:]), "image_not_animated", "frames"),
    Fault("animated webp", saved(FRAMES[0], ".webp", save_all=True, append_images=FRAMES[1:]),
          "image_not_animated", "several frames", bad(".webp")),
    Fault("tiff of several pages", saved(FRAMES[0], ".tif", save_all=True, append_images=FRAMES[1:]),
          "image_not_animated", "several frames", bad(".tif")),
    Fault("cmyk jpeg", saved(picture(9).convert("CMYK"), ".jpg"), "image_mode", "mode CMYK", bad(".jpg")),
    Fault("cmyk tiff", saved(picture(9).convert("CMYK"), ".tif"), "image_mode", "mode CMYK", bad(".tif")),
    Fault("lab tiff", saved(picture(9).convert("LAB"), ".tiff"), "image_mode", "mode LAB", bad(".tiff")),
    Fault("black and white", saved(picture(9).convert("1")), "image_mode", "mode 1;"),
    Fault("gray with alpha", saved(picture(9).convert("LA")), "image_mode", "mode LA"),
    Fault("16-bit gray", saved(Image.fromarray(RNG.integers(0, 65536, (SIDE, SIDE)).astype(np.uint16))),
          "image_eight_bits", "16 bits"),
    Fault("16-bit color", written(DEEP_COLOR), "image_eight_bits", "16 bits"),
    Fault("float tiff", saved(Image.fromarray(RNG.random((SIDE, SIDE)).astype(np.float32)), ".tif"),
          "image_eight_bits", "32 bits", bad(".tif")),
    Fault("transparent", saved(transparent()), "image_opaque", "transparent"),
    Fault("transparent palette", saved(picture(9).quantize(8), transparency=0), "image_opaque", "transparent"),
    Fault("jpeg named png", saved(picture(9), format="JPEG"), "file_ending", "is JPEG by its content"),
    Fault("no ending", lambda folder: renamed(folder, "cell_03"), "file_ending", "is PNG by", "images/all/cell_03"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_faulty_image_is_refused_by_its_name_and_alone(fault: Fault, folder: Path, task: ImagesTask) -> None:
    fault.damage(folder)
    validation = validate_folder(folder, NAME, task)
    assert not validation.passed
    (finding,) = validation.findings
    assert (finding.expectation, finding.file, finding.severity) == (fault.expectation, fault.file, "error")
    assert fault.says in finding.message
    assert len(str(finding).splitlines()) == 1


SOUND = {
    "gray": saved(picture(9).convert("L")),
    "palette": saved(picture(9).quantize(16)),
    "opaque alpha": saved(picture(9).convert("RGBA")),
    "upper-case ending": lambda folder: renamed(folder, "cell_03.PNG"),
    "one-frame gif": saved(picture(9).convert("P"), ".gif"),
    "tiff": saved(picture(9), ".tiff"),
    "bmp": saved(picture(9), ".bmp"),
    "webp": saved(picture(9), ".webp"),
    "jpeg": saved(picture(9), ".jpeg"),
    "accents and spaces": lambda folder: renamed(folder, "Zelle blaß 3.png"),
    "hidden file": lambda folder: (folder / "images" / "all" / ".DS_Store").write_bytes(b"\0"),
    "hidden folder": lambda folder: (folder / "images" / ".cache").mkdir(),
    "no subjects known": lambda folder: (folder / TABLE).unlink(),
}


@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND.keys())
def test_sound_image_is_not_refused_and_is_read(change: Damage, folder: Path, task: ImagesTask, tmp_path: Path) -> None:
    change(folder)
    assert [str(finding) for finding in validate_folder(folder, NAME, task).findings] == []
    assert len(read_images(folder, task, cache=tmp_path / "cache").samples) == 4 * SUBJECTS


def test_clean_folder_is_counted(folder: Path, task: ImagesTask) -> None:
    validation = validate_folder(folder, NAME, task)
    assert validation.passed
    assert validation.counts == {
        "rows": {"images/all": 12, "images/hem": 12},
        "formats": {"PNG": 24},
        "sides": {"smallest": SIDE, "largest": SIDE},
        "subjects": 12,
        "without_subject": 0,
    }


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the sizes of the images that are decoded from now on."""
    load, sizes = ImageFile.ImageFile.load, []

    def watched(image: Any) -> Any:
        if image.tile:  # nothing is left of it once it is decoded
            sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    return sizes


def test_bomb_is_not_decoded_and_the_limit_of_others_stays(
    folder: Path, task: ImagesTask, decoded: list[tuple[int, int]]
) -> None:
    """Two and a half billion pixels in a file of 100 bytes."""
    (folder / BAD).write_bytes(BOMB)
    limit = Image.MAX_IMAGE_PIXELS
    assert found(validate_folder(folder, NAME, task)) == {("image_not_too_large", BAD)}
    assert decoded == [(SIDE, SIDE)] * (4 * SUBJECTS - 1)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_every_image_is_decoded_once(folder: Path, task: ImagesTask, decoded: list[tuple[int, int]]) -> None:
    transparent().save(folder / BAD)
    validate_folder(folder, NAME, task)
    assert len(decoded) == 4 * SUBJECTS


def test_all_faults_of_a_folder_are_told_at_once(folder: Path, task: ImagesTask) -> None:
    (folder / "images" / "hem" / "cell_05.png").write_bytes(b"")
    picture(9).convert("CMYK").save(folder / BAD, format="TIFF")
    (folder / "images" / "all" / "cell_07.png").write_bytes(BOMB)
    (folder / "images" / "monocyte").mkdir()
    assert found(validate_folder(folder, NAME, task)) == {
        ("image_not_empty", "images/hem/cell_05.png"),
        ("image_mode", BAD),
        ("file_ending", BAD),
        ("image_not_too_large", "images/all/cell_07.png"),
        ("folder_known", "images/monocyte"),
    }


def test_many_faulty_files_are_twenty_findings_and_the_number_of_the_rest(folder: Path, task: ImagesTask) -> None:
    for path in (folder / "images").glob("*/*.png"):
        path.write_bytes(b"")
    findings = validate_folder(folder, NAME, task).findings
    assert len(findings) == ROWS_SHOWN + 1
    assert len({finding.file for finding in findings}) == ROWS_SHOWN + 1
    rest = findings[-1]
    assert (rest.file, rest.count) == ("images", 4)
    assert rest.message.startswith("4 more files") and "images/hem/cell_11.png" in rest.message


# Folders and classes.


def test_missing_folder_is_a_finding_for_each_class(tmp_path: Path, task: ImagesTask) -> None:
    validation = validate_folder(tmp_path / "nowhere", NAME, task)
    assert found(validation) == {("class_has_images", f"images/{label}") for label in CLASSES}
    assert validation.counts["rows"] == {"images/all": 0, "images/hem": 0}


@pytest.mark.parametrize("leave_folder", [True, False], ids=["empty", "missing"])
def test_class_without_images_is_refused(leave_folder: bool, folder: Path, task: ImagesTask) -> None:
    shutil.rmtree(folder / "images" / "hem")
    if leave_folder:
        (folder / "images" / "hem").mkdir()
        (folder / "images" / "hem" / ".gitkeep").touch()
    (folder / TABLE).unlink()
    assert found(validate_folder(folder, NAME, task)) == {("class_has_images", "images/hem")}


def test_files_in_place_of_folders_are_told(folder: Path, task: ImagesTask) -> None:
    shutil.rmtree(folder / "images")
    (folder / "images").write_bytes(b"")
    (folder / TABLE).unlink()
    assert found(validate_folder(folder, NAME, task)) == {("class_has_images", f"images/{one}") for one in CLASSES}


STRAY: dict[str, tuple[Damage, str, str]] = {
    "unknown class": (lambda f: shutil.copytree(f / "images/all", f / "images/blast"), "images/blast", "data.classes"),
    "file beside classes": (lambda f: shutil.copy(f / BAD, f / "images"), "images/cell_03.png", "outside the class"),
    "nested folder": (lambda f: (f / "images/all/more").mkdir(), "images/all/more", "a folder inside a class"),
    "dangling link": (lambda f: (f / "images/all/x.png").symlink_to(f / "nowhere"), "images/all/x.png", "is no file"),
}


@pytest.mark.parametrize(("damage", "file", "says"), STRAY.values(), ids=STRAY.keys())
def test_what_reading_would_leave_out_unseen_is_told(
    damage: Damage, file: str, says: str, folder: Path, task: ImagesTask
) -> None:
    damage(folder)
    validation = validate_folder(folder, NAME, task)
    assert found(validation) == {("folder_known", file)}
    assert says in validation.findings[0].message


def test_class_with_too_few_images_to_split_is_refused(folder: Path, task: ImagesTask) -> None:
    (folder / "images" / "hem" / "cell_11.png").unlink()
    (folder / TABLE).unlink()
    validation = validate_folder(folder, NAME, task)
    assert found(validation) == {("class_large_enough", "images/hem")}
    assert "11 images, 12 are needed" in validation.findings[0].message


def test_class_with_too_few_subjects_to_split_is_refused(folder: Path, task: ImagesTask) -> None:
    table = pd.read_csv(folder / TABLE, dtype=str)
    table["subject_id"] = table["subject_id"].replace("hem-5", "hem-4")
    table.to_csv(folder / TABLE, index=False)
    validation = validate_folder(folder, NAME, task)
    assert found(validation) == {("class_has_groups", "images/hem")}
    assert "5 groups" in validation.findings[0].message and "5 folds need 6" in validation.findings[0].message
    fewer = replace(task, split=replace(task.split, folds=4))
    assert validate_folder(folder, NAME, fewer).passed
    anyhow = replace(task, split=replace(task.split, mode="random"))
    assert validate_folder(folder, NAME, anyhow).passed


def test_images_of_unknown_subjects_are_groups_of_their_own(folder: Path, task: ImagesTask) -> None:
    table = pd.read_csv(folder / TABLE, dtype=str)
    table.loc[table["label"] == "hem", "subject_id"] = None
    table.to_csv(folder / TABLE, index=False)
    validation = validate_folder(folder, NAME, task)
    assert validation.passed
    assert validation.counts["without_subject"] == 12


@pytest.mark.parametrize("name", [b"cell\n99.png", b"cell_\xff.png"], ids=["line break", "not UTF-8"])
def test_names_that_cannot_be_printed_are_told_and_do_not_crash(name: bytes, folder: Path, task: ImagesTask) -> None:
    try:
        shutil.copy(os.fsencode(folder / BAD), os.fsencode(folder / "images" / "all") + b"/" + name)
    except OSError:
        pytest.skip("the file system does not take the name")
    (folder / TABLE).unlink()
    validation = validate_folder(folder, NAME, task)
    (finding,) = validation.findings
    assert finding.expectation == "file_name_printable"
    assert str(finding).isprintable()
    json.dumps(finding.as_dict()).encode()


# images.csv.

TABLES: dict[str, tuple[Callable[[str], str], str | None, tuple[int, ...]]] = {
    "another label": (lambda text: text.replace("all/cell_03.png,all", "all/cell_03.png,hem"), "label", (4,)),
    "no label": (lambda text: text.replace("all/cell_03.png,all", "all/cell_03.png,"), "label", (4,)),
    "no file": (lambda text: text + ",hem,hem-1\n", "file", (25,)),
    "unknown file": (lambda text: text + "hem/cell_99.png,hem,hem-1\n", "file", (25,)),
    "a file twice": (lambda text: text + "hem/cell_11.png,hem,hem-5\n", "file", (25,)),
    "a file not listed": (lambda text: text.replace("hem/cell_11.png,hem,hem-5\n", ""), "file", ()),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "column", "rows"), TABLES.values(), ids=TABLES.keys())
def test_table_that_disagrees_with_the_folders_is_refused(
    edit: Callable[[str], str], column: str, rows: tuple[int, ...], folder: Path, task: ImagesTask
) -> None:
    before = (folder / TABLE).read_text()
    (folder / TABLE).write_text(edit(before))
    assert (folder / TABLE).read_text() != before
    (finding,) = validate_folder(folder, NAME, task).findings
    assert (finding.expectation, finding.file) == ("table_matches_folders", TABLE)
    assert (finding.column, finding.rows) == (column, rows)


@pytest.mark.parametrize(
    ("content", "expectation"),
    [
        (b"", "file_readable"),
        (b"file,label\n", "column_exists"),
        (b"file,label,subject_id\nall/cell_03.png\n", "row_width"),
        (b"file,label,subject_id\n\xff,all,1\n", "file_encoding"),
    ],
    ids=["empty", "no subject column", "short row", "not UTF-8"],
)
def test_table_that_cannot_be_read_is_refused_and_hides_no_image(
    content: bytes, expectation: str, folder: Path, task: ImagesTask
) -> None:
    (folder / TABLE).write_bytes(content)
    (folder / BAD).write_bytes(b"")
    assert found(validate_folder(folder, NAME, task)) == {(expectation, TABLE), ("image_not_empty", BAD)}


def test_table_that_is_a_folder_is_refused(folder: Path, task: ImagesTask) -> None:
    (folder / TABLE).unlink()
    (folder / TABLE).mkdir()
    assert found(validate_folder(folder, NAME, task)) == {("file_exists", TABLE)}


# The command.


@pytest.fixture
def command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path))
    yield lambda: main(["--task", NAME])


def test_command_refuses_faulty_images_with_exit_1(
    command: Callable[[], int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(9).convert("CMYK").save(folder / BAD, format="JPEG")
    assert command() == 1
    told = capsys.readouterr().err
    assert f"refused: {BAD}: is in color mode CMYK" in told
    report = json.loads((folder.parents[1] / "reports" / NAME / "validation.json").read_text())
    assert report["passed"] is False
    assert {(one["expectation"], one["file"]) for one in report["failed"]} == {
        ("image_mode", BAD),
        ("file_ending", BAD),
    }
    shutil.copy(folder / "images" / "all" / "cell_04.png", folder / BAD)
    assert command() == 0
    assert "24 rows" in capsys.readouterr().out


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["blood_cell", NAME])
def test_real_images_pass_in_less_than_a_minute(name: str) -> None:
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not there")
    before = time.monotonic()
    validation = validate_folder(REAL_DATA / name, name, read_params(ROOT / "params.yaml").task(name))
    assert validation.findings == ()
    assert time.monotonic() - before < 60
