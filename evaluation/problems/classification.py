"""Metrics of predicted classes, under many weightings of the groups at once, such as bootstrap resamples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from evaluation import metrics
from evaluation.metrics import Floats, Integers, encode, gain, in_blocks, numbers, weights_of
from evaluation.problems import Columns, Measures, columns_of, names_of
from pipelines.problems import get_problem
from training.problems.classification import with_probabilities

if TYPE_CHECKING:
    from training.contract import Contract
    from training.model.predictor import Predictor

_REGISTERED = get_problem("classification").metrics
WITHIN = tuple(metric.name for metric in _REGISTERED if metric.within)  # means over drugs
_OVERALL = [each.name for each in _REGISTERED if not each.within and each.name not in ("margin", "prevalence")]

_OF_CLASS = ("precision", "recall", "f1", "roc_auc", "pr_auc")
BINS = 15
# Networks that compute in float32 sum to one within 1e-6; what misses it by more than this is no probability.
_SUM_TOLERANCE = 1e-3
# scikit-learn's bound for float64: a certain mistake costs 36 nats, not infinity.
_SMALLEST = float(np.finfo(np.float64).eps)


class ClassificationMeasures(Measures):
    """Shares, areas and calibration, over all rows and of each class."""

    answer = "probability"
    promise = "prediction sets"
    margin_metric = "accuracy"
    units = ("class",)
    in_every_mode = ("macro_f1", "accuracy", "balanced_accuracy", "log_loss", "margin")

    def weigh(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        counts: npt.ArrayLike,
        *,
        classes: Sequence[str],
        baseline: npt.ArrayLike | None = None,
        margin_metric: str = "accuracy",
        within: npt.ArrayLike | None = None,
    ) -> dict[str, Floats]:
        """Return metrics of predicted probabilities, see `Measures.weigh`.

        A weighting with whole numbers gives what the rows give when repeated that often, save that means over classes
        are NaN where a class has rows and the weighting leaves it none. What the data leave undefined is NaN: every
        metric of a class without rows, the precision of a class that is never predicted, areas where all rows are of
        one class. Means leave out classes without rows.

        ``target`` holds codes of the classes ``(n_rows,)``, ``outputs`` and ``baseline`` rows that sum to one,
        ``(n_rows, n_classes)``; the predicted class is the most probable one, the first of equals.

        - `accuracy`; `balanced_accuracy`: mean recall of the classes; `macro_f1`; `weighted_f1`: by rows;
        - `roc_auc`, `pr_auc` (average precision): with two classes of the second, else means over classes against rest;
        - `ece`: expected calibration error (Guo et al., 2017) in 15 bins of equal width, closed above;
        - `log_loss`: in nats, probabilities below 2.2e-16 raised to that;
        - `brier`: squared error, summed over the classes, with two classes of one of them, as in scikit-learn;
        - `precision_<class>`, `recall_<class>`, `f1_<class>`, `roc_auc_<class>`, `pr_auc_<class>`;
        - `margin` over the baseline; `prevalence`: share of rows of the second class, the `pr_auc` of chance;
        - `within_drug_roc_auc`, `within_drug_pr_auc`, `within_drug_prevalence`: unweighted means over the drugs with
          rows of both classes, where differences between drugs earn nothing. A drug whose rows all lie in one group
          counts as often as that group was drawn: each draw is a drug.
        """
        names = metric_names(classes)
        known = [*names, *(WITHIN if within is not None else ())]
        if margin_metric not in known:
            raise ValueError(f"margin_metric is {margin_metric!r}, not one of {', '.join(known)}")
        if within is not None and len(classes) != 2:
            raise ValueError(f"within is given with {len(classes)} classes; metrics within drugs are of two")
        code = _codes("target", target, len(classes))
        model = _probabilities("probabilities", outputs, code.size, len(classes))
        naive = None if baseline is None else _probabilities("baseline", baseline, code.size, len(classes))
        labels, group = encode("groups", groups, code.size)
        weights = weights_of(counts, labels.size)

        # One canonical order, so that sums round alike in whatever order the rows came.
        both = model if naive is None else np.hstack([naive, model])
        order = np.lexsort((*both.T, group, code))
        code, group = code[order], group[order]
        scored = _Scored(code, model[order], group, labels.size)
        reference = None if naive is None else _Scored(code, naive[order], group, labels.size)

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

    def answers(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """See `Measures.answers`."""
        return with_probabilities(table, samples.classes, outputs, 1.0, baseline)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; codes ``(n,)`` and probabilities ``(n, classes)``."""
        classes = names_of(predictions, "probability")
        outputs = columns_of(predictions, "probability", classes)
        baseline = columns_of(predictions, "baseline", classes) if names_of(predictions, "baseline") else None
        return Columns(predictions["target"].to_numpy(np.int64), outputs, baseline, {"classes": classes})

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `Measures.answered`; the other model must know the same classes, in whatever order."""
        known, own = names_of(ours, "probability"), self.classes(model.contract)
        if set(known) != set(own):
            raise ValueError(f"its classes are {', '.join(own)}"[:200])
        ordered = model.outputs(samples)[:, [own.index(label) for label in known]]
        columns = {f"probability_{label}": ordered[:, code] for code, label in enumerate(known)}
        return ours, ours.assign(**columns, prediction=ordered.argmax(axis=1))

    def classes(self, contract: Contract) -> list[str]:
        """Return the classes of the model."""
        return list(contract.scoring["classes"])

    def by_part(self, predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
        """Return a row a drug, the best first: threshold, share of the second class, areas (NaN for one class), ..."""
        from sklearn.metrics import average_precision_score, roc_auc_score

        second = names_of(predictions, "probability")[1]

        def summary(part: pd.DataFrame) -> pd.Series:
            true, score = part["target"], part[f"probability_{second}"]
            both = true.nunique() == 2
            found = {
                "name": names.get(str(part.name), ""),
                "threshold": part["threshold"].iloc[0],
                "samples": len(part),
                second: true.mean(),
                f"predicted_{second}": score.mean(),
                "roc_auc": roc_auc_score(true, score) if both else np.nan,
                "pr_auc": average_precision_score(true, score) if both else np.nan,
            }
            return pd.Series(found)

        columns = ["target", "threshold", f"probability_{second}"]
        table = predictions.groupby("drug_id")[columns].apply(summary).reset_index()
        return table.sort_values("roc_auc", ascending=False, kind="stable", na_position="last")


def metric_names(classes: Sequence[str]) -> list[str]:
    """Return the names of all metrics of rows, overall and then class by class; no margin, none within drugs."""
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {', '.join(map(str, classes)) or 'none'}: at least two are needed, each once")
    return _OVERALL + [f"{name}_{label}" for label in classes for name in _OF_CLASS]


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


class _Ranked:
    """Rows by falling score of one class, ties gathered into runs; of the runs only those with rows of the class."""

    def __init__(self, score: Floats, positive: npt.NDArray[np.bool_], group: Integers) -> None:
        order = np.argsort(-score, kind="stable")
        descending, of_class = score[order], positive[order]
        starts = np.flatnonzero(np.r_[True, np.diff(descending) != 0])
        ends = np.r_[starts[1:], score.size] - 1
        through = np.cumsum(of_class)
        kept = np.diff(np.r_[0, through[ends]]) > 0
        self.group = group[order]  # (n_rows,) group at each sorted place
        self.group_of_positive = group[order][of_class]  # (n_positive,) the same for rows of the class
        self.first, self.last = starts[kept], ends[kept]  # (n_runs,) sorted places
        self.last_positive = through[ends[kept]] - 1  # (n_runs,) last of the run's rows among those of the class

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return ROC-AUC and average precision `(n_weightings,)`, for weights `(n_groups, n_weightings)`."""
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


