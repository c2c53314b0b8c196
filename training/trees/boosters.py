"""Trees of XGBoost on one matrix of features: growing, reading and saving them."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import xgboost

from training.device import threads, torch_device
from training.estimator import Classifier, Estimator, FitContext, OnStep

_EXPLAINED_AT_ONCE = 128  # rows: contributions are computed for every output, and most are discarded


class TreeEstimator(Estimator):
    """An estimator of trees, which are saved as XGBoost's UBJSON."""

    seed: int
    device: str
    rounds: int  # of boosting
    patience: Any  # of early stopping; None for none
    booster_: xgboost.Booster
    max_bin: ClassVar[int] = 64  # omics are noisy: finer histograms cost time and change nothing
    report_every: ClassVar[int] = 10  # rounds
    reported: ClassVar[str] = "validation_loss"  # name of the loss of the validation rows

    @abstractmethod
    def _booster_params(self) -> dict[str, Any]:
        """Return XGBoost's parameters."""

    def _fit_features(self, train: Any) -> None:
        """Learn from training rows what `_matrix` needs."""

    @abstractmethod
    def _matrix(self, samples: Any) -> Any:
        """Return the features, float32, ``(n, features)``."""

    def _learned(self, train: Any) -> Any:
        """Return the features of training rows; a subclass may correct them."""
        return self._matrix(train)

    def _label(self, samples: Any) -> np.ndarray:
        """Return what the trees learn, ``(n,)`` or ``(n, targets)``."""
        return samples.target

    def _grow(
        self, params: Mapping[str, Any], train: Any, validation: Any, context: FitContext | None, weight: Any = None
    ) -> None:
        """Grow trees; with ``validation`` boosting stops once its loss no longer falls; the best rounds are kept."""
        bins = {"max_bin": self.max_bin, "nthread": threads()}
        grown = xgboost.QuantileDMatrix(self._learned(train), self._label(train), weight=weight, **bins)
        watched = None
        if validation is not None and len(validation):
            watched = xgboost.QuantileDMatrix(self._matrix(validation), self._label(validation), ref=grown, **bins)
        self._boost(params, grown, watched, context)

    def _boost(self, params: Mapping[str, Any], grown: Any, watched: Any | None, context: FitContext | None) -> None:
        """Grow trees on quantized rows; the loss of the watched rows is reported every few rounds."""
        common: dict[str, Any] = {"tree_method": "hist", "max_bin": self.max_bin, "nthread": threads()}
        common |= {"seed": self.seed, "device": torch_device(self.device), **params, **self._booster_params()}
        watching: dict[str, Any] = {}
        if watched is not None:
            watching = {"evals": [(watched, "validation")], "early_stopping_rounds": self.patience}
            if context is not None and context.on_step is not None:
                report = Report(context.on_step, common["eval_metric"], self.reported, self.report_every)
                watching["callbacks"] = [report]
        booster = xgboost.train(common, grown, self.rounds, **watching, verbose_eval=False)
        best = booster.best_iteration if self.patience and watched is not None else self.rounds - 1
        self.booster_ = booster[: best + 1]

    def _predicted(self, matrix: np.ndarray) -> np.ndarray:
        if (device := torch_device(self.device)) != "cpu":  # where an explanation leaves it
            self.booster_.set_param({"device": device})
        return self.booster_.inplace_predict(matrix).astype(np.float64)

    def _walked(self, answer: Callable[..., Any], **constants: Any) -> Any:
        """Return a module of PyTorch from the matrix to the ``answer`` of margins, float64 tensors, and constants."""
        from training.graphs import Formula
        from training.graphs.trees import Trees

        return Formula(answer, Trees(self.booster_), **constants)

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
        self.booster_.set_param({"nthread": threads()})
        return super().restore(state)


@dataclass(eq=False, repr=False, kw_only=True)
class BoostingChoices:
    """Hyperparameters of boosted trees."""

    learning_rate: float = 0.1
    depth: int = 4
    row_share: float = 0.8
    column_share: float = 0.3
    min_child_weight: float = 1.0
    l2: float = 1.0
    rounds: int = 600  # at most
    patience: int = 40  # rounds without improvement on the validation rows
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


class LabelTrees(TreeEstimator, Classifier):
    """Trees on a row of numbers per sample; with ``balanced`` all classes weigh alike."""

    balanced: bool
    fitted: ClassVar[tuple[str, ...]] = ("classes",)
    reported = "validation_log_loss"

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its log loss no longer falls."""
        self._fit_features(train)
        self.classes_ = list(train.classes)
        counts = np.bincount(train.target, minlength=len(self.classes_)).clip(1)
        weights = (len(train) / (len(self.classes_) * counts))[train.target]
        params = {"objective": "multi:softprob", "num_class": len(self.classes_), "eval_metric": "mlogloss"}
        self._grow(params, train, validation, context, weight=weights if self.balanced else None)
        return self

    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        return self._probabilities(self._matrix(samples)) if len(samples) else np.zeros((0, len(self.classes_)))

    def _answer(self) -> Any:
        return self._walked(lambda margins: margins.softmax(dim=1))

    def _probabilities(self, matrix: np.ndarray) -> np.ndarray:
        probabilities = self._predicted(matrix)
        return probabilities / probabilities.sum(axis=1, keepdims=True)


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
    """Return path-dependent TreeSHAP values (Lundberg et al., 2020) of each output's margin, and the margins, float32.

    Shapes are ``(n, outputs, features + 1)``, the base last, and ``(n, outputs)``.
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

    def __init__(self, on_step: OnStep, metric: str, name: str, every: int) -> None:
        self._on_step, self._metric, self._name, self._every = on_step, metric, name, every

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Report the metric and let boosting continue."""
        if epoch % self._every == 0:
            self._on_step(epoch, {self._name: float(evals_log["validation"][self._metric][-1])})
        return False
