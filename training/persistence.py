"""Saving fitted state without pickle: JSON for structure, safetensors for arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

_ARRAY = "__array__"


def save_state(state: dict[str, Any], folder: Path) -> None:
    """Write nested JSON values and arrays of numbers to ``state.json`` and ``state.safetensors`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}

    def strip(value: Any, path: str) -> Any:
        if isinstance(value, np.ndarray):
            arrays[path] = np.ascontiguousarray(value)
            return {_ARRAY: path}
        if isinstance(value, dict):
            return {key: strip(inner, f"{path}.{key}") for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [strip(inner, f"{path}.{index}") for index, inner in enumerate(value)]
        return value.item() if isinstance(value, np.generic) else value

    structure = strip(state, "state")
    (folder / "state.json").write_text(json.dumps(structure), encoding="utf-8")
    save_file(arrays, folder / "state.safetensors")


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote."""
    arrays = load_file(folder / "state.safetensors")

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {_ARRAY}:
                return arrays[value[_ARRAY]]
            return {key: fill(inner) for key, inner in value.items()}
        return [fill(inner) for inner in value] if isinstance(value, list) else value

    return fill(json.loads((folder / "state.json").read_text(encoding="utf-8")))
