"""Answers of the risk of an event until a horizon, with a survival curve that is calibrated on held-out rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Map
from scipy.special import ndtri

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.samples.survival import kaplan_meier
from training.contract import Columns, Contract, Refit, contribution_columns, named_numbers
from training.estimator import Estimator
from training.model.cross_fit import FinalFit

_RESAMPLES = 400  # of groups, for the interval of the risk
_STEPS = 25  # of Newton's method for the slope, each at most _LONGEST
_LONGEST = 0.5
_STEEPEST = 5.0
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Survival(Contract):
    """What a model of the time to an event answers; horizons are those of `SurvivalData`."""

    answered = (
        *(ColSpec(DataType.double, name=name) for name in ("prediction", "low", "high", "horizon")),
        ColSpec(DataType.string, name="time_unit"),
        ColSpec(DataType.double, name="log_hazard"),
        ColSpec(Map(DataType.double), name="survival"),
        ColSpec(DataType.double, name="event_free_until"),
        ColSpec(DataType.double, name="coverage"),
    )
    promised = ("low", "high", "event_free_until", "coverage")
    scored_by: ClassVar[Mapping[str, str]] = {name: name for name in ("horizons", "horizon", "naive")}
    logged_by: ClassVar[Mapping[str, str]] = {"calibration/slope": "slope"}

    time_unit: str
    horizons: list[float]
    horizon: float
    slope: float  # of the true log hazard on the predicted one (van Houwelingen, 2000)
    times: list[float]  # of the steps of the cumulative hazard
    hazard: list[float]  # cumulative, at a log hazard of 0 (Breslow, 1974)
    end: float  # of the follow-up
    spread: list[list[float]]  # see `_spread`
    naive: list[float]  # survival at the horizons by Kaplan and Meier

    @classmethod
    def calibrate(cls, task: Any, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return slope, cumulative hazard and their spread, from rows outside the fit; some must have the event."""
        data, risk = task.data, final.held_out
        time, event = prepared.samples.target[final.held_out_rows].T
        if not (event.astype(bool) & (time <= data.horizon)).any():
            raise UserError(
                f"no held-out sample has the event until {data.horizon:g} {data.unit}; raise data.horizon, "
                "fit.members or split.validation in params.yaml"
            )
        whole = np.ones((1, len(time)))
        slope = cox_slope(time, event, risk, whole)
        times = np.unique(time[event > 0])
        groups = np.unique(final.groups(prepared), return_inverse=True)[1]
        return {
            "time_unit": data.unit,
            "horizons": list(data.horizons),
            "horizon": data.horizon,
            "slope": float(slope[0]),
            "times": times.tolist(),
            "hazard": breslow(time, event, risk, slope, weights=whole, at=times)[0].tolist(),
            "end": float(time.max()),
            "spread": _spread(time, event, risk, groups, data.horizon),
            "naive": kaplan_meier(time, event, np.array(data.horizons)).tolist(),
        }

    def calibrated(self, outputs: np.ndarray) -> np.ndarray:
        """Return the log hazard, and the survival at each of the horizons; ``(n, 1 + horizons)``."""
        return self._with_curve(self.slope * outputs)

    def calibrated_graph(self, module: Any) -> Any:
        """See `Contract.calibrated_graph`."""
        import torch

        from training.graphs import Formula

        def curve(found: Any, steps: Any) -> Any:
            log_hazard = self.slope * found[:, None]
            return torch.cat([log_hazard, (-log_hazard.exp() * steps).exp()], dim=1)

        return Formula(curve, module, steps=self._steps(np.array(self.horizons)))

    @property
    def outputs_text(self) -> str:
        """Return what the calibrated outputs are."""
        at = ", ".join(f"{horizon:g}" for horizon in self.horizons)
        return f"log hazard, and survival at {at} {self.time_unit}, (n, {1 + len(self.horizons)}), float64"

    def of_risk(self, risk: np.ndarray) -> np.ndarray:
        """Return the result of `calibrated` from answered risks until the horizon, ``(n,)``."""
        at_horizon = -np.log(self._survival(np.zeros(1), np.array([self.horizon]))[0, 0])
        hazard = -np.log1p(-np.clip(risk, _TINY, 1 - _TINY))
        return self._with_curve(np.log(hazard / at_horizon))

    def _with_curve(self, log_hazard: np.ndarray) -> np.ndarray:
        return np.column_stack([log_hazard, self._survival(log_hazard, np.array(self.horizons))])

    def _survival(self, log_hazard: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.exp(-np.exp(log_hazard)[:, None] * self._steps(at))

    def _steps(self, at: np.ndarray) -> np.ndarray:
        return np.r_[0.0, self.hazard][np.searchsorted(self.times, at, side="right")]

    def said(self, outputs: np.ndarray, unseen: np.ndarray, cells: np.ndarray | None = None) -> Columns:
        """Return the risk of the event until the horizon with its interval, and the curve."""
        log_hazard, curves = outputs[:, 0], outputs[:, 1:]
        risk = 1 - self._survival(log_hazard, np.array([self.horizon]))[:, 0]
        raw = log_hazard / self.slope if self.slope > _TINY else np.zeros(len(log_hazard))
        direction = np.column_stack([np.ones(len(raw)), raw])
        error = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", direction, np.array(self.spread), direction), 0))
        reach = np.exp(ndtri((1 + self.coverage) / 2) * error)
        log_survival = np.log1p(-np.minimum(risk, 1 - _TINY))
        columns = {
            "prediction": risk,
            "low": -np.expm1(log_survival / reach),
            "high": -np.expm1(log_survival * reach),
            "horizon": np.full(len(risk), self.horizon),
            "time_unit": [self.time_unit] * len(risk),
            "log_hazard": log_hazard,
            "survival": named_numbers([f"{at:g}" for at in self.horizons], curves),
            "event_free_until": self.event_free_until(log_hazard),
            "coverage": np.full(len(risk), self.coverage),
        }
        return self.withdrawn(columns, unseen)

    def event_free_until(self, log_hazard: np.ndarray) -> np.ndarray:
        """Return the time before which the share ``coverage`` of samples has no event, at most `end`; ``(n,)``."""
        step = np.searchsorted(self.hazard, -np.log(self.coverage) * np.exp(-log_hazard), side="right")
        return np.r_[self.times, self.end][step]

    def targets_text(self, target: np.ndarray) -> pd.Series:
        """Return JSON text of time and event."""
        rows = [json.dumps({"time": float(time), "event": bool(event)}) for time, event in target]
        return pd.Series(rows, dtype=object)

    def predicted(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """Return ``table`` with log hazard, risk and survival by horizon, as ``prediction_`` and ``baseline_``."""
        naive = np.column_stack([baseline, np.tile(self.naive, (len(baseline), 1))])  # the same curve for all rows
        curves = {"prediction": self.calibrated(outputs), "baseline": naive}
        at = self.horizons.index(self.horizon)
        made: dict[str, Any] = {"horizon": np.full(len(table), self.horizon)}
        for kind, values in curves.items():
            made |= {f"{kind}_log_hazard": values[:, 0], f"{kind}_risk": 1 - values[:, 1 + at]}
            made |= {f"{kind}_{name:g}": values[:, 1 + place] for place, name in enumerate(self.horizons)}
        return table.assign(**made)

    def explain(self, estimator: Estimator, samples: Any) -> Columns:
        """Return contributions that add up to ``log_hazard``."""
        found = estimator.attribute(samples)
        if found is None:
            return {}
        parts = {name: getattr(found, name) * self.slope for name in ("values", "base", "prediction")}
        return contribution_columns(replace(found, **parts))


def cox_slope(time: np.ndarray, event: np.ndarray, risk: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return slopes of the log hazard on ``risk`` ``(n,)``, at least 0, for each row of ``weights`` ``(b, n)``."""
    if np.ptp(risk) < 1e-9:
        return np.ones(len(weights))
    order = np.argsort(-time, kind="stable")
    last = np.searchsorted(-time[order], -time[order], side="right") - 1
    risk, events, weights = risk[order] - risk.mean(), event[order] > 0, weights[:, order]
    slope = np.zeros(len(weights))
    for _ in range(_STEPS):
        hazard = weights * np.exp(slope[:, None] * risk)
        total, first, second = (np.cumsum(hazard * risk**power, axis=1)[:, last][:, events] for power in range(3))
        counted = weights[:, events]
        mean = np.divide(first, total, out=np.zeros_like(first), where=total > 0)
        square = np.divide(second, total, out=np.zeros_like(second), where=total > 0)
        gradient = (counted * (risk[events] - mean)).sum(axis=1)
        curvature = (counted * (square - mean**2)).sum(axis=1)
        step = np.divide(gradient, curvature, out=np.zeros_like(gradient), where=curvature > _TINY)
        slope = np.clip(slope + np.clip(step, -_LONGEST, _LONGEST), 0, _STEEPEST)
    return slope


def breslow(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, slope: np.ndarray, *, weights: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Return the cumulative hazard at a log hazard of 0 and times ``at``, for each weighting; ``(b, len(at))``."""
    moments, code = np.unique(time, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(moments)))
    hazard = np.add.reduceat((weights * np.exp(slope[:, None] * risk))[:, order], starts, axis=1)
    events = np.add.reduceat((weights * (event > 0))[:, order], starts, axis=1)
    at_risk = np.cumsum(hazard[:, ::-1], axis=1)[:, ::-1]
    steps = np.divide(events, at_risk, out=np.zeros_like(events), where=at_risk > 0)
    return np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))[:, np.searchsorted(moments, at, side="right")]


def _spread(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, groups: np.ndarray, horizon: float
) -> list[list[float]]:
    """Return the covariance of log cumulative hazard at the horizon and slope, over resampled groups."""
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    weights = drawn[:, groups].astype(np.float64)
    slope = cox_slope(time, event, risk, weights)
    hazard = breslow(time, event, risk, slope, weights=weights, at=np.array([horizon]))[:, 0]
    some = hazard > 0
    return np.cov(np.log(hazard[some]), slope[some]).tolist() if some.sum() > 1 else [[0.0, 0.0], [0.0, 0.0]]


ANSWERED = Survival
