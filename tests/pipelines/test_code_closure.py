"""What would keep a result although its code is another, or throw one away for a comment."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import code_closure
from pipelines.code_closure import closure
from pipelines.errors import UserError

MODULES = {
    "rooms/__init__.py": '"""Nothing but a docstring."""',
    "rooms/a/__init__.py": "IMPORTED_BEFORE = 1",
    "rooms/a/start.py": """
        import numpy
        from typing import TYPE_CHECKING
        from rooms.a import names
        import rooms.b.whole
        if TYPE_CHECKING:
            from rooms.b import types_alone
        else:
            from rooms.b import other_branch
        def late():
            from .beside import Value
            return open("table.csv"), open("script.py"), open("elsewhere.csv")
    """,
    "rooms/a/names.py": "import pipelines.params as params",
    "rooms/a/beside.py": "from . import cousin\nfrom .. import b\nclass Value: ...",
    "rooms/a/cousin.py": "from rooms.a import start  # a circle",
    "rooms/a/script.py": "from rooms.b import of_script",
    **{"rooms/a/table.csv": "1,2", "rooms/a/unnamed.csv": "1,2", "rooms/a/unused.py": "UNUSED = 1"},
    **{f"rooms/b/{name}.py": "X = 1" for name in ("__init__", "whole", "types_alone", "other_branch", "of_script")},
    "pipelines/params.py": "import rooms.a.unused",
    "rooms/c/__init__.py": """
        from importlib import import_module
        def of(modality, problem):
            return import_module(f"{__name__}.{modality}"), import_module(f"rooms.c.{modality}_{problem}")
    """,
    **{f"rooms/c/{name}.py": f"X = {name!r}" for name in ("pairs", "images", "pairs_regression", "ridge", "lasso")},
    "rooms/d.py": "import importlib\nimport rooms.c\nimportlib.import_module(f'rooms.d_of.{name}')",
    **{f"rooms/d_of/{name}.py": "X = 1" for name in ("__init__", "regression", "survival")},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(source))
    monkeypatch.setattr(code_closure, "ROOT", tmp_path)
    return tmp_path


def test_what_is_imported_anywhere_is_found_and_nothing_else(root: Path) -> None:
    a = {"__init__.py", "start.py", "names.py", "beside.py", "cousin.py", "script.py", "table.csv"}
    b = {"__init__.py", "whole.py", "other_branch.py", "of_script.py"}
    assert set(closure("rooms.a.start")) == {f"rooms/a/{name}" for name in a} | {f"rooms/b/{name}" for name in b}
    for name in ("rooms/a/table.csv", "rooms/b/of_script.py", "rooms/a/__init__.py"):
        before = closure("rooms.a.start")
        (root / name).write_text(f"{(root / name).read_text()}\nX = 3\n")
        assert {path for path, sha256 in closure("rooms.a.start").items() if before[path] != sha256} == {name}


def test_of_modules_that_are_imported_by_name_those_of_the_task_and_the_architectures_count(root: Path) -> None:
    task: Any = SimpleNamespace(modality="pairs", problem="regression")
    always = {"rooms/c/__init__.py", "rooms/d.py"}
    assert set(closure("rooms.d")) == always
    of_task = {"rooms/c/pairs.py", "rooms/c/pairs_regression.py", "rooms/d_of/__init__.py", "rooms/d_of/regression.py"}
    assert set(closure("rooms.d", task=task)) == always | of_task
    assert set(closure("rooms.d", task=task, architectures=["ridge"])) == always | of_task | {"rooms/c/ridge.py"}


def test_an_entry_that_is_not_there_is_refused(root: Path) -> None:
    for entry in ("rooms.a.not_there", "numpy", "rooms.a.start.late", ""):
        with pytest.raises(UserError, match="no such module below"):
            closure("rooms.a.start", entry)


FUNCTION = "def f(x: int = 1) -> int:\n    return x + 1\n"


WORDS = (
    '"""Of the module."""\n' + FUNCTION + "\n\n\n# a comment\n",
    'def f(x: int = 1) -> int:\n    """Of the function."""\n    return x + 1  # why\n',
    "def f(\n    x: int = 1,\n) -> int:\n    pass\n    return (x + 1)\n",
)
CODE = (
    *(FUNCTION.replace("+ 1", "+ 2"), FUNCTION.replace("= 1", "= True"), FUNCTION.replace(" = 1", "")),
    *(FUNCTION.replace("x: int", "*, x: int"), "@cache\n" + FUNCTION, "async " + FUNCTION, FUNCTION + "X = 'text'\n"),
)


def test_code_counts_and_words_and_layout_do_not(root: Path) -> None:
    path, found = root / "rooms/a/unused.py", {}
    for source in (FUNCTION, *WORDS, *CODE):
        path.write_text(source)
        found[source] = closure("rooms.a.unused")
    for source in found.keys() - {FUNCTION}:
        assert (found[source] != found[FUNCTION]) == (source in CODE), source


EVERY_KIND = '''
from a import b as c
@f
class A(B, metaclass=M):
    x: int | None = None
    async def g(self, a, /, b=1, *c, d=2.5, **e) -> list[int]:
        """Doc."""
        with open(a) as h, i:
            try:
                yield f"{a!r:>8}" + b"\\x00".hex() + 'ü'
            except* (ValueError, TypeError) as error:
                raise KeyError from error
            finally:
                del a[1:2, ...], b.c
        match d:
            case {"k": [1, *_], **r} | A(x=None): return lambda *a, y=-1: a if not y else {**r, "z": {*a}}
            case _: pass
        return [q := 3 for p in a if p async for r in s], 1_000, 1e3, 2j, global_
'''


def test_hashes_are_the_same_in_all_versions_of_python(root: Path) -> None:
    """Workers on one study, and machines that retrain, may have different ones."""
    (root / "rooms/a/unused.py").write_text(EVERY_KIND)
    assert (
        closure("rooms.a.unused")["rooms/a/unused.py"]
        == "d22771e72846c48b3e5e4a0454077f155bd2896876a175779b42eb6583138e7a"
    )


def test_what_changes_no_result_is_there() -> None:
    """A module that was renamed would count again without a word."""
    assert all((code_closure.ROOT / f"{name.replace('.', '/')}.py").is_file() for name in code_closure.WITHOUT_RESULT)
