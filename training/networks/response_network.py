"""What the networks that predict drug response share: all but how a cell line and a drug are encoded.

A network learns what a line adds to the drug's mean response, in units of unit variance. Features of lines and drugs
are fitted on the training rows and brought to one scale there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.response import ResponseSamples, make_samples
from training.device import network_device
from training.estimator import Attribution, Estimator, FitContext
from training.features.cell_line import CellLineFeatures
from training.features.cell_line_choices import CellLineChoices
from training.features.drug import DrugFeatures
from training.features.pair import PairFeatures, PairMatrix
from training.networks.loop import Trained, TrainingChoices, autocast, train_network
from training.networks.pair_module import Head, PairModule, Tensors

_PREDICTED = 16384  # pairs at a time; their line and their drug are encoded already
_ENCODED = 512  # lines or drugs at a time
_EXPLAINED = 512  # pairs at a time


@dataclass(frozen=True)
class PairInputs:
    """What the network is given of pairs.

    Attributes
    ----------
    cells, drugs
        A row a line and a row a drug: features first, then what the subclass adds.
    cell, drug
        Row of each pair in them, shape ``(n,)``.
    matrix
        What they are made of, with the drugs' mean responses.
    """

    cells: Tensors
    drugs: Tensors
    cell: Tensor
    drug: Tensor
    matrix: PairMatrix


@dataclass(frozen=True)
class Shares:
    """Integrated Gradients of the network's inputs, in units of the target.

    Attributes
    ----------
    cell_slopes
        Path-averaged gradient at a line's unscaled features, shape ``(n, cell width)``.
    drugs
        What a drug's features add, shape ``(n, drug width)``.
    parts
        What each kind of part adds at each place of the molecule, shape ``(n, parts, kinds)``; None without molecules.
    base
        What the network says of the baseline, shape ``(n,)``.
    """

    cell_slopes: np.ndarray
    drugs: np.ndarray
    parts: np.ndarray | None
    base: np.ndarray


@dataclass(eq=False, repr=False, kw_only=True)
class ResponseNetwork(CellLineChoices, TrainingChoices, Estimator):
    """A network on a cell line and a drug.

    Parameters
    ----------
    layers, units
        Layers of the head and their width, which the codes of line and drug have too.
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
    rows_at_once: ClassVar[int] = 8192  # that a gradient is taken of

    @property
    def head(self) -> Head:
        """Return the layers that join a line's and a drug's code."""
        return Head(layers=self.layers, units=self.units, activation=self.activation, dropout=self.dropout)

    # What a subclass supplies

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        """Return the featurizer of lines, not yet fitted."""
        return self.cell_line_features(train)

    def _drug_features(self, train: ResponseSamples) -> DrugFeatures:
        """Return the featurizer of drugs, not yet fitted."""
        return DrugFeatures(self.bits, self.identity, self.profile_components)

    @abstractmethod
    def _module(self, cell_width: int, drug_width: int) -> PairModule:
        """Return the untrained network; ``features_`` and ``learnt_`` are there."""

    def _learn(self, train: ResponseSamples) -> dict[str, Any]:
        """Return what else is learnt of the training rows, as JSON values and arrays; ``features_`` is there."""
        return {}

    def _known_of_lines(self, samples: ResponseSamples) -> tuple[np.ndarray, ...]:
        """Return what `PairModule.cell_code` takes besides features: arrays with a row a line."""
        return ()

    def _molecules(self, drugs: pd.DataFrame) -> tuple[np.ndarray, ...]:
        """Return what `PairModule.drug_code` takes besides features: arrays with a row a drug.

        The first says of each part of the molecule (an atom, a token) what it is, shape ``(drugs, parts, kinds)``;
        predictions are attributed to it, from a baseline of zeros. The others (masks, bonds) are taken as they are.
        """
        return ()

    @property
    def _kinds(self) -> list[str]:
        """Return the names of the kinds of parts, in the order of the last axis of `_molecules`."""
        return []

    # Fitting

    def fit(
        self,
        train: ResponseSamples,
        validation: ResponseSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest error are kept."""
        context = context or FitContext()
        features = PairFeatures(self._cell_features(train), self._drug_features(train), center=True)
        # What is not yet fitted says in its repr all that the fit depends on besides the rows.
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
        # Components come ordered by size; the first would drown the others if each were not brought to one scale.
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

        self.trained_: Trained = train_network(self.network_, loss, len(train), monitor, self.loop_settings, context)
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

    # Predicting

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

    # Explaining

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017), per raw feature of the line and of the drug.

        The baseline is the average training line and the average training drug, of a molecule of which nothing is
        known. What a kind of part adds is summed over its places in the molecule.
        """
        inputs = self._inputs(samples)
        shares = self._shares(inputs)
        overall = self.features_.drug.overall
        lines = self.features_.cell_line.spread_gradient(
            shares.cell_slopes, samples.cell_lines, samples.omics, samples.cell
        )
        kinds = np.zeros((len(samples), 0)) if shares.parts is None else shares.parts.sum(axis=1)
        learnt = inputs.matrix.learnt(np.hstack([lines, shares.drugs, kinds]))
        return Attribution(
            [*self.features_.names, *self._kinds, "drug:offset"],
            np.hstack([learnt, (inputs.matrix.offset - overall)[:, None]]),
            inputs.matrix.learnt(shares.base) + overall,
            self._predict(inputs),
            "integrated_gradients",
        )

    def _shares(self, inputs: PairInputs) -> Shares:
        """Return what the inputs of each pair add to its prediction, beyond the drug's mean."""
        found = [self._shares_of(inputs, rows) for rows in _slices(len(inputs.cell), _EXPLAINED)]
        cell_slopes, drugs, parts, base = (
            None if each[0] is None else np.concatenate(each) for each in zip(*found, strict=True)
        )
        assert cell_slopes is not None and drugs is not None and base is not None
        return Shares(cell_slopes, drugs, parts, base)

    def _shares_of(
        self, inputs: PairInputs, rows: slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
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
        return by_cell / self.cell_scale_, of_drugs[0], of_drugs[1] if len(of_drugs) > 1 else None, base

    # Keeping

    def cost(self) -> dict[str, float]:
        """Return parameters and multiply-adds of one prediction, for a molecule of middling size."""
        from torch.utils.flop_counter import FlopCounterMode

        inputs = self._inputs(self._one_pair())
        self.network_.eval()
        with FlopCounterMode(display=False) as counter:  # with gradients, or fused layers would not be counted
            self.network_(inputs.cells, inputs.drugs)
        return {
            "parameters": sum(p.numel() for p in self.network_.parameters()),
            "multiply_adds": counter.get_total_flops() / 2,
        }

    def _one_pair(self) -> ResponseSamples:
        """Return a line of which nothing was measured, and imatinib."""
        tables = self.features_.cell_line.tables
        return make_samples(
            pd.DataFrame({"cell_line_id": ["line"], "drug_id": ["drug"]}),
            pd.DataFrame({"tissue": [None]}, index=pd.Index(["line"])),
            pd.DataFrame({"smiles": ["Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"]}, index=["drug"]),
            {name: pd.DataFrame(np.nan, index=["line"], columns=table.names) for name, table in tables.items()},
        )

    def state(self) -> dict[str, Any]:
        """Return featurizers, scales, what else was learnt, and weights."""
        state = {
            "features": self.features_.state(),
            "scale": self.scale_,
            "cell_scale": self.cell_scale_,
            "drug_center": self.drug_center_,
            "drug_scale": self.drug_scale_,
            "weights": {key: value.cpu().numpy() for key, value in self.network_.state_dict().items()},
        }
        return state | ({"learnt": self.learnt_} if self.learnt_ else {})

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on what `state` returned."""
        self.features_ = PairFeatures.from_state(state["features"])
        self.learnt_ = state.get("learnt", {})
        self.scale_, self.cell_scale_ = state["scale"], state["cell_scale"]
        self.drug_center_, self.drug_scale_ = state["drug_center"], state["drug_scale"]
        self._make()
        self.network_.load_state_dict({key: torch.as_tensor(value) for key, value in state["weights"].items()})
        self.network_.eval()
        return self


def _encoded(encode: Callable[..., Tensor], tensors: Tensors, of: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of the rows that stand in ``of``, each encoded once, and for each of ``of`` its row in them."""
    used, row = torch.unique(of, return_inverse=True)
    return torch.cat([encode(*(each[part] for each in tensors)) for part in used.split(_ENCODED)]), row


def _slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
