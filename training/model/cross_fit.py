"""The final fit of a tuned architecture, and what it is trusted to get wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from pipelines.datasets import Prepared
from training.architectures import Architecture, get_architecture
from training.estimator import Attribution, Classifier, Estimator, FitContext, add


class CrossFitted(Estimator):
    """The mean of models of one architecture, each fitted without one fold.

    Parameters
    ----------
    of, modality, problem
        Name of the architecture, and what it takes and answers.
    hyperparameters
        Of every member.
    """

    def __init__(self, of: str, hyperparameters: Mapping[str, Any], *, modality: str, problem: str) -> None:
        self.of = of
        self.hyperparameters = hyperparameters
        self.modality = modality
        self.problem = problem

    def fit(
        self,
        train: Any,
        validation: Any | None = None,
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
        architecture = get_architecture(self.of, self.modality, self.problem)
        self.members_: list[Estimator] = []
        unseen: list[tuple[np.ndarray, np.ndarray]] = []
        for number, fold in enumerate(np.unique(folds)):
            member = architecture.estimator(**self.hyperparameters)
            on_step = _numbered(context.on_step, number) if context.on_step else None
            checkpoint = context.checkpoint and context.checkpoint.with_suffix(f".{number}.pt")
            held_out = train.take(folds == fold)
            member.fit(train.take(folds != fold), held_out, FitContext(on_step, checkpoint, {}, context.progress))
            unseen.append((np.flatnonzero(folds == fold), member.outputs(held_out)))
            self.members_.append(member)
        self.out_of_fold_ = np.full((len(train), *unseen[0][1].shape[1:]), np.nan)
        for rows, outputs in unseen:
            self.out_of_fold_[rows] = outputs
        return self

    def outputs(self, samples: Any) -> np.ndarray:
        """Return the mean of the members' outputs: ``(n,)``, ``(n, targets)``, or probabilities ``(n, classes)``."""
        return type(self.members_[0]).mean_outputs(self.members_, samples)

    def predict(self, samples: Any) -> np.ndarray:
        """Return the mean prediction ``(n,)`` or ``(n, targets)``, or the class that is most probable on average."""
        outputs = self.outputs(samples)
        return outputs.argmax(axis=1) if isinstance(self.members_[0], Classifier) else outputs

    def heatmaps(self, samples: Any) -> np.ndarray | None:
        """Return the mean of the members' heat maps."""
        maps = [member.heatmaps(samples) for member in self.members_]
        known = [each for each in maps if each is not None]
        return np.mean(known, axis=0) if known else None

    def attribute(self, samples: Any, output: np.ndarray | None = None) -> Attribution | None:
        """Return the mean of the members' attributions; additivity survives the mean."""
        if output is None and isinstance(self.members_[0], Classifier):
            output = self.predict(samples)  # what they say together, and not each for itself
        parts = [member.attribute(samples, output) for member in self.members_]
        known = [part for part in parts if part is not None]
        return add(known, 1 / len(known)) if known else None

    def atom_attributions(self, samples: Any, output: np.ndarray | None = None) -> list[np.ndarray] | None:
        """Return the mean of the members' contributions by atom."""
        if output is None and isinstance(self.members_[0], Classifier):
            output = self.predict(samples)
        parts = [member.atom_attributions(samples, output) for member in self.members_]
        known = [part for part in parts if part is not None]
        return [np.mean(atoms, axis=0) for atoms in zip(*known, strict=True)] if known else None

    def cost(self) -> dict[str, float]:
        """Return the members' costs, added up; of rates the mean over those that have one."""
        costs = [member.cost() for member in self.members_]
        total: dict[str, float] = {}
        for name in dict.fromkeys(name for cost in costs for name in cost):
            values = [cost[name] for cost in costs if name in cost]
            total[name] = sum(values) / (len(values) if name.endswith("per_second") else 1)
        return total

    def state(self) -> dict[str, Any]:
        """Return the members' states."""
        return {"members": [member.state() for member in self.members_]}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on the members' states."""
        estimator = get_architecture(self.of, self.modality, self.problem).estimator
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
        What the estimator answers for them, see `Estimator.outputs`.
    """

    estimator: Estimator
    held_out_rows: np.ndarray
    held_out: np.ndarray

    def groups(self, prepared: Prepared) -> np.ndarray:
        """Return the group of each held-out row."""
        return prepared.table["group"].to_numpy()[self.held_out_rows]

    def interval_half_widths(self, prepared: Prepared, coverage: float) -> np.ndarray:
        """Return the half width of a prediction interval for each target (split conformal; Lei et al., 2018).

        The finite-sample quantile counts groups, not rows: rows of one cell line or patient err together. NaN where no
        row was held out.

        Returns
        -------
        numpy.ndarray
            Shape ``()`` of one target, ``(targets,)`` of several.
        """
        measured = prepared.samples.target[self.held_out_rows]
        if len(self.held_out) == 0:
            return np.full(measured.shape[1:], np.nan)
        n_groups = len(np.unique(self.groups(prepared)))
        level = min(1.0, np.ceil((n_groups + 1) * coverage) / n_groups)
        return np.quantile(np.abs(measured - self.held_out), level, axis=0, method="higher")


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
        final = FinalFit(estimator, watched, estimator.outputs(validation))
    else:
        every = architecture.build(hyperparameters, **settings).get_params(deep=False)
        folds = prepared.table["fold"].to_numpy()[rows]
        whole_of_folds = CrossFitted(
            architecture.name, every, modality=architecture.modality, problem=architecture.problem
        )
        fitted = whole_of_folds.fit(both, context=context, folds=folds)
        final = FinalFit(fitted, rows, fitted.out_of_fold_)
    return replace(final, estimator=whole) if architecture.space is None else final


def _numbered(on_step: Callable[[int, dict[str, float]], None], number: int) -> Callable[[int, dict[str, float]], None]:
    def report(step: int, metrics: dict[str, float]) -> None:
        on_step(step, {f"{name}_member_{number}": value for name, value in metrics.items()})

    return report
