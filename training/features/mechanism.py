"""Targets and pathway of a drug, as ``drugs.csv`` tells them, as numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from pipelines.samples.response import MECHANISM
from pipelines.text_values import folded, is_unknown
from training.architectures import draw
from training.estimator import Featurizer

_NO_TARGETS = ("others", "other", "not defined")  # that name none


@dataclass
class Mechanisms(Featurizer):
    """Zeros and ones: nothing known, the pathway, and each target; of the drugs that it was fitted on."""

    pathways: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)

    def fit(self, drugs: pd.DataFrame, fewest: int = 1) -> Self:
        """Learn the pathways of ``drugs``, and the targets of at least ``fewest`` of them."""
        pathways, targets = (_named(drugs, column) for column in MECHANISM[::-1])
        self.pathways = sorted({each for names in pathways for each in names})
        count = Counter(each for names in targets for each in names)
        self.targets = sorted(name for name in count if count[name] >= fewest)
        return self

    def transform(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return float32 of shape ``(drugs, len(names))``; a drug of which nothing is known here has the first."""
        blocks = []
        for column, vocabulary in (("pathway", self.pathways), ("target", self.targets)):
            place = {name: at for at, name in enumerate(vocabulary)}
            block = np.zeros((len(drugs), len(vocabulary)), np.float32)
            for row, names in enumerate(_named(drugs, column)):
                block[row, [place[name] for name in names if name in place]] = 1
            blocks.append(block)
        known = np.hstack(blocks)
        return np.hstack([(known.sum(axis=1, keepdims=True) == 0).astype(np.float32), known])

    @property
    def names(self) -> list[str]:
        """Return the names of the columns of `transform`."""
        named = [f"pathway:{name}" for name in self.pathways] + [f"target:{name}" for name in self.targets]
        return ["mechanism:none", *named]


def mechanism_space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw whether a model sees the mechanism of drugs, where the data tells it of any."""
    return draw(trial, mechanism=[False, True]) if settings.get("mechanisms", True) else {}


def _named(drugs: pd.DataFrame, column: str) -> list[list[str]]:
    """Return the names in a column for each drug: the pathway, or the targets, which commas part."""
    if column not in drugs:
        return [[] for _ in range(len(drugs))]
    texts = [None if is_unknown(text) else folded(str(text)) for text in drugs[column].tolist()]
    if column == "pathway":
        return [[] if text is None else [text] for text in texts]
    parts = [[part.strip() for part in (text or "").split(",")] for text in texts]
    return [list(dict.fromkeys(part for part in of if part and part not in _NO_TARGETS)) for of in parts]
