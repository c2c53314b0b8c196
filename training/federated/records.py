"""What goes over the wire: states, weights and sums as Flower's records, without pickle."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from training.estimator import packed, unpacked

_STATE = "state.json"


def to_bytes(state: dict[str, Any]) -> bytes:
    """Return nested JSON values and arrays as bytes."""
    text, arrays = packed(state)
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, **{_STATE: np.frombuffer(text.encode(), np.uint8)}, **arrays)
    return written.getvalue()


def from_bytes(given: bytes) -> dict[str, Any]:
    """Return what `to_bytes` was given."""
    with np.load(io.BytesIO(given), allow_pickle=False) as read:
        arrays = {name: read[name] for name in read.files}
    return unpacked(arrays.pop(_STATE).tobytes().decode(), arrays)


def to_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Return arrays as a record."""
    return ArrayRecord({name: Array(np.ascontiguousarray(value)) for name, value in arrays.items()})


def from_record(record: ArrayRecord) -> dict[str, np.ndarray]:
    """Return the arrays of a record by name; they are copies that can be written to."""
    return {name: np.array(array.numpy()) for name, array in record.items()}
