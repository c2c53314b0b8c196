"""The final fit of a tuned architecture, and its errors on rows that it was not fitted on."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np

from pipelines.datasets import Prepared
from training.architectures import Architecture, get_architecture
from training.estimator import Attribution, Classifier, Estimator, FitContext, OnStep, add
from training.model.calibration import apply_temperature, fit_temperature, half_widths

_T = TypeVar("_T")
_FEWEST = 50  # rows by which views are chosen; fewer show nothing, and all views stay


class Ensemble(Estimator):
    """The weighted mean of fitted models, ``members_``, whose shares sum to 1."""

    members_: list[Estimator]

    @property
    @abstractmethod
    def shares(self) -> np.ndarray:
        """Return the share of each member, ``(members,)``."""

    @property
    def _classifies(self) -> bool:
        first: Estimator = self
        while isinstance(first, Ensemble):
            first = first.members_[0]
        return isinstance(first, Classifier)

    def embedded(self, samples: Any) -> np.ndarray | None:
        """Return the first member's embedding."""
        return self.members_[0].embedded(samples)

    def predict(self, samples: Any) -> np.ndarray:
        """Return the mean prediction ``(n,)`` or ``(n, targets)``, or the class of the largest mean probability."""
        outputs = self.outputs(samples)
        return outputs.argmax(axis=1) if self._classifies else outputs

    def seen(self, samples: Any) -> Any:
        """Return samples as the first member sees them."""
        return self.members_[0].seen(samples)

    @property
    def heatmap_method(self) -> str:
        """Return the method of the first member."""
        return self.members_[0].heatmap_method

    def heatmaps(self, samples: Any) -> np.ndarray | None:
        """Return the mean of the members' heat maps."""
        known, shares = self._known(member.heatmaps(samples) for member in self.members_)
        return np.average(known, axis=0, weights=shares).astype(np.float32) if known else None

    def attribute(self, samples: Any, output: np.ndarray | None = None) -> Attribution | None:
        """Return the mean of the members' attributions, which adds up as they do."""
        output = self._explained(samples, output)
        known, shares = self._known(member.attribute(samples, output) for member in self.members_)
        return add(known, shares) if known else None

    def atom_attributions(self, samples: Any, output: np.ndarray | None = None) -> list[np.ndarray] | None:
        """Return the mean of the members' contributions by atom."""
        output = self._explained(samples, output)
        known, shares = self._known(member.atom_attributions(samples, output) for member in self.members_)
        each = zip(*known, strict=True)
        return [np.average(atoms, axis=0, weights=shares) for atoms in each] if known else None

    def _known(self, parts: Iterable[_T | None]) -> tuple[list[_T], list[float]]:
        """Return what is known of the members, and their shares among those."""
        known = [(part, share) for part, share in zip(parts, self.shares, strict=True) if part is not None]
        whole = sum(share for _, share in known)
        return [part for part, _ in known], [share / whole for _, share in known]

    def _explained(self, samples: Any, output: np.ndarray | None) -> np.ndarray | None:
        """Return which output all members explain: of a classifier the joint prediction, not each member's own."""
        return self.predict(samples) if output is None and self._classifies else output

    def cost(self) -> dict[str, float]:
        """Return the sum of the members' costs, and the mean of rates."""
        costs = [member.cost() for member in self.members_]
        total: dict[str, float] = {}
        for name in dict.fromkeys(name for cost in costs for name in cost):
            values = [cost[name] for cost in costs if name in cost]
            total[name] = sum(values) / (len(values) if name.endswith("per_second") else 1)
        return total

    def state(self) -> dict[str, Any]:
        """Return the members' states."""
        return {"members": [member.state() for member in self.members_]}


