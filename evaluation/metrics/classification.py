"""Classification metrics, for one sample or for many weightings of it at once, and their bootstrap intervals.

As in `evaluation.metrics.regression`, the value on the test split and on each resample is one computation under
different weights. What adds up over rows (confusion, calibration bins, losses) is added up by group once; areas under
curves are read off cumulative weights in the order of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from evaluation.metrics import columns
from evaluation.metrics.columns import Floats, Integers, encode, gain, in_blocks, weights_of
from pipelines.problems import get_problem

_REGISTERED = get_problem("classification").metrics
WITHIN = tuple(metric.name for metric in _REGISTERED if metric.within)  # means over drugs
_OVERALL = [each.name for each in _REGISTERED if not each.within and each.name not in ("margin", "prevalence")]

_OF_CLASS = ("precision", "recall", "f1", "roc_auc", "pr_auc")

BINS = 15

# Networks that compute in float32 sum to one within 1e-6; what misses it by more than this is no probability.
_SUM_TOLERANCE = 1e-3

# scikit-learn's bound for float64: a certain mistake costs 36 nats, not infinity.
_SMALLEST = float(np.finfo(np.float64).eps)


def weighted_classification_metrics(
    target: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    groups: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    classes: Sequence[str],
    baseline: npt.ArrayLike | None = None,
    margin_metric: str = "accuracy",
    within: npt.ArrayLike | None = None,
) -> dict[str, Floats]:
    """Return metrics of predicted probabilities under each of many weightings of the groups, ``(n_weightings,)`` each.

    A weighting with whole numbers gives what the rows give when repeated that often, save for means over classes: where
    a class has rows and the weighting leaves it none, they are NaN and not the mean over the other classes, which would
    be another quantity. What the data leave undefined is NaN too: every metric of a class without rows, the precision
    of a class that is never predicted, areas where all rows are of one class. Means leave out classes without rows.

    Parameters
    ----------
    target, probabilities
        Codes of the classes ``(n_rows,)``, and ``(n_rows, n_classes)``, of which each row sums to one. The predicted
        class is the most probable one, the first of equals.
    groups, counts, baseline, margin_metric, within
        See `evaluation.problems.Measures.weigh`. A drug whose rows all lie in one group counts as often as that group
        was drawn: each draw of the group is a drug of its own.

    Returns
    -------
    dict of str to array
        - `accuracy`; `balanced_accuracy`: mean recall of the classes; `macro_f1`; `weighted_f1`: by rows of the class;
        - `roc_auc`, `pr_auc` (average precision): with two classes those of the second, with more the mean over the
          classes, each against the rest;
        - `ece`: expected calibration error (Guo et al., 2017), the mean gap between confidence and accuracy over 15
        bins
          of equal width, open below and closed above, of the most probable class's probability;
        - `log_loss`: in nats, probabilities below 2.2e-16 raised to that;
        - `brier`: squared error, summed over the classes, with two classes of one of them, as scikit-learn has it;
        - `precision_<class>`, `recall_<class>`, `f1_<class>`, `roc_auc_<class>`, `pr_auc_<class>`;
        - `margin` over the baseline; `prevalence`: share of rows of the second class, which is the `pr_auc` of chance;
        - `within_drug_roc_auc`, `within_drug_pr_auc`, `within_drug_prevalence`: unweighted means over the drugs that
          have rows of both classes, where differences between drugs earn nothing.

    Raises
    ------
    ValueError
        If a column is of another shape, or holds what is no class or no probability; the message names the first such
        row.
    """
    names = metric_names(classes)
    known = [*names, *(WITHIN if within is not None else ())]
    if margin_metric not in known:
        raise ValueError(f"margin_metric is {margin_metric!r}, not one of {', '.join(known)}")
    if within is not None and len(classes) != 2:
        raise ValueError(f"within is given with {len(classes)} classes; metrics within drugs are of two")
    code = _codes("target", target, len(classes))
    model = _probabilities("probabilities", probabilities, code.size, len(classes))
    naive = None if baseline is None else _probabilities("baseline", baseline, code.size, len(classes))
    labels, group = encode("groups", groups, code.size)
    weights = weights_of(counts, labels.size)

    # One canonical order, so that sums round alike in whatever order the rows came.
    both = model if naive is None else np.hstack([naive, model])
    order = np.lexsort((*both.T, group, code))
    code, group = code[order], group[order]
    scored = _Scored.build(code, model[order], group, labels.size)
    reference = None if naive is None else _Scored.build(code, naive[order], group, labels.size)

    def measure(block: Floats) -> dict[str, Floats]:
        turned = np.ascontiguousarray(block.T)
        found = dict(zip(names, scored.metrics(turned), strict=True))
        if reference is not None and margin_metric in names:
            ranks = margin_metric.startswith(("roc_auc", "pr_auc"))
            of_naive = dict(zip(names, reference.metrics(turned, ranks=ranks), strict=True))
            found["margin"] = gain(margin_metric, found[margin_metric], of_naive[margin_metric])
        return found

    found = in_blocks(weights, code.size, measure)
    if within is not None:
        drug = encode("within", within, code.size)[1][order]
        found |= {"prevalence": _prevalence(code, group, weights)}
        found |= _within_drugs(code, model[order, 1], group, drug, weights)
        if naive is not None and margin_metric in WITHIN:
            of_naive = _within_drugs(code, naive[order, 1], group, drug, weights)
            found["margin"] = found[margin_metric] - of_naive[margin_metric]
    return found


def metric_names(classes: Sequence[str]) -> list[str]:
    """Return the names of all metrics of rows, overall and then class by class; no margin, none within drugs."""
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {', '.join(map(str, classes)) or 'none'}: at least two are needed, each once")
    return _OVERALL + [f"{name}_{label}" for label in classes for name in _OF_CLASS]


def confusion(target: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int64]:
    """Count rows by true class (down) and predicted class (across), ``(n_classes, n_classes)``."""
    true, guessed = _codes("target", target, n_classes), _codes("predicted", predicted, n_classes)
    counts = np.bincount(true * n_classes + guessed, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.int64, copy=False)


def reliability(target: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return the share of rows, confidence and accuracy in each bin of `ece`, ``(15,)``; NaN where a bin is empty."""
    n_classes = np.shape(probabilities)[1] if np.ndim(probabilities) == 2 else 0
    code = _codes("target", target, n_classes)
    model = _probabilities("probabilities", probabilities, code.size, n_classes)
    top = model.max(axis=1)
    place = _bin(top)
    rows = np.bincount(place, minlength=BINS)
    filled = np.where(rows, rows, np.nan)
    right = np.bincount(place, model.argmax(axis=1) == code, BINS)
    return rows / code.size, np.bincount(place, top, BINS) / filled, right / filled


