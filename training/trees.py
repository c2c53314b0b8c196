"""Tree ensembles on pairs: what XGBoost and Random Forest share, which is all but their parameters.

Both grow in XGBoost, so that both are saved in its own format (scikit-learn's forest would need pickle) and both are
read by SHAP's TreeExplainer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import xgboost

from pipelines.samples import ResponseSamples
from training.device import threads, xgboost_device
from training.estimator import Attribution, Estimator, FitContext
from training.features.cell_line import CellLineFeatures
from training.features.drug import DrugFeatures
from training.features.pair import PairFeatures, PairMatrix

_REPORT_EVERY = 25  # rounds; a study prunes after eight reports, when slow learners have shown what they can do
_MAX_BIN = 64  # omics are noisy: finer histograms cost time and change nothing


class PairTrees(Estimator):
    """Trees on gathered pair features.

    Parameters
    ----------
    omics
        ``expression`` or ``all``.
    components
        Principal components of each omics table; 0 for the features themselves.
    keep_share
        Share of each table's features kept, the most variable first.
    identity, profile_components
        See `DrugFeatures`.
    bits
        Length of the fingerprint.
    center
        Whether trees learn the difference from the drug's mean.
    seed, device
        As in ``params.yaml``.
    """

    omics: str
    components: int
    keep_share: float
    identity: str
    profile_components: int
    bits: int
    center: bool
    seed: int
    device: str

    def _features(self, train: ResponseSamples) -> PairFeatures:
        chosen = ("expression",) if self.omics == "expression" and "expression" in train.omics else tuple(train.omics)
        return PairFeatures(
            CellLineFeatures(chosen, "standard", self.keep_share, self.components),
            DrugFeatures(self.bits, self.identity, self.profile_components),
            self.center,
        ).fit(train)

    @abstractmethod
    def _booster_params(self) -> dict[str, Any]:
        """Return XGBoost's parameters."""

    @abstractmethod
    def _rounds(self) -> tuple[int, int | None]:
        """Return the number of boosting rounds and the patience of early stopping, None for none."""

    def fit(
        self,
        train: ResponseSamples,
        validation: ResponseSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its error no longer falls."""
        context = context or FitContext()
        key: tuple[object, ...] = (id(train), id(validation), self.omics, self.components, self.keep_share)
        key += (self.identity, self.profile_components, self.bits, self.center)
        self.features_, grown, watched = context.remember(key, lambda: self._matrices(train, validation))
        rounds, patience = self._rounds()
        params = {
            "tree_method": "hist",
            "max_bin": _MAX_BIN,
            "seed": self.seed,
            "nthread": threads(),
            "device": xgboost_device(self.device),
            "eval_metric": "rmse",
            **self._booster_params(),
        }
        booster = xgboost.train(
            params,
            grown,
            rounds,
            evals=[(watched, "validation")] if watched is not None else [],
            early_stopping_rounds=patience if watched is not None else None,
            callbacks=[_Report(context.on_step)] if context.on_step and watched is not None else None,
            verbose_eval=False,
        )
        best = booster.best_iteration if patience and watched is not None else rounds - 1
        self.booster_ = booster[: best + 1]
        self.rounds_ = best + 1
        return self

    def _matrices(
        self, train: ResponseSamples, validation: ResponseSamples | None
    ) -> tuple[PairFeatures, xgboost.QuantileDMatrix, xgboost.QuantileDMatrix | None]:
        features = self._features(train)
        grown = _quantized(features.transform(train), train.target)
        if validation is None or len(validation) == 0:
            return features, grown, None
        return features, grown, _quantized(features.transform(validation), validation.target, grown)

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        matrix = self.features_.transform(samples)
        self.booster_.set_param({"nthread": threads(), "device": xgboost_device(self.device)})
        margins = [self.booster_.inplace_predict(matrix.gather(rows)) for rows in matrix.batches()]
        return (np.concatenate(margins) if margins else np.zeros(0)).astype(np.float64) + matrix.offset

    def attribute(self, samples: ResponseSamples) -> Attribution:
        """Return SHAP values of the trees (path-dependent TreeSHAP; Lundberg et al., 2020)."""
        import shap

        matrix = self.features_.transform(samples)
        explainer = shap.TreeExplainer(self.booster_)
        values = np.vstack([explainer.shap_values(matrix.gather(rows)) for rows in matrix.batches(4096)])
        base = float(np.ravel(explainer.expected_value)[0])
        overall = self.features_.drug.overall
        spread = self.features_.spread(values.astype(np.float64))
        return Attribution(
            [*self.features_.names, "drug:offset"],
            np.column_stack([spread, matrix.offset - overall]),
            np.full(len(samples), base + overall),
            self.predict(samples),
            "tree_shap",
        )

    def cost(self) -> dict[str, float]:
        """Return the number of nodes and trees."""
        return {
            "parameters": sum(tree.count(":") for tree in self.booster_.get_dump(dump_format="text")),
            "trees": self.booster_.num_boosted_rounds() * int(self._booster_params().get("num_parallel_tree", 1)),
        }

    def state(self) -> dict[str, Any]:
        """Return featurizers and booster (XGBoost's UBJSON, as bytes)."""
        raw = np.frombuffer(bytes(self.booster_.save_raw("ubj")), dtype=np.uint8)
        return {"features": self.features_.state(), "booster": raw, "rounds": self.rounds_}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizers and booster."""
        self.features_ = PairFeatures.from_state(state["features"])
        self.booster_ = xgboost.Booster(model_file=bytearray(state["booster"].tobytes()))
        self.rounds_ = state["rounds"]
        return self


class _PairBatches(xgboost.DataIter):
    """Feeds pairs to XGBoost's quantizer a batch at a time."""

    def __init__(self, matrix: PairMatrix, label: np.ndarray) -> None:
        super().__init__()
        self._matrix, self._label, self._batches = matrix, label, list(matrix.batches())
        self._next = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        if self._next == len(self._batches):
            return False
        rows = self._batches[self._next]
        input_data(data=self._matrix.gather(rows), label=self._label[rows])
        self._next += 1
        return True

    def reset(self) -> None:
        self._next = 0


def _quantized(
    matrix: PairMatrix, target: np.ndarray, reference: xgboost.QuantileDMatrix | None = None
) -> xgboost.QuantileDMatrix:
    batches = _PairBatches(matrix, target - matrix.offset)
    return xgboost.QuantileDMatrix(batches, max_bin=_MAX_BIN, ref=reference, nthread=threads())


class _Report(xgboost.callback.TrainingCallback):
    """Tells the validation error every few rounds."""

    def __init__(self, on_step: Callable[[int, dict[str, float]], None]) -> None:
        self._on_step = on_step

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if epoch % _REPORT_EVERY == 0:
            self._on_step(epoch, {"validation_rmse": float(evals_log["validation"]["rmse"][-1])})
        return False