@dataclass(eq=False, repr=False, kw_only=True)
class CrossFitted(Ensemble):
    """The mean of models of the architecture ``of``, each fitted without one fold."""

    of: str
    hyperparameters: Mapping[str, Any]
    modality: str
    problem: str

    def fit(
        self, train: Any, validation: Any = None, context: FitContext | None = None, folds: np.ndarray | None = None
    ) -> Self:
        """Fit one member a fold of ``folds`` ``(n,)``, which no group crosses, stopped early on that fold alone."""
        if folds is None or len(folds) != len(train):
            raise ValueError("cross-fitting needs the fold of each training sample")
        context = context or FitContext()
        self.members_ = []
        parts = []
        for number, fold in enumerate(np.unique(folds)):
            on_step = context.on_step and partial(_numbered, context.on_step, number)
            checkpoint = context.checkpoint and context.checkpoint.with_suffix(f".{number}.pt")
            parts.append(held_out := train.take(folds == fold))
            own = FitContext(on_step=on_step, checkpoint=checkpoint, progress=context.progress)
            self.members_.append(self._unfitted().fit(train.take(folds != fold), held_out, own))
        unseen = held_out_outputs(self.members_, parts)
        self.out_of_fold_ = np.full((len(train), *unseen[0].shape[1:]), np.nan)
        for fold, outputs in zip(np.unique(folds), unseen, strict=True):
            self.out_of_fold_[folds == fold] = outputs
        return self

    @property
    def shares(self) -> np.ndarray:
        """Return equal shares."""
        return np.full(len(self.members_), 1 / len(self.members_))

    def _unfitted(self) -> Estimator:
        return get_architecture(self.of, self.modality, self.problem).estimator(**self.hyperparameters)

    def outputs(self, samples: Any) -> np.ndarray:
        """Return the mean of the members' outputs: ``(n,)``, ``(n, targets)``, or probabilities ``(n, classes)``."""
        return type(self.members_[0]).mean_outputs(self.members_, samples)

    def outputs_embedded(self, samples: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `outputs` and `embedded`."""
        return type(self.members_[0]).mean_outputs_embedded(self.members_, samples)

    def graph(self, contract: Any) -> Any:
        """Return the graph of the mean of the members."""
        from training.graphs import mean  # imports PyTorch

        return mean([member.graph(contract) for member in self.members_])

    def pretraining(self) -> dict[str, Any]:
        """Return that of the first member; all began from the same weights."""
        return self.members_[0].pretraining()

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on the members' states."""
        self.members_ = [self._unfitted().restore(member) for member in state["members"]]
        return self


Part = tuple[Estimator, np.ndarray, np.ndarray]  # a model, the rows it was fitted on, and those it was not


@dataclass(frozen=True)
class FinalFit:
    """A fitted estimator, and outputs of models not fitted on the held-out rows; none is of the test split."""

    estimator: Estimator
    held_out_rows: np.ndarray  # positions in the prepared samples
    held_out: np.ndarray
    parts: tuple[Part, ...] = ()
    seconds: float = 0.0  # that parts of the fit took before it was asked for

    def groups(self, prepared: Prepared) -> np.ndarray:
        """Return the group of each held-out row."""
        return prepared.table["group"].to_numpy()[self.held_out_rows]

    def interval_half_widths(self, prepared: Prepared, coverage: float) -> np.ndarray:
        """Return the half width of intervals, ``()`` of one target, ``(targets,)`` of several; NaN without rows."""
        measured = prepared.samples.target[self.held_out_rows]
        if len(self.held_out) == 0:
            return np.full(measured.shape[1:], np.nan)
        return half_widths(measured - self.held_out, len(np.unique(self.groups(prepared))), coverage)


def fit_final(
    architecture: Architecture,
    hyperparameters: Mapping[str, Any],
    prepared: Prepared,
    *,
    members: int,
    settings: Mapping[str, Any],
    context: FitContext | None = None,
) -> FinalFit:
    """Fit for good, on no row of the test split.

    A model that watches no validation rows, see `Estimator.watches`, is fitted on them too; what it is calibrated by
    are then the outputs of models that were fitted without them.
    """
    both = prepared.side("train", "validation")
    whole = architecture.build(hyperparameters, **settings)
    if alone := architecture.space is None or not whole.watches:
        whole.fit(both, None, context)
        context = None
    if members == 1:
        watched = prepared.rows("validation")
        validation = prepared.samples.take(watched)
        estimator = architecture.build(hyperparameters, **settings).fit(prepared.side("train"), validation, context)
        part = estimator, prepared.rows("train"), watched
        final = FinalFit(estimator, watched, held_out_outputs([estimator], [validation])[0], (part,))
    else:
        final = cross_fit(architecture, hyperparameters, prepared, settings=settings, context=context)
    if not alone:
        return final
    for name in ("test_views_", "by_views_"):  # which the held-out rows decided
        if hasattr(first := final.parts[0][0], name):
            setattr(whole, name, getattr(first, name))
    return replace(final, estimator=whole)


def cross_fit(
    architecture: Architecture,
    hyperparameters: Mapping[str, Any],
    prepared: Prepared,
    *,
    settings: Mapping[str, Any],
    context: FitContext | None = None,
) -> FinalFit:
    """Fit a `CrossFitted` model on all rows but those of the test split; they are its held-out rows."""
    rows = prepared.rows("train", "validation")
    crossed = CrossFitted(
        of=architecture.file,
        hyperparameters=architecture.build(hyperparameters, **settings).get_params(deep=False),
        modality=architecture.modality,
        problem=architecture.problem,
    ).fit(prepared.samples.take(rows), context=context, folds=(folds := prepared.table["fold"].to_numpy()[rows]))
    of_fold = zip(crossed.members_, np.unique(folds), strict=True)
    parts = tuple((member, rows[folds != fold], rows[folds == fold]) for member, fold in of_fold)
    return FinalFit(crossed, rows, crossed.out_of_fold_, parts)


def held_out_outputs(members: Sequence[Any], parts: Sequence[Any]) -> list[np.ndarray]:
    """Return the outputs of each of ``members`` on its held-out part, after all have dropped views, see `fewest`."""
    every = [member.outputs_by_views(part) for member, part in zip(members, parts, strict=True)]
    if every[0] is None:
        return [member.outputs(part) for member, part in zip(members, parts, strict=True)]
    views, found = fewest(np.concatenate(every, axis=1), np.concatenate([part.target for part in parts]))
    for member in members:
        member.test_views_, member.by_views_ = views, dict(found)
    return [outputs[views - 1] for outputs in every]


def fewest(outputs: np.ndarray, target: np.ndarray) -> tuple[int, dict[str, list[float]]]:
    """Return the smallest number of views that is as good as all, and measures of each number of `outputs_by_views`.

    As good: its calibrated log loss is at most a standard error of the difference higher (Breiman et al., 1984).
    """
    if len(target) < _FEWEST or not np.isfinite(outputs).all():
        return len(outputs), {}
    served = np.stack([apply_temperature(each, fit_temperature(each, target)) for each in outputs])
    losses = -np.log(served[:, np.arange(len(target)), target].clip(np.finfo(np.float64).eps))  # (views, n)
    worse = losses - losses[-1]
    enough = worse.mean(axis=1) <= worse.std(axis=1, ddof=1) / np.sqrt(len(target))
    right = (outputs.argmax(axis=2) == target).mean(axis=1)
    return int(enough.argmax()) + 1, {"accuracy": right.tolist(), "log_loss": losses.mean(axis=1).tolist()}


def _numbered(on_step: OnStep, number: int, step: int, metrics: dict[str, float]) -> None:
    on_step(step, {f"{name}_member_{number}": value for name, value in metrics.items()})
