"""Limits of a request to the endpoint, checked before a table is made of it.

Imports nothing of the platform: the server runs the code that its model was logged with, see `serving.app`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

PREFIX = "ONCOLINEAGE_SERVE_"
FORMATS = ("dataframe_records", "dataframe_split", "inputs", "instances")
COLUMNS = 64  # fields of a request; no model has so many
_OTHER_KEYS = ("params",)
_MAPS_A_ROW = 64  # opening brackets in the text of a row; a SMILES has a few
_VALUES = 5_000_000


class Refused(Exception):
    """A request is refused with an HTTP status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Limits of one request."""

    rows: int = 512
    explained_rows: int = 32  # with ``explain``
    request_bytes: int = 64_000_000
    seconds: int = 60  # for a body to arrive, and for an answer
    together: int = 2  # requests that one process computes at a time; the others wait

    def environment(self) -> dict[str, str]:
        """Return the limits as environment variables."""
        return {PREFIX + each.name.upper(): str(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_environment(cls) -> Limits:
        """Read the variables that `environment` returns."""
        found = {each.name: os.environ.get(PREFIX + each.name.upper()) for each in fields(cls)}
        return cls(**{name: int(value) for name, value in found.items() if value})


def parsed(body: bytes, limits: Limits) -> dict[str, Any]:
    """Return the JSON of a body; `Refused` if it is none of MLflow's formats within the limits.

    A few hundred kilobytes of JSON can ask for a table of gigabytes: thousands of rows that each name another column.
    """
    if body.count(b"{") + body.count(b"[") > _MAPS_A_ROW * (limits.rows + 1):
        raise Refused(400, f"the request has too many lists and maps; send at most {limits.rows} rows at a time")
    if body.count(b",") > _VALUES:
        raise Refused(400, f"the request has more than {_VALUES} values; send fewer rows at a time")
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise Refused(400, "the request is nested too deeply to be JSON of rows") from error
    except ValueError as error:  # also of text that is not UTF-8, and of integers with thousands of digits
        raise Refused(400, f"the request is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise Refused(400, f"the request must be a dictionary with one of {', '.join(FORMATS)}")
    check_shape(content, limits)
    if b"\\ud" in body or b"\\uD" in body:
        _check_characters(content)
    return content


def _check_characters(content: Mapping[str, Any]) -> None:
    """Refuse a lone surrogate, which JSON can write and no table can hold."""
    for name in FORMATS:
        for number, row in enumerate(content.get(name) or []):
            for field, value in row.items() if isinstance(row, dict) else ():
                if _halved([field, value]):
                    shown = str(field)[:60].encode("ascii", "backslashreplace").decode()
                    raise Refused(400, f"row {number}, field {shown}: holds half a character (a lone surrogate)")
    if _halved(content):
        raise Refused(400, "the request holds half a character (a lone surrogate)")


def _halved(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def check_shape(content: Mapping[str, Any], limits: Limits) -> None:
    """Refuse a request that is no table of rows, or too large."""
    given = [name for name in FORMATS if name in content]
    if len(given) != 1:
        raise Refused(400, f"the request must be a dictionary with one of {', '.join(FORMATS)}")
    if unknown := [str(key)[:60] for key in content if key not in (*FORMATS, *_OTHER_KEYS)]:
        raise Refused(400, f"the request has the unknown key {', '.join(unknown[:5])}")
    if not isinstance(content.get("params") or {}, dict):
        raise Refused(400, "params must be a dictionary")
    count, columns = _size(given[0], content[given[0]])
    if count > limits.rows:
        raise Refused(400, f"the request has {count} rows; send at most {limits.rows} at a time")
    if len(columns) > COLUMNS:
        raise Refused(400, f"the request names more than {COLUMNS} fields")
    if (content.get("params") or {}).get("explain") and count > limits.explained_rows:
        message = f"params, explain: the request has {count} rows; with explain send at most {limits.explained_rows}"
        raise Refused(400, f"{message} at a time")


def _size(name: str, value: Any) -> tuple[int, Collection[str]]:
    """Return the number of rows and the columns of a table in one of the formats."""
    if name == "dataframe_split":
        return _size_of_split(value)
    if name == "inputs" and isinstance(value, dict):
        if not all(isinstance(column, list) for column in value.values()):
            raise Refused(400, "inputs must be a dictionary of field to a list with a value a row")
        lengths = {len(column) for column in value.values()}
        if len(lengths) > 1:
            raise Refused(400, "inputs: the fields have different numbers of rows")
        return max(lengths, default=0), value
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise Refused(400, f"{name} must be a list of rows, each a dictionary of field to value")
    return len(value), {field for row in value for field in row}


def _size_of_split(value: Any) -> tuple[int, Collection[str]]:
    if not isinstance(value, dict) or not {"columns", "data"} <= set(value) <= {"columns", "data", "index"}:
        raise Refused(400, "dataframe_split must be a dictionary with columns and data")
    columns, data = value["columns"], value["data"]
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise Refused(400, "dataframe_split, columns: must be a list of names")
    if not isinstance(data, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise Refused(400, "dataframe_split, data: must be a list of rows, each a list with a value a column")
    index = value.get("index", [])
    if "index" in value and (not isinstance(index, list) or len(index) != len(data)):
        raise Refused(400, "dataframe_split, index: must be a list with a value a row")
    return len(data), columns
