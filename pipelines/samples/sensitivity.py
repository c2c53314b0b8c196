"""Whether a cell line is sensitive or resistant to a drug: its response against a threshold of the drug's own.

Thresholds are learnt on training rows, and the rows of every side are called by them: what a test row is called depends
on no other test row. Low responses are sensitive, as they are of ln IC50 and of the area under a dose-response curve.

References
----------
Barretina J. et al. (2012). The Cancer Cell Line Encyclopedia enables predictive modelling of anticancer drug
sensitivity. Nature 483: the waterfall method.
Haibe-Kains B. et al. (2013). Inconsistency in large pharmacogenomic studies. Nature 504: the same, spelt out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from skimage.filters import threshold_otsu

from pipelines.errors import UserError
from pipelines.samples.molecules import canonical, parent
from pipelines.samples.response import ResponseSamples
from pipelines.tasks.pairs_classification import Threshold

CLASSES = ("resistant", "sensitive")  # in the order of their codes and probabilities
LABELS = ("target", "response", "threshold")  # columns that a call adds to a table of samples
_BINS = 256
_STRAIGHT = 0.95  # correlation with its rank above which a waterfall has no inflection


@dataclass(frozen=True)
class Thresholds:
    """Responses below which a cell line is sensitive to a drug.

    Attributes
    ----------
    overall
        Of drugs without training rows.
    by_drug
        By the drug's id.
    by_molecule
        By `pipelines.samples.molecules.parent`, for a known molecule under an id that is not; of several ids the most
        measured one's.
    """

    overall: float
    by_drug: dict[str, float]
    by_molecule: dict[str, float]

    def of(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return the threshold of each drug (index ``drug_id``, column ``smiles``), float64, ``(len(drugs),)``."""
        return np.array(
            [
                self.by_drug[str(drug)] if str(drug) in self.by_drug else self._of_molecule(smiles)
                for drug, smiles in zip(drugs.index, drugs["smiles"], strict=True)
            ],
            dtype=np.float64,
        )

    def _of_molecule(self, smiles: object) -> float:
        # By their canonical SMILES in models of before.
        keys = (parent(smiles), canonical(smiles)) if isinstance(smiles, str) else ()
        return next((self.by_molecule[key] for key in keys if key in self.by_molecule), self.overall)

    def state(self) -> dict[str, Any]:
        """Return the fields as JSON values; ``Thresholds(**state)`` makes them again."""
        return asdict(self)


@dataclass(frozen=True)
class SensitivitySamples(ResponseSamples):
    """Pairs that were called sensitive or resistant.

    ``pairs`` holds the code of the call as ``target``, what was measured as ``response`` (in the unit of
    `pipelines.modalities.pairs.PairsData.target`), and the ``threshold`` between the two.
    """

    classes: ClassVar[tuple[str, ...]] = CLASSES

    thresholds: Thresholds

    @property
    def target(self) -> np.ndarray:
        """Return the code of each call, int64, shape ``(n,)``."""
        return self.pairs["target"].to_numpy(np.int64)

    # Made once: studies know the features of samples by the samples' identity.
    @cached_property
    def measured(self) -> ResponseSamples:
        """Return the same pairs with the measured response as their target."""
        return self._with_target("response")

    @cached_property
    def called(self) -> ResponseSamples:
        """Return the same pairs with the call as their target, a number: 1 is sensitive."""
        return self._with_target("target")

    def _with_target(self, column: str) -> ResponseSamples:
        pairs = self.pairs.assign(target=self.pairs[column])
        return ResponseSamples(pairs, self.cell_lines, self.drugs, self.omics, self.cell, self.drug)


def call(samples: ResponseSamples, thresholds: Thresholds) -> SensitivitySamples:
    """Call measured pairs sensitive where their response lies below the drug's threshold, else resistant."""
    threshold = thresholds.of(samples.drugs)[samples.drug]
    response = samples.target
    sensitive = (response < threshold).astype(np.int64)
    pairs = samples.pairs.assign(target=sensitive, response=response, threshold=threshold)
    return SensitivitySamples(
        pairs, samples.cell_lines, samples.drugs, samples.omics, samples.cell, samples.drug, thresholds
    )


def call_by_training_rows(samples: ResponseSamples, rule: Threshold, train: np.ndarray) -> SensitivitySamples:
    """Learn thresholds on the rows ``train`` (positions) and call all rows by them.

    Raises
    ------
    UserError
        All training rows are called alike: there is nothing to learn.
    """
    called = call(samples, learn_thresholds(samples.take(train), rule))
    found = np.unique(called.target[train])
    if len(found) < 2:
        alike = CLASSES[int(found[0])] if len(found) else "missing"
        raise UserError(
            f"data.threshold calls all {len(train)} training rows {alike}; choose another method, or look at the "
            "responses"
        )
    return called


def learn_thresholds(train: ResponseSamples, rule: Threshold) -> Thresholds:
    """Learn a threshold for each drug.

    Parameters
    ----------
    train
        Training rows.
    rule
        The method, and how much of the threshold over all drugs is in that of a drug with few rows.
    """
    methods: dict[str, Callable[[np.ndarray], float]] = {
        "waterfall": waterfall,
        "quantile": lambda response: float(np.quantile(response, rule.share)),
        "otsu": otsu,
    }
    find, response = methods[rule.method], train.target
    overall = find(response)
    by_drug: dict[str, float] = {}
    by_molecule: dict[str, float] = {}
    used, rows = np.unique(train.drug, return_counts=True)
    for drug, count in sorted(zip(used, rows, strict=True), key=lambda each: -each[1]):  # the most measured first
        own = find(response[train.drug == drug])
        threshold = float((count * own + rule.prior_rows * overall) / (count + rule.prior_rows))
        by_drug[str(train.drugs.index[drug])] = threshold
        smiles = train.drugs["smiles"].iloc[drug]
        if isinstance(smiles, str) and (key := parent(smiles)) is not None:
            by_molecule.setdefault(key, threshold)
    return Thresholds(overall, by_drug, by_molecule)


def otsu(response: np.ndarray) -> float:
    """Return the value between two modes: the upper edge of the histogram's last bin of the lower one (Otsu, 1979)."""
    center = threshold_otsu(response, nbins=_BINS)
    return float(center + np.ptp(response) / _BINS / 2)


def waterfall(response: np.ndarray) -> float:
    """Return the major inflection of sorted responses: the point farthest from the line between the two ends.

    Where the sorted responses are nearly a line themselves (their correlation with their rank is above 0.95) there is
    no inflection, and the median is returned. The published method sets lines within a factor of 4 of the threshold
    apart as intermediate; here every line is called.
    """
    ordered = np.sort(response)
    rank = np.arange(len(ordered))
    if np.ptp(ordered) == 0 or np.corrcoef(rank, ordered)[0, 1] > _STRAIGHT:
        return float(np.median(ordered))
    line = np.linspace(ordered[0], ordered[-1], len(ordered))
    return float(ordered[np.abs(ordered - line).argmax()])
