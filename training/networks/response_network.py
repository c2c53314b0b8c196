"""Networks that predict drug response, by the scaled residual from the drug's mean: all but the encoders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.response import ResponseSamples, make_samples
from training.architectures import Range, draw
from training.device import network_device
from training.estimator import Attribution, Estimator, FitContext
from training.features.cell_line import CellLineChoices, CellLineFeatures, cell_line_space
from training.features.mechanism import mechanism_space
from training.features.pair import DrugFeatures, PairFeatures, PairMatrix
from training.graphs import Formula, Graph
from training.graphs.pairs import OnPairs, named, pair_arrays
from training.networks.loop import TrainingChoices, autocast, cost_of, restore_weights, train_network, weights_of

Tensors = tuple[Tensor, ...]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
_PREDICTED = 16384  # pairs at a time; their line and their drug are encoded already
_ENCODED = 512  # lines or drugs at a time
_EXPLAINED = 512  # pairs at a time
_IMATINIB = "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"


def waits_for(tensor: Tensor) -> bool:
    """Whether shapes may not depend on values of ``tensor``: the host would wait. All rows are computed and masked."""
    return tensor.device.type != "cpu" or torch.compiler.is_exporting()


class PairModule(nn.Module):
    """A network of one number by the sum of a line's and a drug's code; rows must be independent."""

    cell: nn.Module
    drug: nn.Module
    hidden: nn.Module

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code per line, ``(lines, units)``, of its features ``(lines, width)`` and further inputs."""
        return self.cell(cells)

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code per drug, ``(drugs, units)``, of its features ``(drugs, width)`` and, if used, its molecule."""
        return self.drug(drugs)

    def joint(self, cell_code: Tensor, drug_code: Tensor) -> Tensor:
        """Return one number per pair, ``(n,)``, of the codes of its line and its drug, a row per pair."""
        return self.hidden(cell_code + drug_code).squeeze(-1)

    def forward(self, cells: Tensors, drugs: Tensors) -> Tensor:
        """Return one number per row, ``(n,)``, of tensors with a row per pair."""
        return self.joint(self.cell_code(*cells), self.drug_code(*drugs))

    def gathered(self, cells: Tensors, drugs: Tensors, cell: Tensor, drug: Tensor) -> Tensor:
        """Return `forward` on rows of ``cells`` and ``drugs``, each encoded once; on a GPU all of them."""
        if waits_for(cell):
            return self.joint(self.cell_code(*cells)[cell], self.drug_code(*drugs)[drug])
        lines, line = torch.unique(cell, return_inverse=True)
        molecules, molecule = torch.unique(drug, return_inverse=True)
        from_cells = self.cell_code(*(each[lines] for each in cells))
        from_drugs = self.drug_code(*(each[molecules] for each in drugs))
        return self.joint(from_cells[line], from_drugs[molecule])


@dataclass(frozen=True)
class PairInputs:
    """Inputs of the network."""

    cells: Tensors  # a row per line: features first, then what `ResponseNetwork._known_of_lines` returns
    drugs: Tensors  # a row per drug: features first, then the molecule
    cell: Tensor  # row of each pair in ``cells``, shape ``(n,)``
    drug: Tensor
    matrix: PairMatrix  # the unscaled features, with the drugs' mean responses


class Shares(NamedTuple):
    """Integrated Gradients of the network's inputs, in units of the target."""

    cell_slopes: np.ndarray  # path-averaged gradient at a line's unscaled features, ``(n, cell width)``
    drugs: np.ndarray  # contributions of a drug's features, ``(n, drug width)``
    parts: np.ndarray  # contributions of the parts of a molecule, ``(n, parts, kinds)``; without molecules no kinds
    base: np.ndarray  # the network's output at the baseline, ``(n,)``


def response_space(
    trial: Any,
    settings: Mapping[str, Any],
    *,
    learning_rate: tuple[float, float],
    dropout: float,
    batch_sizes: Sequence[int] = (2048, 4096),
    omics: Sequence[str] = ("expression", "all"),
) -> dict[str, Any]:
    """Draw the fields of `ResponseNetwork`; ``learning_rate`` has bounds, ``dropout`` an upper bound."""
    head = {"layers": Range(1, 3), "units": [64, 128, 256], "activation": ["relu", "tanh", "silu"]}
    shared = draw(trial, learning_rate=Range(*learning_rate, log=True), **head, dropout=Range(0.0, dropout))
    shared |= draw(trial, batch_size=batch_sizes, weight_decay=Range(1e-4, 1.0, log=True))
    shared |= cell_line_space(trial, settings, omics=omics)
    shared |= draw(trial, identity=["profile", "one_hot", "none"])
    return shared | mechanism_space(trial, settings)