@dataclass(frozen=True)
class _Ranked:
    """Rows by falling score of one class, ties gathered into runs; of the runs only those with rows of the class."""

    group: Integers  # (n_rows,) group at each sorted place
    group_of_positive: Integers  # (n_positive,) the same for rows of the class
    first: Integers  # (n_runs,) first sorted place of the run
    last: Integers  # (n_runs,) last sorted place of the run
    last_positive: Integers  # (n_runs,) last of the run's rows among those of the class

    @classmethod
    def build(cls, score: Floats, positive: npt.NDArray[np.bool_], group: Integers) -> _Ranked:
        order = np.argsort(-score, kind="stable")
        descending, of_class = score[order], positive[order]
        starts = np.flatnonzero(np.r_[True, np.diff(descending) != 0])
        ends = np.r_[starts[1:], score.size] - 1
        through = np.cumsum(of_class)
        held = np.diff(np.r_[0, through[ends]]) > 0
        return cls(
            group=group[order],
            group_of_positive=group[order][of_class],
            first=starts[held],
            last=ends[held],
            last_positive=through[ends[held]] - 1,
        )

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """ROC-AUC and average precision (n_weightings,), for `weights` of shape (n_groups, n_weightings)."""
        if not self.last.size:
            undefined = np.full(weights.shape[1], np.nan)
            return undefined, undefined
        above = np.cumsum(weights[self.group], axis=0)
        right = np.cumsum(weights[self.group_of_positive], axis=0)[self.last_positive]
        everything, positives = above[-1], right[-1]
        through = above[self.last]
        before = np.where((self.first > 0)[:, np.newaxis], above[self.first - 1], 0.0)
        gained = np.diff(right, axis=0, prepend=0.0)
        # Rows of other classes that rank below the run, and half of those that tie with it.
        negatives = everything - positives
        below = negatives - (through - right + before - (right - gained)) / 2
        pairs = positives * negatives
        defined = pairs > 0
        scale = np.where(defined, pairs, np.nan)
        roc_auc = np.einsum("rb,rb->b", gained, below) / scale
        precision = np.divide(right, through, out=np.zeros_like(right), where=through > 0)
        pr_auc = np.einsum("rb,rb->b", gained, precision) / np.where(defined, positives, np.nan)
        return roc_auc, pr_auc


