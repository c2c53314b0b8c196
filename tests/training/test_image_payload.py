"""Requests that are no images of cells must end in a clear refusal, never in a wrong answer or a 500."""

import base64
import io
import math
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pipelines.datasets import Prepared
from pipelines.samples.images import to_pixels
from tests.pipelines.image_samples import png
from tests.training.image_samples import TREES, draw, encoded, image_contract, image_task, in_memory, labeled
from training.architectures import get_architecture
from training.contract import PayloadError
from training.features.isolated_cells import isolated
from training.modalities.images import MAX_BYTES, NO_CELL, overlay

SIZE = 48


@pytest.fixture(scope="module")
def contract() -> Any:
    return image_contract(image_task(SIZE))


def _picture(side: int = SIZE) -> Image.Image:
    return Image.fromarray(draw(2, 7, side))


def _refusal(value: Any, contract: Any) -> str:
    """Return why a request is refused whose second of three rows holds ``value``."""
    good = encoded(_picture())
    with pytest.raises(PayloadError) as caught:
        _read(contract, good, value, good)
    message = str(caught.value)
    assert message.startswith("row 1, field image: ") and "\n" not in message
    assert len(message) < 250, "the payload is given back"
    return message


def _read(contract: Any, *images: Any) -> np.ndarray:
    return contract.read(pd.DataFrame({"image": pd.Series(images, dtype=object)})).pixels


def test_an_image_without_a_cell_says_so_where_the_model_sees_the_cell_alone(contract: Any) -> None:
    blank = np.full((SIZE, SIZE, 3), 210, np.uint8)
    samples = labeled(np.stack([draw(0, 7, SIZE), blank]), np.array([0, 0]))
    notes = replace(contract, isolates=True).remarks(samples)
    assert notes.column().tolist() == [None, NO_CELL] and not notes.withdrawn.any()
    assert contract.remarks(samples).column().tolist() == [None, None]
    assert NO_CELL == "no cell found: the whole image was used"


@pytest.mark.parametrize("name", ["efficientnet_lite0", *TREES])
def test_a_model_that_isolates_shows_the_outline_and_what_it_sees(name: str, contract: Any) -> None:
    train = in_memory(18, SIZE)
    prepared = Prepared(train, pd.DataFrame(), "", {})
    architecture, small = get_architecture(name, "images", "classification"), {"weights": "none", "epochs": 0}
    for isolation in ("none", "cell"):
        point = {**architecture.defaults, "isolation": isolation}
        model = architecture.build(point, **small, rounds=2, trees=2, device="cpu").fit(train)
        kind = type(contract)
        assert kind.taken(name, image_task(SIZE), prepared, model) == {"isolates": isolation == "cell"}
        found = contract.explain(model, train)
        expected = {"outline", "seen"} if isolation == "cell" else set()
        assert set(found) - {"overlay"} == expected and ("overlay" in found) == (name not in TREES)
    pixels = contract.read(pd.DataFrame({"image": found["seen"]})).pixels
    np.testing.assert_array_equal(pixels, isolated(train, "cell").pixels)
    drawn = contract.read(pd.DataFrame({"image": found["outline"]})).pixels
    assert ((drawn != train.pixels).any(axis=3).mean(axis=(1, 2)) < 0.2).all() and (drawn != train.pixels).any()


# What is refused


def test_what_is_not_base64_text_is_refused(contract: Any) -> None:
    for value, reason in (
        *((None, "it is null"), (math.nan, "it is null"), (True, "it is bool"), (["a"], "it is list")),
        *((b"", "it is bytes"), ("  \n", "it is empty"), ("äöü", "not base64")),
        *((text, "not base64") for text in ("not base64!", "abc", "data:image/png;base64,???")),
    ):
        assert reason in _refusal(value, contract)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


PNG = base64.b64decode(encoded(_picture()))


def test_bytes_that_are_no_image_are_refused(contract: Any) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='48' height='48'/>"
    half_a_jpeg = base64.b64decode(encoded(_picture(), "JPEG"))[:600]
    for content in (bytes(range(256)) * 4, svg, PNG[:40], PNG[:-200], half_a_jpeg):
        assert "not an image that can be decoded" in _refusal(_base64(content), contract)


def test_no_program_is_run_to_read_an_image(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments, **options: run.append(arguments))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\nshowpage\n%%EOF\n"
    assert "not an image that can be decoded" in _refusal(_base64(content), contract)
    assert not run


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 10_000), text=st.text(max_size=40))
def test_no_damage_is_anything_but_a_refusal(contract: Any, where: int, byte: int, cut: int, text: str) -> None:
    content = bytearray(PNG)
    content[where % len(content)] = byte
    for value in (_base64(bytes(content[: cut % len(content)])), _base64(bytes(content)), text):
        try:
            assert _read(contract, value).shape == (1, SIZE, SIZE, 3)
        except PayloadError as error:
            assert str(error).startswith("row 0, field image: ")


