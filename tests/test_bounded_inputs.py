"""What a small file or request could unpack to: it is refused before the memory is full. Requests: `serving.app`."""

import asyncio
import gzip
import io
import json
import re
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
from fastapi import FastAPI
from PIL import EpsImagePlugin, Image
from starlette.types import ASGIApp, Message

from pipelines.errors import UserError
from pipelines.samples import formats
from pipelines.samples.formats import read_table
from pipelines.samples.images import ImagesData, load_pixels
from pipelines.samples.molecules import MAX_SMILES_LENGTH, canonical
from pipelines.sources import archives, tables
from pipelines.sources.archives import opened
from pipelines.sources.tables import Layout, read_official
from serving import app as served_app
from serving.app import _WAITING, Limits, Refused, bounded, parsed
from serving.dashboard.data import uploads

NAMES = {"name": ("name",), "value": ("value",)}


def _table(path: Path) -> None:
    read_official(path, Layout("table of names", NAMES, ["name"]))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the bounds of files so small that tests can pass them."""
    for name, bound in {"UNPACKED_BYTES": 3_000_000, "UNPACKED_TIMES": 2, "LINE_BYTES": 1_500_000}.items():
        monkeypatch.setattr(archives, name, bound)
    monkeypatch.setattr(tables, "ANNOTATION_BYTES", 2_000_000)
    monkeypatch.setattr(tables, "WORKBOOK_BYTES", 1_000_000)
    for module in (formats, uploads):
        monkeypatch.setattr(module, "MOST_VALUES", 1_000_000)


def _gzipped(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


@pytest.mark.usefixtures("small")
def test_a_gzipped_table_or_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = _gzipped(tmp_path / "line.csv.gz", b"name,value\n" + b"a" * 2_900_000)
    with pytest.raises(UserError, match=r"line\.csv\.gz: has a line of more than 1\.5 MB"):
        _table(line)
    wide = _gzipped(tmp_path / "wide.txt.gz", (b"a" * 1_000_000 + b"\n") * 2)
    with opened(wide) as stream:
        assert [len(each) for each in stream] == [1_000_001] * 2
    content, path = b"sample,tissue\n" + b"a,lung\n" * 400_000, tmp_path / "samples.csv"
    for written in (content, gzip.compress(content)):  # a table of samples, whose bound is lower
        path.write_bytes(written)
        with pytest.raises(UserError, match=r"samples\.csv: unpacks to more than 0\.002 GB"):
            read_official(path, Layout("table of samples", {"sample": ("sample",)}, ["sample"]))
    monkeypatch.setattr(archives, "UNPACKED_BYTES", 200_000)
    _table(_gzipped(tmp_path / "fine.csv.gz", b"name,value\n" + b"a,1\n" * 1000))
    bomb = _gzipped(tmp_path / "bomb.csv.gz", b"name,value\n" + b"a,1\n" * 60_000)
    assert bomb.stat().st_size < 2_000
    with pytest.raises(UserError, match=r"bomb\.csv\.gz: unpacks to more than 0\.0002 GB"):
        _table(bomb)


def _workbook(path: Path) -> Path:
    book = openpyxl.Workbook()
    for row in (["name", "value"], ["a", 1]):
        book.worksheets[0].append(row)
    book.save(path)
    return path


def _with_member(path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kept in {**members, member: content}.items():
            archive.writestr(name, kept)


@pytest.mark.usefixtures("small")
def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "drugs.xlsx")
    _table(path)
    _with_member(path, "xl/sharedStrings.xml", b" " * 2_000_000)
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"drugs\.xlsx: unpacks to 0\.0 GB, more than 0\.001"):
        _table(path)


def test_a_workbook_whose_directory_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = _workbook(tmp_path / "drugs.xlsx")
    _with_member(path, "xl/worksheets/sheet1.xml", b"<worksheet>" + b" " * 5_000_000)
    content = path.read_bytes()
    told = (5_000_011).to_bytes(4, "little")
    assert content.count(told) == 2  # before the member and in the directory
    path.write_bytes(content.replace(told, (500).to_bytes(4, "little")))
    with pytest.raises(UserError, match="broken or cut short"):
        _table(path)


def test_a_workbook_whose_xml_grows_as_it_is_read_is_refused(tmp_path: Path) -> None:
    """Ten entities of ten of the one before: a billion laughs."""
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10))
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cell = '<c r="A1" t="inlineStr"><is><t>&a9;</t></is></c>'
    rows = f'<sheetData><row r="1">{cell}</row></sheetData>'
    sheet = f'<!DOCTYPE w [{entities}]><worksheet xmlns="{space}">{rows}</worksheet>'
    path = _workbook(tmp_path / "drugs.xlsx")
    _with_member(path, "xl/worksheets/sheet1.xml", sheet.encode())
    with pytest.raises(UserError, match=r"drugs\.xlsx"):
        _table(path)


def _repeated(values: int, lists: bool = False) -> bytes:
    column = pa.array(np.zeros(values, np.float32))
    if lists:
        column = pa.ListArray.from_arrays(pa.array([0, values], pa.int32()), column)
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"gene": column, "other": column}), file, compression="zstd")
    return file.getvalue()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("lists", [False, True])
def test_a_parquet_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, lists: bool) -> None:
    bomb = _repeated(600_000, lists)
    assert len(bomb) < 60_000
    path = tmp_path / "expression.parquet"
    path.write_bytes(bomb)
    with pytest.raises(UserError, match=r"expression\.parquet: the file unpacks to 1,[0-9,]+ values, more than 1,000"):
        read_table(path)
    with pytest.raises(UserError, match=r"mine\.parquet: the file unpacks to 1,[0-9,]+ values"):
        uploads.read_profiles("mine.parquet", bomb)


def test_a_huge_image_or_another_kind_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow starts Ghostscript for PostScript, whatever the file is called."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **more: pytest.fail("Ghostscript was started"))
    path, bomb = tmp_path / "a.png", Image.new("1", (14_000, 14_000))
    for image, form, says in ((Image.new("RGB", (20, 20)), "EPS", ""), (bomb, "PNG", ".*decompression bomb")):
        image.save(path, format=form)
        assert path.stat().st_size < 200_000
        with pytest.raises(UserError, match=f"cannot be decoded{says}"):
            load_pixels([path], ["digest"], ImagesData(("a", "b"), 1.0, 8), tmp_path / "cache")


def test_a_molecule_of_any_length_is_not_parsed() -> None:
    assert canonical("C" * MAX_SMILES_LENGTH) is not None
    assert canonical("C" * (MAX_SMILES_LENGTH + 1)) is None


# A model that is never asked: no body of these tests is a table.
_MODEL: Any = SimpleNamespace(
    metadata=SimpleNamespace(get_input_schema=lambda: None),
    unwrap_python_model=lambda: SimpleNamespace(contract=None),
)


async def _posted(app: ASGIApp, sizes: list[int]) -> list[int]:
    """Post bodies of so many bytes, of which none ends before all have begun; return what status each is answered."""
    begun, all_begun = 0, asyncio.Event()

    async def post(size: int) -> int:
        parts = iter([b"[" + b" " * (size - 2), b"]"])
        sent: list[Message] = []

        async def receive() -> dict[str, Any]:
            nonlocal begun
            part = next(parts)
            if part == b"]":
                begun += 1
                await all_begun.wait()
            return {"type": "http.request", "body": part, "more_body": part != b"]"}

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        await app({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, receive, send)
        return int(sent[0]["status"])

    asyncio.get_running_loop().call_later(0.2, all_begun.set)
    return await asyncio.gather(*(post(size) for size in sizes))


def test_requests_that_wait_together_are_bounded() -> None:
    async def check() -> None:
        app = bounded(FastAPI(), _MODEL, Limits(request_bytes=1_000))
        assert await _posted(app, [1_000] * _WAITING) == [400] * _WAITING  # held, looked at, and no table
        too_many = await _posted(app, [1_000] * (_WAITING + 2))
        assert (too_many.count(400), too_many.count(503)) == (_WAITING, 2)
        # What was held is given back, and small requests are many.
        assert await _posted(app, [50] * 100) == [400] * 100
        assert await _posted(app, [1_001]) == [413]
        assert await _posted(app, [1_000] * _WAITING) == [400] * _WAITING

    asyncio.run(check())


def test_a_body_that_does_not_end_in_time_or_is_compressed_is_refused() -> None:
    async def check() -> None:
        app, sent = bounded(FastAPI(), _MODEL, Limits(request_bytes=1_000, seconds=2)), list[Message]()

        async def trickle() -> dict[str, Any]:  # within the limit of bytes, for ever
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b" ", "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)

        async def post(*more: tuple[bytes, bytes]) -> int:
            sent.clear()
            headers = [(b"content-type", b"application/json"), *more]
            await app({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, trickle, send)
            return int(sent[0]["status"])

        assert await post() == 408
        for kind in (b"gzip", b"deflate", b"br", b"gzip, identity"):
            assert await post((b"content-encoding", kind)) == 415
        assert await _posted(app, [1_000] * _WAITING) == [400] * _WAITING  # what was held is given back

    asyncio.run(check())


def test_what_waited_too_long_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client was told 504 long ago; a row of such explanations would keep the one turn for minutes."""
    now, computed = [0.0], []

    def takes_long(body: bytes, limits: Limits) -> dict[str, Any]:
        computed.append(body)
        now[0] += 61
        raise Refused(400, "computed")

    monkeypatch.setattr(served_app, "monotonic", lambda: now[0])
    monkeypatch.setattr(served_app, "parsed", takes_long)

    async def check() -> list[int]:
        return await _posted(bounded(FastAPI(), _MODEL, Limits(seconds=60, together=1)), [50] * 3)

    assert sorted(asyncio.run(check())) == [400, 503, 503] and len(computed) == 1


