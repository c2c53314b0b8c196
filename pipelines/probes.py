"""Shortcuts: how well confounders alone predict the label of groups that the probe was not fitted on.

A probe far above chance means that a model can score as much without the biology.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.samples.response import ResponseSamples

# A finding needs an interval above this share of the way from chance to a perfect score (an AUC of 0.6, a balanced
# accuracy of 0.36 with 5 classes). Confounders are never independent of the label: cells of two classes differ in stain
# and size. Below this a model gains little by them.
MARGIN = 0.2
MARGIN_R2 = 0.1  # of the differences between cell lines, which good models too explain only in part
FOLDS = 5
RESAMPLES = 500
PERMUTATIONS = 200
_CONFIDENCE = 0.95
GROUPS = 3000
_TREES = {"n_estimators": 100, "max_depth": 6, "min_samples_leaf": 5, "n_jobs": 1}


def probe_labels(
    name: str, features: pd.DataFrame, labels: np.ndarray, groups: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return how well ``features``, a row a sample, predict ``labels`` of groups that the probe was not fitted on.

    The result has ``probe, metric, score, low, high, chance, finding``. ``metric`` is ``roc_auc`` for two classes and
    ``balanced_accuracy`` for more. ``low`` and ``high`` are a 95 % bootstrap interval over groups. ``chance`` is the
    mean score against labels permuted by whole groups, and ``chance_high`` their 97.5 % quantile. With more than two
    classes ``pairs`` has the AUC of each two, which shows classes from two sources. ``score`` is None, with a ``note``,
    where the folds cannot be made.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    group = np.unique(groups, return_inverse=True)[1]
    classes = int(codes.max(initial=-1)) + 1
    score: Callable[..., float] = _auc if classes == 2 else _balanced_accuracy
    result: dict[str, Any] = {"probe": name, "metric": "roc_auc" if classes == 2 else "balanced_accuracy"}
    even = 1 / max(classes, 2)
    result |= {"score": None, "low": None, "high": None, "chance": even, "finding": False}
    if classes < 2:
        return result | {"note": "there is one label"}
    fewest = min(len(np.unique(group[codes == label])) for label in range(classes))
    if fewest < 2:
        return result | {"note": "a label is in one group only, so that label and group cannot be separated"}
    values = _varying(features)
    if values.shape[1] == 0:
        return result | {"score": even, "low": even, "high": even, "note": "the same for all samples"}
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    answers = np.zeros((len(codes), classes))
    for train, test in folds.split(values, codes, group):
        seen = np.unique(codes[train])
        if len(test) == 0 or len(seen) < 2:  # a fold of uneven groups can be empty
            continue
        linear = LogisticRegression(class_weight="balanced", max_iter=500)
        trees = ExtraTreesClassifier(**_TREES, class_weight="balanced", random_state=seed)
        for model in (
            _prepared(linear),
            _prepared(trees),
        ):  # their mean: the better one favors confounders
            answers[np.ix_(test, seen)] += model.fit(values[train], codes[train]).predict_proba(values[test]) / 2
    predicted = answers[:, 1] if classes == 2 else answers.argmax(axis=1)
    ones = np.ones(len(codes))
    low, high = _interval([score(codes, predicted, weight, classes) for weight in _resamples(group, seed)])
    null = [score(permuted, predicted, ones, classes) for permuted in _permutations(codes, group, seed)]
    chance, ceiling = float(np.mean(null)), float(np.quantile(null, (1 + _CONFIDENCE) / 2))
    reached = score(codes, predicted, ones, classes)
    result |= {"score": reached, "low": low, "high": high, "chance": chance, "chance_high": ceiling}
    if classes > 2:
        result["pairs"] = _pairwise(codes, answers, classes)
    return result | {"finding": bool(low > chance + MARGIN * (1 - chance) and reached > ceiling)}


def thinned(labels: np.ndarray, groups: np.ndarray, seed: int, most: int = GROUPS) -> np.ndarray:
    """Return positions, in order, of the samples of at most ``most`` groups; frequent labels lose most of theirs."""
    first, group = np.unique(groups, return_index=True, return_inverse=True)[1:]
    if len(first) <= most:
        return np.arange(len(groups))
    of_label = [np.flatnonzero(labels[first] == label) for label in np.unique(labels[first])]
    sizes = np.array([len(members) for members in of_label])
    cap = next(cap for cap in range(int(sizes.max()), -1, -1) if np.minimum(sizes, cap).sum() <= most)
    rng = np.random.default_rng([seed, 4])
    kept = np.concatenate([rng.permutation(members)[:cap] for members in of_label])
    return np.flatnonzero(np.isin(group, kept))


def probe_response(
    name: str, features: pd.DataFrame, samples: ResponseSamples, line_groups: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return how well ``features``, a row a cell line, predict the response of lines that the probe was not fitted on.

    The target is a line's mean distance from its drugs' means; drug means are those of the other folds. R2 is over all
    lines, each weighted by its number of measurements; 0, which is chance, is the score of the drug means alone.
    """
    result: dict[str, Any] = {"probe": name, "metric": "r2_over_drug_mean"}
    result |= {"score": None, "low": None, "high": None, "chance": 0.0, "finding": False}
    group = np.unique(line_groups, return_inverse=True)[1]
    count = np.bincount(samples.cell, minlength=len(features)).astype(float)
    folds = min(FOLDS, len(np.unique(group)))
    if folds < 2:
        return result | {"note": "there is one group of cell lines"}
    values = _varying(features)
    if values.shape[1] == 0:
        return result | {"score": 0.0, "low": 0.0, "high": 0.0, "note": "the same for all samples"}
    missed, missed_by_none = np.zeros(len(features)), np.zeros(len(features))
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(values, groups=group):
        distance = _distance_from_drug_means(samples, np.isin(samples.cell, train), count)
        known = train[count[train] > 0]
        guess = np.zeros(len(test))
        trees = ExtraTreesRegressor(**_TREES, random_state=seed)
        for model in (_prepared(RidgeCV(np.logspace(-2, 4, 13))), _prepared(trees)):
            weight = {f"{model.steps[-1][0]}__sample_weight": count[known]}
            guess += model.fit(values[known], distance[known], **weight).predict(values[test]) / 2
        missed[test] = count[test] * (distance[test] - guess) ** 2
        missed_by_none[test] = count[test] * distance[test] ** 2
    if not missed_by_none.sum() > 0:
        return result | {"note": "cell lines do not differ"}
    scores = [1 - float(w @ missed) / max(float(w @ missed_by_none), 1e-12) for w in _resamples(group, seed)]
    low, high = _interval(scores)
    score = 1 - missed.sum() / missed_by_none.sum()
    return result | {"score": float(score), "low": low, "high": high, "finding": bool(low > MARGIN_R2)}


