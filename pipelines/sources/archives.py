"""Table files, unpacked where they are compressed, as lines of UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipelines.errors import UserError
from pipelines.text_values import quoted

ZIP, GZIP = b"PK\x03\x04", b"\x1f\x8b"
UNPACKED_BYTES, UNPACKED_TIMES = 4_000_000_000, 300  # of compressed text: the larger of the two; it packs to a tenth
LINE_BYTES = 500_000_000  # a matrix of all CpG sites of a genome has lines of this size
_BESIDE = {".pdf", ".md", ".html", ".htm", ".docx", ".db", ".ini"}  # descriptions, and what file managers leave behind
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LATIN = "oncolineage.latin-1"


@contextlib.contextmanager
def opened(path: Path, *, workbook: bool = False, most: int | None = None) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes, unpacked as by `unpacked`."""
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder; name the file' if path.is_dir() else 'no such file'}")
    try:
        with path.open("rb") as file, unpacked(file, path, path.stat().st_size, workbook, most) as stream:
            yield stream
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


@contextlib.contextmanager
def unpacked(
    stream: io.BufferedReader[Any], path: Path, size: int, workbook: bool = False, most: int | None = None
) -> Iterator[io.BufferedReader]:
    """Give the bytes of a file, unpacked where it is gzipped or a zip archive of one table, whatever its name.

    A `UserError` if it is broken, neither text nor (if it may be one) a workbook, an archive of several files, or has
    more than ``most`` bytes or, packed, `UNPACKED_BYTES`. ``stream`` is seekable and has ``size`` bytes.
    """
    limit = max(UNPACKED_BYTES, UNPACKED_TIMES * size)
    if most is not None:
        limit = min(most, limit)
        if size > most:
            raise _too_large(path, most)
    try:
        with contextlib.ExitStack() as stack:
            if stream.peek(4).startswith(ZIP):
                archive = stack.enter_context(zipfile.ZipFile(stream))
                stream.seek(0)
                if "xl/workbook.xml" not in archive.namelist():
                    member = stack.enter_context(archive.open(_only_table(archive, path)))
                    stream = io.BufferedReader(_Unpacked(member, path, limit), 2**20)
            if stream.peek(2).startswith(GZIP):
                plain = stack.enter_context(gzip.GzipFile(fileobj=stream))
                stream = io.BufferedReader(_Unpacked(plain, path, limit), 2**20)
            _refuse_content(stream.peek(512)[:512], path, workbook)
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path}: the compressed file is broken or cut short ({error}); download it again") from error


def text_lines(stream: io.BufferedReader, path: Path) -> Iterator[bytes]:
    """Return the lines of a stream of `opened` in UTF-8, from the first that is not empty, a comment or ``sep=;``.

    UTF-16 is converted. A comment begins with ``#``.
    """
    lines = _decoded_lines(stream, path)
    for number, line in enumerate(lines):
        if line.strip() and not line.startswith(b"#") and not (number == 0 and line.startswith(b"sep=")):
            return chain([line], lines)
    raise UserError(f"{path}: is empty; download it again")


def first_line(path: Path) -> bytes:
    """Return the first of the `text_lines` of a file; raises as `opened`."""
    with opened(path) as stream:
        return next(text_lines(stream, path))


def _decoded_lines(stream: io.BufferedReader, path: Path) -> Iterator[bytes]:
    utf_16 = _utf_16(stream.peek(512))
    if not utf_16:
        yield next(stream, b"").removeprefix(codecs.BOM_UTF8)
        yield from stream
        return
    text = io.TextIOWrapper(stream, utf_16)
    try:
        yield from (line.encode() for line in text)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8 or UTF-16; save it as csv in UTF-8") from error
    finally:
        text.detach()  # else it would close the stream


def _utf_16(start: bytes) -> str:
    """Return the encoding of UTF-16 with or without its mark, else an empty text."""
    return "utf-16" if start.startswith(_BOMS) else "utf-16-le" if start[1:2] == start[3:4] == b"\0" else ""


def _refuse_content(start: bytes, path: Path, workbook: bool) -> None:
    """Refuse by the first bytes of a file what is no text, and what is a web page."""
    if start.startswith(ZIP):
        if not workbook:
            raise UserError(f"{path}: is a workbook, or an archive within another; save its sheet as csv")
    elif not _utf_16(start) and any(byte < ord("\t") for byte in start):
        raise UserError(f"{path}: is no text, and no gz, zip or xlsx file; unpack it, or save it as csv in UTF-8")
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"<"):
        raise UserError(f"{path}: is a web page, XML or an error message; download the table itself, in a browser")


def _only_table(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Return the one table of an archive, without what describes it and what systems leave there."""
    tables = [member for member in archive.infolist() if not member.is_dir() and _may_be_table(member.filename)]
    if len(tables) != 1:
        what = f"holds {len(tables)} tables ({quoted(member.filename for member in tables)})"
        raise UserError(f"{path}: the archive {what} and must hold one; unpack it and name the file")
    if tables[0].flag_bits & 1:
        raise UserError(f"{path}: the archive is locked with a password; unpack it")
    return tables[0]


def _may_be_table(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    described = path.stem.casefold() in ("readme", "license", "licence") or path.suffix.casefold() in _BESIDE
    return not described and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _too_large(path: Path, most: int) -> UserError:
    return UserError(f"{path}: unpacks to more than {most / 1e9:g} GB; is it the right file?")


class _Unpacked(io.RawIOBase):
    """The bytes of compressed text, up to a limit of all and of a line: a kilobyte may unpack to gigabytes."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path, most: int) -> None:
        self._stream, self._path, self._most = stream, path, most
        self._count = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._count += len(block)
        end = block.rfind(b"\n")
        self._line = self._line + len(block) if end < 0 else len(block) - end - 1
        if self._line > LINE_BYTES:
            raise UserError(f"{self._path}: has a line of more than {LINE_BYTES / 1e6:g} MB; is it the right file?")
        if self._count > self._most:
            raise _too_large(self._path, self._most)
        return len(block)


def decoded(line: bytes) -> str:
    """Return the text of a line in UTF-8; a byte that is none is Latin-1, as in tables of older programs."""
    return line.decode("utf-8", _LATIN)


def _latin(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_LATIN, _latin)
