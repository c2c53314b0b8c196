"""Pilot measurements: a drug that was measured on a few lines adjusts what a model answers for its other lines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution, Estimator, Featurizer, FitContext, add, load_state, save_state
from training.features.cell_line import CellLineChoices, CellLineFeatures
from training.features.pair import DrugFeatures, residual_matrix
from training.model.cross_fit import FinalFit

FOLDER = "pilot"  # beside the state of the estimator that is adjusted
KERNELS = ("responses", "interactions", "expression")
_COMPONENTS = 32  # of the lines' responses
_SHARES = (0.1, 0.3, 1.0, 3.0)  # of the variance of held-out residuals, that prior and noise are chosen among


class _Block(NamedTuple):
    """Samples of a drug and its pilot measurements."""

    rows: np.ndarray  # of the samples
    measured: np.ndarray  # of the pilot measurements
    cross: np.ndarray  # kernel of their lines, ``(rows, measured)``
    own: np.ndarray  # kernel of the measured lines


@dataclass
class Pilot(Featurizer):
    """A Gaussian process of a drug's residuals over cell lines (Rasmussen and Williams, 2006, ch. 2).

    Residuals of a drug on two lines have the covariance ``level + size * kernel``, and their own ``noise``. The kernel
    is linear in the principal components of the lines' responses to the training drugs (that is ridge regression on
    these), from which the line's mean may be taken off (``interactions``), or a Gaussian of the lines' ``expression``.
    A line without a training row has no responses: ``level`` alone adjusts it, but for the kernel ``expression``.
    """

    parts: ClassVar[Mapping[str, Any]] = {"lines": CellLineFeatures}

    kernel: str = "none"
    level: float = 0.0
    size: float = 0.0
    noise: float = 1.0
    line_ids: list[str] = field(default_factory=list)
    responses: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # ``(lines, components)``
    lines: CellLineFeatures = field(default_factory=lambda: CellLineFeatures(()))
    width: float = 1.0  # median square distance of the training lines' expression

    def fit(self, train: ResponseSamples) -> Self:
        """Learn the kernel from training rows."""
        used, line = np.unique(train.cell, return_inverse=True)
        if self.kernel == "expression":
            self.lines = CellLineChoices().cell_line_features(train, _COMPONENTS)
            omics = {name: table.iloc[used] for name, table in train.omics.items()}
            self.lines.fit(train.cell_lines.iloc[used], omics)
            places = self.lines.transform(train.cell_lines.iloc[used], omics)
            distance = _square_distances(places, places)[np.triu_indices(len(used), 1)]
            self.width = float(np.median(distance)) if len(distance) else 1.0
        elif self.kernel in KERNELS:
            residual = train.target - DrugFeatures(bits=0, identity="none").fit(train).offset(train.drugs)[train.drug]
            if self.kernel == "interactions":
                residual = residual - (np.bincount(line, residual) / (np.bincount(line) + 1.0))[line]
            scores, spread, _ = np.linalg.svd(residual_matrix(train, residual), full_matrices=False)
            found = (scores * spread)[:, :_COMPONENTS]
            self.responses = found / (np.sqrt(np.square(found).sum(axis=1).mean()) or 1.0)
            self.line_ids = [str(name) for name in train.cell_lines.index[used]]
        return self

    def added(self, samples: ResponseSamples, pilot: ResponseSamples, residual: np.ndarray) -> np.ndarray:
        """Return what residuals of pilot measurements, ``(len(pilot),)``, add to predictions of samples, ``(n,)``."""
        return self.given(list(self.blocks(samples, pilot)), len(samples), residual)

    def given(self, blocks: list[_Block], count: int, residual: np.ndarray) -> np.ndarray:
        """Return the posterior means of ``count`` samples, 0 for drugs without a measurement."""
        found = np.zeros(count)
        for each in blocks:
            covariance = self.level + self.size * each.own + self.noise * np.eye(len(each.measured))
            weights = np.linalg.solve(covariance, residual[each.measured])
            found[each.rows] = (self.level + self.size * each.cross) @ weights
        return found

    def blocks(self, samples: ResponseSamples, pilot: ResponseSamples) -> Iterator[_Block]:
        """Yield the drugs of ``samples`` that have pilot measurements, found by their id."""
        here, there = self._places(samples), self._places(pilot)
        measured_id = pilot.drugs.index.to_numpy()[pilot.drug]
        for drug in np.unique(samples.drug):
            measured = np.flatnonzero(measured_id == samples.drugs.index[drug])
            if len(measured):
                rows, known = np.flatnonzero(samples.drug == drug), there[pilot.cell[measured]]
                yield _Block(rows, measured, self._of(here[samples.cell[rows]], known), self._of(known, known))

    def _places(self, samples: ResponseSamples) -> np.ndarray:
        """Return what the kernel sees of each cell line, ``(lines, width)``."""
        if self.kernel == "expression":
            return self.lines.transform(samples.cell_lines, samples.omics)
        place = {name: at for at, name in enumerate(self.line_ids)}
        at = np.array([place.get(str(name), -1) for name in samples.cell_lines.index], dtype=int)
        return np.vstack([self.responses, np.zeros((1, self.responses.shape[1]))])[at]

    def _of(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        if self.kernel == "expression":
            return np.exp(-_square_distances(some, others) / self.width)
        return some @ others.T


class Piloted(Estimator):
    """A fitted estimator and the `Pilot` that adjusts its predictions of samples with pilot measurements."""

    def __init__(self, inner: Estimator, pilot: Pilot) -> None:
        self.inner, self.pilot = inner, pilot

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyperparameters of the estimator."""
        return dict(self.inner.get_params(deep))

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Refuse: `piloted` makes one of a final fit."""
        raise TypeError("pilot measurements adjust a model that is fitted already")

    def added(self, samples: ResponseSamples) -> np.ndarray:
        """Return what the pilot measurements add to each prediction, ``(n,)``."""
        if samples.pilot is None:
            return np.zeros(len(samples))
        measured = samples.pilot.take(_of_drugs(samples.pilot, samples))
        return self.pilot.added(samples, measured, measured.target - self.inner.predict(measured))

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the adjusted prediction, shape ``(n,)``."""
        return self.inner.predict(samples) + self.added(samples)

    def embedded(self, samples: ResponseSamples) -> np.ndarray | None:
        """See `Estimator.embedded`."""
        return self.inner.embedded(samples)

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution | None:
        """Return the estimator's attributions, and what the measurements add."""
        found, added = self.inner.attribute(samples, output), self.added(samples)
        if found is None:
            return None
        pilot = Attribution(["drug:pilot_measurements"], added[:, None], np.zeros(len(samples)), added, "exact")
        return add([found, pilot])

    def atom_attributions(self, samples: ResponseSamples, output: np.ndarray | None = None) -> list[np.ndarray] | None:
        """See `Estimator.atom_attributions`."""
        return self.inner.atom_attributions(samples, output)

    def graph(self, contract: Any) -> Any:
        """Refuse: a graph takes no measurements of other samples."""
        raise UserError("a model that takes pilot measurements cannot be exported: fit it in another split mode")

    def cost(self) -> dict[str, float]:
        """Return the estimator's cost."""
        return self.inner.cost()

    def save(self, folder: Path) -> None:
        """Write the estimator into ``folder``, and the pilot into a folder in it."""
        self.inner.save(folder)
        save_state(self.pilot.state(), folder / FOLDER)


