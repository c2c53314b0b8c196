"""Convolutional networks on expression profiles that are laid out as images, with Integrated Gradients of genes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, declare, draw
from training.backbone import Backbone
from training.estimator import Attribution, FitContext
from training.features.expression_profile import SELECTIONS, ProfileFeatures, Scaling
from training.features.gene_layout import LAYOUTS, GeneLayout, Kind
from training.graphs import Formula, Graph
from training.graphs.profiles import profile_graph
from training.networks.loop import autocast, integrated_gradients
from training.networks.transfer import BATCH, SETTLED, Criterion, TransferNetwork, settle_batch_norm, training_space

STEPS = (32, 128, 512)  # of the integral; finer ones only for samples that miss their logit
GAP = 0.03  # relative to the logit's distance from the mean profile's


def space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return training_space(trial, settings, rates=(0.1, 2.0)) | draw(
        trial,
        selection=SELECTIONS,
        scaling=["standard", "min_max"],
        layout=list(settings.get("layouts", LAYOUTS)),
        noise=Range(0.0, 0.6),
        wide=[True, False],
        mixup=[0.0, 0.3, 1.0],
    )


@dataclass(eq=False, repr=False, kw_only=True)
class GeneImageNetwork(TransferNetwork):
    """A classifier of gene images; see `ProfileFeatures` for selection and scaling, `GeneLayout` for the layout."""

    mode: str = "full"
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    dropout: float = 0.5
    label_smoothing: float = 0.1
    balanced: bool = False
    backbone_rate: float = 1.0
    layer_decay: float = 1.0
    weights: str = "none"
    selection: str = "all"
    scaling: Scaling = "standard"
    layout: Kind = "given"
    noise: float = 0.1  # standard deviation, added to each gene in training, in units of the gene's own
    mixup: float = 0.0  # of the Beta distribution that mixes training profiles (Zhang et al., 2018); 0 for none
    wide: bool = True  # whether the head sees the genes too: linear models are strong on profiles
    image_size: int = 32

    channels: ClassVar[int] = 1
    grid: ClassVar[int] = 4
    steps: ClassVar[tuple[int, ...]] = STEPS
    featurizers: ClassVar[Mapping[str, Any]] = {"features": ProfileFeatures, "layout": GeneLayout}

    def _learn_images(self, train: ExpressionSamples, context: FitContext) -> int:
        key = ("gene images", id(train), self.selection, self.scaling, self.layout, self.image_size, self.seed)

        def learn() -> tuple[ExpressionSamples, ProfileFeatures, GeneLayout]:
            features = ProfileFeatures(self.selection, self.scaling).fit(train)
            layout = GeneLayout(self.layout, self.image_size)
            layout.fit(features.transform(train), features.genes, train.about_genes, self.seed)
            return train, features, layout  # with the samples, so that no others can have their id

        _, self.features_, self.layout_ = context.remember(key, learn)
        return self.layout_.side

    def begin(self, features: ProfileFeatures, classes: Sequence[str], counts: np.ndarray) -> Self:
        """Set all that is learned before training, in the layout ``given``, and make the network.

        ``counts`` are the training rows of each class.
        """
        self.features_, self.layout_ = features, GeneLayout("given", self.image_size)
        self.layout_.fit(np.zeros((0, len(features.genes))), features.genes, pd.DataFrame())
        return self._begin(classes, self.layout_.side, counts)

    def _images(self, samples: ExpressionSamples) -> Tensor:
        """Return gene images on the device, scaled as networks expect theirs, ``(n, 1, side, side)``."""
        return self._scaled(self.features_.transform(samples))

    def _scaled(self, values: np.ndarray) -> Tensor:
        if self.scaling == "min_max":
            values = (values - 0.5) * 4  # about as ImageNet's pixels lie once they are normalized
        return torch.from_numpy(self.layout_.transform(values)).to(self._device)

    def _loss(
        self, train: ExpressionSamples, context: FitContext, criterion: Criterion, codes: Tensor
    ) -> Callable[[Tensor], Tensor]:
        if len(self.module_.frozen) or not self.mixup:
            return super()._loss(train, context, criterion, codes)
        images, spread = self._images(train), self._spread()
        share = torch.distributions.Beta(self.mixup, self.mixup)

        def loss(rows: Tensor) -> Tensor:
            others = rows[torch.randperm(len(rows), device=rows.device)]
            weight = float(share.sample())
            batch = weight * images[rows] + (1 - weight) * images[others]
            logits = self.module_(batch + spread * torch.randn_like(batch))
            return weight * criterion(logits, codes[rows]) + (1 - weight) * criterion(logits, codes[others])

        return loss

    def _spread(self) -> Tensor:
        """Return the standard deviation of each pixel's noise: none where there is no gene."""
        spread = torch.zeros(self.size_ * self.size_, device=self._device)
        spread[torch.as_tensor(self.layout_.pixel, device=self._device)] = self.noise
        return spread.reshape(1, 1, self.size_, self.size_)

    def _training_logits(self, train: ExpressionSamples, context: FitContext) -> Callable[[Tensor], Tensor]:
        images, spread, module = self._images(train), self._spread(), self.module_
        if len(module.frozen):
            began = time.perf_counter()
            frozen = self._frozen_of(images)
            self._frozen_seconds = time.perf_counter() - began
            return lambda chosen: self._after(frozen[chosen].float())
        return lambda chosen: module(images[chosen] + spread * torch.randn_like(images[chosen]))

    def _frozen_of(self, images: Tensor) -> Tensor:
        rows = np.concatenate([self._frozen_rows(part) for part in images.split(BATCH)])
        return torch.from_numpy(rows).to(self._device)

    def summaries(self, train: ExpressionSamples, context: FitContext) -> Tensor:
        """Return the head's inputs of training samples before training, ``(n, width)``."""
        with torch.no_grad():
            return self._summary(self._frozen_of(self._images(train)))

    def _settle(self, train: ExpressionSamples, context: FitContext) -> Callable[[], None]:
        if self.frozen:
            return lambda: None
        some = np.random.default_rng(self.seed).permutation(len(train))[:SETTLED]
        images = self._images(train.take(np.sort(some)))
        return lambda: settle_batch_norm(self.module_, images.split(2 * BATCH))

    def _held_out(self, samples: ExpressionSamples, *, watched: bool) -> Callable[[], np.ndarray]:
        images = self._images(samples)

        def probabilities() -> np.ndarray:
            found = [np.zeros((0, len(self.classes_)))]
            with torch.inference_mode(), autocast(self._device):
                found += [self.module_(part).double().softmax(dim=1).cpu().numpy() for part in images.split(BATCH)]
            return np.concatenate(found)

        return probabilities

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017) of a logit, finer where they miss it by `GAP`."""
        images = self._images(samples)
        base_image = self._scaled(self.features_.middle[None])
        chosen = self.predict(samples) if output is None else np.asarray(output)
        with torch.no_grad():
            logits = torch.cat([self.module_(part) for part in images.split(BATCH)]).double().cpu().numpy()
            base = self.module_(base_image).double().cpu().numpy()[0][chosen]
        reached = logits[np.arange(len(chosen)), chosen]
        values, left = np.zeros((len(chosen), len(self.layout_.genes))), np.arange(len(chosen))
        for steps in self.steps:
            how = {"steps": steps, "rows": max(1, 4 * BATCH // steps), "batch": BATCH}
            found = integrated_gradients(self.module_, images[left], base_image, chosen[left].astype(np.int64), **how)
            values[left] = self.layout_.of_genes(found)
            gap = np.abs(base + values.sum(axis=1) - reached)
            left = np.flatnonzero(gap > GAP * np.abs(reached - base))
            if not len(left):
                break
        return Attribution(list(self.layout_.genes), values, base, reached, "integrated_gradients")

    def graph(self, contract: Any) -> Graph:
        """See `Estimator.graph`."""
        laid_out = _Image(self.layout_, self.scaling, self.module_)
        return profile_graph(self.features_, contract, Formula(lambda logits: logits.softmax(dim=1), laid_out))

    def layout_table(self) -> pd.DataFrame:
        """Return the map from genes to pixels: ``gene, row, column``."""
        return self.layout_.table()


class _Image(nn.Module):
    """A network on the images of `GeneLayout`, made of features as `GeneImageNetwork` makes them."""

    def __init__(self, layout: GeneLayout, scaling: str, network: nn.Module) -> None:
        super().__init__()
        gene = np.full(layout.side**2, len(layout.genes))  # of each pixel; the last is none
        gene[layout.pixel] = np.arange(len(layout.genes))
        self.register_buffer("gene", torch.as_tensor(gene))
        self.side, self.stretched, self.network = layout.side, scaling == "min_max", network

    def forward(self, values: Tensor) -> Tensor:
        values = (values - 0.5) * 4 if self.stretched else values
        pixels = nn.functional.pad(values, (0, 1))[:, self.get_buffer("gene")]
        return self.network(pixels.unflatten(1, (1, self.side, self.side)))


def register(name: str, backbone: Backbone) -> type[Any]:
    """Register a network for gene images."""
    return declare(name, GeneImageNetwork, "profiles", "classification", space=space, backbone=backbone)