@dataclass(eq=False, repr=False, kw_only=True)
class ResponseNetwork(CellLineChoices, TrainingChoices, Estimator):
    """A network on a cell line and a drug; for what is not said here see the classes that it inherits."""

    learning_rate: float = 1e-3
    layers: int = 2  # of the head
    units: int = 256  # of a layer of the head; the width of the codes of line and drug too
    activation: str = "silu"  # a key of `ACTIVATIONS`
    dropout: float = 0.2  # after every layer
    batch_size: int = 1024
    weight_decay: float = 0.05
    identity: str = "profile"  # as the two below see `training.features.pair.DrugFeatures`
    profile_components: int = 16
    bits: int = 256
    mechanism: bool = False
    epochs: int = 40
    patience: int = 5

    steps: ClassVar[int] = 64  # of Integrated Gradients
    rows_at_once: ClassVar[int] = 8192  # of one gradient
    # Featurizer of molecules and its key in ``learnt_``. Its `transform` returns arrays with a row per drug: the first,
    # ``(drugs, parts, kinds)``, encodes each part of the molecule (an atom, a token); predictions are attributed to it,
    # from a baseline of zeros. The others (masks, bonds) are fixed.
    reader: ClassVar[tuple[str, Any] | None] = None
    of_lines: ClassVar[tuple[str, ...]] = ("cell_features",)  # names of the inputs of `PairModule.cell_code`
    featurizers: ClassVar[Mapping[str, Any]] = {"features": PairFeatures}
    starts = True
    fitted = ("scale", "cell_scale", "drug_center", "drug_scale", "learnt")

    def activated(self) -> list[nn.Module]:
        """Return the activation and the dropout after it."""
        return [ACTIVATIONS[self.activation](), nn.Dropout(self.dropout)]

    def head(self) -> nn.Sequential:
        """Return the layers that join a pair: an activation on the summed codes, more layers, and a linear output."""
        hidden = self.activated()
        for _ in range(self.layers - 1):
            hidden += [nn.Linear(self.units, self.units), *self.activated()]
        return nn.Sequential(*hidden, nn.Linear(self.units, 1))

    @property
    def molecules(self) -> Any:
        """Return the fitted featurizer of molecules, None without."""
        return self.reader and self.reader[1].from_state(self.learnt_[self.reader[0]])

    # For subclasses

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        return self.cell_line_features(train, getattr(self, "components", 0))

    @abstractmethod
    def _module(self, cell_width: int, drug_width: int) -> PairModule:
        """Return the untrained network, by ``features_`` and ``learnt_``."""

    def _learn(self, train: ResponseSamples, features: PairFeatures) -> dict[str, Any]:
        """Return what else is learned from training rows after ``features``, as JSON values and arrays."""
        return self.read_molecules(train.drugs["smiles"].iloc[np.unique(train.drug)].tolist())

    @classmethod
    def read_molecules(cls, smiles: list[str | None]) -> dict[str, Any]:
        """Return what the reader of molecules learns from the training drugs."""
        if cls.reader is None:
            return {}
        name, of = cls.reader
        return {name: of().fit(smiles).state()}

    def _known_of_lines(self, samples: ResponseSamples) -> tuple[np.ndarray, ...]:
        """Return further inputs of `PairModule.cell_code`: arrays with a row per line."""
        return ()

    def fit(self, train: ResponseSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest error are kept."""
        context = context or FitContext()
        if context.start is None:
            features = self.unfitted_features(train)
            # The repr of unfitted featurizers shows all that the fit depends on besides the rows.
            features = context.remember((id(train), repr(features)), lambda: features.fit(train))
        else:
            features = self.restore(context.start).features_
        complete = features.complete(train)
        train = train if complete.all() else train.take(complete)
        matrix = features.transform(train)
        residual = train.target - matrix.offset
        if context.start is None:
            self.begin(
                features,
                self._learn(train, features),
                scale=float(residual.std()),
                cell_scale=matrix.cells[np.unique(matrix.cell)].astype(np.float64).std(axis=0),
                drugs=matrix.drugs[np.unique(matrix.drug)],
            )
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

        self.trained_ = train_network(self.network_, loss, len(train), monitor, settings=self, context=context)
        return self

    def unfitted_features(self, train: ResponseSamples) -> PairFeatures:
        """Return the featurizer of line and drug that `fit` fits."""
        of_drug = DrugFeatures(self.bits, self.identity, self.profile_components, self.mechanism)
        return PairFeatures(self._cell_features(train), of_drug, center=True)

    def begin(
        self, features: PairFeatures, learnt: dict[str, Any], *, scale: float, cell_scale: np.ndarray, drugs: np.ndarray
    ) -> Self:
        """Set all that is learned before training, and make the network, with random weights.

        ``scale`` and ``cell_scale`` ``(cell width,)`` are standard deviations of the residuals from the drugs' means
        and of the lines' features; ``drugs`` ``(drugs, drug width)`` are the features of the drugs.
        """
        self.features_, self.learnt_ = features, learnt
        # The units of the network: residuals of unit variance; features scaled over the lines and drugs seen, since
        # components come ordered by size and the first would dominate.
        self.scale_, self.cell_scale_ = scale or 1.0, _not_zero(cell_scale)
        drugs = drugs.astype(np.float64)
        self.drug_center_, self.drug_scale_ = drugs.mean(axis=0), _not_zero(drugs.std(axis=0))
        torch.manual_seed(self.seed)
        self._make()
        return self

    def _make(self) -> None:
        self._device = network_device(self.device)
        self.network_ = self._module(len(self.cell_scale_), len(self.drug_scale_)).to(self._device)

    def _inputs(self, samples: ResponseSamples, matrix: PairMatrix | None = None) -> PairInputs:
        matrix = self.features_.transform(samples) if matrix is None else matrix
        cells = [matrix.cells / self.cell_scale_, *self._known_of_lines(samples)]
        read = self.molecules.transform(samples.drugs["smiles"].tolist()) if self.reader else ()
        drugs = [(matrix.drugs - self.drug_center_) / self.drug_scale_, *read]
        cell, drug = (self._tensor(each.astype(np.int64)) for each in (matrix.cell, matrix.drug))
        return PairInputs(tuple(map(self._tensor, cells)), tuple(map(self._tensor, drugs)), cell, drug, matrix)

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
                for rows in inputs.matrix.batches(_PREDICTED)
            ]
        learnt = torch.cat(parts).numpy().astype(np.float64) * self.scale_
        return inputs.matrix.learnt(learnt) + inputs.matrix.offset

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017) by raw feature, from the average pair."""
        inputs = self._inputs(samples)
        shares = self._shares(inputs)
        overall, of_lines = self.features_.drug.overall, self.features_.cell_line
        lines = of_lines.spread_gradient(shares.cell_slopes, samples.cell_lines, samples.omics, samples.cell)
        learnt = inputs.matrix.learnt(np.hstack([lines, shares.drugs, shares.parts.sum(axis=1)]))
        names = [*self.features_.names, *(self.molecules.names if self.reader else []), "drug:offset"]
        values = np.hstack([learnt, (inputs.matrix.offset - overall)[:, None]])
        base = inputs.matrix.learnt(shares.base) + overall
        return Attribution(names, values, base, self._predict(inputs), "integrated_gradients")

    def _shares(self, inputs: PairInputs) -> Shares:
        found = [self._shares_of(inputs, rows) for rows in inputs.matrix.batches(_EXPLAINED)]
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

    def graph(self, contract: Any) -> Graph:
        """See `Estimator.graph`."""
        molecule = self.molecules.arrays if self.reader else ()
        names = [*self.of_lines, "drug_features", *molecule]
        of_pair = Formula(lambda value: value * self.scale_, _Apart(self.network_, len(self.of_lines)))

        def inputs(samples: ResponseSamples) -> dict[str, np.ndarray]:
            given = self._inputs(samples)
            rows = [each[given.cell] for each in given.cells] + [each[given.drug] for each in given.drugs]
            own = dict(zip(names, (each.cpu().numpy() for each in rows), strict=True))
            return pair_arrays(self.features_, given.matrix, own=own)

        module = OnPairs(of_pair, may_lack=bool(self.features_.cell_line.needed))
        return Graph(module, inputs, named(self.features_, *names), shared=False, ragged=molecule)

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
        """Return what was learned, and weights."""
        return {**super().state(), "weights": weights_of(self.network_)}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        super().restore(state)
        self._make()
        restore_weights(self.network_, state["weights"])
        return self


class _Apart(nn.Module):
    """A `PairModule` on tensors one after another, the first ``lines`` of which are the line's."""

    def __init__(self, network: PairModule, lines: int) -> None:
        super().__init__()
        self.network, self.lines = network, lines

    def forward(self, *given: Tensor) -> Tensor:
        return self.network(given[: self.lines], given[self.lines :])


def _encoded(encode: Callable[..., Tensor], tensors: Tensors, of: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of the distinct rows in ``of``, and for each of ``of`` its row in the codes."""
    used, row = torch.unique(of, return_inverse=True)
    return torch.cat([encode(*(each[part] for each in tensors)) for part in used.split(_ENCODED)]), row


def _not_zero(spread: np.ndarray) -> np.ndarray:
    return np.where(spread > 1e-6, spread, 1.0)


def _array(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
