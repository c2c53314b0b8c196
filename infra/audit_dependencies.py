"""Known vulnerabilities of the locked packages, by pip-audit: ``python -m infra.audit_dependencies``.

It fails for each one that ``infra/accepted_vulnerabilities.yaml`` does not name. Without a network, or behind a mirror
without the service, it prints that nothing was looked up and does not fail; one package is looked up first, to see.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from infra.list_licenses import locked

ACCEPTED = Path(__file__).with_name("accepted_vulnerabilities.yaml")
PROBE_SECONDS, SECONDS = 60, 480
_FIELDS = {"id", "package", "reason", "by", "until"}


class CannotLookError(Exception):
    """The service of vulnerabilities did not answer."""


def ask(packages: list[tuple[str, str]], seconds: float) -> list[dict[str, Any]]:
    """Return pip-audit's ``name``, ``version``, ``vulns`` or ``skip_reason`` of each package; or `CannotLookError`."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
        pins = Path(temporary) / "pins.txt"
        pins.write_text("".join(f"{name}=={version}\n" for name, version in packages))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10", "--cache-dir", temporary]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise CannotLookError(f"no answer within {seconds:g} s") from error
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise CannotLookError((done.stderr.strip().splitlines() or ["no output"])[-1][:300]) from error


def accepted(today: str, path: Path = ACCEPTED) -> set[tuple[str, str]]:
    """Return package and id of the vulnerabilities accepted today; `ValueError` for fields missing or too many."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != _FIELDS:
            raise ValueError(f"{path}: {entry!r} must have {', '.join(sorted(_FIELDS))}, and no more")
    return {(entry["package"].lower(), entry["id"]) for entry in entries if str(entry["until"]) >= today}


def vulnerabilities(found: list[dict[str, Any]], may_stay: set[tuple[str, str]]) -> list[tuple[bool, str]]:
    """Return for each vulnerability in pip-audit's answer whether it is accepted, and a line about it."""
    lines = []
    for package in found:
        for each in package.get("vulns", []):
            names = {(package["name"].lower(), name) for name in (each["id"], *each.get("aliases", []))}
            fixed = ", ".join(each.get("fix_versions", [])) or "no version"
            line = f"{package['name']} {package['version']}: {each['id']}, fixed in {fixed}"
            lines.append((bool(names & may_stay), line))
    return lines


def main() -> int:
    """Print what is known; return 1 if a vulnerability is not accepted."""
    if importlib.util.find_spec("pip_audit") is None:
        print("error: pip-audit is not installed; it is one of the packages of the extra `dev`", file=sys.stderr)
        return 1
    packages, may_stay = locked(), accepted(datetime.now(UTC).date().isoformat())
    first = dict(reversed(packages))  # pip-audit takes one version of a package at a time
    others = [each for each in packages if first[each[0]] != each[1]]
    try:
        if "skip_reason" in ask(packages[:1], PROBE_SECONDS)[0]:
            raise CannotLookError(f"it does not know {packages[0][0]}")
        found = ask(list(first.items()), SECONDS) + (ask(others, SECONDS) if others else [])
    except CannotLookError as error:
        print(f"NOT LOOKED: the service of known vulnerabilities cannot be asked ({error}).")
        print(f"Nothing is known of the {len(packages)} locked packages, good or bad; run it again with a network.")
        return 0
    lines = vulnerabilities(found, may_stay)
    for stays, line in lines:
        print(f"{'accepted' if stays else 'error'}: {line}", file=sys.stdout if stays else sys.stderr)
    if unknown := [package["name"] for package in found if "skip_reason" in package]:
        print(f"not looked up, since the service does not know them: {', '.join(sorted(set(unknown)))}")
    refused = sum(not stays for stays, _ in lines)
    print(f"{len(packages) - len(unknown)} of {len(packages)} locked packages looked up: {refused} not accepted")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
