"""What the networks that predict genes from genes share: all but the layers between.

Inputs and targets are standardized on the training rows. A network starts from a share of the closed-form ridge
solution and learns what that leaves over; on the training rows it starts at what ridge says of a patient whom it has
not seen, or else it would learn to correct an error that new patients do not have.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import UserError
from pipelines.samples.expression import POSITION, ExpressionSamples
from training.device import network_device
from training.estimator import Attribution, Estimator, FitContext
from training.features.expression_profile import ProfileFeatures
from training.features.gene_order import correlation_order
from training.networks.gene_modules import Cell, GeneModule, RecurrentTrunk, Trunk
from training.networks.loop import Trained, TrainingChoices, train_network

ORDERS = ("table", "chromosome", "correlation")
_PENALTIES = (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0)  # of ridge, as shares of the number of genes
_BATCH = 1024  # rows at a time where no gradient is kept
_STEPS = 20  # of Integrated Gradients, by Gauss-Legendre quadrature


@dataclass(eq=False, repr=False, kw_only=True)
class GeneNetwork(TrainingChoices, Estimator):
    """A network from predictor genes to target genes, on profiles in log2 units.

    Parameters
    ----------
    width, depth
        Units of a layer, and number of layers.
    dropout
        Share of units left out in training.
    noise
        Standard deviation of Gaussian noise that is added to the standardized inputs in training.
    mixup
        Parameter of the beta distribution by which pairs of samples are mixed (Zhang et al., 2018); 0 mixes none.
    linear_start
        Share of the ridge prediction that the network starts from, 0 to 1.
    members
        Networks of different initial weights that are trained side by side and averaged.
    order
        In which order genes are read: ``table``; ``chromosome``, along the genome; ``correlation``, leaves of a
        hierarchical clustering of the training rows.
    permutation
        0 leaves that order; another number is the seed of a random order, to tell what the order is good for.

    The others are those of `training.networks.loop.TrainingChoices`.
    """

    width: int = 256
    depth: int = 2
    dropout: float = 0.2
    noise: float = 0.3
    mixup: float = 0.4
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    batch_size: int = 64
    linear_start: float = 0.5
    members: int = 3
    order: str = "table"
    permutation: int = 0
    epochs: int = 60
    patience: int = 10

    @abstractmethod
    def _trunk(self, genes: int) -> Trunk:
        """Return the layers of one member."""

    # Fitting

    def fit(
        self,
        train: ExpressionSamples,
        validation: ExpressionSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest error are kept.

        The error, ``validation_rmse``, is in standardized units, in which all targets weigh alike.

        Raises
        ------
        UserError
            The order is unknown, or asks for positions of genes that the samples do not have.
        """
        self.features_ = ProfileFeatures().fit(train)
        self.order_ = gene_positions(self.features_, train, self.order, self.permutation)
        self.targets_ = list(train.targets)
        inputs, measured = self._inputs(train), train.target
        known = ~np.isnan(measured)
        count = np.maximum(known.sum(axis=0), 1)
        self.mean_ = np.where(known, measured, 0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, measured - self.mean_, 0) ** 2).sum(axis=0) / count)
        self.scale_ = np.where(spread > 1e-6, spread, 1.0)
        residual = np.where(known, (measured - self.mean_) / self.scale_, 0)

        torch.manual_seed(self.seed)
        self._make(inputs.shape[1])
        if self.linear_start > 0:
            weights, unseen = ridge(inputs, residual, train.table["patient_id"].to_numpy(str))
            self.network_.start_from(torch.as_tensor(weights * self.linear_start, dtype=torch.float32))
            residual = residual - self.linear_start * unseen
        monitor = self._monitor(validation) if validation is not None and len(validation) else None
        self.trained_: Trained = train_network(
            self.network_,
            self._loss(inputs, residual, known),
            len(train),
            monitor,
            self.loop_settings,
            context or FitContext(),
        )
        return self

    def _make(self, genes: int) -> None:
        self._device = network_device(self.device)
        trunks = [self._trunk(genes) for _ in range(self.members)]
        network = GeneModule(
            trunks, genes=genes, targets=len(self.targets_), dropout=self.dropout, linear=self.linear_start > 0
        )
        self.network_ = network.to(self._device)

    def _loss(self, inputs: np.ndarray, residual: np.ndarray, known: np.ndarray) -> Callable[[Tensor], Tensor]:
        """Return the loss of training rows: the mean of the members' errors, each on batches changed in its own way."""
        genes = torch.as_tensor(inputs, device=self._device)
        targets = torch.as_tensor(residual, dtype=torch.float32, device=self._device)
        mixing = None
        if self.mixup > 0:
            parameter = torch.tensor(float(self.mixup), device=self._device)  # shares are drawn where they are used
            mixing = torch.distributions.Beta(parameter, parameter)
        weights = None if known.all() else torch.as_tensor(known, dtype=torch.float32, device=self._device)

        def of_member(number: int, rows: Tensor) -> Tensor:
            seen, goal = genes[rows], targets[rows]
            weight = None if weights is None else weights[rows]
            if mixing is not None:
                others = torch.randperm(len(rows), device=rows.device)
                share = mixing.sample((len(rows), 1))
                seen, goal = torch.lerp(seen[others], seen, share), torch.lerp(goal[others], goal, share)
                weight = None if weight is None else weight * weight[others]
            if self.noise > 0:
                seen = seen + self.noise * torch.randn_like(seen)
            error = (self.network_.member(number, seen).float() - goal).square()
            return error.mean() if weight is None else (error * weight).sum() / weight.sum().clamp(min=1)

        def loss(rows: Tensor) -> Tensor:
            return torch.stack([of_member(number, rows) for number in range(self.members)]).mean()

        return loss

    def _monitor(self, validation: ExpressionSamples) -> Callable[[], dict[str, float]]:
        watched = self._inputs(validation)
        measured = (validation.target - self.mean_) / self.scale_

        def monitor() -> dict[str, float]:
            return {"validation_rmse": float(np.sqrt(np.nanmean((self._run(watched) - measured) ** 2)))}

        return monitor

    # Predicting

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the target genes in log2 units, float64, shape ``(n, targets)``."""
        return self._run(self._inputs(samples)) * self.scale_ + self.mean_

    def _inputs(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples)[:, self.order_]

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        """Return standardized targets; in float32 on every device, so that attributions add up to them."""
        parts = self._batched(self.network_, inputs)
        return np.concatenate([np.zeros((0, len(self.targets_))), *parts])

    def _batched(self, function: Callable[[Tensor], Tensor], inputs: np.ndarray) -> list[np.ndarray]:
        self.network_.eval()
        with torch.no_grad():
            return [
                function(torch.as_tensor(inputs[start : start + _BATCH], device=self._device)).double().cpu().numpy()
                for start in range(0, len(inputs), _BATCH)
            ]

    @property
    def gene_order(self) -> list[str]:
        """Return the predictor genes in the order in which the network reads them."""
        return [self.features_.genes[position] for position in self.order_]

    def attention(self, samples: ExpressionSamples) -> np.ndarray | None:
        """Return how much each step is attended to, shape ``(n, steps)``, or None where there is no attention."""
        return None

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017) of one target gene a sample, in log2 units.

        The baseline is the mean training profile.

        Parameters
        ----------
        samples
            Whose predictions are explained.
        output
            Position of the target gene, for each sample.

        Raises
        ------
        ValueError
            ``output`` is missing, or is not one position for each sample.
        """
        from captum.attr import IntegratedGradients

        if output is None or len(output) != len(samples):
            raise ValueError(f"which of {len(self.targets_)} targets is explained? Give its position for each sample")
        output = np.asarray(output, dtype=np.int64)
        inputs = self._inputs(samples)
        values = np.zeros(inputs.shape)
        zero = torch.zeros(1, inputs.shape[1], device=self._device)
        self.network_.eval()
        explainer = IntegratedGradients(self.network_)
        # cuDNN's recurrent layers have no backward pass in evaluation mode.
        with torch.backends.cudnn.flags(enabled=False):
            for start in range(0, len(inputs), _BATCH // 4):
                rows = slice(start, start + _BATCH // 4)
                seen = torch.as_tensor(inputs[rows], device=self._device)
                chosen = torch.as_tensor(output[rows], device=self._device)
                found = explainer.attribute(seen, zero, target=chosen, n_steps=_STEPS, internal_batch_size=_BATCH)
                values[rows] = found.detach().double().cpu().numpy()
        start_values = self._run(np.zeros((1, inputs.shape[1]), np.float32))[0] * self.scale_ + self.mean_
        prediction = self._run(inputs) * self.scale_ + self.mean_
        return Attribution(
            self.gene_order,
            values * self.scale_[output][:, None],
            start_values[output],
            prediction[np.arange(len(output)), output],
            "integrated_gradients",
        )

    # Keeping

    def cost(self) -> dict[str, float]:
        """Return parameters and multiply-adds of one prediction."""
        from torch.utils.flop_counter import FlopCounterMode

        # Where there is no device there are no fused recurrent layers, which the counter would miss.
        network = copy.deepcopy(self.network_).to("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, len(self.order_), device="meta"))
        linear = self.network_.linear
        return {
            "parameters": sum(p.numel() for p in self.network_.parameters())
            + (0 if linear is None else linear.numel()),
            "multiply_adds": counter.get_total_flops() / 2,
        }

    def state(self) -> dict[str, Any]:
        """Return featurizer, order of genes, scales and weights."""
        return {
            "features": self.features_.state(),
            "order": self.order_,
            "targets": self.targets_,
            "mean": self.mean_,
            "scale": self.scale_,
            "weights": {key: value.cpu().numpy() for key, value in self.network_.state_dict().items()},
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizer, order of genes, scales and weights."""
        self.features_ = ProfileFeatures.from_state(state["features"])
        self.order_, self.targets_ = state["order"], list(state["targets"])
        self.mean_, self.scale_ = state["mean"], state["scale"]
        self._make(len(self.order_))
        self.network_.load_state_dict({key: torch.as_tensor(value) for key, value in state["weights"].items()})
        self.network_.eval()
        return self


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentGeneNetwork(GeneNetwork):
    """A recurrent network that reads windows of genes one after another.

    Parameters
    ----------
    window
        Genes a step.
    embedding
        Length of the vector that a window is brought to.
    heads
        Of the attention over the steps; a network without attention does not look at it.

    The others are those of `GeneNetwork`; ``width`` counts the units of each direction.
    """

    window: int = 96
    embedding: int = 128
    heads: int = 2
    width: int = 64
    depth: int = 1
    dropout: float = 0.4
    learning_rate: float = 2e-3
    members: int = 2
    order: str = "correlation"

    cell: ClassVar[Cell]
    attends: ClassVar[bool] = False

    def _trunk(self, genes: int) -> RecurrentTrunk:
        heads = self.heads if self.attends else 0
        return RecurrentTrunk(
            genes=genes,
            window=self.window,
            embedding=self.embedding,
            cell=self.cell,
            width=self.width,
            depth=self.depth,
            dropout=self.dropout,
            heads=heads,
        )

    @property
    def steps(self) -> list[list[str]]:
        """Return the genes of each step, in the order in which the network reads them."""
        genes = self.gene_order
        return [genes[start : start + self.window] for start in range(0, len(genes), self.window)]

    def attention(self, samples: ExpressionSamples) -> np.ndarray | None:
        """Return how much each of `steps` is attended to, shape ``(n, steps)``, rows sum to 1; None without attention.

        The mean over heads and members. States of a bidirectional network know of other windows too: the weights say
        where it reads, `attribute` says which genes move a prediction.
        """
        if not self.attends:
            return None
        parts = self._batched(self.network_.attention, self._inputs(samples))
        return np.concatenate([np.zeros((0, len(self.steps))), *parts])


def gene_positions(features: ProfileFeatures, train: ExpressionSamples, order: str, permutation: int = 0) -> np.ndarray:
    """Return the positions of ``features.genes`` in the order in which a network reads them, int64, ``(genes,)``.

    Parameters
    ----------
    features
        Fitted.
    train
        The rows whose correlations are looked at, and what is known of the genes.
    order, permutation
        See `GeneNetwork`.

    Raises
    ------
    UserError
        There is no such order, or the samples do not say where on the genome their genes lie.
    """
    genes = features.genes
    if order not in ORDERS:
        raise UserError(f"the order of genes is {order!r}; it must be one of {', '.join(ORDERS)}")
    positions = np.arange(len(genes))
    if order == "chromosome":
        if not train.has_positions:
            raise UserError(
                f"the order of genes is 'chromosome', but genes.csv has no columns {' and '.join(POSITION)}"
            )
        known = train.about_genes.reindex(genes)
        chromosome = known[POSITION[0]].astype("string").str.removeprefix("chr")
        number = chromosome.where(chromosome.str.fullmatch(r"\d+")).astype("Float64").astype(float).to_numpy()
        start = known[POSITION[1]].to_numpy(float)
        # 1, 2, ... 22, then X, Y and whatever else by name, then those of which nothing is known.
        positions = np.lexsort((start, chromosome.fillna("~").to_numpy(str), number))
    elif order == "correlation":
        positions = correlation_order(features.transform(train))
    if permutation:
        positions = np.random.default_rng(permutation).permutation(positions)
    return positions.astype(np.int64)


def ridge(inputs: np.ndarray, targets: np.ndarray, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve ridge regression (Hoerl and Kennard, 1970) and say what it would predict of each patient unseen.

    The penalty is the one whose predictions of unseen patients err least; leaving a patient out is done in closed form
    (the block form of Allen's PRESS, 1974).

    Parameters
    ----------
    inputs
        Standardized, shape ``(n, genes)``.
    targets
        Standardized, shape ``(n, targets)``.
    patients
        Shape ``(n,)``.

    Returns
    -------
    weights
        Shape ``(genes, targets)``.
    unseen
        What is predicted of each row by a fit without its patient, shape ``(n, targets)``.
    """
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
        own = 1 - (vectors**2) @ shrunk - 1 / len(inputs)  # the last part for the means that targets are rid of
        left_out = error / np.maximum(own, 1e-3)[:, None]
        for rows in several:
            block = np.eye(len(rows)) - (vectors[rows] * shrunk) @ vectors[rows].T - 1 / len(inputs)
            left_out[rows] = np.linalg.lstsq(block, error[rows], rcond=1e-3)[0]
        score = float(np.mean(left_out**2))
        if score < best:
            best, chosen, unseen = score, float(penalty), targets - left_out
    return axes.T @ ((singular / (sizes + chosen))[:, None] * turned), unseen
