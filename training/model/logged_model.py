"""The files of a logged model."""

from pathlib import Path

import yaml

from pipelines.errors import UserError
from pipelines.files import read_json
from training.contract import Contract, contract_from
from training.model.predictor import CONTRACT_FILE


def predictor_folder(files: Path) -> Path:
    """Return the folder that `Predictor.read` reads, below the folder ``files`` of a logged model."""
    try:
        logged = yaml.safe_load((files / "MLmodel").read_text(encoding="utf-8"))
        return files / logged["flavors"]["python_function"]["artifacts"]["model"]["path"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(
            f"the model was not logged by this platform: MLmodel names no artifact model: {error}"
        ) from error


def contract_of(folder: Path) -> Contract:
    """Return the contract of the model whose predictor lies in ``folder``, without loading it."""
    try:
        content = read_json(folder / CONTRACT_FILE)
        content.pop("cross_fitted", None)
        return contract_from(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the model's {CONTRACT_FILE} cannot be read: {error}") from error