def restored(estimator: Estimator, folder: Path) -> Estimator:
    """Return a model that was loaded from ``folder``, with the pilot where one was saved."""
    if not (folder / FOLDER).is_dir():
        return estimator
    return Piloted(estimator, Pilot.from_state(load_state(folder / FOLDER)))


def piloted(final: FinalFit, prepared: Prepared, *, level_alone: bool) -> FinalFit:
    """Return a final fit whose predictions pilot measurements adjust; kernel, prior and noise by held-out drugs.

    Kernels that are chosen among are fitted without the drugs of the held-out rows that decide, the last one on all.
    With ``level_alone`` the lines of a drug are all adjusted by the same number, as a baseline's are.
    """
    samples, measured = prepared.samples, prepared.samples.pilot
    at = np.full(len(samples), -1)
    at[final.held_out_rows] = np.arange(len(final.held_out_rows))
    error = samples.target[final.held_out_rows] - final.held_out
    kernels = ("none",) if level_alone else KERNELS
    blocks = {kernel: [] for kernel in kernels}  # type: dict[str, list[_Block]]
    residual = np.full(len(measured), np.nan)
    for member, fitted, held in final.parts:
        drugs = _of_drugs(measured, unseen := samples.take(held))
        own = measured.take(drugs)
        residual[drugs] = own.target - member.predict(own)
        for kernel in kernels:
            found = Pilot(kernel).fit(samples.take(fitted)).blocks(unseen, own)
            blocks[kernel] += [each._replace(rows=at[held[each.rows]], measured=drugs[each.measured]) for each in found]
    of_drug = blocks[kernels[0]]
    if not of_drug:
        raise UserError("no held-out drug has pilot measurements; lower split.pilot, or choose another split mode")
    level = float(np.mean([residual[each.measured].mean() ** 2 for each in of_drug]))
    within = float(np.mean([error[each.rows].var() for each in of_drug])) or 1.0
    choices = [
        Pilot(kernel, level, size * within, noise * within)
        for kernel, size, noise in product(kernels, (0.0,) if level_alone else _SHARES, _SHARES)
    ]
    added = [each.given(blocks[each.kernel], len(error), residual) for each in choices]
    best = int(np.argmin([np.square(error - each).mean() for each in added]))
    chosen = choices[best].fit(samples.take(prepared.rows("train", "validation")))
    return replace(final, estimator=Piloted(final.estimator, chosen), held_out=final.held_out + added[best])


def _of_drugs(pilot: ResponseSamples, samples: ResponseSamples) -> np.ndarray:
    """Return the rows of the pilot measurements of the drugs of ``samples``."""
    asked = samples.drugs.index[np.unique(samples.drug)]
    return np.flatnonzero(pilot.drugs.index.isin(asked)[pilot.drug])


def _square_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    squares = np.square(some).sum(axis=1)[:, None] + np.square(others).sum(axis=1)[None, :]
    return np.maximum(squares - 2 * some @ others.T, 0.0)
