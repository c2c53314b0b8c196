"""Evidence as a file: sealed by its own hash, and refused where it was edited or is not of the schema.

It needs nothing of what made the evidence: who only reads it (the gate, the registry, the dashboard) loads no network.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema

from evaluation.modalities import modality_names
from evaluation.problems import measures_of
from pipelines.errors import UserError
from pipelines.files import jsonable, read_json
from pipelines.paths import REPORTS
from pipelines.problems import problem_names

SCHEMA = 3
SCHEMA_FILE = Path(__file__).with_name("evidence.schema.json")
_SHOWN = 120


def evidence_sha256(evidence: dict[str, Any]) -> str:
    """Return the hash of the evidence without its own hash."""
    content = {key: value for key, value in evidence.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return evidence as JSON values that satisfy the schema, with its hash."""
    content = jsonable({key: value for key, value in evidence.items() if key != "sha256"})
    sealed = {**content, "sha256": evidence_sha256(content)}
    check_schema(sealed, "the evidence")
    return sealed


def evidence_path(name: str, architecture: str, reports: Path = REPORTS) -> Path:
    """Return where the evidence of an architecture lies."""
    return reports / name / "models" / architecture / "evidence.json"


def read_evidence(path: Path) -> dict[str, Any]:
    """Read evidence; refuse it if it was edited or is not of the schema."""
    if not path.is_file():
        raise UserError(f"{path} is not there; run `dvc repro evaluate@...`")
    try:
        evidence: dict[str, Any] = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run the evaluate stage again") from error
    check_schema(evidence, str(path))
    if evidence.get("sha256") != evidence_sha256(evidence):
        raise UserError(f"{path}: its content does not match its hash: it was edited; run the evaluate stage again")
    return evidence


def check_schema(evidence: Any, where: str) -> None:
    """Refuse what is no evidence of this schema."""
    found = evidence.get("schema") if isinstance(evidence, dict) else None
    if found != SCHEMA:
        said = "has no schema" if found is None else f"is of schema {str(found)[:20]}"
        raise UserError(f"{where} {said}, and schema {SCHEMA} is needed; run the evaluate stage again")
    fault = jsonschema.exceptions.best_match(_validator().iter_errors(evidence))
    if fault is not None:
        place, message = ".".join(str(part) for part in fault.absolute_path) or "the top", fault.message
        if len(message) > 2 * _SHOWN:  # it quotes a value, which may be all of the evidence
            message = f"{message[:_SHOWN]} ... {message[-_SHOWN:]}"
        raise UserError(f"{where}, {place}: {message}; run the evaluate stage again")


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = read_json(SCHEMA_FILE)
    units = sorted({unit for name in problem_names() for unit in measures_of(name).units})
    schema["properties"]["worst"]["properties"]["unit"]["enum"] = units
    schema["properties"]["problem"]["enum"] = problem_names()
    schema["properties"]["modality"]["enum"] = modality_names()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
