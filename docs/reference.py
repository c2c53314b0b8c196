"""MkDocs hook: write the reference pages from the Makefile, MLproject and the dataclasses of ``params.yaml``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from evaluation import library as module
from pipelines.params import Params, Task, read_params
from pipelines.tasks import task_types

ROOT = Path(__file__).parents[1]
_RULE = re.compile(
    r"^(?P<verb>[a-z]+):[^#\n]*## (?:(?P<variables>\[?[A-Z][A-Z0-9_]*=.*?): )?(?P<text>.*)$", re.MULTILINE
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    pages = {"commands": commands(), "params": parameters(), "library": library()}
    for path, text in ((f"reference/{name}.md", text) for name, text in pages.items()):
        files.append(File.generated(config, path, content=text))
    return files


def library() -> str:
    """Return the page of `evaluation.library`: signatures and docstrings of what is public."""
    lines = [
        "# Library",
        "",
        *_prose(inspect.getdoc(module) or ""),
        "",
        "## `open_task`",
        "",
        *_member(module.open_task),
    ]
    lines += ["", "## `TaskData`", "", *_prose(inspect.getdoc(module.TaskData) or "")]
    for name, member in vars(module.TaskData).items():
        if not name.startswith("_") and isinstance(member, types.FunctionType | property | functools.cached_property):
            lines += ["", f"### `{name}`", "", *_member(getattr(member, "fget", getattr(member, "func", member)))]
    return "\n".join(lines) + "\n"


def _member(member: Any) -> list[str]:
    """Return the signature of a function, where it takes something, and its docstring."""
    signature = inspect.signature(member)
    shown = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    code = ["```python", f"{member.__name__}{signature.replace(parameters=shown)}", "```", ""] if shown else []
    return [*code, *_prose(inspect.getdoc(member) or "")]


def _prose(text: str) -> list[str]:
    """Return a docstring as Markdown: double backticks are single ones, examples are code."""
    prose, _, example = text.partition("\n>>> ")
    shown = [line.removeprefix(">>> ") for line in f">>> {example}".splitlines()] if example else []
    lines = re.sub(r"``(.+?)``", r"`\1`", prose).splitlines()
    return [*lines, "", "```python", *shown, "```"] if shown else lines


def commands() -> str:
    """Return the page of the commands: the help texts of the Makefile and the entry points of MLproject."""
    lines = [
        *("# Commands", "", "Run `make <command>` in the root of the repository. Variables in brackets are optional."),
        *("", "| command | variables | what it does |", "|---|---|---|"),
    ]
    for rule in _RULE.finditer((ROOT / "Makefile").read_text(encoding="utf-8")):
        variables = _code(rule["variables"]) if rule["variables"] else ""
        lines.append(f"| `make {rule['verb']}` | {variables} | {_cell(rule['text'])} |")
    lines += [
        *("", "## Entry points of `mlflow run`", "", "`mlflow run . -e NAME -P parameter=value --env-manager local`"),
        *("", "| entry point | parameters |", "|---|---|"),
    ]
    for name, point in yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"].items():
        given = [
            f"`{parameter}`" + (f" ({_code(about['default'])})" if about.get("default") else "")
            for parameter, about in point.get("parameters", {}).items()
        ]
        lines.append(f"| `{name}` | {', '.join(given)} |")
    return "\n".join(lines) + "\n"


def parameters() -> str:
    """Return the page of ``params.yaml``: a table for each dataclass that mirrors a part of it."""
    comments = _comments()
    lines = [
        "# `params.yaml`",
        "",
        "Every key is read into a typed, frozen dataclass (`pipelines/params.py`, `pipelines/policy.py`). An unknown",
        "or missing key, a value of the wrong type and a value out of range are refused with file and line before any",
        "work is done. Descriptions are the comments of the dataclasses, else those of the shipped file.",
    ]
    for name, path, kind in _sections():
        about = _attributes(kind)
        lines += [
            *("", f"## {name}", "", f"`{path}`: {_summary(kind)}" if path else _summary(kind)),
            *("", "| key | value | default | description |", "|---|---|---|---|"),
        ]
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            inner = _dataclasses(hints[field.name])
            text = about.get(field.name) or comments.get((kind, field.name), "")
            if not text and len(inner) == 1:
                text = _summary(inner[0])
            lines.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(field)} | {_cell(text)} |")
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[tuple[str, str, type]]:
    """Yield name, path in the file and dataclass of each part, in the order of the file; every dataclass once."""
    waiting: list[tuple[str, type]] = [("", Params)]
    seen: set[type] = set()
    while waiting:
        path, kind = waiting.pop(0)
        if kind in seen:
            continue
        seen.add(kind)
        yield kind.__name__, path, kind
        inner = [
            (f"{path}.{key}{'.<name>' if typing.get_origin(hint) is dict else ''}".lstrip("."), each)
            for key, hint in typing.get_type_hints(kind).items()
            for each in _dataclasses(hint)
        ]
        waiting = inner + waiting


def _dataclasses(hint: Any) -> list[type]:
    """Return the dataclasses that a type hint names; for a task, those that are registered."""
    if isinstance(hint, type) and issubclass(hint, Task):
        return list(dict.fromkeys(task_types().values())) if hint is Task else [hint]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [each for argument in typing.get_args(hint) for each in _dataclasses(argument)]


def _type(hint: Any) -> str:
    """Return a type hint as a reader of YAML would name it, with links to the sections of dataclasses."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(_code(value) for value in arguments)
    if origin is dict:
        return f"map of names to {_type(arguments[1])}"
    if origin is tuple:
        inner = [_type(argument) for argument in arguments if argument is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"list of {len(inner)}: {', '.join(inner)}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join("nothing" if each is type(None) else _type(each) for each in arguments)
    if found := _dataclasses(hint):
        return ", ".join(f"[{each.__name__}](#{each.__name__.lower()})" for each in found)
    named = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value of that key"}
    return named.get(hint, str(hint))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        simple = isinstance(field.default, (str, int, float, tuple))
        return _code(list(field.default) if isinstance(field.default, tuple) else field.default) if simple else "empty"
    return "required" if field.default_factory is dataclasses.MISSING else "empty"


def _summary(kind: type) -> str:
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())


