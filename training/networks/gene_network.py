"""Networks that predict genes from genes, both standardized on the training rows: all but the layers between."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, declare, joined, ranges
from training.estimator import Attribution, FitContext
from training.features.expression_profile import ProfileFeatures, chosen_targets, target_means
from training.features.gene_layout import correlation_order
from training.graphs import Formula, Graph
from training.graphs.profiles import profile_graph
from training.networks.gene_modules import AdditiveAttention, WindowEmbedding
from training.networks.loop import train_network
from training.networks.profile_network import ProfileNetwork

ORDERS = ("table", "correlation")  # the latter as the leaves of a hierarchical clustering of the training rows
_PENALTIES = (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0)  # of ridge, as shares of the number of genes
SHARED = ranges(
    dropout=Range(0.0, 0.5),
    noise=Range(0.0, 1.0),
    mixup=[0.0, 0.2, 0.4, 1.0],
    weight_decay=Range(0.03, 10.0, log=True),
    batch_size=[64, 128],
    linear_start=[0.0, 0.5, 0.9],
)
RECURRENT = joined(
    ranges(
        learning_rate=Range(3e-4, 6e-3, log=True),
        width=[32, 64],
        depth=Range(1, 2),
        window=[48, 72, 96],
        embedding=[64, 128],
        order=list(ORDERS),
    ),
    SHARED,
)
ATTENTION = joined(RECURRENT, ranges(heads=[1, 2, 4]))


@dataclass(eq=False, repr=False, kw_only=True)
class GeneNetwork(ProfileNetwork):
    """A network from predictor genes to target genes, on profiles in log2 units."""

    width: int = 256
    depth: int = 2
    dropout: float = 0.2
    noise: float = 0.3
    mixup: float = 0.4  # of the beta distribution that mixes pairs of samples (Zhang et al., 2018); 0 mixes none
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    batch_size: int = 64
    linear_start: float = 0.5  # share of the ridge prediction that the network starts from
    members: int = 3
    order: str = "table"  # in which genes are read, see `gene_positions`
    permutation: int = 0  # 0 keeps the order; else the seed of a random one, see `evaluation.permuted_genes`
    epochs: int = 60
    patience: int = 10

    starts = True
    fitted = ("order", "targets", "mean", "scale")

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest error, in standardized units, are kept."""
        context, measured = context or FitContext(), train.target
        known = ~np.isnan(measured)
        if context.start is None:
            features, mean = ProfileFeatures().fit(train), target_means(train)
            squares = (np.where(known, measured - mean, 0) ** 2).sum(axis=0)
            order = gene_positions(features, train, self.order, self.permutation)
            spread = np.sqrt(squares / np.maximum(known.sum(axis=0), 1))
            self.begin(features, order, list(train.targets), mean=mean, spread=spread)
        else:
            self.restore(context.start)
        inputs = self._inputs(train)
        residual = np.where(known, (measured - self.mean_) / self.scale_, 0)
        if self.linear_start > 0 and context.start is None:
            weights, unseen = ridge(inputs, residual, train.table["patient_id"].to_numpy(str))
            self.network_.start_from(torch.as_tensor(weights * self.linear_start, dtype=torch.float32))
            # Ridge errs less on its own rows than on new patients: the network must not learn to correct that.
            residual = residual - self.linear_start * unseen
        monitor = self._monitor(validation) if validation is not None and len(validation) else None
        loss = self._loss(inputs, residual, known)
        self.trained_ = train_network(self.network_, loss, len(train), monitor, settings=self, context=context)
        return self

    def begin(
        self, features: ProfileFeatures, order: np.ndarray, targets: list[str], *, mean: np.ndarray, spread: np.ndarray
    ) -> Self:
        """Set all that is learned before training, and make the network, with random weights.

        ``order`` is of the genes, see `gene_positions`; ``mean`` and ``spread`` are of the targets, ``(targets,)``.
        """
        self.features_, self.order_, self.targets_ = features, order, targets
        self.mean_, self.scale_ = mean, np.where(spread > 1e-6, spread, 1.0)
        torch.manual_seed(self.seed)
        self._make(len(features.genes), len(targets), linear=self.linear_start > 0)
        return self

    def _loss(self, inputs: np.ndarray, residual: np.ndarray, known: np.ndarray) -> Callable[[Tensor], Tensor]:
        """Return the loss of training rows: the mean over members, each with noise and mixing of its own."""
        genes = torch.as_tensor(inputs, device=self._device)
        targets = torch.as_tensor(residual, dtype=torch.float32, device=self._device)
        parameter = torch.tensor(float(self.mixup), device=self._device)  # shares are drawn where they are used
        mixing = torch.distributions.Beta(parameter, parameter) if self.mixup > 0 else None
        weights = None if known.all() else torch.as_tensor(known, dtype=torch.float32, device=self._device)

        def of_member(number: int, rows: Tensor) -> Tensor:
            seen, goal = genes[rows], targets[rows]
            weight = None if weights is None else weights[rows]
            if mixing is not None:
                others = torch.randperm(len(rows), device=rows.device)
                share = mixing.sample((len(rows), 1))
                seen, goal = torch.lerp(seen[others], seen, share), torch.lerp(goal[others], goal, share)
                weight = None if weight is None else weight * weight[others]
            error = (self.network_.member(number, self._noisy(seen)).float() - goal).square()
            return error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1)

        return lambda rows: self._mean_of_members(lambda number: of_member(number, rows))

    def _monitor(self, validation: ExpressionSamples) -> Callable[[], dict[str, float]]:
        watched = self._inputs(validation)
        measured = (validation.target - self.mean_) / self.scale_
        return lambda: {"validation_rmse": float(np.sqrt(np.nanmean((self._run(watched) - measured) ** 2)))}

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the target genes in log2 units, float64, shape ``(n, targets)``."""
        return self._unscaled(self._inputs(samples))

    def _inputs(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples)[:, self.order_]

    def _unscaled(self, inputs: np.ndarray) -> np.ndarray:
        return self._run(inputs) * self.scale_ + self.mean_

    def graph(self, contract: Any) -> Graph:
        """See `Estimator.graph`."""
        read = _InOrder(self.order_, self.network_)
        answer = Formula(lambda values, scale, mean: values * scale + mean, read, scale=self.scale_, mean=self.mean_)
        return profile_graph(self.features_, contract, answer)

    @property
    def gene_order(self) -> list[str]:
        """Return the predictor genes in the order in which the network reads them."""
        return [self.features_.genes[position] for position in self.order_]

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017) of one target gene for each sample, in log2 units."""
        chosen = chosen_targets(samples, output).astype(np.int64)
        inputs = self._inputs(samples)
        base = self._unscaled(np.zeros((1, inputs.shape[1]), np.float32))[0, chosen]
        prediction = self._unscaled(inputs)[np.arange(len(chosen)), chosen]
        values = self._integrated(inputs, chosen) * self.scale_[chosen][:, None]
        return Attribution(self.gene_order, values, base, prediction, "integrated_gradients")


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentGeneNetwork(GeneNetwork):
    """A recurrent network that reads windows of genes one after another; ``width`` counts units of each direction."""

    window: int = 96  # genes per step
    embedding: int = 128  # length of a window's vector
    heads: int = 2  # of the attention over the steps; unused without attention
    width: int = 64
    depth: int = 1
    dropout: float = 0.4
    learning_rate: float = 2e-3
    members: int = 2
    order: str = "correlation"

    cell: ClassVar[Literal["lstm", "gru"]]
    attends: ClassVar[bool] = False

    @property
    def steps(self) -> list[list[str]]:
        """Return the genes of each step, in the order in which the network reads them."""
        return [self.gene_order[at : at + self.window] for at in range(0, len(self.gene_order), self.window)]

    def _trunk(self, genes: int) -> nn.Module:
        return RecurrentTrunk(self, genes)


