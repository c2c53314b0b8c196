"""Opening a table that may be packed: the one table in an archive, and what else a file may turn out to be."""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipelines.errors import UserError
from pipelines.text_values import quoted

_GZIP = b"\x1f\x8b"
UNPACKED_BYTES, UNPACKED_TIMES = 4_000_000_000, 300  # of compressed text: the larger of the two; it packs to a tenth
LINE_BYTES = 500_000_000  # a matrix of all CpG sites of a genome has lines of this size
ZIP = b"PK\x03\x04"
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PACKED = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x05\x06": "empty zip",
}
_BESIDE = {".pdf", ".md", ".html", ".htm", ".docx", ".db", ".ini"}  # descriptions, and what file managers leave behind


def only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo | None:
    """Return the one table of a zip archive; None if the archive is itself a workbook.

    Raises
    ------
    UserError
        It holds none or several, is of another office program, or is locked with a password.
    """
    names = archive.namelist()
    if "xl/workbook.xml" in names:
        return None
    if "xl/workbook.bin" in names or {"content.xml", "mimetype"} <= set(names):
        raise UserError(f"{path}: is a workbook of another format than .xlsx; save it as .xlsx, or its sheet as csv")
    tables = [member for member in archive.infolist() if not member.is_dir() and _may_be_table(member.filename)]
    if len(tables) != 1:
        what = f"holds {len(tables)} files ({quoted(member.filename for member in tables)})" if tables else "is empty"
        raise UserError(f"{path}: the archive {what}, and one table is asked for; unpack it and name the file")
    if tables[0].flag_bits & 1:
        raise UserError(f"{path}: the archive is locked with a password; unpack it")
    return tables[0]


def refuse_packed(start: bytes, path: Path) -> None:
    """Refuse what is no text by the first 512 bytes of its content.

    Raises
    ------
    UserError
        It is an archive that is not read, a workbook of the old format, or a web page.
    """
    if start.startswith(_OLD_WORKBOOK):
        raise UserError(f"{path}: is a workbook of the old format (.xls); save it as .xlsx, or its sheet as csv")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise UserError(
            f"{path}: is a web page or an error message, not the file; download it again, in a browser if need be"
        )
    kind = "tar" if start[257:262] == b"ustar" else next((k for m, k in _PACKED.items() if start.startswith(m)), None)
    if kind:
        raise UserError(f"{path}: is a {kind} archive; unpack it and name the file")


def _may_be_table(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    described = path.stem.casefold() in ("readme", "license", "licence") or path.suffix.casefold() in _BESIDE
    return not described and not path.name.startswith(".") and "__MACOSX" not in path.parts


@contextlib.contextmanager
def opened(path: Path, *, workbook: bool = False) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes, unpacked where it is gzipped or a zip archive of one table, whatever its name.

    Parameters
    ----------
    path
        The file.
    workbook
        Whether it may be an Excel workbook; its bytes begin with `ZIP`.

    Raises
    ------
    UserError
        It is missing or cannot be read, its compressed content is broken, or it is an archive of several files, of
        another kind, or a workbook.
    """
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder; name the file' if path.is_dir() else 'no such file'}")
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(path.open("rb"))
            if stream.peek(4).startswith(ZIP):
                archive = stack.enter_context(zipfile.ZipFile(path))
                if member := only_member(archive, path):
                    stream = _unpacked(stack.enter_context(archive.open(member)), path)
            if stream.peek(2).startswith(_GZIP):
                stream = _unpacked(stack.enter_context(gzip.GzipFile(fileobj=stream)), path)
            start = stream.peek(512)[:512]
            refuse_packed(start, path)
            if start.startswith(ZIP) and not workbook:
                raise UserError(f"{path}: is a workbook, or an archive within another; save its sheet as csv")
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path}: the compressed file is broken or cut short ({error}); download it again") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _unpacked(stream: IO[bytes] | gzip.GzipFile, path: Path) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(stream, path), 2**20)


class _Unpacked(io.RawIOBase):
    """The bytes of compressed text, as long as they are not many more than its size and its lines do not go on and on.

    A megabyte of zeros that are gzipped takes a kilobyte: a small file may unpack to more than the memory holds.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path) -> None:
        self._stream, self._path = stream, path
        self._most = max(UNPACKED_BYTES, UNPACKED_TIMES * path.stat().st_size)
        self._count = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._count += len(block)
        end = block.rfind(b"\n")
        self._line = self._line + len(block) if end < 0 else len(block) - end - 1
        if self._count > self._most:
            raise UserError(f"{self._path}: unpacks to more than {self._most / 1e9:g} GB; is it the right file?")
        if self._line > LINE_BYTES:
            raise UserError(f"{self._path}: has a line of more than {LINE_BYTES / 1e6:g} MB; is it the right file?")
        return len(block)