@dataclass(frozen=True)
class _Scored:
    """One model's probabilities, ready to be scored under any weights of the groups."""

    n_classes: int
    present: Integers  # classes that have rows
    sums: sparse.csr_array  # (n_classes ** 2 + BINS + 2, n_groups) confusion, calibration gaps, log loss, Brier score
    ranked: list[_Ranked]  # one a class

    @classmethod
    def build(cls, code: Integers, probabilities: Floats, group: Integers, n_groups: int) -> _Scored:
        n_rows, n_classes = probabilities.shape
        predicted = probabilities.argmax(axis=1)
        top = probabilities.max(axis=1)
        truth = np.eye(n_classes)[code]
        brier = np.sum((truth - probabilities) ** 2, axis=1) / (2 if n_classes == 2 else 1)
        log_loss = -np.log(np.clip((probabilities * truth).sum(axis=1), _SMALLEST, 1.0))
        cells = n_classes**2
        values = np.concatenate([np.ones(n_rows), (predicted == code) - top, log_loss, brier])
        quantity = np.concatenate(
            [
                code * n_classes + predicted,
                cells + _bin(top),
                np.full(n_rows, cells + BINS),
                np.full(n_rows, cells + BINS + 1),
            ]
        )
        return cls(
            n_classes=n_classes,
            present=np.unique(code),
            sums=sparse.coo_array((values, (quantity, np.tile(group, 4))), (cells + BINS + 2, n_groups)).tocsr(),
            ranked=[_Ranked.build(probabilities[:, k], code == k, group) for k in range(n_classes)],
        )

    def metrics(self, weights: Floats, ranks: bool = True) -> list[Floats]:
        """All metrics (n_weightings,) in the order of `metric_names`, for `weights` of shape (n_groups, n_weightings).

        Without `ranks` the areas under curves are NaN.
        """
        sums = self.sums @ weights
        cells = self.n_classes**2
        counts = sums[:cells].reshape(self.n_classes, self.n_classes, -1)
        total = counts.sum(axis=(0, 1))
        rows, predicted = counts.sum(axis=1), counts.sum(axis=0)
        right = np.einsum("kkb->kb", counts)
        support = np.where(rows > 0, rows, np.nan)
        recall = right / support
        precision = np.where(rows > 0, right / np.where(predicted > 0, predicted, np.nan), np.nan)
        f1 = 2 * right / (support + predicted)
        areas = np.full((2, *rows.shape), np.nan)
        if ranks:
            areas = np.stack([ranked.areas(weights) for ranked in self.ranked], axis=1)
        roc_auc, pr_auc = areas
        overall = [
            right.sum(axis=0) / total,
            recall[self.present].mean(axis=0),
            f1[self.present].mean(axis=0),
            np.where(rows > 0, rows * f1, 0.0).sum(axis=0) / total,
            *(area[1] if self.n_classes == 2 else area[self.present].mean(axis=0) for area in areas),
            np.abs(sums[cells : cells + BINS]).sum(axis=0) / total,
            *sums[cells + BINS :] / total,
        ]
        of_class = zip(precision, recall, f1, roc_auc, pr_auc, strict=True)
        return overall + [values for metrics in of_class for values in metrics]


def _within_drugs(code: Integers, score: Floats, group: Integers, drug: Integers, weights: Floats) -> dict[str, Floats]:
    """Return `WITHIN` for `score` (n_rows,) of the second class, under `weights` of shape (n_weightings, n_groups)."""
    total, drugs = np.zeros((len(WITHIN), len(weights))), np.zeros(len(weights))
    order = np.argsort(drug, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(drug[order])) + 1):
        positive, whose = code[rows] == 1, group[rows]
        if positive.all() or not positive.any():
            continue
        ranked = _Ranked.build(score[rows], positive, whose)
        one_group = bool((whose == whose[0]).all())
        step = max(1, columns.BLOCK // rows.size)
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            block = weights[part]
            areas = ranked.areas(np.ascontiguousarray(block.T))
            defined = ~np.isnan(areas[0])
            draws = np.where(defined, block[:, whose[0]] if one_group else 1.0, 0.0)
            found = np.stack([*areas, _prevalence(code[rows], whose, block)])
            total[:, part] += np.where(defined, draws * found, 0.0)
            drugs[part] += draws
    means = total / np.where(drugs > 0, drugs, np.nan)
    return dict(zip(WITHIN, means, strict=True))


def _prevalence(code: Integers, group: Integers, weights: Floats) -> Floats:
    """Return the share of rows of the second class under each weighting, (n_weightings,); NaN where none has weight."""
    of_group, of_class = (
        np.bincount(of, minlength=weights.shape[1]).astype(np.float64) for of in (group, group[code == 1])
    )
    rows = weights @ of_group
    share: Floats = (weights @ of_class) / np.where(rows > 0, rows, np.nan)
    return share


def _bin(confidence: Floats) -> Integers:
    edges = np.linspace(0, 1, BINS + 1)
    return np.clip(np.searchsorted(edges, confidence) - 1, 0, BINS - 1)


def _codes(name: str, values: npt.ArrayLike, n_classes: int) -> Integers:
    column = np.asarray(values)
    if column.ndim != 1 or not column.size or column.dtype.kind not in "iu":
        raise ValueError(f"{name} has shape {column.shape} of {column.dtype}, not the numbers of classes, (n_rows,)")
    bad = np.flatnonzero((column < 0) | (column >= n_classes))
    if bad.size:
        raise ValueError(f"{name} is {column[bad[0]]} at row {bad[0]}, and there are {n_classes} classes")
    return column.astype(np.intp)


def _probabilities(name: str, values: npt.ArrayLike, n_rows: int, n_classes: int) -> Floats:
    table = columns.numbers(name, values, (n_rows, n_classes))
    bad = np.flatnonzero(~((table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) <= _SUM_TOLERANCE)))
    if bad.size:
        row = np.array2string(table[bad[0]], precision=4, separator=", ")
        raise ValueError(f"{name} is {row} at row {bad[0]}: no probabilities that sum to one")
    return table
