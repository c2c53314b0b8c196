"""Which samples without a label to label first: those that a model cannot decide, and of these no two alike.

The model's answers alone are read, those of `make predict`: any registered model, modality and format will do.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from pipelines.errors import UserError

RANKED = 1000  # samples that are compared with those before them; the rest follow by uncertainty alone


def read_answers(folder: Path, task: str) -> pd.DataFrame:
    """Return the answers that ``make predict OUT=folder`` wrote; `UserError` where another task's, or of no classes."""
    if not (files := sorted((folder / "answers").glob("part-*.parquet"))):
        raise UserError(f"{folder} has no answers; make them: make predict TASK=... DATA=... OUT={folder}")
    about = pyarrow.parquet.read_metadata(files[0]).metadata or {}
    model = json.loads(about.get(b"oncolineage.run", "{}")).get("model", "an unknown model")
    if (named := model.split()[:2])[0] != task:
        raise UserError(f"{folder} has answers of {' '.join(named)}, not of a model of {task}")
    found = pd.concat(map(pd.read_parquet, files), ignore_index=True)
    if "probabilities" not in found:
        raise UserError(f"{folder} has answers without probabilities: only labels of classes are ranked")
    return found


def in_order(probabilities: np.ndarray, distance: np.ndarray, count: int = RANKED) -> np.ndarray:
    """Return the positions of samples, those whose labels help most first, ``(n,)``.

    Each has the largest product of uncertainty (one less the difference of the two most probable classes) and distance
    to the nearest one before it: by the square roots of ``probabilities`` ``(n, classes)`` (Hellinger's distance) and
    by ``distance`` ``(n,)``, how far each is from the training data where 1 is as far as a known sample may be.
    """
    two = np.sort(probabilities, axis=1)[:, -2:]
    uncertainty = 1 - (two[:, 1] - two[:, 0])
    features = np.column_stack([np.sqrt(probabilities), distance])
    left, nearest, order = np.ones(len(features), bool), np.ones(len(features)), list[int]()
    for _ in range(min(count, len(features))):
        order.append(int(np.where(left, uncertainty * nearest, -1.0).argmax()))
        left[order[-1]] = False
        nearest = np.minimum(nearest, np.linalg.norm(features - features[order[-1]], axis=1))
    rest = np.flatnonzero(left)
    return np.array([*order, *rest[np.argsort(-uncertainty[rest], kind="stable")]], dtype=np.int64)


def to_label(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each answered sample, that whose label helps most first."""
    table = pd.DataFrame([dict(each) for each in answers["probabilities"]])
    far = answers["out_of_distribution"] / answers["out_of_distribution_threshold"]
    distance = far.astype(float).fillna(0.0).clip(0.0, 3.0).to_numpy()
    order = in_order(table.to_numpy(float), distance)
    kept = [name for name in ("row", "sample_id", "label", "probability", "note") if name in answers]
    ranked = answers.iloc[order][kept].reset_index(drop=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked.assign(distance=distance[order].round(3))