def test_a_request_counts_as_held_until_its_computation_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 504 ends no thread: were its bytes given back, a model that hangs would fill the memory."""
    go_on = threading.Event()

    def takes_long(body: bytes, limits: Limits) -> dict[str, Any]:
        assert go_on.wait(60)
        raise Refused(400, "computed")

    monkeypatch.setattr(served_app, "parsed", takes_long)

    async def check() -> None:
        app = bounded(FastAPI(), _MODEL, Limits(request_bytes=1_000, seconds=1, together=1))
        assert await _posted(app, [1_000] * _WAITING) == [504] * _WAITING
        assert await _posted(app, [1_000]) == [503]
        go_on.set()
        await asyncio.sleep(0.5)
        assert await _posted(app, [1_000]) == [400]

    asyncio.run(check())


def test_fewer_rows_are_explained_than_answered() -> None:
    limits, table = Limits(rows=3, explained_rows=2), {"columns": ["smiles"], "data": [["C"]] * 3}
    bodies: list[dict[str, Any]] = [{"dataframe_records": [{"smiles": "C"}] * 3}, {"dataframe_split": table}]
    for given in (*bodies, {"inputs": {"smiles": ["C"] * 3}}):
        assert parsed(json.dumps(given).encode(), limits) == given
        with pytest.raises(Refused, match=r"params, explain: the request has 3 rows; with explain send at most 2"):
            parsed(json.dumps({**given, "params": {"explain": True}}).encode(), limits)
        assert parsed(json.dumps({**given, "params": {"explain": False}}).encode(), limits)
    assert Limits.from_environment() == Limits()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"dataframe_records": [{"a": "C"}, {"smiles": "C\ud800"}]}, "row 1, field smiles: holds half a character"),
        ({"inputs": [{"expression": {"\udfff": 1.0}}]}, "row 0, field expression: holds half a character"),
        ({"dataframe_records": [{"\ud800": 1}]}, "row 0, field \\ud800: holds half a character"),
        ({"inputs": {"smiles": ["\ud800"]}}, "the request holds half a character"),
        ({"dataframe_records": [{"sample_id": "\U0001f9ec"}]}, None),  # both halves
    ],
)
def test_half_a_character_is_refused_by_row_and_field(content: dict[str, object], said: str | None) -> None:
    if said is None:
        assert parsed(json.dumps(content).encode(), Limits()) == content
        return
    with pytest.raises(Refused, match=re.escape(said)) as refused:
        parsed(json.dumps(content).encode(), Limits())
    assert refused.value.status == 400
    str(refused.value).encode()
