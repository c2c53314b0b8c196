"""Images that come out in another order, turned, squeezed or stale are wrong samples that no metric shows."""

import importlib
import io
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines.errors import DataError
from pipelines.modalities.images import ImagesData
from pipelines.params import read_params
from pipelines.samples import images as reader
from pipelines.samples.images import ImageSamples, list_images, read_images, to_pixels
from tests.pipelines.damages import Damage, cell, column, edited
from tests.pipelines.image_samples import CLASSES, SIDE, SUBJECTS, picture, write_image_folder

ROOT = Path(__file__).parents[2]
COUNT = 2 * 2 * SUBJECTS
WHOLE = ImagesData(CLASSES, crop=1.0, size=SIDE)
TASK: Any = replace(read_params(ROOT / "params.yaml").task("leukemia_cell"), data=WHOLE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_image_folder(tmp_path / "raw")


def read(folder: Path, data: ImagesData = WHOLE) -> ImageSamples:
    return cast(ImageSamples, read_images(folder, replace(TASK, data=data), cache=folder.parent / "cache").samples)


def cached(folder: Path) -> list[Path]:
    return sorted(path for path in (folder.parent / "cache").rglob("*") if path.is_file())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that takes an entry for every image that is decoded."""
    monkeypatch.setattr(reader, "to_pixels", counted := Mock(side_effect=reader.to_pixels))
    return cast(list[Any], counted.call_args_list)


def test_every_row_has_the_pixels_label_and_subject_of_its_own_file(folder: Path) -> None:
    # The table of the folder is in another order, and has a column more than it must.
    edited("images.csv", lambda t: t.sample(frac=1, random_state=4).assign(site=t["file"].str[-6:-4]))(folder)
    samples = read(folder)
    assert len(samples) == COUNT
    assert samples.table["sample_id"].tolist() == sorted(samples.table["sample_id"])
    about = samples.table[["sample_id", "label", "target", "subject_id", "site"]]
    for row, (name, label, target, subject, site) in enumerate(about.itertuples(index=False)):
        code, number = CLASSES.index(name.split("/")[0]), int(name[-6:-4])
        np.testing.assert_array_equal(samples.pixels[samples.index[row]], np.asarray(picture(code, number)))
        assert (label, target, subject) == (CLASSES[code], code, f"{CLASSES[code]}-{number // 2}")
        assert int(site) == number


def test_a_subset_keeps_rows_and_pixels_together(folder: Path) -> None:
    samples = read(folder)
    rows = np.array([20, 3, 3, 11])
    for part, kept in (
        (samples.take(rows), rows),
        (samples.take(np.isin(np.arange(COUNT), rows)), np.array([3, 11, 20])),
        (samples.take(rows).take(np.array([1, 3])), np.array([3, 11])),
    ):
        assert part.table["sample_id"].tolist() == samples.table["sample_id"].iloc[kept].tolist()
        assert part.digests == [samples.digests[row] for row in kept]
        np.testing.assert_array_equal(part.target, samples.target[kept])
        np.testing.assert_array_equal(part.pixels[part.index], samples.pixels[samples.index[kept]])


def test_codes_follow_the_order_of_the_classes_and_strange_files_are_left_alone(folder: Path) -> None:
    (folder / "images/all/.DS_Store").write_bytes(b"x")
    (folder / "images/other").mkdir()
    picture(9).save(folder / "images/other/cell.png")
    samples = read(folder, replace(WHOLE, classes=("hem", "all")))
    assert dict(zip(samples.table["label"], samples.table["target"], strict=True)) == {"hem": 0, "all": 1}
    assert (samples.classes, len(samples)) == (("hem", "all"), COUNT)


def test_images_without_a_subject_have_none_and_not_one_of_an_empty_name(folder: Path) -> None:
    column("images.csv", "subject_id", lambda table: table["subject_id"].where(table.index % 2 == 0, ""))(folder)
    subjects = read(folder).table["subject_id"]
    assert subjects.isna().sum() == COUNT // 2 and "" not in set(subjects)
    (folder / "images.csv").unlink()
    kept = read_images(folder, TASK, cache=folder.parent / "cache")
    assert kept.samples.table["subject_id"].isna().all()
    assert kept.counts["without"]["subject"]["kept"] == COUNT
    assert {kept.counts[f"class_{label}"] for label in CLASSES} == {2 * SUBJECTS}


def findings(folder: Path, data: ImagesData = WHOLE) -> list[str]:
    with pytest.raises(DataError) as raised:
        list_images(folder, replace(TASK, data=data))
    return [str(found) for found in raised.value.findings]


LACKS = "file: lacks 1 files: 'all/cell_0{}.png'"
TWICE = edited("images.csv", lambda table: pd.concat([table, table.iloc[[2]]]))
WRONG: list[tuple[Damage, list[str]]] = [
    (cell("images.csv", 5, "file", "all/nowhere.png"), ["file, row 5: there is no such file", LACKS.format(4)]),
    *((cell("images.csv", 5, "label", other), ["label, row 5: is not the folder"]) for other in ("hem", "")),
    (TWICE, [f"file, row {COUNT + 1}: duplicate file"]),
    (cell("images.csv", 1, "file", ""), ["file, row 1: names no file", LACKS.format(0)]),
]


@pytest.mark.parametrize(("damage", "says"), WRONG)
def test_a_table_unlike_the_folders_is_refused_by_row(damage: Damage, says: list[str], folder: Path) -> None:
    damage(folder)
    for message, words in zip(findings(folder), says, strict=True):
        assert re.match(f"images.csv, column {words}", message), message


def test_every_class_without_images_is_named(folder: Path) -> None:
    for file in (folder / "images/hem").iterdir():
        file.unlink()
    (folder / "images.csv").unlink()
    found = findings(folder, replace(WHOLE, classes=("all", "hem", "apl")))
    assert [each.split(":")[0] for each in found] == ["images/hem", "images/apl"]


def test_an_image_that_cannot_be_decoded_is_named_and_leaves_no_cache(folder: Path) -> None:
    names = ["images/all/cell_03.png", "images/hem/cell_01.png"]
    for name, content in zip(names, (b"no image", (folder / names[0]).read_bytes()[:400]), strict=True):
        (folder / name).write_bytes(content)
    with pytest.raises(DataError) as raised:
        read(folder)
    assert [found.file for found in raised.value.findings] == names
    assert not cached(folder)


def test_images_are_decoded_once_whatever_name_or_date_they_get(folder: Path, decoded: list[Any]) -> None:
    first = read(folder)
    os.utime(folder / "images/all/cell_00.png")
    (folder / "images.csv").unlink()
    second = read(folder.rename(folder.with_name("moved")))
    assert (len(decoded), len(cached(folder))) == (COUNT, 1)
    for samples in (first, second):
        assert isinstance(samples.pixels, np.memmap)
        assert (samples.pixels.dtype, samples.pixels.shape) == (np.uint8, (COUNT, SIDE, SIDE, 3))
        assert not samples.pixels.flags.writeable  # a cache that a fit can write into is no cache
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_a_replaced_image_another_crop_and_another_size_are_decoded_anew(folder: Path) -> None:
    small = replace(WHOLE, size=20)
    first = read(folder, small)
    picture(7, 7).save(folder / "images/all/cell_04.png")
    after = read(folder, small).pixels
    assert np.flatnonzero((first.pixels != after).any(axis=(1, 2, 3))).tolist() == [4]
    np.testing.assert_array_equal(after[4], to_pixels(picture(7, 7), small))
    for data in (WHOLE, replace(WHOLE, crop=0.5), replace(WHOLE, crop=0.999)):
        assert read(folder, data).made != first.made  # so that no feature of the one is taken for the other's
    assert len(cached(folder)) == 5


def test_a_cache_file_cut_short_is_made_anew(folder: Path, decoded: list[Any]) -> None:
    expected = np.array(read(folder).pixels)
    (path,) = cached(folder)
    whole = path.read_bytes()
    for number, kept in enumerate((0, 60, 5000), start=2):  # nothing, the header alone, too few pixels
        path.write_bytes(whole[:kept])
        np.testing.assert_array_equal(read(folder).pixels, expected)
        assert len(decoded) == number * COUNT


def test_pixels_are_on_the_disk_before_their_file_has_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut would leave zeros in it otherwise, which nothing tells from pixels."""
    on_disk: list[bytes] = []

    def fsync(handle: int) -> None:
        assert all(path.name.startswith(".") for path in cached(folder))
        on_disk.append(os.pread(handle, 10**6, 0))

    monkeypatch.setattr(os, "fsync", fsync)
    read(folder)
    assert [path.read_bytes() for path in cached(folder)] == on_disk


def gradient(width: int, height: int) -> np.ndarray:
    """Return an image whose red tells the column and whose green tells the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return pixels


def test_the_central_square_is_kept_and_the_middle_of_it_by_a_crop() -> None:
    for width, height in ((60, 40), (40, 60), (41, 40)):
        seen = to_pixels(Image.fromarray(gradient(width, height)), ImagesData(CLASSES, crop=1.0, size=40))
        left, top = (width - 40) // 2, (height - 40) // 2
        np.testing.assert_array_equal(seen, gradient(width, height)[top : top + 40, left : left + 40])
    for crop in (0.75, 0.1):
        side = round(40 * crop)
        seen = to_pixels(Image.fromarray(gradient(60, 40)), ImagesData(CLASSES, crop=crop, size=side))
        assert seen.shape == (side, side, 3)
        assert abs(seen[..., 0].mean() - 29.5) <= 0.5 and abs(seen[..., 1].mean() - 19.5) <= 0.5
        assert np.ptp(seen[..., 0].astype(int)) == np.ptp(seen[..., 1].astype(int)) == side - 1


def opened(path: Path, data: ImagesData = WHOLE) -> np.ndarray:
    with Image.open(path) as image:
        return to_pixels(image, data)


def test_a_camera_that_was_turned_and_every_mode_give_the_same_picture_of_three_channels(tmp_path: Path) -> None:
    upright, exif, half = Image.fromarray(gradient(60, 40)), Image.Exif(), ImagesData(CLASSES, crop=0.5, size=20)
    for orientation, undo in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        exif[0x0112] = orientation
        upright.transpose(undo).save(tmp_path / "cell.png", exif=exif)
        np.testing.assert_array_equal(opened(tmp_path / "cell.png", half), to_pixels(upright, half))
    gray = np.repeat(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 1)), 3, axis=2).astype(np.uint8)
    for mode in ("RGB", "RGBA", "L", "LA", "P"):
        Image.fromarray(gray).convert("L").convert(mode).save(tmp_path / f"{mode}.png")
        seen = opened(tmp_path / f"{mode}.png")
        assert seen.dtype == np.uint8
        np.testing.assert_array_equal(seen, gray, err_msg=mode)
    flat = np.zeros((SIDE, SIDE, 3), np.uint8)  # colors of a palette are colors, and not their numbers
    flat[:, : SIDE // 2], flat[:, SIDE // 2 :] = (200, 30, 90), (10, 220, 40)
    Image.fromarray(flat).quantize(4).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(opened(tmp_path / "palette.png"), flat)


def encoded(form: str = "JPEG", mode: str = "RGB", side: int = SIDE, **how: Any) -> bytes:
    file = io.BytesIO()
    picture(5).resize((side, side + 3)).convert(mode).save(file, form, **how)
    return file.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6
JPEG = encoded()
BY_TORCHVISION = {
    **{f"subsampling {code}": encoded(subsampling=code) for code in range(3)},
    "progressive": encoded(progressive=True),
    "colors untransformed": encoded(keep_rgb=True),
    "restarts": encoded(restart_marker_blocks=1),
    "turned": encoded(exif=TURNED),
    "damaged": JPEG.replace(JPEG[-300:-280], bytes(20)),
    "more appended": JPEG + b"preview",
}
BY_PILLOW = {
    **{mode: encoded(mode=mode) for mode in ("L", "CMYK")},
    **{form: encoded(form) for form in ("PNG", "BMP", "TIFF", "WEBP")},
    "16 bits": encoded("PNG", "I;16"),
    "resized": encoded(side=SIDE + 1),
    "cut short": JPEG[:-2],
    "cut in its header": JPEG[:400] + JPEG[-2:],
    "no header": JPEG[:2] + JPEG[40:],
    "no image": b"no image",
}


@pytest.mark.parametrize("name", [*BY_TORCHVISION, *BY_PILLOW])
def test_torchvision_decodes_as_pillow_does_or_leaves_it_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path := tmp_path / "cell").write_bytes((BY_TORCHVISION | BY_PILLOW)[name])
    by_torchvision: list[Any] = []

    def decode_jpeg(content: Any) -> Any:
        by_torchvision.append(pixels := torchvision_io.decode_jpeg(content))
        return pixels

    def seen() -> Any:
        try:
            return opened(path).tolist()
        except Exception as error:
            return repr(error)

    torchvision_io = importlib.import_module("torchvision.io")
    monkeypatch.setitem(sys.modules, "torchvision.io", SimpleNamespace(decode_jpeg=decode_jpeg))
    found = seen()
    assert len(by_torchvision) == (name in BY_TORCHVISION)
    monkeypatch.delitem(sys.modules, "torchvision")
    assert found == seen()
    assert len(by_torchvision) == (name in BY_TORCHVISION)
