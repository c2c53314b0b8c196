"""How predicted times to an event are measured: who has it first, how well the curves fit, and whether risks hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.columns import Floats
from evaluation.metrics.survival import weighted_survival_metrics
from evaluation.problems import Columns, Measures, columns_of, names_of

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.modalities import Modality
    from training.model.predictor import Predictor

_NO_HORIZON = ("log_hazard", "risk")  # columns that are no point of the curve


class SurvivalMeasures(Measures):
    """Concordance, errors of the curve, and calibration at the horizon."""

    promise = "times without an event"
    margin_metric = "concordance"
    units = ("test split",)

    def weigh(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        counts: npt.ArrayLike,
        *,
        baseline: npt.ArrayLike | None,
        within: npt.ArrayLike | None,
        margin_metric: str,
        **scoring: Any,
    ) -> dict[str, Floats]:
        """See `weighted_survival_metrics`; outputs are log hazard and survival at the horizons, ``(n, 1 + horizons)``.

        A baseline that answers log hazards alone has the curve ``naive`` of the model's contract.
        """
        naive = scoring.pop("naive", None)
        if baseline is not None:
            said = np.asarray(baseline)
            baseline = said[:, 1:] if said.ndim == 2 else np.tile(naive, (len(said), 1))
        settings = {"baseline": baseline, "margin_metric": margin_metric, **scoring}
        return weighted_survival_metrics(target, np.asarray(outputs)[:, 1:], groups, counts, **settings)

    def weighted(self, predictions: pd.DataFrame, metric: str, *given: Any, **known: Any) -> dict[str, Floats]:
        """See `Measures.weighted`."""
        return super().weighted(predictions, metric, *given, names=(metric,), **known)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; time and event ``(n, 2)``, log hazard and survival ``(n, 1 + horizons)``."""
        horizons = horizons_of(predictions)
        columns = ["log_hazard", *horizons]
        outputs, baseline = (columns_of(predictions, kind, columns) for kind in ("prediction", "baseline"))
        scoring = {"horizons": [float(each) for each in horizons], "horizon": float(predictions["horizon"].iloc[0])}
        return Columns(predictions[["time", "event"]].to_numpy(np.float64), outputs, baseline, scoring)

    def measured(self, predictions: pd.DataFrame) -> list[str]:
        """Return time and event."""
        return ["time", "event"]

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `Measures.answered`; the other model must answer the same horizons."""
        contract: Any = model.contract
        known = horizons_of(ours)
        if [f"{each:g}" for each in contract.horizons] != known or contract.horizon != ours["horizon"].iloc[0]:
            listed = ", ".join(f"{each:g}" for each in contract.horizons)
            raise ValueError(f"its horizons are {listed}, its risk is until {contract.horizon:g}")
        # Uncalibrated here, since the contract calibrates what it writes into a table.
        return ours, contract.predicted(
            ours, samples, model.estimator.outputs(samples), model.baseline.outputs(samples)
        )

    def evidence(self, run: Evaluation, modality: Modality) -> Evidence:
        """See `evaluation.evidence.survival`."""
        from evaluation.evidence.survival import survival_evidence

        return survival_evidence(self, run, modality)

    def explained(self, run: Evaluation) -> Explained:
        """Return the log hazard, which may move either way."""
        from evaluation.evidence.parts import Explained

        first = np.zeros(len(run.predictions), dtype=np.int64)
        return Explained(("log hazard",), first, lambda before, after, of_row: np.abs(after - before))


def horizons_of(predictions: pd.DataFrame) -> list[str]:
    """Return the horizons of a table of predictions, as its columns name them."""
    return [name for name in names_of(predictions, "prediction") if name not in _NO_HORIZON]


MEASURES = SurvivalMeasures()
