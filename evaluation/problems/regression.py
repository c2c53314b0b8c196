"""Metrics of a predicted number, under many weightings of the groups at once, such as bootstrap resamples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics import TOLERANCE, Floats, Integers, encode, in_blocks, numbers, weights_of
from evaluation.problems import Columns, Measures
from pipelines.problems import get_problem


class RegressionMeasures(Measures):
    """Errors and correlations; the margin is in squared error, relative to the baseline's, whatever the metric."""

    margin_metric = "r2"
    units = ("drug", "test split")
    in_every_mode = ("r2", "rmse", "pearson", "within_drug_pearson", "within_drug_spearman", "margin")

    def weigh(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        counts: npt.ArrayLike,
        *,
        within: npt.ArrayLike | None = None,
        baseline: npt.ArrayLike | None = None,
        margin_metric: str = "r2",
        min_rows: int = 5,
    ) -> dict[str, Floats]:
        """Return metrics of predicted numbers, see `Measures.weigh`; the margin is of `r2` whatever the metric.

        A weighting with whole numbers gives what the rows give when repeated that often, save that `min_rows` counts
        distinct rows: drugs with fewer are left out of the `within_drug_*` metrics. A drug whose rows all lie in one
        group counts as often as that group was drawn: each draw of the group is a drug of its own.

        - `r2`, `rmse`, `mae` (unit of the target), `mse` (its square), `pearson`, `spearman` over all rows;
        - `within_drug_pearson`, `within_drug_spearman`: unweighted mean over drugs of the correlation inside each,
          where the differences between drugs, which any drug mean predicts, earn nothing;
        - `r2_over_baseline`: 1 - SSE(prediction) / SSE(baseline); `margin`: r2(prediction) - r2(baseline).

        As in drevalpy (DrEval), a constant prediction has correlation 0, and what the data leave undefined (a constant
        target, no drug with enough rows, a baseline without error) is NaN. Values closer than a millionth of the
        largest magnitude count as equal.
        """
        if min_rows < 2:
            raise ValueError(f"min_rows is {min_rows}: a correlation needs at least 2 rows")
        n_rows = np.size(target)
        y, prediction = numbers("target", target, (n_rows,)), numbers("prediction", outputs, (n_rows,))
        reference = None if baseline is None else numbers("baseline", baseline, (n_rows,))
        drug = np.zeros(n_rows, dtype=np.intp) if within is None else encode("within", within, n_rows)[1]
        labels, group = encode("groups", groups, n_rows)
        weights = weights_of(counts, labels.size)

        # One canonical order, so that sums round alike in whatever order the rows came; drugs become contiguous.
        tiebreak = group if reference is None else reference
        order = np.lexsort((group, tiebreak, prediction, y, drug))
        y, prediction, group, drug = y[order], prediction[order], group[order], drug[order]
        reference = None if reference is None else reference[order]

        overall = _Strata(y, prediction, group, np.zeros_like(drug))
        inside = None if within is None else _Strata(y, prediction, group, drug)

        def measure(block: Floats) -> dict[str, Floats]:
            row_weights = np.ascontiguousarray(block.T)[group]
            found = _overall_metrics(y, prediction, reference, overall, row_weights)
            if inside is not None:
                pearson, spearman = inside.mean_correlations(row_weights, min_rows)
                found |= {"within_drug_pearson": pearson, "within_drug_spearman": spearman}
            return found

        found = in_blocks(weights, n_rows, measure)
        return {metric.name: found[metric.name] for metric in get_problem("regression").metrics if metric.name in found}

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; all are ``(n,)``."""
        target, outputs = (predictions[name].to_numpy() for name in ("target", "prediction"))
        return Columns(target, outputs, predictions["baseline"].to_numpy() if "baseline" in predictions else None, {})

    def by_part(self, predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
        """Return for each drug: samples, RMSE, RMSE of the baseline, and Pearson's correlation (0 if constant)."""

        def summary(part: pd.DataFrame) -> pd.Series:
            constant = part["prediction"].std() < 1e-9 or part["target"].std() < 1e-9
            found = {
                "samples": len(part),
                "rmse": np.sqrt(np.mean((part["target"] - part["prediction"]) ** 2)),
                "baseline_rmse": np.sqrt(np.mean((part["target"] - part["baseline"]) ** 2)),
                "pearson": 0.0 if len(part) < 3 or constant else part["target"].corr(part["prediction"]),
            }
            return pd.Series(found)

        table = predictions.groupby("drug_id")[["target", "prediction", "baseline"]].apply(summary).reset_index()
        return table.sort_values("pearson", ascending=False)


def _overall_metrics(
    y: Floats, prediction: Floats, baseline: Floats | None, overall: _Strata, weights: Floats
) -> dict[str, Floats]:
    """Metrics over all rows, for `weights` of shape (n_rows, n_weightings)."""
    error = y - prediction
    total = weights.sum(axis=0)
    sse = error**2 @ weights
    mse = sse / total
    pearson, spearman, defined = (values[0] for values in overall.correlations(weights, min_rows=2))
    deviation = y[:, np.newaxis] - (y @ weights) / total
    sst = np.where(defined, np.einsum("nb,nb,nb->b", weights, deviation, deviation), np.nan)
    metrics = {"r2": 1 - sse / sst, "rmse": np.sqrt(mse), "mae": np.abs(error) @ weights / total, "mse": mse}
    metrics |= {"pearson": pearson, "spearman": spearman}
    if baseline is not None:
        sse_baseline = (y - baseline) ** 2 @ weights
        has_error = np.sqrt(sse_baseline / total) > TOLERANCE * np.abs(y).max()
        metrics["r2_over_baseline"] = 1 - sse / np.where(has_error, sse_baseline, np.nan)
        metrics["margin"] = (sse_baseline - sse) / sst
    return metrics