class _Scored:
    """One model's probabilities; what adds up over rows (confusion, calibration, losses) is added up by group once."""

    def __init__(self, code: Integers, probabilities: Floats, group: Integers, n_groups: int) -> None:
        n_rows, self.n_classes = probabilities.shape
        self.present = np.unique(code)  # classes that have rows
        predicted, top = probabilities.argmax(axis=1), probabilities.max(axis=1)
        truth = np.eye(self.n_classes)[code]
        brier = np.sum((truth - probabilities) ** 2, axis=1) / (2 if self.n_classes == 2 else 1)
        log_loss = -np.log(np.clip((probabilities * truth).sum(axis=1), _SMALLEST, 1.0))
        cells = self.n_classes**2  # of the confusion; then calibration gaps, log loss and Brier score
        values = np.concatenate([np.ones(n_rows), (predicted == code) - top, log_loss, brier])
        losses = np.repeat([cells + BINS, cells + BINS + 1], n_rows)
        quantity = np.concatenate([code * self.n_classes + predicted, cells + _bin(top), losses])
        self.sums = sparse.coo_array((values, (quantity, np.tile(group, 4))), (cells + BINS + 2, n_groups)).tocsr()
        self.ranked = [_Ranked(probabilities[:, k], code == k, group) for k in range(self.n_classes)]

    def metrics(self, weights: Floats, ranks: bool = True) -> list[Floats]:
        """Return all of `metric_names`, without `ranks` NaN for areas under curves, `(n_weightings,)` each."""
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
        overall = [
            right.sum(axis=0) / total,
            recall[self.present].mean(axis=0),
            f1[self.present].mean(axis=0),
            np.where(rows > 0, rows * f1, 0.0).sum(axis=0) / total,
            *(area[1] if self.n_classes == 2 else area[self.present].mean(axis=0) for area in areas),
            np.abs(sums[cells : cells + BINS]).sum(axis=0) / total,
            *sums[cells + BINS :] / total,
        ]
        return overall + [each for of_class in zip(precision, recall, f1, *areas, strict=True) for each in of_class]