def test_a_huge_file_is_refused_before_it_is_decoded(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = "A" * (MAX_BYTES * 4 // 3 + 8)
    monkeypatch.setattr(base64, "b64decode", lambda *arguments, **options: pytest.fail("decoded"))
    with pytest.raises(PayloadError, match="row 0, field image: larger than 20 MB"):
        _read(contract, huge)


@pytest.mark.parametrize("sides", [(30_000, 30_000), (9_000, 9_000), (2_000_000_000, 1), (16, 60_000_000)])
def test_decompression_bombs_are_refused_by_header(contract: Any, sides: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "convert", lambda *arguments, **options: pytest.fail("decoded"))
    with pytest.raises(PayloadError, match=r"row 0, field image: .*(pixels are more than 50000000|exceeds limit)"):
        _read(contract, _base64(png(sides[0], sides[1], zlib.compress(bytes(1000)))))


def test_images_that_would_be_read_wrongly_are_refused(contract: Any) -> None:
    frames = {"save_all": True, "append_images": [Image.fromarray(draw(code, 1, SIZE)) for code in (0, 1)]}
    colors = [(_picture().convert(mode), kind) for mode, kind in (("CMYK", "JPEG"), ("1", "PNG"), ("LAB", "TIFF"))]
    for dtype, kind in ((np.uint16, "PNG"), (np.float32, "TIFF")):
        colors.append((Image.fromarray(np.zeros((SIZE, SIZE), dtype)), kind))
    for value, reason in (
        *((encoded(Image.new("RGB", each)), "{} x {} pixels".format(*each)) for each in ((1, 1), (1, 400), (400, 15))),
        *((encoded(_picture(), kind, **frames), "has 3 frames") for kind in ("GIF", "TIFF", "PNG")),
        *((encoded(image, kind), "8-bit RGB") for image, kind in colors),
        # Pillow opens it as 8-bit RGB.
        (_base64(png(SIZE, SIZE, zlib.compress(bytes(SIZE * 6 + 1) * SIZE), depth=16)), "16 bits"),
    ):
        assert reason in _refusal(value, contract)


# What is taken


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_files_give_the_image_s_own_pixels(contract: Any, kind: str) -> None:
    gray = Image.fromarray(np.asarray(_picture())[..., 0])  # as many shades as a GIF has
    for wrapped in ("{}", " {}\n", "data:image/png;base64,{}"):
        pixels = _read(contract, wrapped.format(encoded(gray, kind)))
        np.testing.assert_array_equal(pixels[0], np.asarray(gray.convert("RGB")))


def test_a_jpeg_is_read_as_training_reads_it(contract: Any) -> None:
    file = io.BytesIO()
    _picture(100).save(file, "JPEG", quality=90)
    pixels = _read(contract, base64.encodebytes(file.getvalue()).decode())
    with Image.open(file) as image:
        np.testing.assert_array_equal(pixels[0], to_pixels(image, image_task(SIZE).data))


def test_a_photograph_on_its_side_is_turned_upright(contract: Any) -> None:
    image = _picture()
    ImageDraw.Draw(image).rectangle((0, 0, 8, 8), fill="white")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to show it
    np.testing.assert_array_equal(_read(contract, encoded(image, "PNG", exif=exif))[0], np.asarray(image.rotate(-90)))


def test_every_kind_of_eight_bit_color_is_taken(contract: Any) -> None:
    images = [_picture().convert(mode) for mode in ("RGBA", "L", "LA", "P")]
    pixels = _read(contract, *map(encoded, images))
    np.testing.assert_array_equal(pixels, [np.asarray(image.convert("RGB")) for image in images])


@pytest.mark.parametrize(("size", "crop"), [(168, 0.75), (64, 0.8)])
def test_a_request_made_of_samples_asks_for_the_same_pixels(size: int, crop: float) -> None:
    samples, rows = in_memory(3, size), np.array([2, 0])
    contract = image_contract(image_task(size, crop))
    np.testing.assert_array_equal(_read(contract, *contract.request(samples.take(rows))["image"]), samples.pixels[rows])


def test_an_overlay_leaves_alone_what_the_map_leaves_out() -> None:
    pixels, heat = draw(1, 3, 32), np.zeros((32, 32), np.float32)
    np.testing.assert_array_equal(overlay(pixels, heat), pixels)
    heat[:, :16] = 1
    shown = overlay(pixels, heat)
    np.testing.assert_array_equal(shown[:, 16:], pixels[:, 16:])
    assert np.abs(shown[:, :16].astype(int) - pixels[:, :16]).mean() > 10
