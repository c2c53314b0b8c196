"""The shape of evidence, as a JSON Schema: checked when evidence is written, and again when it is read."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jsonschema

from evaluation.modalities import modality_names
from evaluation.problems import measures_of
from pipelines.errors import UserError
from pipelines.files import read_json
from pipelines.problems import problem_names

SCHEMA = 3
SCHEMA_FILE = Path(__file__).with_name("evidence.schema.json")
_SHOWN = 120


def check_schema(evidence: Any, where: str) -> None:
    """Refuse what is no evidence of this schema."""
    found = evidence.get("schema") if isinstance(evidence, dict) else None
    if found != SCHEMA:
        said = "has no schema" if found is None else f"is of schema {str(found)[:20]}"
        raise UserError(f"{where} {said}, and schema {SCHEMA} is needed; run the evaluate stage again")
    fault = jsonschema.exceptions.best_match(_validator().iter_errors(evidence))
    if fault is not None:
        place = ".".join(str(part) for part in fault.absolute_path) or "the top"
        raise UserError(f"{where}, {place}: {_short(fault.message)}; run the evaluate stage again")


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = read_json(SCHEMA_FILE)
    units = sorted({unit for name in problem_names() for unit in measures_of(name).units})
    schema["properties"]["worst"]["properties"]["unit"]["enum"] = units
    schema["properties"]["problem"]["enum"] = problem_names()
    schema["properties"]["modality"]["enum"] = modality_names()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _short(message: str) -> str:
    """Return a message without the middle of the value that it quotes, which may be all of the evidence."""
    return message if len(message) <= 2 * _SHOWN else f"{message[:_SHOWN]} ... {message[-_SHOWN:]}"
