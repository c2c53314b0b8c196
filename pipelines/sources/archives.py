"""The one table in an archive, and what else a file may turn out to be whose name says that it is a table."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from pipelines.faults import UserError
from pipelines.text_values import quoted

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
