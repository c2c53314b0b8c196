"""How a predicted number is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.columns import Floats
from evaluation.metrics.regression import weighted_regression_metrics
from evaluation.problems import Columns, Measures

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.modalities import Modality


class RegressionMeasures(Measures):
    """Errors and correlations; the margin is what is saved of the baseline's squared error, whatever the metric."""

    margin_metric = "r2"
    units = ("drug", "test split")
    in_every_mode = ("r2", "rmse", "pearson", "within_drug_pearson", "within_drug_spearman", "margin")

    def weigh(
        self, target: npt.ArrayLike, outputs: npt.ArrayLike, groups: npt.ArrayLike, counts: npt.ArrayLike, **known: Any
    ) -> dict[str, Floats]:
        """See `evaluation.metrics.regression.weighted_regression_metrics`."""
        known.pop("margin_metric")
        return weighted_regression_metrics(target, outputs, groups, counts, **known)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; all are ``(n,)``."""
        target, outputs = (predictions[name].to_numpy() for name in ("target", "prediction"))
        return Columns(target, outputs, predictions["baseline"].to_numpy() if "baseline" in predictions else None, {})

    def evidence(self, run: Evaluation, modality: Modality) -> Evidence:
        """See `evaluation.evidence.regression`."""
        from evaluation.evidence.regression import number_evidence

        return number_evidence(self, run, modality)

    def explained(self, run: Evaluation) -> Explained:
        """Return the only answer, which may move either way."""
        from evaluation.evidence.parts import Explained

        first = np.zeros(len(run.predictions), dtype=np.int64)
        return Explained(("prediction",), first, lambda before, after, of_row: np.abs(after - before))

    def by_part(self, predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
        """Return for each drug: samples, RMSE, RMSE of the baseline, and Pearson's correlation (0 if constant)."""

        def summary(part: pd.DataFrame) -> pd.Series:
            constant = part["prediction"].std() < 1e-9 or part["target"].std() < 1e-9
            return pd.Series(
                {
                    "samples": len(part),
                    "rmse": np.sqrt(np.mean((part["target"] - part["prediction"]) ** 2)),
                    "baseline_rmse": np.sqrt(np.mean((part["target"] - part["baseline"]) ** 2)),
                    "pearson": 0.0 if len(part) < 3 or constant else part["target"].corr(part["prediction"]),
                }
            )

        columns = ["target", "prediction", "baseline"]
        table = predictions.groupby("drug_id")[columns].apply(summary).reset_index()
        return table.sort_values("pearson", ascending=False)


MEASURES = RegressionMeasures()
