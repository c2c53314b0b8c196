"""What would make the endpoint answer nonsense, or a 500: requests that are no images of cells."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from PIL import Image, ImageDraw

from pipelines.samples.images import ImageSamples, to_pixels
from tests.training.contract_builders import image_contract
from tests.training.image_samples import CLASSES, TASK, draw, encoded, image_task, in_memory
from training.architectures import get_architecture
from training.contract import PayloadError
from training.modalities.images import MAX_BYTES, MAX_ROWS, read_image_payload
from training.model.overlay import as_png, overlay
from training.model.predictor import Predictor
from training.model.track import save_model, signature

SIZE = 48


@pytest.fixture(scope="module")
def contract() -> Any:
    return image_contract(TASK, "efficientnet_lite0", image_task(SIZE), in_memory(3, SIZE), 1.0, 0.2)


@pytest.fixture(scope="module")
def predictor(contract: Any, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("model")
    train = in_memory(12, SIZE)
    settings = {"epochs": 8, "views": 2, "device": "cpu", "weights": "imagenet"}
    network = get_architecture("efficientnet_lite0", "images", "classification").build({}, **settings).fit(train)
    save_model(
        network, get_architecture("majority_class", "images", "classification").build({}).fit(train), contract, folder
    )
    return Predictor().read(folder)


def _picture(side: int = SIZE) -> Image.Image:
    return Image.fromarray(draw(2, 7, side))


def _good() -> str:
    return encoded(_picture())


def _refusal(value: Any, contract: Any) -> str:
    """Return why a request is refused whose second of three rows holds ``value``."""
    frame = pd.DataFrame({"image": pd.Series([_good(), value, _good()], dtype=object)})
    with pytest.raises(PayloadError) as caught:
        read_image_payload(frame, contract)
    message = str(caught.value)
    assert message.startswith("row 1, field image: ")
    assert "\n" not in message
    assert len(message) < 250, "the payload is given back"
    return message


# What is refused


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (math.nan, "null"),
        (3, "int"),
        (True, "bool"),
        (["a"], "list"),
        ({"a": 1}, "dict"),
        (b"", "bytes"),
    ],
)
def test_what_is_not_text_is_refused(contract: Any, value: Any, kind: str) -> None:
    assert _refusal(value, contract).endswith(f"it is {kind}")


def test_null_beside_text_is_null(contract: Any) -> None:
    frame = pd.DataFrame(json.loads(json.dumps([{"image": _good()}, {"image": None}])))
    with pytest.raises(PayloadError, match=r"row 1, field image: .*it is null"):
        read_image_payload(frame, contract)


@pytest.mark.parametrize("value", ["", "  \n"])
def test_empty_text_is_refused(contract: Any, value: str) -> None:
    assert "it is empty" in _refusal(value, contract)


@pytest.mark.parametrize("value", ["äöü", "not base64!", "abc", "%%%%", "data:image/png;base64,???"])
def test_what_is_not_base64_is_refused(contract: Any, value: str) -> None:
    assert "not base64" in _refusal(value, contract)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _png() -> bytes:
    return base64.b64decode(_good())


def _header(width: int, height: int) -> bytes:
    """Return a PNG that says it is of this size and holds next to nothing."""
    chunks = b""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for name, data in ((b"IHDR", body), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        bytes(range(256)) * 4,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='48' height='48'/>",
        b"%PDF-1.7\n",
        _png()[:8],
        _png()[:40],
        _png()[:-200],
    ],
    ids=["one byte", "random", "svg", "pdf", "signature", "header", "half a png"],
)
def test_bytes_that_are_no_image_are_refused(contract: Any, content: bytes) -> None:
    assert "not an image that can be decoded" in _refusal(_base64(content), contract)


def test_no_program_is_run_to_read_an_image(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments, **options: run.append(arguments))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\nshowpage\n%%EOF\n"
    assert "not an image that can be decoded" in _refusal(_base64(content), contract)
    assert not run


def test_half_a_jpeg_is_refused(contract: Any) -> None:
    content = base64.b64decode(encoded(_picture(), "JPEG"))
    assert "not an image that can be decoded" in _refusal(_base64(content[: len(content) // 2]), contract)


@settings(max_examples=60, deadline=None)
@given(where=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 10_000), text=st.text(max_size=40))
def test_no_damage_is_anything_but_a_refusal(contract: Any, where: int, byte: int, cut: int, text: str) -> None:
    content = bytearray(_png())
    content[where % len(content)] = byte
    for value in (_base64(bytes(content[: cut % len(content)])), _base64(bytes(content)), text):
        try:
            samples = read_image_payload(pd.DataFrame({"image": [value]}), contract)
        except PayloadError as error:
            assert str(error).startswith("row 0, field image: ")
        else:
            assert samples.pixels.shape == (1, SIZE, SIZE, 3)


def test_a_huge_file_is_refused_before_it_is_decoded(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = "A" * (MAX_BYTES * 4 // 3 + 8)
    monkeypatch.setattr(base64, "b64decode", lambda *arguments, **options: pytest.fail("decoded"))
    with pytest.raises(PayloadError, match=r"row 0, field image: larger than 20 MB"):
        read_image_payload(pd.DataFrame({"image": [huge]}), contract)


@pytest.mark.parametrize("sides", [(30_000, 30_000), (9_000, 9_000), (2_000_000_000, 1), (16, 60_000_000)])
def test_a_decompression_bomb_is_refused_by_its_header(
    contract: Any, sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image.Image, "convert", lambda *arguments, **options: pytest.fail("decoded"))
    with pytest.raises(PayloadError, match="row 0, field image: ") as caught:
        read_image_payload(pd.DataFrame({"image": [_base64(_header(*sides))]}), contract)
    message = str(caught.value)
    assert "pixels are more than 50000000" in message or "exceeds limit" in message


@pytest.mark.parametrize("sides", [(1, 1), (1, 400), (400, 15)])
def test_an_image_of_no_size_is_refused(contract: Any, sides: tuple[int, int]) -> None:
    message = _refusal(encoded(Image.new("RGB", sides)), contract)
    assert f"{sides[0]} x {sides[1]} pixels; each side needs at least 16" in message


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG"])
def test_an_animation_is_refused(contract: Any, kind: str) -> None:
    others = [Image.fromarray(draw(code, 1, SIZE)) for code in (0, 1)]
    assert "has 3 frames" in _refusal(encoded(_picture(), kind, save_all=True, append_images=others), contract)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (_picture().convert("CMYK"), "JPEG"),
        (_picture().convert("CMYK"), "TIFF"),
        (Image.fromarray(np.zeros((SIZE, SIZE), np.uint16)), "PNG"),
        (Image.fromarray(np.zeros((SIZE, SIZE), np.float32)), "TIFF"),
        (_picture().convert("1"), "PNG"),
        (_picture().convert("LAB"), "TIFF"),
    ],
    ids=["CMYK JPEG", "CMYK TIFF", "16 bits", "float", "one bit", "LAB"],
)
def test_colors_that_would_be_read_wrongly_are_refused(contract: Any, image: Image.Image, kind: str) -> None:
    assert "8-bit RGB" in _refusal(encoded(image, kind), contract)


def _sixteen_bits() -> bytes:
    """Return a PNG of 16 bits a channel, which Pillow opens as 8-bit RGB."""
    rows = b"".join(b"\x00" + bytes(SIZE * 6) for _ in range(SIZE))
    body = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    chunks = b""
    for name, data in ((b"IHDR", body), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_sixteen_bits_in_color_are_refused_as_the_validation_refuses_them(contract: Any) -> None:
    assert "16 bits" in _refusal(_base64(_sixteen_bits()), contract)


def test_requests_of_the_wrong_form_are_refused(contract: Any) -> None:
    good = _good()
    for frame, said in (
        (pd.DataFrame({"image": []}), "no rows"),
        (pd.DataFrame({"image": [good] * (MAX_ROWS + 1)}), f"{MAX_ROWS + 1} rows; send at most {MAX_ROWS}"),
        (pd.DataFrame({"image": [good], "stain": ["giemsa"]}), "unknown field stain"),
        (pd.DataFrame({"picture": [good]}), "unknown field picture; the field is image"),
        (pd.DataFrame(index=[0]), "the field image is missing"),
    ):
        with pytest.raises(PayloadError, match=said):
            read_image_payload(frame, contract)


def test_a_refusal_is_the_caller_s_fault(predictor: Predictor) -> None:
    with pytest.raises(MlflowException) as caught:
        predictor.predict(None, pd.DataFrame({"image": [_good(), "broken"]}))
    assert caught.value.get_http_status_code() == 400
    assert "row 1, field image" in str(caught.value)


# What is taken


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("wrapped", ["{}", " {}\n", "data:image/png;base64,{}"])
def test_lossless_files_give_the_image_s_own_pixels(contract: Any, kind: str, wrapped: str) -> None:
    gray = Image.fromarray(np.asarray(_picture())[..., 0])  # as many shades as a GIF has
    samples = read_image_payload(pd.DataFrame({"image": [wrapped.format(encoded(gray, kind))]}), contract)
    np.testing.assert_array_equal(samples.pixels[0], np.asarray(gray.convert("RGB")))
    assert samples.classes == CLASSES
    assert samples.index.tolist() == [0]


def test_a_jpeg_is_read_as_training_reads_it(contract: Any) -> None:
    file = io.BytesIO()
    _picture(100).save(file, "JPEG", quality=90)
    folded = "\n".join(
        _base64(file.getvalue())[start : start + 76] for start in range(0, 4 * len(file.getvalue()) // 3 + 4, 76)
    )
    samples = read_image_payload(pd.DataFrame({"image": [folded]}), contract)
    with Image.open(file) as image:
        np.testing.assert_array_equal(samples.pixels[0], to_pixels(image, image_task(SIZE).data))


def test_a_photograph_on_its_side_is_turned_upright(contract: Any) -> None:
    image = _picture()
    ImageDraw.Draw(image).rectangle((0, 0, 8, 8), fill="white")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to show it
    samples = read_image_payload(pd.DataFrame({"image": [encoded(image, "PNG", exif=exif)]}), contract)
    np.testing.assert_array_equal(samples.pixels[0], np.asarray(image.rotate(-90)))


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P"])
def test_every_kind_of_eight_bit_color_is_taken(contract: Any, mode: str) -> None:
    image = _picture().convert(mode)
    samples = read_image_payload(pd.DataFrame({"image": [encoded(image)]}), contract)
    np.testing.assert_array_equal(samples.pixels[0], np.asarray(image.convert("RGB")))


def test_equal_images_are_two_samples(contract: Any) -> None:
    samples = read_image_payload(pd.DataFrame({"image": [_good(), _good()]}), contract)
    assert len(samples) == 2
    assert samples.table["sample_id"].tolist() == ["row:0", "row:1"]
    assert samples.digests[0] == samples.digests[1]


@pytest.mark.parametrize(("size", "crop"), [(48, 1.0), (168, 0.75), (224, 1.0), (64, 0.8)])
def test_a_request_made_of_samples_asks_for_the_same_pixels(size: int, crop: float) -> None:
    samples = in_memory(3, size)
    contract = image_contract(TASK, "vgg16", image_task(size, crop), samples, 1.0, 0.2)
    rows = np.array([2, 0])
    asked = read_image_payload(contract.request(samples.take(rows)), contract)
    np.testing.assert_array_equal(asked.pixels, samples.pixels[rows])


# What is answered


def _ask(predictor: Predictor, samples: ImageSamples, **params: bool) -> pd.DataFrame:
    records = json.loads(json.dumps(predictor.contract.request(samples).to_dict("records")))
    return predictor.predict(None, pd.DataFrame(records), params)


def test_the_answer_has_the_columns_of_the_signature(predictor: Predictor, contract: Any) -> None:
    samples = in_memory(7, SIZE, first=30)
    answer = _ask(predictor, samples)
    columns = signature(contract).outputs.input_names()
    assert list(answer) == [name for name in columns if name != "overlay"]
    assert list(_ask(predictor, samples, explain=True)) == columns
    for row, probabilities in zip(answer.to_dict("records"), answer["probabilities"], strict=True):
        assert list(probabilities) == list(CLASSES)
        assert math.isclose(sum(probabilities.values()), 1, abs_tol=1e-6)
        assert row["label"] == max(probabilities, key=probabilities.get)
        assert row["probability"] == max(probabilities.values())
        assert row["labels"], "a set without any class"
        assert row["label"] in row["labels"]
        assert row["coverage"] == contract.coverage


def test_an_explanation_is_a_png_of_the_image_s_size(predictor: Predictor) -> None:
    samples = in_memory(4, SIZE, first=40)
    answer = _ask(predictor, samples, explain=True)
    for shown, pixels in zip(answer["overlay"], samples.pixels, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(shown))) as image:
            assert image.format == "PNG"
            assert image.size == (SIZE, SIZE)
            assert image.mode == "RGB"
            assert (np.asarray(image) != pixels).any()
    plain = _ask(predictor, samples)
    pd.testing.assert_frame_equal(answer.drop(columns="overlay"), plain)


def test_an_overlay_leaves_alone_what_the_map_leaves_out(tmp_path: Path) -> None:
    pixels = draw(1, 3, 32)
    heat = np.zeros((32, 32), np.float32)
    np.testing.assert_array_equal(overlay(pixels, heat), pixels)
    heat[:, :16] = 1
    shown = overlay(pixels, heat)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[:, 16:], pixels[:, 16:])
    assert (np.abs(shown[:, :16].astype(int) - pixels[:, :16]).mean()) > 10
    with Image.open(io.BytesIO(base64.b64decode(as_png(shown)))) as image:
        np.testing.assert_array_equal(np.asarray(image), shown)
