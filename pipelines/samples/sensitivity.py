"""Classify cell lines as sensitive or resistant to a drug, by a threshold of the drug on the response.

The class of a test row depends on no other test row. Low responses are sensitive. The waterfall method is that of
Barretina et al. (2012), Nature 483, as Haibe-Kains et al. (2013), Nature 504, describe it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.samples.molecules import parent
from pipelines.samples.response import ResponseSamples
from pipelines.tasks.pairs_classification import Threshold

CLASSES = ("resistant", "sensitive")  # in the order of their codes and probabilities
LABELS = ("target", "response", "threshold")  # columns that `call` adds to a table of samples
_STRAIGHT = 0.95  # correlation with its rank above which a waterfall has no inflection


@dataclass(frozen=True)
class Thresholds:
    """Responses below which a cell line is sensitive to a drug."""

    overall: float  # of drugs without training rows
    by_drug: dict[str, float]  # by the id of the drug
    by_molecule: dict[str, float]  # by `parent`, for a known molecule under a new id; of several ids the most measured

    def of(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return the threshold of each drug (index ``drug_id``, column ``smiles``), float64, ``(len(drugs),)``."""

        def one(drug: str, smiles: object) -> float:
            if drug in self.by_drug:
                return self.by_drug[drug]
            return self.by_molecule.get(_molecule(smiles), self.overall)

        values = [one(str(drug), smiles) for drug, smiles in zip(drugs.index, drugs["smiles"], strict=True)]
        return np.array(values, dtype=np.float64)


@dataclass(frozen=True)
class SensitivitySamples(ResponseSamples):
    """Pairs in classes; ``pairs`` has the class as ``target``, the measured ``response`` and the ``threshold``."""

    classes: ClassVar[tuple[str, ...]] = CLASSES

    thresholds: Thresholds

    @property
    def target(self) -> np.ndarray:
        """Return the code of each class, int64, shape ``(n,)``."""
        return self.pairs["target"].to_numpy(np.int64)

    # Cached, since studies recognize samples by identity.
    @cached_property
    def measured(self) -> ResponseSamples:
        """Return the same pairs with the measured response as target."""
        pairs = self.pairs.assign(target=self.pairs["response"])
        return ResponseSamples(pairs, self.cell_lines, self.drugs, self.omics, self.cell, self.drug)

    @cached_property
    def called(self) -> ResponseSamples:
        """Return the same pairs with the class as a numeric target: 1 is sensitive."""
        return ResponseSamples(self.pairs, self.cell_lines, self.drugs, self.omics, self.cell, self.drug)


def call(samples: ResponseSamples, thresholds: Thresholds) -> SensitivitySamples:
    """Classify measured pairs as sensitive where the response lies below the threshold of the drug, else resistant."""
    threshold, response = thresholds.of(samples.drugs)[samples.drug], samples.target
    sensitive = (response < threshold).astype(np.int64)
    pairs = samples.pairs.assign(target=sensitive, response=response, threshold=threshold)
    return SensitivitySamples(
        pairs, samples.cell_lines, samples.drugs, samples.omics, samples.cell, samples.drug, thresholds
    )


def call_by_training_rows(samples: ResponseSamples, rule: Threshold, train: np.ndarray) -> SensitivitySamples:
    """Learn thresholds on the rows ``train`` and classify all rows by them; `UserError` if those are of one class."""
    called = call(samples, learn_thresholds(samples.take(train), rule))
    found = np.unique(called.target[train])
    if len(found) < 2:
        alike = CLASSES[int(found[0])] if len(found) else "missing"
        message = f"data.threshold calls all {len(train)} training rows {alike}; choose another method"
        raise UserError(f"{message}, or look at the responses")
    return called


def learn_thresholds(train: ResponseSamples, rule: Threshold) -> Thresholds:
    """Learn a threshold for each drug; that over all drugs is mixed in, with the weight of ``rule.prior_rows`` rows."""
    methods: dict[str, Callable[[np.ndarray], float]] = {
        "waterfall": waterfall,
        "quantile": lambda response: float(np.quantile(response, rule.share)),
    }
    find, response = methods[rule.method], train.target
    overall, by_drug, by_molecule = find(response), dict[str, float](), dict[str, float]()
    used, rows = np.unique(train.drug, return_counts=True)
    for drug, count in sorted(zip(used, rows, strict=True), key=lambda each: -each[1]):  # the most measured first
        own = find(response[train.drug == drug])
        threshold = float((count * own + rule.prior_rows * overall) / (count + rule.prior_rows))
        by_drug[str(train.drugs.index[drug])] = threshold
        if key := _molecule(train.drugs["smiles"].iloc[drug]):
            by_molecule.setdefault(key, threshold)
    return Thresholds(overall, by_drug, by_molecule)


def _molecule(smiles: object) -> str:
    return (parent(smiles) or "") if isinstance(smiles, str) else ""


def waterfall(response: np.ndarray) -> float:
    """Return the major inflection of sorted responses: the point farthest from the line between the two ends.

    Where they correlate with their rank above 0.95 there is no inflection, and the median is returned. The published
    method sets lines within a factor of 4 of the threshold apart as intermediate; here none is.
    """
    ordered = np.sort(response)
    rank = np.arange(len(ordered))
    if np.ptp(ordered) == 0 or np.corrcoef(rank, ordered)[0, 1] > _STRAIGHT:
        return float(np.median(ordered))
    line = np.linspace(ordered[0], ordered[-1], len(ordered))
    return float(ordered[np.abs(ordered - line).argmax()])