def _attributes(kind: type) -> dict[str, str]:
    """Return the comments of the fields of a dataclass and of those that it inherits from."""
    found: dict[str, str] = {}
    for each in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        lines = inspect.getsource(each).splitlines()
        for row, line in enumerate(lines):
            if (name := re.match(r"    (\w+): ", line)) and (text := _comment(lines, row)):
                found[name[1]] = text
    return found


def _comments() -> dict[tuple[type, str], str]:
    """Return the comments of the shipped file on each field of a dataclass, joined where several tasks have one."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    lines, found = text.splitlines(), dict[tuple[type, str], list[str]]()

    def walk(node: yaml.Node, value: Any) -> None:
        for key, inner in node.value if isinstance(node, yaml.MappingNode) else []:
            if isinstance(value, dict):
                walk(inner, value[key.value])
            elif dataclasses.is_dataclass(value):
                mark = key.start_mark
                first = not lines[mark.line][: mark.column].strip()  # on its line; others are of a map in braces
                if first and (comment := _comment(lines, mark.line)):
                    found.setdefault((type(value), key.value), []).append(comment.rstrip("."))
                walk(inner, getattr(value, key.value))

    root = yaml.compose(text)
    assert root is not None
    walk(root, read_params(ROOT / "params.yaml"))
    return {field: "; ".join(dict.fromkeys(comments)) for field, comments in found.items()}


def _comment(lines: list[str], row: int) -> str:
    """Return the comment above a line and beside it, "" where there is none."""
    first = row
    while first and lines[first - 1].strip().startswith("#"):
        first -= 1
    beside = re.search(r"\s# *(.*)$", lines[row])
    return " ".join([*(line.strip(" #") for line in lines[first:row]), *([beside[1]] if beside else [])])


def _code(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _cell(f"`{text}`") if text else "empty"


def _cell(text: str) -> str:
    """Return text that stays within a cell of a table."""
    parts = text.replace("``", "`").split("`")  # those at odd places are code, which Markdown leaves as it is
    plain = [part.replace("<", "&lt;").replace("|", "\\|") for part in parts]
    return "`".join(part if number % 2 else plain[number] for number, part in enumerate(parts))
