"""The files of a registered version, compared with their hash in its tag before anything of them is loaded.

The version's run keeps the hash of each file, whose combined hash is the tag, so that changed files can be named.
"""

import json
import re
import shutil
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.promotion.signatures import refuse_unsigned
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.file_hashes import combined, differences, file_hashes, named

FILES_TAG = "files.sha256"
# Python and MLflow leave these beside a model that is loaded where it lies.
_NOT_OF_THE_MODEL = ("__pycache__", "registered_model_meta")
_VERSION_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))")


def served_hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each file of a logged model, its code included."""
    return file_hashes(folder, leave_out=_NOT_OF_THE_MODEL)


def keep_hashes(run_id: str, hashes: dict[str, str]) -> None:
    """Log the hash of each file to the run, under the hash that the version's tag bears."""
    MlflowClient().log_text(run_id, json.dumps(hashes, indent=1), _place(combined(hashes)))


def version_behind(uri: str) -> ModelVersion | None:
    """Return the registered version that ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS`` names, None for others."""
    found = _VERSION_URI.fullmatch(uri)
    if found is None:
        return None
    client = MlflowClient()
    if found["alias"] is not None:
        return client.get_model_version_by_alias(found["name"], found["alias"])
    return client.get_model_version(found["name"], found["version"])


def check_files(version: ModelVersion, folder: Path) -> None:
    """Refuse files that are not those that were registered, or signed, and remove the bytecode that lies beside them.

    Bytecode is not hashed, as Python writes it where a model is loaded, and Python would run it in place of the code
    that is: it is made anew. A ``UserError`` names the files that were changed, are missing or were added.
    """
    for bytecode in [path for path in folder.rglob("__pycache__") if path.is_dir()]:
        try:
            shutil.rmtree(bytecode)
        except OSError as error:
            raise UserError(f"{bytecode} is no part of the model; remove it ({error})") from error
    what = f"{version.name} version {version.version}"
    registered = version.tags.get(FILES_TAG)
    if not registered:
        raise UserError(
            f"{what} has no tag {FILES_TAG}, nothing vouches for its files; "
            f"register it with its evidence: make register TASK={version.name}"
        )
    found = served_hashes(folder)
    if combined(found) == registered:
        refuse_unsigned(version.name, int(version.version), registered)
        return
    expected = _kept(version.run_id, registered)
    unlike = "" if expected is None else f": {named(differences(found, expected))}"
    raise UserError(
        f"the files of {what} are not those that were registered{unlike}; it is not loaded. "
        f"Restore them, or go back: make rollback TASK={version.name} WHY=..."
    )


def _place(sha256: str) -> str:
    return f"files/{sha256}.json"


def _kept(run_id: str, registered: str) -> dict[str, str] | None:
    """Return the hash of each file as it was registered; None where the list is gone or is another."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
        try:
            uri = f"runs:/{run_id}/{_place(registered)}"
            path = tracking.mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=temporary)
            kept: dict[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))
            return kept if combined(kept) == registered else None
        except (MlflowException, OSError, ValueError, TypeError, AttributeError):
            return None
