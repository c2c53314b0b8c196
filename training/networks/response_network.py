"""Networks that predict drug response: all but the encoders of cell line and drug.

A network learns the residual from the drug's mean response, scaled to unit variance. Features of lines and drugs are
fitted and scaled on the training rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.response import ResponseSamples, make_samples
from training.architectures import Range, draw
from training.device import network_device
from training.estimator import Attribution, FitContext
from training.features.cell_line import CellLineFeatures
from training.features.cell_line_choices import CellLineChoices, cell_line_space
from training.features.drug import DrugFeatures
from training.features.fitted import FittedAttributes
from training.features.pair import PairFeatures, PairMatrix
from training.networks.loop import (
    Trained,
    TrainingChoices,
    autocast,
    cost_of,
    restore_weights,
    train_network,
    weights_of,
)
from training.networks.pair_module import Head, PairModule, Tensors

if TYPE_CHECKING:
    import optuna

_PREDICTED = 16384  # pairs at a time; their line and their drug are encoded already
_ENCODED = 512  # lines or drugs at a time
_EXPLAINED = 512  # pairs at a time
_IMATINIB = "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"


@dataclass(frozen=True)
class PairInputs:
    """Inputs of the network.

    Attributes
    ----------
    cells, drugs
        A row per line and a row per drug: features first, then additions of the subclass.
    cell, drug
        Row of each pair in them, shape ``(n,)``.
    matrix
        The unscaled features, with the drugs' mean responses.
    """

    cells: Tensors
    drugs: Tensors
    cell: Tensor
    drug: Tensor
    matrix: PairMatrix


class Shares(NamedTuple):
    """Integrated Gradients of the network's inputs, in units of the target.

    Attributes
    ----------
    cell_slopes
        Path-averaged gradient at a line's unscaled features, shape ``(n, cell width)``.
    drugs
        Contributions of a drug's features, shape ``(n, drug width)``.
    parts
        Contributions of the parts of a molecule, by kind, shape ``(n, parts, kinds)``; without molecules no kinds.
    base
        The network's output at the baseline, shape ``(n,)``.
    """

    cell_slopes: np.ndarray
    drugs: np.ndarray
    parts: np.ndarray
    base: np.ndarray


def response_space(
    trial: optuna.Trial,
    settings: Mapping[str, Any],
    *,
    learning_rate: tuple[float, float],
    dropout: float,
    batch_sizes: Sequence[int] = (2048, 4096),
    omics: Sequence[str] = ("expression", "all"),
) -> dict[str, Any]:
    """Draw the fields of `ResponseNetwork`; ``learning_rate`` has bounds, ``dropout`` an upper bound."""
    shared = draw(
        trial,
        learning_rate=Range(*learning_rate, log=True),
        layers=Range(1, 3),
        units=[64, 128, 256],
        activation=["relu", "tanh", "silu"],
        dropout=Range(0.0, dropout),
        batch_size=batch_sizes,
        weight_decay=Range(1e-4, 1.0, log=True),
    )
    shared |= cell_line_space(trial, settings, omics=omics)
    return shared | draw(trial, identity=["profile", "one_hot", "none"])


@dataclass(eq=False, repr=False, kw_only=True)
class ResponseNetwork(CellLineChoices, TrainingChoices, FittedAttributes):
    """A network on a cell line and a drug.

    Parameters
    ----------
    layers, units
        Number and width of the head's layers; the width is that of the codes of line and drug too.
    activation
        ``relu``, ``tanh`` or ``silu``.
    dropout
        After every layer.
    identity, profile_components, bits
        See `training.features.drug.DrugFeatures`.

    The others are those of `training.features.cell_line_choices.CellLineChoices` and of
    `training.networks.loop.TrainingChoices`.
    """

    learning_rate: float = 1e-3
    layers: int = 2
    units: int = 256
    activation: str = "silu"
    dropout: float = 0.2
    batch_size: int = 1024
    weight_decay: float = 0.05
    identity: str = "profile"
    profile_components: int = 16
    bits: int = 256
    epochs: int = 40
    patience: int = 5

    steps: ClassVar[int] = 64  # of Integrated Gradients
    rows_at_once: ClassVar[int] = 8192  # of one gradient
    featurizers: ClassVar[Mapping[str, Any]] = {"features": PairFeatures}
    fitted = ("scale", "cell_scale", "drug_center", "drug_scale")

    @property
    def head(self) -> Head:
        """Return the layers that join a line's and a drug's code."""
        return Head(layers=self.layers, units=self.units, activation=self.activation, dropout=self.dropout)

    # For subclasses

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        """Return the unfitted featurizer of lines."""
        return self.cell_line_features(train)

    @abstractmethod
    def _module(self, cell_width: int, drug_width: int) -> PairModule:
        """Return the untrained network, by ``features_`` and ``learnt_``."""

    def _learn(self, train: ResponseSamples) -> dict[str, Any]:
        """Return what else is learned from training rows after ``features_``, as JSON values and arrays."""
        return {}

    def _known_of_lines(self, samples: ResponseSamples) -> tuple[np.ndarray, ...]:
        """Return further inputs of `PairModule.cell_code`: arrays with a row per line."""
        return ()

    def _molecules(self, drugs: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Return further inputs of `PairModule.drug_code`: arrays with a row per drug.

        The first, ``(drugs, parts, kinds)``, encodes each part of the molecule (an atom, a token); predictions are
        attributed to it, from a baseline of zeros. The others (masks, bonds) are fixed.
        """
        return ()

    @property
    def _kinds(self) -> list[str]:
        """Return the names of the kinds of parts, in the order of the last axis of `_molecules`."""
        return []

    def fit(
        self, train: ResponseSamples, validation: ResponseSamples | None = None, context: FitContext | None = None
    ) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest error are kept."""
        context = context or FitContext()
        of_drug = DrugFeatures(self.bits, self.identity, self.profile_components)
        features = PairFeatures(self._cell_features(train), of_drug, center=True)
        # The repr of unfitted featurizers shows all that the fit depends on besides the rows.
        self.features_: PairFeatures = context.remember((id(train), repr(features)), lambda: features.fit(train))
        complete = self.features_.complete(train)
        train = train if complete.all() else train.take(complete)
        self.learnt_: dict[str, Any] = self._learn(train)
        matrix = self.features_.transform(train)
        residual = train.target - matrix.offset
        # The units of the network: residuals of unit variance; drug features scaled over the drugs seen.
        self.scale_ = float(residual.std()) or 1.0
        seen = matrix.drugs[np.unique(matrix.drug)].astype(np.float64)
        self.drug_center_, spread = seen.mean(axis=0), seen.std(axis=0)
        self.drug_scale_ = np.where(spread > 1e-6, spread, 1.0)
        # Components come ordered by size: without scaling the first would dominate.
        lines = matrix.cells[np.unique(matrix.cell)].astype(np.float64)
        spread = lines.std(axis=0)
        self.cell_scale_ = np.where(spread > 1e-6, spread, 1.0)

        torch.manual_seed(self.seed)
        self._make()
        inputs = self._inputs(train, matrix)
        target = torch.as_tensor(residual / self.scale_, dtype=torch.float32, device=self._device)

        def loss(rows: Tensor) -> Tensor:
            answer = self.network_.gathered(inputs.cells, inputs.drugs, inputs.cell[rows], inputs.drug[rows])
            return nn.functional.mse_loss(answer, target[rows])

        monitor = None
        if validation is not None and len(validation):
            watched, measured = self._inputs(validation), validation.target

            def monitor() -> dict[str, float]:
                error = self._predict(watched) - measured
                return {"validation_rmse": float(np.sqrt(np.mean(error**2)))}

        self.trained_: Trained = train_network(
            self.network_, loss, len(train), monitor, settings=self.loop_settings, context=context
        )
        return self

    def _make(self) -> None:
        self._device = network_device(self.device)
        self.network_ = self._module(len(self.cell_scale_), len(self.drug_scale_)).to(self._device)

    def _inputs(self, samples: ResponseSamples, matrix: PairMatrix | None = None) -> PairInputs:
        matrix = self.features_.transform(samples) if matrix is None else matrix
        cells = [matrix.cells / self.cell_scale_, *self._known_of_lines(samples)]
        drugs = [(matrix.drugs - self.drug_center_) / self.drug_scale_, *self._molecules(samples.drugs)]
        return PairInputs(
            cells=tuple(self._tensor(each) for each in cells),
            drugs=tuple(self._tensor(each) for each in drugs),
            cell=self._tensor(matrix.cell.astype(np.int64)),
            drug=self._tensor(matrix.drug.astype(np.int64)),
            matrix=matrix,
        )

    def _tensor(self, values: np.ndarray) -> Tensor:
        dtype = torch.float32 if np.issubdtype(values.dtype, np.floating) else None
        return torch.as_tensor(values, dtype=dtype, device=self._device)

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        return self._predict(self._inputs(samples))

    def _predict(self, inputs: PairInputs) -> np.ndarray:
        self.network_.eval()
        if not len(inputs.cell):
            return np.zeros(0)
        with torch.no_grad(), autocast(self._device):
            from_cells, cell = _encoded(self.network_.cell_code, inputs.cells, inputs.cell)
            from_drugs, drug = _encoded(self.network_.drug_code, inputs.drugs, inputs.drug)
            parts = [
                self.network_.joint(from_cells[cell[rows]], from_drugs[drug[rows]]).float().cpu()
                for rows in _slices(len(cell), _PREDICTED)
            ]
        learnt = torch.cat(parts).numpy().astype(np.float64) * self.scale_
        return inputs.matrix.learnt(learnt) + inputs.matrix.offset

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017), per raw feature of the line and of the drug.

        The baseline is the average training line and drug, without a molecule. Contributions of a kind of part are
        summed over the molecule.
        """
        inputs = self._inputs(samples)
        shares = self._shares(inputs)
        overall = self.features_.drug.overall
        lines = self.features_.cell_line.spread_gradient(
            shares.cell_slopes, samples.cell_lines, samples.omics, samples.cell
        )
        learnt = inputs.matrix.learnt(np.hstack([lines, shares.drugs, shares.parts.sum(axis=1)]))
        return Attribution(
            [*self.features_.names, *self._kinds, "drug:offset"],
            np.hstack([learnt, (inputs.matrix.offset - overall)[:, None]]),
            inputs.matrix.learnt(shares.base) + overall,
            self._predict(inputs),
            "integrated_gradients",
        )

    def _shares(self, inputs: PairInputs) -> Shares:
        """Return contributions of the inputs of each pair, from the drug's mean."""
        found = [self._shares_of(inputs, rows) for rows in _slices(len(inputs.cell), _EXPLAINED)]
        return Shares(*(np.concatenate(each) for each in zip(*found, strict=True)))

    def _shares_of(self, inputs: PairInputs, rows: slice) -> Shares:
        from captum.attr import IntegratedGradients

        cells = tuple(each[inputs.cell[rows]] for each in inputs.cells)
        drugs = tuple(each[inputs.drug[rows]] for each in inputs.drugs)
        varied = (cells[0], *drugs[:2])
        fixed = (*cells[1:], *drugs[2:])
        more = len(cells) - 1

        def network(*tensors: Tensor) -> Tensor:
            of_pair, known = tensors[: len(varied)], tensors[len(varied) :]
            return self.network_((of_pair[0], *known[:more]), (*of_pair[1:], *known[more:]))

        self.network_.eval()
        zeros = tuple(torch.zeros_like(each) for each in varied)
        slopes = IntegratedGradients(network, multiply_by_inputs=False).attribute(
            varied,
            baselines=zeros,
            additional_forward_args=fixed or None,
            n_steps=self.steps,
            internal_batch_size=max(self.rows_at_once, len(cells[0])),
        )
        with torch.no_grad():
            base = network(*zeros, *fixed).double().cpu().numpy() * self.scale_
        by_cell, *by_drug = (_array(slope) * self.scale_ for slope in slopes)
        of_drugs = [slope * _array(value) for slope, value in zip(by_drug, drugs[:2], strict=True)]
        parts = of_drugs[1] if len(of_drugs) > 1 else np.zeros((len(base), 0, 0))
        return Shares(by_cell / self.cell_scale_, of_drugs[0], parts, base)

    def cost(self) -> dict[str, float]:
        """Return parameters and multiply-adds of one prediction: an unmeasured line and a molecule of medium size."""
        tables = self.features_.cell_line.tables
        pair = make_samples(
            pd.DataFrame({"cell_line_id": ["line"], "drug_id": ["drug"]}),
            pd.DataFrame({"tissue": [None]}, index=pd.Index(["line"])),
            pd.DataFrame({"smiles": [_IMATINIB]}, index=["drug"]),
            {name: pd.DataFrame(np.nan, index=["line"], columns=table.names) for name, table in tables.items()},
        )
        inputs = self._inputs(pair)
        self.network_.eval()
        return cost_of(self.network_, inputs.cells, inputs.drugs)

    def state(self) -> dict[str, Any]:
        """Return featurizers, scales, what else was learned, and weights."""
        state = {**super().state(), "weights": weights_of(self.network_)}
        return state | ({"learnt": self.learnt_} if self.learnt_ else {})

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        super().restore(state)
        self.learnt_ = state.get("learnt", {})
        self._make()
        restore_weights(self.network_, state["weights"])
        return self


def _encoded(encode: Callable[..., Tensor], tensors: Tensors, of: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of the distinct rows in ``of``, and for each of ``of`` its row in the codes."""
    used, row = torch.unique(of, return_inverse=True)
    return torch.cat([encode(*(each[part] for each in tensors)) for part in used.split(_ENCODED)]), row


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
