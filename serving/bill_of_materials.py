"""The bill of materials of a registered version in CycloneDX 1.5: its files, what was measured of it, its packages."""

import hashlib
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from packaging.markers import Marker

from evaluation.promotion.card_text import use_of
from evaluation.promotion.hub_header import data_names, tested_on
from evaluation.promotion.registered_files import FILES_TAG, check_files, served_hashes
from pipelines.errors import UserError
from pipelines.formatting import finite
from serving.gate_context import evidence_of, model_files
from training.architectures import display_name

LOCK = Path("requirements.runtime.lock")  # the packages of the image, which serve the model
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\\n]+))?", re.MULTILINE)


def of(version: ModelVersion, lock: Path = LOCK) -> dict[str, Any]:
    """Return the bill of materials of a version and of the packages in ``lock`` for this platform.

    `UserError` where the version has no evidence, its files are not those that were registered, or there is no lock.
    """
    if not lock.is_file():
        raise UserError(f"{lock}: no such file; run from the repository's root")
    evidence = evidence_of(version.name, str(version.run_id), version.tags.get("evidence.sha256"))
    with model_files(version.source) as folder:
        check_files(version, folder)
        files = served_hashes(folder)
    packages, pinned = list(_packages(lock)), hashlib.sha256(lock.read_bytes()).hexdigest()
    model = {
        "type": "machine-learning-model",
        "bom-ref": f"models:/{version.name}/{version.version}",
        "name": version.name,
        "version": str(version.version),
        "description": use_of(evidence["modality"], evidence["problem"]).what,
        "hashes": _sha256(version.tags[FILES_TAG]),  # over the paths and hashes of all its files
        "modelCard": _card(evidence),
        "components": [{"type": "file", "name": place, "hashes": _sha256(files[place])} for place in sorted(files)],
        "properties": _properties({**evidence["hashes"], "evidence.sha256": evidence["sha256"]}),
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, evidence['sha256'] + pinned)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": model,
            "properties": _properties({f"{lock.name}.sha256": pinned}),
        },
        "components": packages,
        "dependencies": [{"ref": model["bom-ref"], "dependsOn": [each["bom-ref"] for each in packages]}],
    }


def _packages(lock: Path) -> Iterator[dict[str, Any]]:
    for pin in _PIN.finditer(lock.read_text(encoding="utf-8")):
        if pin["marker"] is None or Marker(pin["marker"].strip()).evaluate():
            name = re.sub(r"[-_.]+", "-", pin["name"]).lower()
            purl = f"pkg:pypi/{name}@{pin['version']}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": pin["version"], "purl": purl}


def _card(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return the model card; every metric has its interval, other numbers are left out."""
    use, trained = use_of(evidence["modality"], evidence["problem"]), evidence.get("pretraining") or {}
    own = "trained and tested on" + (", SIMULATED: no patients, cells or drugs" if evidence["simulated"] else "")
    named = [(name, own) for name in data_names(evidence)]
    named += [(name, "the weights that the fit started from saw it") for name in trained.get("pretrained_on") or []]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": use.pipeline_tag or evidence["problem"],
            "modelArchitecture": display_name(evidence["architecture"]),
            "datasets": [{"type": "dataset", "name": name, "description": said} for name, said in named],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": name,
                    "value": str(found["value"]),
                    "slice": tested_on(evidence),
                    "confidenceInterval": {"lowerBound": str(found["low"]), "upperBound": str(found["high"])},
                }
                for name, found in evidence["test"]["metrics"].items()
                if finite(found["value"], found["low"], found["high"])
            ]
        },
        "considerations": {
            "useCases": list(use.intended),
            "technicalLimitations": list(use.limits),
            "ethicalConsiderations": [{"name": f"Not intended: {each}"} for each in use.not_intended],
        },
    }


def _sha256(content: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": content}]


def _properties(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"oncolineage:{name}", "value": str(value)} for name, value in values.items()]
