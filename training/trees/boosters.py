"""Trees of XGBoost on one matrix of features: growing, reading and saving them, whatever they stand for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xgboost

from training.device import threads, xgboost_device
from training.estimator import Estimator

_REPORT_EVERY = 10  # rounds
_EXPLAINED_AT_ONCE = 128  # rows: their contributions are made for every output, and most are thrown away


class TreeEstimator(Estimator):
    """What an estimator of trees says of them.

    Parameters
    ----------
    seed, device
        As in ``params.yaml``.
    """

    seed: int
    device: str

    @abstractmethod
    def _booster_params(self) -> dict[str, Any]:
        """Return XGBoost's parameters."""

    @abstractmethod
    def _rounds(self) -> tuple[int, int | None]:
        """Return the number of boosting rounds and the patience of early stopping, None for none."""


class Rows(NamedTuple):
    """What trees are grown on, or watched with.

    Attributes
    ----------
    matrix
        float32, shape ``(n, features)``.
    label
        Shape ``(n,)``, or ``(n, targets)``.
    weight
        Shape ``(n,)``; None where all rows weigh alike.
    """

    matrix: np.ndarray
    label: np.ndarray
    weight: np.ndarray | None = None


def grow(
    params: Mapping[str, Any],
    train: Rows,
    watched: Rows | None,
    *,
    rounds: int,
    patience: int | None,
    device: str,
    max_bin: int,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    reported: str = "validation_loss",
) -> xgboost.Booster:
    """Grow trees; with ``watched`` rows boosting stops once their loss no longer falls, and the best rounds are kept.

    Parameters
    ----------
    params
        XGBoost's, with ``objective`` and ``eval_metric``.
    train, watched
        Training rows and validation rows.
    rounds, patience
        Boosting rounds at most, and how many may pass without getting better; a patience of None never stops early.
    device
        As in ``params.yaml``.
    max_bin
        Bins of each feature's histogram.
    on_step
        Told the loss of the watched rows every few rounds, under the name ``reported``.
    """
    grown = xgboost.QuantileDMatrix(train.matrix, train.label, weight=train.weight, max_bin=max_bin, nthread=threads())
    quantized = None
    if watched is not None and len(watched.matrix):
        quantized = xgboost.QuantileDMatrix(
            watched.matrix, watched.label, ref=grown, max_bin=max_bin, nthread=threads()
        )
    report = Report(on_step, params["eval_metric"], reported) if on_step else None
    common = {"tree_method": "hist", "max_bin": max_bin, "nthread": threads(), "device": xgboost_device(device)}
    return boosted({**common, **params}, grown, quantized, rounds, patience, report)


def boosted(
    params: Mapping[str, Any],
    grown: xgboost.QuantileDMatrix,
    watched: xgboost.QuantileDMatrix | None,
    rounds: int,
    patience: int | None,
    report: Report | None,
) -> xgboost.Booster:
    """Return trees on quantized rows, up to the best round; see `grow`."""
    booster = xgboost.train(
        dict(params),
        grown,
        rounds,
        evals=[(watched, "validation")] if watched is not None else [],
        early_stopping_rounds=patience if watched is not None else None,
        callbacks=[report] if report and watched is not None else None,
        verbose_eval=False,
    )
    best = booster.best_iteration if patience and watched is not None else rounds - 1
    return booster[: best + 1]


def predicted(booster: xgboost.Booster, matrix: np.ndarray, device: str) -> np.ndarray:
    """Return what the trees answer for the rows of ``matrix``, float64."""
    booster.set_param({"nthread": threads(), "device": xgboost_device(device)})
    return booster.inplace_predict(matrix).astype(np.float64)


def contributions(
    booster: xgboost.Booster, matrix: np.ndarray, output: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each feature adds to the margin of one output a row: `of_output` of `all_contributions`."""
    parts = []
    for start in range(0, len(matrix), _EXPLAINED_AT_ONCE):
        rows = slice(start, start + _EXPLAINED_AT_ONCE)
        parts.append(of_output(*all_contributions(booster, matrix[rows]), output[rows]))
    values, base, margin = (np.concatenate(each) for each in zip(*parts, strict=True))
    return values, base, margin


def all_contributions(booster: xgboost.Booster, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what each feature adds to each output's margin (path-dependent TreeSHAP; Lundberg et al., 2020).

    XGBoost's own ``pred_contribs``, the algorithm of ``shap.TreeExplainer``: it reads its many outputs' trees as they
    are, without a copy of the model, and needs no conversion of their starting values.

    Parameters
    ----------
    booster
        Its outputs have trees of their own.
    matrix
        Shape ``(n, features)``.

    Returns
    -------
    tuple
        Contributions with the base last ``(n, outputs, features + 1)``, and margins ``(n, outputs)``; float32.
    """
    booster.set_param({"nthread": threads(), "device": "cpu"})
    batch = xgboost.DMatrix(matrix, nthread=threads())
    every = booster.predict(batch, pred_contribs=True).reshape(len(matrix), -1, matrix.shape[1] + 1)
    return every, booster.predict(batch, output_margin=True).reshape(len(matrix), -1)


def of_output(every: np.ndarray, margins: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contributions ``(n, features)``, base ``(n,)`` and margin ``(n,)`` of one output a row, float64."""
    rows = np.arange(len(output))
    chosen = every[rows, output].astype(np.float64)
    return chosen[:, :-1], chosen[:, -1], margins[rows, output].astype(np.float64)


def size(booster: xgboost.Booster) -> dict[str, float]:
    """Return the number of nodes, as ``parameters``, and of trees."""
    trees = booster.get_dump(dump_format="text")
    return {"parameters": sum(tree.count(":") for tree in trees), "trees": len(trees)}


def to_array(booster: xgboost.Booster) -> np.ndarray:
    """Return the booster in XGBoost's own format (UBJSON), as bytes."""
    return np.frombuffer(bytes(booster.save_raw("ubj")), dtype=np.uint8)


def from_array(raw: np.ndarray) -> xgboost.Booster:
    """Take on what `to_array` returned."""
    return xgboost.Booster(model_file=bytearray(raw.tobytes()))


class Report(xgboost.callback.TrainingCallback):
    """Tells the loss of the watched rows, ``metric``, under the name ``name`` every few rounds."""

    def __init__(
        self, on_step: Callable[[int, dict[str, float]], None], metric: str, name: str, every: int = _REPORT_EVERY
    ) -> None:
        self._on_step, self._metric, self._name, self._every = on_step, metric, name, every

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Tell it; boosting goes on."""
        if epoch % self._every == 0:
            self._on_step(epoch, {self._name: float(evals_log["validation"][self._metric][-1])})
        return False
