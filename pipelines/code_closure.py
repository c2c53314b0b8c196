"""The code that a result depends on: every file that its entry points import, without docstrings, comments and layout.

Studies, final fits, caches, retraining and DVC's stages (`pipelines.stage_inputs`) are valid while it is unchanged.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.files import written_whole
from pipelines.store_errors import StoreError

if TYPE_CHECKING:
    from pipelines.params import Task

ROOT = Path(__file__).parents[1]
_OWN = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()

# Modules that change no result, and are not followed. Values of `params.yaml` count one by one (in
# `pipelines.stage_inputs` and the name of a study), not the code that reads them.
WITHOUT_RESULT = frozenset(
    f"pipelines.{name}"
    for name in (
        *("code_closure", "command", "encoders", "environment", "errors", "files", "formatting", "params", "paths"),
        *("policy", "redaction", "report", "retry", "stage_inputs", "step_metrics"),
        *("store_errors", "tracking", "typed_yaml"),
    )
)
_FILE_NAME = re.compile(r"[\w-][\w.-]*\.\w+")
_KEPT = Path("cache", "code.json")  # what is known of sources, by their content: to parse all takes half a second


@dataclass(frozen=True)
class _Module:
    sha256: str | None  # of the syntax tree; None without statements
    imports: list[tuple[str, int]]  # names, and the leading dots of relative ones
    registries: list[str]  # packages whose modules it imports by a name that is made at run time
    files: list[str]  # file names among its strings


def closure(
    *entries: str,
    task: "Task | None" = None,
    architectures: Iterable[str] = (),
    without: Container[str] = WITHOUT_RESULT,
) -> dict[str, str]:
    """Return the files of this repository that the modules ``entries`` depend on: relative path to SHA-256.

    The hash is of a module's syntax tree, or of a data file's bytes. Imports inside of functions count, those under
    ``if TYPE_CHECKING`` do not. Where a module is imported by a name that is made at run time,
    ``import_module(f"training.problems.{problem}")``, the names of the task (modality, problem and
    ``<modality>_<problem>``) and of the architectures count. A data file counts if it lies beside a module that names
    it in a string. Modules in ``without`` are not followed. `UserError` if an entry is no module of this repository.
    """
    if unknown := [name for name in entries if _file(name) is None]:
        raise UserError(f"{', '.join(unknown)}: no such module below {ROOT}; what depends on its code cannot be known")
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(entries)
    here = {path.stem for path in ROOT.iterdir()}
    architectures = tuple(architectures)
    names = {*architectures, *((task.modality, task.problem, f"{task.modality}_{task.problem}") if task else ())}
    if any(_file(f"training.architectures.{each}") is None for each in architectures):
        names |= {"_encoder", "_stack"}  # of the encoders that `params.yaml` brings, and of stacks
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] not in here:
            continue
        seen.add(name)
        if name in without or (path := _file(name)) is None:
            continue
        module = _module(path.read_bytes())
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [importlib.util.resolve_name("." * dots + other, package) for other, dots in module.imports]
        waiting.append(name.rpartition(".")[0])  # importing a module runs its packages first
        waiting += [f"{registry or name}.{each}" for registry in module.registries for each in names]
        if module.sha256:
            found[path.relative_to(ROOT).as_posix()] = module.sha256
        for beside in (path.with_name(file) for file in module.files):
            if beside.suffix == ".py" and beside.is_file():
                waiting.append(f"{package}.{beside.stem}")
            elif beside.is_file():
                found[beside.relative_to(ROOT).as_posix()] = hashlib.sha256(beside.read_bytes()).hexdigest()
    _keep()
    return dict(sorted(found.items()))


def needed_files(entry: str, task: Any, architectures: Iterable[str]) -> list[Path]:
    """Return every file, relative to the repository, that a process needs which runs the module ``entry``.

    ``task`` has the ``modality`` and the ``problem``, and ``architectures`` are those of the models, see `closure`.
    """
    found = {Path(file) for file in closure(entry, task=task, architectures=architectures, without=())}
    packages = {folder / "__init__.py" for file in found for folder in file.parents}
    return sorted(found | {file for file in packages if (ROOT / file).is_file()})


@functools.cache
def loaded_code(module: str) -> dict[str, str]:
    """Return the `closure` of a module, looked up once: a process runs the code that it has loaded."""
    return closure(module)


def _file(name: str) -> Path | None:
    """Return the file of a module of this repository."""
    path = ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if name and file.is_file()), None)


_unkept: set[str] = set()


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    """Return the fields of `_Module` by the hash of a source, as they were kept by the code of this file."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
        kept = json.loads(_KEPT.read_bytes())
        if kept["by"] == _OWN:
            return dict(kept["sources"])
    return {}


def _module(source: bytes) -> _Module:
    name = hashlib.sha256(source).hexdigest()
    if name not in _known():
        _known()[name] = vars(_read(source))
        _unkept.add(name)
    return _Module(**_known()[name])


def _keep() -> None:
    """Write what became known, for other processes."""
    if _unkept:
        with contextlib.suppress(OSError, StoreError), written_whole(_KEPT) as temporary:
            temporary.write_text(json.dumps({"by": _OWN, "sources": _known()}))
        _unkept.clear()


def _read(source: bytes) -> _Module:
    tree = ast.parse(source)
    written = _without_layout(tree.body)
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return _Module(
        hashlib.sha256(json.dumps(written).encode()).hexdigest() if written else None,
        list(_imports(tree)),
        sorted(set(_registries(tree))),
        sorted(set(filter(_FILE_NAME.fullmatch, strings))),
    )


def _without_layout(node: Any) -> Any:
    """Return a tree as lists and strings, the same in all versions of Python, without docstrings and ``pass``."""
    if isinstance(node, ast.AST):
        fields = [(key, value) for key, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *([key, _without_layout(value)] for key, value in fields)]
    if isinstance(node, list):
        kept = (each for each in node if not isinstance(each, ast.Pass))
        # An expression that is a constant is a docstring.
        kept = (each for each in kept if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)))
        return [_without_layout(each) for each in kept]
    return repr(node)


def _imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in _names_in(node.test):
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level
            yield from ((f"{node.module or ''}.{alias.name}".lstrip("."), node.level) for alias in node.names)
        nodes += ast.iter_child_nodes(node)


def _registries(tree: ast.Module) -> Iterator[str]:
    """Yield the package in ``import_module(f"package.{name}")``; "" for ``__name__``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and "import_module" in _names_in(node.func):
            written = next((each.values for each in node.args[:1] if isinstance(each, ast.JoinedStr)), [])
            match written:
                case [ast.Constant(value=str(prefix)), *_]:
                    yield prefix.rpartition(".")[0]
                case [ast.FormattedValue(value=ast.Name(id="__name__")), *_]:
                    yield ""


def _names_in(node: ast.AST) -> tuple[str, str]:
    return getattr(node, "id", ""), getattr(node, "attr", "")