@dataclass(eq=False, repr=False, kw_only=True)
class AttentionGeneNetwork(RecurrentGeneNetwork):
    """A recurrent network whose states are pooled by attention."""

    window: int = 72

    attends = True


class _InOrder(nn.Module):
    """A network on genes in the order in which it reads them."""

    def __init__(self, order: np.ndarray, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("order", torch.as_tensor(order))
        self.network = network

    def forward(self, values: Tensor) -> Tensor:
        return self.network(values[:, self.get_buffer("order")])


class RecurrentTrunk(nn.Module):
    """A bidirectional LSTM (Hochreiter and Schmidhuber, 1997) or GRU (Cho et al., 2014) over windows of genes."""

    def __init__(self, of: RecurrentGeneNetwork, genes: int) -> None:
        super().__init__()
        heads, between = of.heads if of.attends else 0, of.dropout if of.depth > 1 else 0.0
        self.embedding = WindowEmbedding(genes, of.window, of.embedding)
        self.dropout = nn.Dropout(of.dropout)
        shape = {"num_layers": of.depth, "batch_first": True, "bidirectional": True, "dropout": between}
        self.recurrent = getattr(nn, of.cell.upper())(of.embedding, of.width, **shape)
        self.pool = AdditiveAttention(2 * of.width, heads) if heads else None
        self.width = of.width
        self.features = 2 * of.width * (heads or 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, features)`` of ``(n, genes)``."""
        states = self.recurrent(self.dropout(self.embedding(inputs)))[0]
        if self.pool is not None:
            return self.pool(states)[0]
        ahead, back = states[:, -1, : self.width], states[:, 0, self.width :]
        return torch.cat([ahead, back, states.mean(dim=1)], dim=1)


def recurrent_network(name: str, cell: str, *, attends: bool = False) -> None:
    """Register a network of the cell ``lstm`` or ``gru`` for the prediction of genes."""
    base, space = (AttentionGeneNetwork, ATTENTION) if attends else (RecurrentGeneNetwork, RECURRENT)
    declare(name, base, "profiles", "multi_target", space=space, cell=cell)


def gene_positions(features: ProfileFeatures, train: ExpressionSamples, order: str, permutation: int = 0) -> np.ndarray:
    """Return the positions of ``features.genes`` in the order in which a network reads them; see `ORDERS`."""
    if order not in ORDERS:
        raise UserError(f"the order of genes is {order!r}; it must be one of {', '.join(ORDERS)}")
    positions = np.arange(len(features.genes))
    if order == "correlation":
        positions = correlation_order(features.transform(train))
    if permutation:
        positions = np.random.default_rng(permutation).permutation(positions)
    return positions.astype(np.int64)


def ridge(inputs: np.ndarray, targets: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ridge weights (Hoerl and Kennard, 1970) and leave-patient-out predictions (Allen, 1974)."""
    inputs = inputs.astype(np.float64)
    vectors, singular, axes = np.linalg.svd(inputs, full_matrices=False)
    sizes = singular**2
    turned = vectors.T @ targets
    _, codes, counts = np.unique(patients, return_inverse=True, return_counts=True)
    several = [np.flatnonzero(codes == code) for code in np.flatnonzero(counts > 1)]
    best, chosen, unseen = np.inf, 0.0, np.zeros_like(targets)
    for penalty in np.array(_PENALTIES) * inputs.shape[1]:
        shrunk = sizes / (sizes + penalty)
        error = targets - vectors @ (shrunk[:, None] * turned)
        own = 1 - (vectors**2) @ shrunk - 1 / len(inputs)  # the last term: targets are centered
        left_out = error / np.maximum(own, 1e-3)[:, None]
        for rows in several:
            block = np.eye(len(rows)) - (vectors[rows] * shrunk) @ vectors[rows].T - 1 / len(inputs)
            left_out[rows] = np.linalg.lstsq(block, error[rows], rcond=1e-3)[0]
        score = float(np.mean(left_out**2))
        if score < best:
            best, chosen, unseen = score, float(penalty), targets - left_out
    return axes.T @ ((singular / (sizes + chosen))[:, None] * turned), unseen
