"""Doubtful labels by out-of-fold probabilities: confident learning (Northcutt et al., 2021, JAIR), and a margin.

Its class thresholds alone name many that are right. So a label counts as doubtful only if another is `MARGIN` more
probable, after the probabilities were calibrated and the labels of the group's other samples were heard: cells of a
subject mostly have one label, images of a smear do not, which the labels themselves show.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import gammaln

from pipelines.datasets import Prepared
from pipelines.params import Params, Task
from training.architectures import Architecture
from training.estimator import Estimator
from training.model.calibration import apply_temperature, fit_temperature
from training.model.cross_fit import CrossFitted
from training.studies.trials import fit_settings

MARGIN = 0.85
SHOWN = 60  # of the worst labels people see why
_CONCENTRATIONS = np.logspace(-2, 3, 26)


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities of all samples, ``(n, classes)``, each of models that never saw its group."""

    probabilities: np.ndarray
    crossed: CrossFitted
    fold: np.ndarray  # of each sample, below 0 of those on the side test, which all members predict

    def model(self, row: int) -> Estimator:
        """Return a model that never saw the group of the sample at ``row``."""
        names = np.unique(self.fold[self.fold >= 0])
        return self.crossed.members_[int(np.searchsorted(names, max(self.fold[row], names[0])))]


def out_of_fold(
    architecture: Architecture, hyperparameters: dict[str, Any], prepared: Prepared, params: Params, task: Task
) -> OutOfFold:
    """Fit an architecture without each fold in turn, on no row of the side test."""
    rows, tested = prepared.rows("train", "validation"), prepared.rows("test")
    fold = prepared.table["fold"].to_numpy()
    whole = architecture.build(hyperparameters, **fit_settings(params, task))
    crossed = CrossFitted(
        of=architecture.file,
        hyperparameters=whole.get_params(deep=False),
        modality=architecture.modality,
        problem=architecture.problem,
    ).fit(prepared.samples.take(rows), folds=fold[rows])
    found = np.empty((len(fold), crossed.out_of_fold_.shape[1]))
    found[rows] = crossed.out_of_fold_
    if len(tested):
        found[tested] = crossed.outputs(prepared.samples.take(tested))
    temperature = fit_temperature(found[rows], prepared.samples.target[rows])
    return OutOfFold(apply_temperature(found, temperature), crossed, fold)


def heard(probabilities: np.ndarray, given: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return probabilities times the odds that the labels of the group's other samples give each class, ``(n, k)``.

    These are of a Dirichlet-multinomial model, whose concentration is the most likely one: small where a group mostly
    has one label, large where its labels are as mixed as all. A sample that is a group of its own keeps its own.
    """
    own = np.eye(probabilities.shape[1])[given]
    code = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((code.max() + 1, own.shape[1]))
    np.add.at(counts, code, own)
    sizes = counts.sum(axis=1)
    expected = (own.sum(axis=0) + 1) / (len(own) + own.shape[1])

    def likelihood(concentration: float) -> float:
        of_classes = gammaln(counts + concentration * expected) - gammaln(concentration * expected)
        return float((gammaln(concentration) - gammaln(sizes + concentration) + of_classes.sum(axis=1)).sum())

    concentration = max(_CONCENTRATIONS, key=likelihood)
    others = (counts[code] - own + concentration * expected) / (sizes[code] - 1 + concentration)[:, None]
    joint = probabilities * others / expected
    return joint / joint.sum(axis=1, keepdims=True)


def doubtful(probabilities: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of doubtful labels, worst first, with the class that each seems to be and the margin.

    A class is confident from the mean probability of the samples that have it on; the margin is the probability of the
    given class less that of the other one.
    """
    rows, classes = np.arange(len(given)), range(probabilities.shape[1])
    threshold = np.array([probabilities[given == each, each].mean() if each in given else 2.0 for each in classes])
    confident = np.where(probabilities >= threshold, probabilities, -1.0)
    other = confident.argmax(axis=1)
    margin = probabilities[rows, given] - probabilities[rows, other]
    found = np.flatnonzero((confident.max(axis=1) >= 0) & (other != given) & (margin <= -MARGIN))
    found = found[np.argsort(margin[found], kind="stable")]
    return found, other[found], margin[found]


def queue(of: OutOfFold, prepared: Prepared, decisions: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each doubtful label, the worst first; ``decisions`` are those of people that are known.

    The index is the position among the samples.
    """
    table, samples = prepared.table, prepared.samples
    given, classes = samples.target, np.array(samples.classes, dtype=object)
    probabilities = heard(of.probabilities, given, table["group"].to_numpy(str))
    rows, other, margin = doubtful(probabilities, given)
    known = dict(zip(decisions["sample_id"], decisions["decision"], strict=True))
    found = table.iloc[rows][["sample_id", "group", "split"]].set_axis(rows)
    doctor = importlib.import_module(f"evaluation.label_doctor.{samples.modality}")
    first, seen = rows[:SHOWN], [of.model(row) for row in rows[:SHOWN]]
    because = doctor.reasons(samples.take(first), seen, given[first], other[:SHOWN])
    return found.assign(
        tested=np.isin(rows, prepared.tested),
        given=classes[given[rows]],
        suggested=classes[other],
        probability_given=probabilities[rows, given[rows]].round(4),
        probability_suggested=probabilities[rows, other].round(4),
        score=margin.round(4),
        because=[*because, *[""] * (len(rows) - len(first))],
        decision=[known.get(name, "") for name in found["sample_id"]],
    )
