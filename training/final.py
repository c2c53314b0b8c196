"""The final fit of a tuned architecture, and what it is trusted to get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from pipelines.prepare import Prepared
from pipelines.samples import ResponseSamples
from training.architectures import Architecture, get_architecture
from training.estimator import Attribution, Estimator, FitContext, add


class CrossFitted(Estimator):
    """The mean of models of one architecture, each fitted without one fold.

    Parameters
    ----------
    of
        Name of the architecture.
    hyperparameters
        Of every member.
    """

    def __init__(self, of: str, hyperparameters: Mapping[str, Any]) -> None:
        self.of = of
        self.hyperparameters = hyperparameters

    def fit(
        self,
        train: ResponseSamples,
        validation: ResponseSamples | None = None,
        context: FitContext | None = None,
        folds: np.ndarray | None = None,
    ) -> Self:
        """Fit a member a fold; the fold left out serves its early stopping.

        Parameters
        ----------
        train
            Samples of all folds.
        validation
            Not used.
        context
            Steps of the members follow one another.
        folds
            Fold of each sample, shape ``(n,)``; groups must not cross them.
        """
        if folds is None or len(folds) != len(train):
            raise ValueError("cross-fitting needs the fold of each training sample")
        context = context or FitContext()
        architecture = get_architecture(self.of)
        self.members_: list[Estimator] = []
        self.out_of_fold_ = np.full(len(train), np.nan)
        for number, fold in enumerate(np.unique(folds)):
            member = architecture.estimator(**self.hyperparameters)
            on_step = _numbered(context.on_step, number) if context.on_step else None
            checkpoint = context.checkpoint and context.checkpoint.with_suffix(f".{number}.pt")
            held_out = train.take(folds == fold)
            member.fit(train.take(folds != fold), held_out, FitContext(on_step, checkpoint, {}, context.progress))
            self.out_of_fold_[folds == fold] = member.predict(held_out)
            self.members_.append(member)
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the mean of the members' predictions, shape ``(n,)``."""
        return np.mean([member.predict(samples) for member in self.members_], axis=0)

    def attribute(self, samples: ResponseSamples) -> Attribution | None:
        """Return the mean of the members' attributions; additivity survives the mean."""
        parts = [member.attribute(samples) for member in self.members_]
        known = [part for part in parts if part is not None]
        return add(known, 1 / len(known)) if known else None

    def cost(self) -> dict[str, float]:
        """Return the members' costs, added up."""
        total: dict[str, float] = {}
        for member in self.members_:
            for name, value in member.cost().items():
                total[name] = total.get(name, 0) + value
        return total

    def state(self) -> dict[str, Any]:
        """Return the members' states."""
        return {"members": [member.state() for member in self.members_]}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on the members' states."""
        estimator = get_architecture(self.of).estimator
        self.members_ = [estimator(**self.hyperparameters).restore(member) for member in state["members"]]
        return self


@dataclass(frozen=True)
class FinalFit:
    """A fitted estimator with predictions of rows that it was not fitted on.

    Attributes
    ----------
    estimator
        Fitted.
    held_out_rows
        Positions, in the prepared samples, of rows outside the test split that were predicted unseen.
    held_out
        Their predictions.
    """

    estimator: Estimator
    held_out_rows: np.ndarray
    held_out: np.ndarray

    def interval_half_width(self, prepared: Prepared, coverage: float) -> float:
        """Return the half width of a prediction interval (split conformal; Lei et al., 2018).

        The finite-sample quantile counts groups, not rows: rows of one cell line err together.
        """
        if len(self.held_out) == 0:
            return float("nan")
        errors = np.abs(prepared.samples.target[self.held_out_rows] - self.held_out)
        groups = prepared.table["group"].to_numpy()[self.held_out_rows]
        n_groups = len(np.unique(groups))
        level = min(1.0, np.ceil((n_groups + 1) * coverage) / n_groups)
        return float(np.quantile(errors, level, method="higher"))


def fit_final(
    architecture: Architecture,
    hyperparameters: Mapping[str, Any],
    prepared: Prepared,
    *,
    members: int,
    settings: Mapping[str, Any],
    context: FitContext | None = None,
) -> FinalFit:
    """Fit for good, on nothing of the test split.

    Parameters
    ----------
    architecture, hyperparameters
        From the study.
    prepared
        Samples with sides and folds.
    members
        1, or the number of folds: see ``fit.members`` in ``params.yaml``. An architecture that has nothing to tune has
        nothing to stop early either: it is fitted once, on train and validation together.
    settings
        Rounds, epochs, seed, device.
    """
    rows = prepared.rows("train", "validation")
    both = prepared.samples.take(rows)
    if architecture.space is None:
        whole = architecture.build(hyperparameters, **settings).fit(both, None, context)
        context = None
    if members == 1:
        watched = prepared.rows("validation")
        validation = prepared.samples.take(watched)
        estimator = architecture.build(hyperparameters, **settings).fit(prepared.side("train"), validation, context)
        final = FinalFit(estimator, watched, estimator.predict(validation))
    else:
        every = architecture.build(hyperparameters, **settings).get_params(deep=False)
        folds = prepared.table["fold"].to_numpy()[rows]
        fitted = CrossFitted(architecture.name, every).fit(both, context=context, folds=folds)
        final = FinalFit(fitted, rows, fitted.out_of_fold_)
    return replace(final, estimator=whole) if architecture.space is None else final


def _numbered(on_step: Callable[[int, dict[str, float]], None], number: int) -> Callable[[int, dict[str, float]], None]:
    def report(step: int, metrics: dict[str, float]) -> None:
        on_step(step, {f"{name}_member_{number}": value for name, value in metrics.items()})

    return report