class _Column:
    """A column sorted inside each stratum, ties gathered into runs."""

    def __init__(self, values: Floats, stratum: Integers, starts: Integers, scale: float) -> None:
        centered = values - (np.add.reduceat(values, starts) / np.bincount(stratum))[stratum]
        largest = np.maximum.reduceat(np.abs(centered), starts)
        magnitude = np.maximum(np.maximum.reduceat(np.abs(values), starts), scale)
        self.deviation = centered / np.where(largest > 0, largest, 1.0)[stratum]  # from the mean, of the largest
        self.tolerance = TOLERANCE * magnitude  # (n_strata,) below which a spread is rounding
        self.order = np.lexsort((values, stratum))  # (n_rows,) row at each sorted place
        ascending, labels = values[self.order], stratum[self.order]
        begins = np.r_[True, (np.diff(ascending) != 0) | (np.diff(labels) != 0)]
        first = np.flatnonzero(begins)
        self.run_of_row = np.empty_like(stratum)
        self.run_of_row[self.order] = np.cumsum(begins) - 1
        self.run_last = np.r_[first[1:], values.size] - 1  # (n_runs,) last sorted place of the run
        self.run_value = ascending[first]
        self.run_starts = np.searchsorted(labels[first], np.arange(starts.size))  # (n_strata,) first run
        self.stratum_of_run = labels[first]

    def centered_ranks(self, weights: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Return mid-ranks minus their mean `(n_rows, n_weightings)`, and in which strata the column varies."""
        through = np.cumsum(weights[self.order], axis=0)[self.run_last]
        before = np.zeros_like(through)
        before[1:] = through[:-1]
        below = before[self.run_starts]
        above = through[np.r_[self.run_starts[1:], len(through)] - 1]
        ranks = (before + through - (below + above)[self.stratum_of_run]) / 2

        present = through > before
        value = self.run_value[:, np.newaxis]
        lowest = np.minimum.reduceat(np.where(present, value, np.inf), self.run_starts, axis=0)
        highest = np.maximum.reduceat(np.where(present, value, -np.inf), self.run_starts, axis=0)
        return ranks[self.run_of_row], highest - lowest > self.tolerance[:, np.newaxis]


class _Strata:
    """Rows cut into contiguous strata, in which they are correlated under any weights."""

    def __init__(self, y: Floats, prediction: Floats, group: Integers, stratum: Integers) -> None:
        self.stratum = stratum  # (n_rows,) ascending
        self.starts = starts = np.flatnonzero(np.r_[True, np.diff(stratum) != 0])
        self.in_one_group = np.minimum.reduceat(group, starts) == np.maximum.reduceat(group, starts)
        scale = float(np.abs(y).max())
        self.y = _Column(y, stratum, starts, scale)
        self.prediction = _Column(prediction, stratum, starts, scale)

    def correlations(self, weights: Floats, min_rows: int) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """Return Pearson, Spearman and whether they are defined, each `(n_strata, n_weightings)`."""
        y_ranks, y_varies = self.y.centered_ranks(weights)
        prediction_ranks, prediction_varies = self.prediction.centered_ranks(weights)
        rows = np.add.reduceat(weights > 0, self.starts, axis=0, dtype=np.intp)
        defined = y_varies & (rows >= min_rows)
        y_values = self._centered(self.y.deviation, weights)
        prediction_values = self._centered(self.prediction.deviation, weights)

        def correlation(a: Floats, b: Floats) -> Floats:
            weighted = weights * a
            covariance = self._sums(weighted * b)
            scale = np.sqrt(self._sums(weighted * a) * self._sums(weights * b * b))
            informative = defined & prediction_varies
            r = np.divide(covariance, scale, out=np.zeros_like(scale), where=informative & (scale > 0))
            return np.where(defined, np.clip(r, -1, 1), np.nan)

        return correlation(y_values, prediction_values), correlation(y_ranks, prediction_ranks), defined

    def mean_correlations(self, weights: Floats, min_rows: int) -> tuple[Floats, Floats]:
        """Return the mean over strata of Pearson and Spearman, each `(n_weightings,)`."""
        pearson, spearman, defined = self.correlations(weights, min_rows)
        draws = np.where(self.in_one_group[:, np.newaxis], weights[self.starts], 1.0)
        share = np.where(defined, draws, 0.0)
        total = share.sum(axis=0)
        total[total == 0] = np.nan
        pearson, spearman = (np.where(defined, share * each, 0.0).sum(axis=0) / total for each in (pearson, spearman))
        return pearson, spearman

    def _sums(self, values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, self.starts, axis=0))

    def _centered(self, values: Floats, weights: Floats) -> Floats:
        column, total = values[:, np.newaxis], self._sums(weights)
        means = self._sums(weights * column) / np.where(total > 0, total, 1.0)
        return column - means[self.stratum]


MEASURES = RegressionMeasures()