def _within_drugs(code: Integers, score: Floats, group: Integers, drug: Integers, weights: Floats) -> dict[str, Floats]:
    """Return `WITHIN` of the scores `(n_rows,)` of the second class, for weights `(n_weightings, n_groups)`."""
    total, drugs = np.zeros((len(WITHIN), len(weights))), np.zeros(len(weights))
    order = np.argsort(drug, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(drug[order])) + 1):
        positive, whose = code[rows] == 1, group[rows]
        if positive.all() or not positive.any():
            continue
        ranked = _Ranked(score[rows], positive, whose)
        one_group = bool((whose == whose[0]).all())
        step = max(1, metrics.BLOCK // rows.size)
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            block = weights[part]
            areas = ranked.areas(np.ascontiguousarray(block.T))
            defined = ~np.isnan(areas[0])
            draws = np.where(defined, block[:, whose[0]] if one_group else 1.0, 0.0)
            found = np.stack([*areas, _prevalence(code[rows], whose, block)])
            total[:, part] += np.where(defined, draws * found, 0.0)
            drugs[part] += draws
    return dict(zip(WITHIN, total / np.where(drugs > 0, drugs, np.nan), strict=True))


def _prevalence(code: Integers, group: Integers, weights: Floats) -> Floats:
    """Return the share of rows of the second class under each weighting, (n_weightings,); NaN where none has weight."""
    counts = [np.bincount(of, minlength=weights.shape[1]).astype(np.float64) for of in (group, group[code == 1])]
    rows, of_class = (weights @ count for count in counts)
    return of_class / np.where(rows > 0, rows, np.nan)


def _bin(confidence: Floats) -> Integers:
    return np.clip(np.searchsorted(np.linspace(0, 1, BINS + 1), confidence) - 1, 0, BINS - 1)


def _codes(name: str, values: npt.ArrayLike, n_classes: int) -> Integers:
    column = np.asarray(values)
    if column.ndim != 1 or not column.size or column.dtype.kind not in "iu":
        raise ValueError(f"{name} has shape {column.shape} of {column.dtype}, not the numbers of classes, (n_rows,)")
    bad = np.flatnonzero((column < 0) | (column >= n_classes))
    if bad.size:
        raise ValueError(f"{name} is {column[bad[0]]} at row {bad[0]}, and there are {n_classes} classes")
    return column.astype(np.intp)


def _probabilities(name: str, values: npt.ArrayLike, n_rows: int, n_classes: int) -> Floats:
    table = numbers(name, values, (n_rows, n_classes))
    bad = np.flatnonzero(~((table >= 0).all(axis=1) & (np.abs(table.sum(axis=1) - 1) <= _SUM_TOLERANCE)))
    if bad.size:
        row = np.array2string(table[bad[0]], precision=4, separator=", ")
        raise ValueError(f"{name} is {row} at row {bad[0]}: no probabilities that sum to one")
    return table


MEASURES = ClassificationMeasures()
