"""How many predicted numbers are measured: each target, and their mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.columns import Floats
from evaluation.metrics.resample import Interval
from evaluation.metrics.targets import bootstrap_each_target, mean_over_targets, weighted_target_metrics
from evaluation.problems import Columns, Measures, columns_of, names_of

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.modalities import Modality
    from pipelines.params import Task
    from training.contract import Contract
    from training.model.predictor import Predictor


_KINDS = ("target", "prediction", "baseline")  # columns of each target
_FLAT = 1e-9  # log2 units: what varies less does not vary


class TargetMeasures(Measures):
    """Errors of each target, and their mean over targets."""

    margin_metric = "r2"
    units = ("gene",)

    def weigh(
        self, target: npt.ArrayLike, outputs: npt.ArrayLike, groups: npt.ArrayLike, counts: npt.ArrayLike, **known: Any
    ) -> dict[str, Floats]:
        """See `evaluation.metrics.targets.weighted_target_metrics`; means over the targets."""
        known.pop("within")
        found = weighted_target_metrics(target, outputs, groups, counts, **known)
        return {name: mean_over_targets(values) for name, values in found.items()}

    def metrics(self, target: npt.ArrayLike, outputs: npt.ArrayLike, **known: Any) -> dict[str, float]:
        """See `Measures.metrics`; metrics that no target has are left out."""
        found = super().metrics(target, outputs, **known)
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def bootstrap(
        self, target: npt.ArrayLike, outputs: npt.ArrayLike, groups: npt.ArrayLike, **known: Any
    ) -> dict[str, Interval]:
        """See `evaluation.metrics.targets.bootstrap_each_target`, whose means these are."""
        known.pop("within", None)
        return bootstrap_each_target(target, outputs, groups, **known).mean

    def weighted(
        self, predictions: pd.DataFrame, *given: Any, scale: pd.Series | None = None, **known: Any
    ) -> dict[str, Floats]:
        """See `Measures.weighted`; ``scale`` holds the spread of each target by its name."""
        names = names_of(predictions, "prediction")
        return super().weighted(predictions, *given, scale=None if scale is None else scale[names].to_numpy(), **known)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; all are ``(n, targets)``."""
        names = names_of(predictions, "prediction")
        target, outputs = (columns_of(predictions, kind, names) for kind in ("target", "prediction"))
        baseline = columns_of(predictions, "baseline", names) if names_of(predictions, "baseline") else None
        return Columns(target, outputs, baseline, {})

    def learnt(self, task: Task, train: Callable[[], Any]) -> dict[str, Any]:
        """Return the spread of each target, where the task's metric is in units of it."""
        if not task.evaluate.metric.endswith("_sd"):
            return {}
        samples = train()
        return {"scale": pd.Series(target_spreads(samples.target), index=list(samples.targets))}

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `Measures.answered`; targets that the other model does not predict are left out."""
        contract: Any = model.contract
        genes = names_of(ours, "target")
        common = [gene for gene in genes if gene in contract.targets]
        if not common:
            raise ValueError("it predicts none of today's genes")
        outputs = model.outputs(samples.aimed(contract.targets, contract.genes))
        mine = ours.drop(columns=[f"{kind}_{gene}" for gene in genes if gene not in common for kind in _KINDS])
        columns = {f"prediction_{gene}": outputs[:, contract.targets.index(gene)] for gene in common}
        return mine, mine.assign(**columns)

    def targets(self, contract: Contract) -> list[str]:
        """Return the targets of the model."""
        targets: list[str] = contract.targets  # type: ignore[attr-defined]
        return targets

    def evidence(self, run: Evaluation, modality: Modality) -> Evidence:
        """See `evaluation.evidence.multi_target`."""
        from evaluation.evidence.multi_target import target_evidence

        return target_evidence(run, modality)

    def explained(self, run: Evaluation) -> Explained:
        """Return all targets of every row, which may move either way, each in units of its spread."""
        from evaluation.evidence.parts import Explained

        scale = target_spreads(run.prepared.side("train").target)
        unit = np.where(scale > _FLAT, scale, 1.0)

        def moved(before: np.ndarray, after: np.ndarray, of_row: np.ndarray) -> np.ndarray:
            distance: np.ndarray = (np.abs(after - before) / unit).mean(axis=1)
            return distance

        first = np.zeros(len(run.predictions), dtype=np.int64)
        return Explained(tuple(names_of(run.predictions, "prediction")), first, moved, every=True)


def target_spreads(target: np.ndarray) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each target over the rows where it is known, ``(targets,)``."""
    known = ~np.isnan(target)
    count = np.maximum(known.sum(axis=0), 1)
    distance = target - np.where(known, target, 0).sum(axis=0) / count
    spreads: npt.NDArray[np.float64] = np.sqrt((np.where(known, distance, 0) ** 2).sum(axis=0) / count)
    return spreads


MEASURES = TargetMeasures()
