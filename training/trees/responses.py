"""Tree ensembles on pairs, all but their hyperparameters; scikit-learn's forest could not be saved without pickle."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import xgboost

from pipelines.samples.response import ResponseSamples
from training.bilinear import Bilinear, moments_of, out_of_fold, solve
from training.device import threads
from training.estimator import Attribution, FitContext, add
from training.features.cell_line import CellLineChoices
from training.features.pair import DrugFeatures, PairFeatures, PairMatrix
from training.trees.boosters import TreeEstimator

Start = Literal["drug_mean", "none", "bilinear"]

_FOLDS = 5  # of the training lines, so that a start by the bilinear model is no better on them than on new ones
_ALPHA = 0.05  # of that model's penalty; on held-out lines of GDSC it is better than the elastic net's default


class PairTrees(CellLineChoices, TreeEstimator):
    """Trees on pair features; for the hyperparameters see `CellLineChoices` and `DrugFeatures`."""

    components: int
    identity: str
    profile_components: int
    bits: int
    mechanism: bool = False

    report_every = 25  # a study prunes after eight reports, late enough for slow learners
    reported = "validation_rmse"
    featurizers: ClassVar[Mapping[str, Any]] = {"features": PairFeatures, "linear": Bilinear}

    def _features(self, train: ResponseSamples) -> PairFeatures:
        of_drug = DrugFeatures(self.bits, self.identity, self.profile_components, self.mechanism)
        return PairFeatures(self.cell_line_features(train, self.components), of_drug, self.start == "drug_mean")

    @property
    @abstractmethod
    def start(self) -> Start:
        """Return what the trees are added to: the drug's mean, the overall mean or a bilinear elastic net."""

    def fit(self, train: ResponseSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its error no longer falls."""
        context = context or FitContext()
        self.linear_, start = self._linear(train, context)
        # The repr of unfitted featurizers shows all that the fit depends on besides the rows.
        key = (id(train), id(validation), repr(self._features(train)), self.start, self.seed)
        self.features_, grown, watched = context.remember(key, lambda: self._matrices(train, start, validation))
        self._boost({"eval_metric": "rmse"}, grown, watched, context)
        return self

    def _linear(self, train: ResponseSamples, context: FitContext) -> tuple[Bilinear | None, np.ndarray | None]:
        """Return the model that trees start from, and its out-of-fold predictions (in-sample ones fit too well)."""
        if self.start != "bilinear":
            return None, None

        # The same bits as the trees, else one name would mean two features.
        def start() -> tuple[Bilinear, np.ndarray]:
            model = solve(moments_of(train, bits=self.bits), alpha=_ALPHA)
            return model, out_of_fold(train, folds=_FOLDS, seed=self.seed, alpha=_ALPHA, bits=self.bits)

        return context.remember(("start", id(train), self.bits, self.seed), start)

    def _matrices(
        self, train: ResponseSamples, start: np.ndarray | None, validation: ResponseSamples | None
    ) -> tuple[PairFeatures, xgboost.QuantileDMatrix, xgboost.QuantileDMatrix | None]:
        self.features_ = self._features(train).fit(train)
        complete = self.features_.complete(train)
        train, start = train.take(complete), None if start is None else start[complete]
        grown = self._quantized(self._matrix(train, start), train.target)
        if validation is not None:
            validation = validation.take(self.features_.complete(validation))
        if validation is None or len(validation) == 0:
            return self.features_, grown, None
        return self.features_, grown, self._quantized(self._matrix(validation), validation.target, grown)

    def _quantized(self, matrix: PairMatrix, target: np.ndarray, reference: Any = None) -> xgboost.QuantileDMatrix:
        batches = _PairBatches(matrix, target - matrix.offset)
        return xgboost.QuantileDMatrix(batches, max_bin=self.max_bin, ref=reference, nthread=threads())

    def _matrix(self, samples: ResponseSamples, start: np.ndarray | None = None) -> PairMatrix:
        """Return the features of ``samples``, offset by ``start`` or else by the starting model's prediction."""
        matrix = self.features_.transform(samples)
        if start is None and self.linear_ is not None:
            start = self.linear_.predict(samples)
        return matrix if start is None else replace(matrix, offset=start.astype(np.float32))

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        matrix = self._matrix(samples)
        return self._margin(matrix) + matrix.offset

    def _margin(self, matrix: PairMatrix) -> np.ndarray:
        margins = [self._predicted(matrix.gather(rows)) for rows in matrix.batches()]
        return matrix.learnt(np.concatenate(margins) if margins else np.zeros(0))

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`; trees that start from a bilinear model have its inputs after their own."""
        from training.graphs import Graph
        from training.graphs.pairs import Joined, OnPairs, Started, named, pair_arrays
        from training.graphs.trees import Trees

        trees = OnPairs(Joined(Trees(self.booster_)), may_lack=bool(self.features_.cell_line.needed))
        about = named(self.features_)
        if self.linear_ is None:
            arrays = lambda samples: pair_arrays(self.features_, self._matrix(samples))  # noqa: E731
            return Graph(trees, arrays, about, shared=False)
        start = self.linear_.graph()
        del about["offset"]

        def inputs(samples: ResponseSamples) -> dict[str, np.ndarray]:
            own = pair_arrays(self.features_, self.features_.transform(samples))
            of_start = {f"start_{name}": values for name, values in start.inputs(samples).items()}
            return {name: own[name] for name in about} | of_start

        joined = about | {f"start_{name}": text for name, text in start.about.items()}
        return Graph(Started(trees, start.module), inputs, joined, shared=False)

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return path-dependent TreeSHAP values (Lundberg et al., 2020), added to the starting model's attributions."""
        import shap

        matrix = self._matrix(samples)
        explainer = shap.TreeExplainer(self.booster_)
        values = np.vstack([explainer.shap_values(matrix.gather(rows)) for rows in matrix.batches(4096)])
        trees = Attribution(
            self.features_.names,
            matrix.learnt(self.features_.spread(values.astype(np.float64))),
            matrix.learnt(np.full(len(samples), float(np.ravel(explainer.expected_value)[0]))),
            self._margin(matrix),
            "tree_shap",
        )
        if self.linear_ is not None:
            return add([trees, self.linear_.attribute(samples)])
        overall = np.full(len(samples), self.features_.drug.overall)
        offset = Attribution(["drug:offset"], (matrix.offset - overall)[:, None], overall, matrix.offset, "tree_shap")
        return add([trees, offset])

    def cost(self) -> dict[str, float]:
        """Return the number of nodes (and of the starting model's weights), and of trees."""
        cost = super().cost()
        return {**cost, "parameters": cost["parameters"] + (self.linear_.cost()["parameters"] if self.linear_ else 0)}


class _PairBatches(xgboost.DataIter):
    """Pairs for XGBoost's quantizer, one batch at a time."""

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