def _distance_from_drug_means(samples: ResponseSamples, fitted_on: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return for each cell line the mean of its targets less the drugs' means over the rows ``fitted_on``."""
    target, drugs = samples.target, len(samples.drugs)
    rows = np.bincount(samples.drug[fitted_on], minlength=drugs)
    total = np.bincount(samples.drug[fitted_on], target[fitted_on], minlength=drugs)
    mean = np.where(rows > 0, total / np.maximum(rows, 1), target[fitted_on].mean())
    summed = np.bincount(samples.cell, target - mean[samples.drug], minlength=len(count))
    return summed / np.maximum(count, 1)


def _varying(features: pd.DataFrame) -> np.ndarray:
    """Return the columns that are not the same for all samples; a missing value is a value."""
    values = features.to_numpy(np.float64)
    return values[:, [len(np.unique(column)) > 1 for column in values.T]] if values.size else values[:, :0]


def _prepared(model: Any) -> Pipeline:
    imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    return make_pipeline(imputer, StandardScaler(), model)


def _auc(labels: np.ndarray, answers: np.ndarray, weight: np.ndarray, classes: int) -> float:
    """Return the weighted area under the ROC curve; NaN where a resample lacks a class. Much faster than sklearn's."""
    place = np.unique(answers, return_inverse=True)[1]
    positive, negative = np.bincount(place, weight * labels), np.bincount(place, weight * (1 - labels))
    below = np.cumsum(negative) - 0.5 * negative
    total = float(positive.sum()) * float(negative.sum())
    return float(positive @ below) / total if total > 0 else np.nan


def _balanced_accuracy(labels: np.ndarray, answers: np.ndarray, weight: np.ndarray, classes: int) -> float:
    """Return the mean recall of the classes; NaN where a resample lacks one."""
    present = np.bincount(labels, weight, minlength=classes)
    if not (present > 0).all():
        return np.nan
    return float((weight * (answers == labels) / present[labels]).sum() / classes)


def _pairwise(codes: np.ndarray, answers: np.ndarray, classes: int) -> list[dict[str, Any]]:
    """Return the AUC of every two classes, the highest first."""
    pairs: list[dict[str, Any]] = []
    for one, other in itertools.combinations(range(classes), 2):
        rows = (codes == one) | (codes == other)
        share = answers[rows, other] / np.maximum(answers[rows, one] + answers[rows, other], 1e-12)
        area = _auc(codes[rows] == other, share, np.ones(rows.sum()), 2)
        pairs.append({"classes": [one, other], "roc_auc": area})
    return sorted(pairs, key=lambda pair: -pair["roc_auc"])


def _resamples(group: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return for each bootstrap resample of the groups how often each sample is in it."""
    rng, groups = np.random.default_rng([seed, 2]), int(group.max()) + 1
    drawn = (np.bincount(rng.integers(0, groups, groups), minlength=groups) for _ in range(RESAMPLES))
    return [times[group].astype(float) for times in drawn]


def _interval(scores: list[float]) -> tuple[float, float]:
    low, high = np.nanquantile(scores, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)


def _permutations(codes: np.ndarray, group: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return permutations of labels that keep those of a group together, so that a group of one label stays so."""
    rng, at = np.random.default_rng([seed, 3]), np.argsort(group, kind="stable")
    blocks = np.split(codes[at], np.cumsum(np.bincount(group))[:-1])
    permuted = np.empty((PERMUTATIONS, len(codes)), codes.dtype)
    for row in permuted:
        row[at] = np.concatenate([rng.permutation(blocks[block]) for block in rng.permutation(len(blocks))])
    return list(permuted)
