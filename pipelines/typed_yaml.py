"""Read YAML into frozen dataclasses, and check it; whatever is refused is named with its line."""

import contextlib
import dataclasses
import functools
import math
import operator
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from pipelines.errors import UserError


class ParamsError(UserError):
    """A fault in ``params.yaml``, named by file, line and key."""


# Keys of a mapping, and the dataclass for each combination of their values.
Choice = tuple[tuple[str, ...], Mapping[tuple[str, ...], type]]


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the types of the fields of a dataclass."""
    types = typing.get_type_hints(kind)
    return {field.name: types[field.name] for field in dataclasses.fields(kind)}


class TypedReader:
    """A reader of YAML nodes; ``choices`` gives the dataclasses that stand for an abstract one."""

    def __init__(self, path: Path, choices: Mapping[type, Choice]) -> None:
        self.path = path
        self.choices = choices
        self.lines: dict[str, int] = {}  # of each key that was read, by its dotted name
        self._constructor = yaml.constructor.SafeConstructor()

    def fail(self, node: yaml.Node, message: str, key: str = "") -> typing.NoReturn:
        """Raise `ParamsError` with the line of ``key``, if it was read, or of ``node``."""
        raise ParamsError(f"{self.path}, line {self.lines.get(key, node.start_mark.line + 1)}: {message}")

    def read(self, node: yaml.Node, kind: Any, name: str) -> Any:
        """Return ``node`` as a value of type ``kind``; ``name`` is its dotted key."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind in self.choices:
            kind = self._chosen(node, kind, name)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(node, typing.cast(type, kind), name)
        if kind is Any:
            return self._value(node, name)
        if origin is dict:
            pairs = self._pairs(node, name)
            return {key.value: self.read(value, arguments[1], f"{name}.{key.value}") for key, value in pairs}
        if origin is tuple:
            return self._tuple(node, arguments, name)
        value = self._value(node, name)
        if origin is Literal:
            if value not in arguments:
                self.fail(node, f"{name} is {value!r}; it must be one of {', '.join(map(str, arguments))}")
            return value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is float and isinstance(value, str) and isinstance(node, yaml.ScalarNode) and not node.style:
            with contextlib.suppress(ValueError):  # 1e-5 is text in YAML 1.1
                return float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(node, f"{name} is {value!r}; it must be of type {kind.__name__}")
        return value

    def _value(self, node: yaml.Node, name: str) -> Any:
        try:
            return self._constructor.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError) as error:  # an unknown tag, a date that is none, a list as a key
            reason = getattr(error, "problem", None) or error
            self.fail(node, f"{name} cannot be read: {reason}")

    def _pairs(self, node: yaml.Node, name: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{name} must be a mapping")
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, f"{name} has a key that is no text")
            if key.value in seen:
                self.fail(key, f"{name}.{key.value} is a duplicate key")
            seen.add(key.value)
            self.lines[f"{name}.{key.value}"] = key.start_mark.line + 1
        return node.value

    def _dataclass(self, node: yaml.Node, kind: type, name: str) -> Any:
        hints, given = _hints(kind), {}
        for key, value in self._pairs(node, name):
            if key.value not in hints:
                self.fail(key, f"unknown key {name}.{key.value}; the keys are {', '.join(hints)}")
            given[key.value] = self.read(value, hints[key.value], f"{name}.{key.value}")
        nothing = dataclasses.MISSING
        fields = dataclasses.fields(kind)
        required = [each.name for each in fields if each.default is nothing and each.default_factory is nothing]
        if missing := [key for key in required if key not in given]:
            self.fail(node, f"{name} lacks {', '.join(missing)}", name)
        return kind(**given)

    def _chosen(self, node: yaml.Node, kind: type, name: str) -> type:
        """Return the dataclass that the values of the keys choose."""
        keys, choices = self.choices[kind]
        given: list[str] = []
        for place, key in enumerate(keys):
            allowed = list(dict.fromkeys(choice[place] for choice in choices if list(choice[:place]) == given))
            found = next((value for each, value in self._pairs(node, name) if each.value == key), None)
            if found is None:
                self.fail(node, f"{name} lacks {key}", name)
            value = self._value(found, f"{name}.{key}")
            if value not in allowed:
                self.fail(found, f"{name}.{key} is {value!r}; it must be one of {', '.join(allowed)}")
            given.append(value)
        return choices[tuple(given)]

    def _tuple(self, node: yaml.Node, arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, f"{name} must be a list")
        kinds = [arguments[0]] * len(node.value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(node.value):
            self.fail(node, f"{name} must have {len(kinds)} entries, it has {len(node.value)}")
        pairs = enumerate(zip(node.value, kinds, strict=True))
        return tuple(self.read(item, kind, f"{name}[{index}]") for index, (item, kind) in pairs)


def merged(node: yaml.Node, changes: yaml.Node) -> yaml.Node:
    """Return a mapping with the keys of ``changes`` in the place of its own, in its order, level by level."""
    if not (isinstance(node, yaml.MappingNode) and isinstance(changes, yaml.MappingNode)):
        return changes
    pairs = []
    for key, value in node.value:  # a key that occurs twice stays there twice, for `TypedReader` to refuse
        found = [(other, merged(value, new)) for other, new in changes.value if other.value == key.value]
        pairs += found or [(key, value)]
    own = {key.value for key, _ in node.value}
    pairs += [pair for pair in changes.value if pair[0].value not in own]
    return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)


@dataclasses.dataclass(frozen=True)
class Checks:
    """Checks of values of ``params.yaml`` by their dotted keys; they raise `ParamsError` with file and line."""

    file: Path
    lines: dict[str, int]
    where: str  # key of `values`, empty for the whole file
    values: Any

    def require(self, holds: bool, key: str, message: str) -> None:
        """Refuse the value of ``key`` unless something holds."""
        if not holds:
            name = f"{self.where}.{key}".strip(".")
            raise ParamsError(f"{self.file}, line {self.lines[f'params.{name}']}: params.{name} {message}")

    def share(self, *keys: str, ends: bool = False) -> None:
        """Refuse values outside of 0 to 1; ``ends``: 0 and 1 are allowed."""
        for key in keys:
            value = operator.attrgetter(key)(self.values)
            self.require(0 <= value <= 1 if ends else 0 < value < 1, key, f"is {value:g}; shares lie between 0 and 1")

    def at_least(self, least: float, *keys: str) -> None:
        """Refuse numbers, or counts of a budget, below ``least`` or without end."""
        for key in keys:
            value = operator.attrgetter(key)(self.values)
            counts = vars(value) if dataclasses.is_dataclass(value) else {"": value}
            for budget, count in counts.items():
                said = f"is {count:.12g}; it must be at least {least}"
                self.require(least <= count < math.inf, f"{key}.{budget}".strip("."), said)

    def above(self, bound: float, *keys: str) -> None:
        """Refuse numbers up to ``bound`` or without end."""
        for key in keys:
            value = operator.attrgetter(key)(self.values)
            self.require(bound < value < math.inf, key, f"is {value:g}; it must be above {bound}")

    def filled(self, *keys: str) -> None:
        """Refuse empty texts and lists."""
        for key in keys:
            self.require(bool(operator.attrgetter(key)(self.values)), key, "is empty; name at least one")
