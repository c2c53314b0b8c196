"""Trees of XGBoost on one matrix of features: growing, reading and saving them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import xgboost

from training.device import threads, torch_device
from training.estimator import OnStep
from training.features.fitted import FittedAttributes

_REPORT_EVERY = 10  # rounds
_EXPLAINED_AT_ONCE = 128  # rows: contributions are computed for every output, and most are discarded


class TreeEstimator(FittedAttributes):
    """An estimator of trees, which are saved as XGBoost's UBJSON."""

    seed: int
    device: str
    booster_: xgboost.Booster

    @abstractmethod
    def _booster_params(self) -> dict[str, Any]:
        """Return XGBoost's parameters."""

    @abstractmethod
    def _rounds(self) -> tuple[int, int | None]:
        """Return the number of boosting rounds and the patience of early stopping, None for none."""

    def cost(self) -> dict[str, float]:
        """Return the number of nodes, as ``parameters``, and of trees."""
        trees = self.booster_.get_dump(dump_format="text")
        return {"parameters": sum(tree.count(":") for tree in trees), "trees": len(trees)}

    def state(self) -> dict[str, Any]:
        """Return fitted attributes and the booster, as bytes."""
        return {**super().state(), "booster": np.frombuffer(bytes(self.booster_.save_raw("ubj")), dtype=np.uint8)}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        self.booster_ = from_array(state["booster"])
        return super().restore(state)


@dataclass(eq=False, repr=False, kw_only=True)
class BoostingChoices:
    """Hyperparameters of boosted trees.

    Parameters
    ----------
    learning_rate, depth, row_share, column_share, min_child_weight, l2
        XGBoost's ``eta``, ``max_depth``, ``subsample``, ``colsample_bytree``, ``min_child_weight``, ``reg_lambda``.
    rounds, patience
        Maximal number of boosting rounds, and number of rounds without improvement on the validation rows.
    seed, device
        As in ``params.yaml``.
    """

    learning_rate: float = 0.1
    depth: int = 4
    row_share: float = 0.8
    column_share: float = 0.3
    min_child_weight: float = 1.0
    l2: float = 1.0
    rounds: int = 600
    patience: int = 40
    seed: int = 0
    device: str = "auto"

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": self.learning_rate,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bytree": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.l2,
        }

    def _rounds(self) -> tuple[int, int | None]:
        return self.rounds, self.patience


class Rows(NamedTuple):
    """Training or validation rows: ``(n, features)``, labels ``(n,)`` or ``(n, targets)``, weights ``(n,)`` or None."""

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
    on_step: OnStep | None = None,
    reported: str = "validation_loss",
) -> xgboost.Booster:
    """Grow trees; with ``watched`` rows boosting stops once their loss no longer falls, and the best rounds are kept.

    ``on_step`` receives the loss of the watched rows every few rounds, under the name ``reported``.
    """
    grown = xgboost.QuantileDMatrix(train.matrix, train.label, weight=train.weight, max_bin=max_bin, nthread=threads())
    quantized = None
    if watched is not None and len(watched.matrix):
        quantized = xgboost.QuantileDMatrix(
            watched.matrix, watched.label, ref=grown, max_bin=max_bin, nthread=threads()
        )
    report = Report(on_step, params["eval_metric"], reported) if on_step else None
    common = {"tree_method": "hist", "max_bin": max_bin, "nthread": threads(), "device": torch_device(device)}
    return boosted({**common, **params}, grown, quantized, rounds=rounds, patience=patience, report=report)


def boosted(
    params: Mapping[str, Any],
    grown: xgboost.QuantileDMatrix,
    watched: xgboost.QuantileDMatrix | None,
    *,
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
    """Return predictions for the rows of ``matrix``, float64."""
    booster.set_param({"nthread": threads(), "device": torch_device(device)})
    return booster.inplace_predict(matrix).astype(np.float64)


def contributions(
    booster: xgboost.Booster, matrix: np.ndarray, output: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contributions to the margin of one output per row: `of_output` of `all_contributions`."""
    parts = []
    for start in range(0, len(matrix), _EXPLAINED_AT_ONCE):
        rows = slice(start, start + _EXPLAINED_AT_ONCE)
        parts.append(of_output(*all_contributions(booster, matrix[rows]), output[rows]))
    values, base, margin = (np.concatenate(each) for each in zip(*parts, strict=True))
    return values, base, margin


def all_contributions(booster: xgboost.Booster, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return contributions of features to each output's margin (path-dependent TreeSHAP; Lundberg et al., 2020).

    XGBoost's ``pred_contribs`` is the algorithm of ``shap.TreeExplainer`` without a copy of the model.

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
    """Return contributions ``(n, features)``, base ``(n,)`` and margin ``(n,)`` of one output per row, float64."""
    rows = np.arange(len(output))
    chosen = every[rows, output].astype(np.float64)
    return chosen[:, :-1], chosen[:, -1], margins[rows, output].astype(np.float64)


def from_array(raw: np.ndarray) -> xgboost.Booster:
    """Return the booster of UBJSON bytes."""
    return xgboost.Booster(model_file=bytearray(raw.tobytes()))


class Report(xgboost.callback.TrainingCallback):
    """Reports the watched rows' ``metric`` under the name ``name`` every few rounds."""

    def __init__(self, on_step: OnStep, metric: str, name: str, every: int = _REPORT_EVERY) -> None:
        self._on_step, self._metric, self._name, self._every = on_step, metric, name, every

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Report the metric and let boosting continue."""
        if epoch % self._every == 0:
            self._on_step(epoch, {self._name: float(evals_log["validation"][self._metric][-1])})
        return False
