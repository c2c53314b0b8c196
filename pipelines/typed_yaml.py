"""Reading YAML into frozen dataclasses: unknown keys, missing ones and wrong types are refused with their line."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from pipelines.errors import UserError


class ParamsError(UserError):
    """A fault in ``params.yaml``, named by file, line and key."""


# The keys that decide, and the dataclass that each combination of their values means.
Choice = tuple[tuple[str, ...], Mapping[tuple[str, ...], type]]


class TypedReader:
    """Turns a YAML node tree into dataclasses.

    Parameters
    ----------
    path
        File, for messages.
    choices
        For a dataclass that stands for several: which of them is meant.

    Attributes
    ----------
    lines
        Line of each key that was read, by its dotted name.
    """

    def __init__(self, path: Path, choices: Mapping[type, Choice]) -> None:
        self.path = path
        self.choices = choices
        self.lines: dict[str, int] = {}

    def fail(self, node: yaml.Node, message: str) -> typing.NoReturn:
        """Raise `ParamsError` with the line of ``node``."""
        raise ParamsError(f"{self.path}, line {node.start_mark.line + 1}: {message}")

    def read(self, node: yaml.Node, kind: Any, name: str) -> Any:
        """Return ``node`` as a value of type ``kind``; ``name`` is its dotted key."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind in self.choices:
            kind = self._chosen(node, kind, name)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(node, typing.cast(type, kind), name)
        if origin is dict:
            return {
                key.value: self.read(value, arguments[1], f"{name}.{key.value}")
                for key, value in self._pairs(node, name)
            }
        if origin is tuple:
            return self._tuple(node, arguments, name)
        value = self._value(node, name)
        if origin is Literal:
            if value not in arguments:
                self.fail(node, f"{name} is {value!r}; it must be one of {', '.join(map(str, arguments))}")
            return value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is float and isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
            with contextlib.suppress(ValueError):  # 1e-5 is a number in JSON and text in YAML 1.1, which wants 1.0e-5
                return float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(node, f"{name} is {value!r}; it must be of type {kind.__name__}")
        return value

    def _value(self, node: yaml.Node, name: str) -> Any:
        try:
            return yaml.SafeLoader("").construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError) as error:  # an unknown tag, a date that is none, a list as a key
            reason = getattr(error, "problem", None) or error
            self.fail(node, f"{name} cannot be read: {reason}")

    def _pairs(self, node: yaml.Node, name: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{name} must be a mapping")
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, f"{name} has a key that is no word")
            if key.value in seen:
                self.fail(key, f"{name}.{key.value} stands twice")
            seen.add(key.value)
            self.lines[f"{name}.{key.value}"] = key.start_mark.line + 1
        return node.value

    def _dataclass(self, node: yaml.Node, kind: type, name: str) -> Any:
        fields = dataclasses.fields(kind)
        types = typing.get_type_hints(kind)
        hints = {field.name: types[field.name] for field in fields}
        given = {}
        for key, value in self._pairs(node, name):
            if key.value not in hints:
                self.fail(key, f"unknown key {name}.{key.value}; the keys are {', '.join(hints)}")
            given[key.value] = self.read(value, hints[key.value], f"{name}.{key.value}")
        needed = [field.name for field in fields if field.default is dataclasses.MISSING]
        if missing := [key for key in needed if key not in given]:
            line = self.lines.get(name, node.start_mark.line + 1)
            raise ParamsError(f"{self.path}, line {line}: {name} lacks {', '.join(missing)}")
        return kind(**given)

    def _chosen(self, node: yaml.Node, kind: type, name: str) -> type:
        """Return the dataclass that the deciding keys choose, which says what other keys there are."""
        keys, choices = self.choices[kind]
        given: list[str] = []
        for place, key in enumerate(keys):
            allowed = list(dict.fromkeys(choice[place] for choice in choices if list(choice[:place]) == given))
            found = next((value for each, value in self._pairs(node, name) if each.value == key), None)
            if found is None:
                self.fail(node, f"{name} lacks {key}")
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
        return tuple(
            self.read(item, kind, f"{name}[{index}]")
            for index, (item, kind) in enumerate(zip(node.value, kinds, strict=True))
        )
