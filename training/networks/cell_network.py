"""Transfer learning on photographs of cells: turned, mirrored and restained views, cached features, Grad-CAM."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.samples.images import ImageSamples
from training.architectures import Range, declare, draw
from training.backbone import Backbone, fingerprint
from training.device import network_device
from training.estimator import FitContext
from training.feature_cache import FeatureCache
from training.features.cell_color import COLORS, learned_stain
from training.features.exchanged_cells import EXCHANGES, exchanged
from training.features.isolated_cells import ISOLATIONS, isolated
from training.features.sources import between_sources, source_weights, sources
from training.graphs import Graph
from training.networks.augment import ZOOMS, augment, augmentation, blurred, grained, restained, zoomed
from training.networks.loop import autocast
from training.networks.transfer import (
    BATCH,
    SETTLED,
    Criterion,
    TransferNetwork,
    probe,
    settle_batch_norm,
    training_space,
)

LARGEST_FEATURES = 4e9  # bytes of cached feature maps; above, the frozen part runs again in every epoch


def space(trial: Any, settings: Mapping[str, Any], backbone: Backbone | None) -> dict[str, Any]:
    """Draw hyperparameters; without trained weights all stages learn alike, in small batches: more steps an epoch.

    ``backbone`` is None where the trained weights do not depend on ``settings``.
    """
    if backbone is not None and backbone.initial(settings.get("weights", "imagenet")) == "none":
        drawn = training_space(trial, {**settings, "modes": ["full"]}, batches=[32, 16]) | {"layer_decay": 1.0}
    else:
        drawn = training_space(trial, settings) | draw(trial, penalty=Range(1e-2, 30.0, log=True))
        if backbone is not None:
            drawn |= draw(trial, dropped_stages=Range(0, 3), source_penalty=[0.0, 10.0])
    drawn |= draw(trial, isolation=ISOLATIONS, color=list(COLORS))
    drawn |= draw(trial, exchange=EXCHANGES, jitter=[False, True], by_source=[False, True])
    if drawn["mode"] in ("partial", "full"):
        drawn |= draw(trial, ema=[0.0, 0.99])
    return drawn | draw(trial, strength=[0.0, 0.5, 1.0])  # few, since frozen features are computed once for each


@dataclass(eq=False, repr=False, kw_only=True)
class CellNetwork(TransferNetwork):
    """A classifier of cell images, whose training starts from the head of `training.networks.transfer.probe`."""

    strength: float = 0.5  # of augmentation, see `training.networks.augment.augmentation`
    isolation: str = "none"  # of the cell, see `training.features.isolated_cells.isolated`
    exchange: str = "none"  # between classes, see `training.features.exchanged_cells.exchanged`
    jitter: bool = False  # whether magnification, focus and grain of training images vary
    by_source: bool = False  # whether classes, and the sources of each, weigh alike, whatever `balanced` says
    color: str = "as_is"  # or, since stains differ between smears, another of `training.features.cell_color.COLORS`
    dropped_stages: int = 0  # of the backbone's last ones: texture shows earlier than objects
    views: int = 4  # turned, mirrored and restained, of each training image
    test_views: int = 4  # over which a prediction is averaged, at most: a final fit drops some
    ema: float = 0.0  # decay of the average of weights, see `training.networks.loop.train_network`
    penalty: float | None = 0.5  # of that head; None, or no trained weights: a random one
    source_penalty: float = 0.0  # times ``penalty``: of what differs between the sources of a class, see `_start`

    fitted: ClassVar = (*TransferNetwork.fitted, "test_views", "by_views", "stain")

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        """See `TransferNetwork.fit`."""
        joined = exchanged(train, self.exchange, self.seed)
        if self.by_source or self.source_penalty:  # of whole images: a cell alone has no background
            self._sources = np.tile(sources(train), len(joined) // len(train))
        if self.by_source:
            weights = torch.from_numpy(source_weights(joined.target, self._sources))
            self._row_weights = weights.to(network_device(self.device))
        return super().fit(self.seen(joined), None if validation is None else self.seen(validation), context)

    def seen(self, samples: ImageSamples) -> ImageSamples:
        """See `Estimator.seen`."""
        return isolated(samples, self.isolation)

    def _learn_images(self, train: ImageSamples, context: FitContext) -> int:
        self.stain_ = learned_stain(self.color, train)
        return train.pixels.shape[1]

    def begin(self, classes: Sequence[str], size: int, counts: np.ndarray, stain: np.ndarray | None) -> Self:
        """Set all that is learned before training, and make the network.

        ``counts`` are the training rows of each class, ``stain`` is that of `learned_stain`.
        """
        self.stain_ = stain
        return self._begin(classes, size, counts)

    def _begin(self, classes: Sequence[str], size: int, counts: np.ndarray) -> Self:
        self.test_views_, self.by_views_ = self.test_views, dict[str, list[float]]()
        if size < self.backbone.smallest:
            raise UserError(
                f"{self.architecture} takes images of {self.backbone.smallest} pixels and more, these have {size}; "
                "raise data.size in params.yaml"
            )
        return super()._begin(classes, size, counts)

    def _make(self, stages: list[nn.Module], width: int) -> None:
        super()._make(stages, width)
        both = torch.tensor([self.backbone.mean, self.backbone.std], device=self._device)
        self._mean, self._std = both.view(2, 1, 3, 1, 1)
        self._maps: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}  # by the shape of images

    def _stages(self, weights: str) -> list[nn.Module]:
        stages = super()._stages(weights)
        if not 0 <= self.dropped_stages <= len(stages) - 2:
            raise UserError(
                f"dropped_stages is {self.dropped_stages}; {self.architecture} has {len(stages)} stages, of which the "
                "first is not seen by the head: at least two must be left"
            )
        return stages[: len(stages) - self.dropped_stages]

    def _training_logits(self, train: ImageSamples, context: FitContext) -> Callable[[Tensor], Tensor]:
        module = self.module_
        if self._kept(train):
            store = torch.from_numpy(self._remembered(train, context))
            store = store.to(self._device) if self._device.type == "cuda" else store

            def cached(rows: Tensor) -> Tensor:
                where = rows.to(store.device)
                view = torch.randint(self.views, (len(rows),), device=store.device)
                return self._after(store[view, where].to(self._device, torch.float32))

            return cached
        pixels = self._resident(train)
        change = augmentation(self.strength, train.pixels.shape[1], jitter=self.jitter)

        def anew(rows: Tensor) -> Tensor:
            images = augment(pixels(rows), change)
            with torch.no_grad():
                maps, seen = module.before(self._normalized(images))
            return module.head(module.summary(maps, seen))

        return anew

    def _kept(self, samples: ImageSamples) -> bool:
        """Whether there are frozen stages, and memory for their features."""
        if not len(self.module_.frozen):
            return False
        if (shape := samples.pixels.shape[1:]) not in self._maps:  # a pass of its own, once
            count = self._run_frozen(np.zeros((1, *shape), np.uint8), 0, 0.0).size
            self._maps[shape] = count, self._shape
        count, self._shape = self._maps[shape]
        return count * 4 * self.views * len(samples) <= LARGEST_FEATURES

    def _remembered(self, train: ImageSamples, context: FitContext) -> np.ndarray:
        """Return the frozen stages' features of every view, float32, ``(views, n, ...)``, made once a study."""
        images = hashlib.sha256("".join(train.digests).encode()).digest(), train.made
        setting = self.weights, len(self.module_.frozen), self.views, self.strength, self._layout(), self.jitter
        key = ("frozen", images, *setting)

        def made() -> tuple[np.ndarray, float]:
            began, views = time.perf_counter(), range(self.views)
            how = {"jitter": self.jitter, "progress": context.progress}
            found = np.stack([self._frozen(train, view, self.strength, **how) for view in views])
            seconds = time.perf_counter() - began
            if isinstance(train.pixels, np.memmap):  # whose features are on disk, perhaps since another fit
                on_disk = sum(self._cache(train, view, self.strength, self.jitter).seconds(train) for view in views)
                seconds = float(np.maximum(seconds, on_disk))
            return found, seconds

        found, self._frozen_seconds = context.remember(key, made)
        return found

    def _start(self, train: ImageSamples, context: FitContext, criterion: Criterion, codes: Tensor) -> bool:
        if self.penalty is None or self.backbone.initial(self.weights) == "none":
            return False
        features = self.summaries(train, context)
        views = len(features) // len(train)
        if self.by_source:
            weights = self._row_weights.repeat(views)
            criterion = lambda logits, codes: self._weighted(logits, codes, weights)  # noqa: E731
        apart = None
        if self.source_penalty:
            summary = features.reshape(views, len(train), -1).mean(dim=0, dtype=torch.float32).cpu().numpy()
            apart = torch.from_numpy(self.source_penalty**0.5 * between_sources(summary, train.target, self._sources))
        probe(self.module_.head, features, codes.repeat(views), criterion, self.penalty, apart=apart)
        return True

    def _loss(
        self, train: ImageSamples, context: FitContext, criterion: Criterion, codes: Tensor
    ) -> Callable[[Tensor], Tensor]:
        if not self.by_source:
            return super()._loss(train, context, criterion, codes)
        logits = self._training_logits(train, context)
        return lambda rows: self._weighted(logits(rows), codes[rows], self._row_weights[rows])

    def _weighted(self, logits: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(logits, codes, reduction="none", label_smoothing=self.label_smoothing)
        return (losses * weights).sum() / weights.sum()

    def summaries(self, train: ImageSamples, context: FitContext) -> Tensor:
        """Return the head's inputs of `seen` training images before training: of every view, if features are kept."""
        module = self.module_
        with torch.no_grad(), autocast(self._device):
            if not self._kept(train):
                pixels = self._resident(train)
                parts = torch.arange(len(train), device=self._device).split(BATCH)
                return torch.cat([module.summary(*module.before(self._normalized(pixels(rows)))) for rows in parts])
            rows = torch.from_numpy(self._remembered(train, context)).flatten(0, 1)
            if not len(module.tail):
                return rows
            parts = rows.split(BATCH)
            return torch.cat([self._summary(part.to(self._device, torch.float32)) for part in parts])

    def _frozen(
        self, samples: ImageSamples, view: int, strength: float, *, jitter: bool = False, progress: bool = False
    ) -> np.ndarray:
        """Return the frozen stages' features of one view; from the cache if the images are files."""
        run = partial(self._run_frozen, view=view, strength=strength, jitter=jitter)
        return self._cache(samples, view, strength, jitter).features(samples, run, progress=progress)

    def _cache(self, samples: ImageSamples, view: int, strength: float, jitter: bool) -> FeatureCache:
        made_of = f"{self._frozen_identity()[0]} {self.backbone.mean} {self.backbone.std} {samples.pixels.shape[1:]} "
        made_of += f"{samples.made} {self._layout()} view {view} {strength if view else 0.0} {jitter and view > 0}"
        return FeatureCache(made_of, f"training.architectures.{self.architecture}")

    def _run_frozen(self, pixels: np.ndarray, view: int, strength: float, jitter: bool = False) -> np.ndarray:
        return self._frozen_rows(self._normalized(viewed(self._float(pixels), view, strength, jitter=jitter)))

    def _layout(self) -> str:
        stain = "" if self.stain_ is None else f" {self.stain_.tolist()}"
        return f"{self.color}{stain} {'maps' if len(self.module_.tail) else 'pooled'}"

    def _resident(self, samples: ImageSamples) -> Callable[[Tensor], Tensor]:
        """Return a function from rows to float images; pixels are copied to a GPU that has room."""
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            if len(samples) * samples.pixels[0].nbytes < 0.3 * free:
                store = torch.from_numpy(samples.pixels[samples.index]).to(self._device).permute(0, 3, 1, 2)
                return lambda rows: store[rows].float()
        return lambda rows: self._float(samples.pixels[samples.index[rows.cpu().numpy()]])

    def _float(self, pixels: np.ndarray) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float()
        return images.contiguous(memory_format=torch.channels_last)

    def _normalized(self, images: Tensor) -> Tensor:
        images = COLORS[self.color](images, self.stain_)
        return ((images / 255 - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _settle(self, train: ImageSamples, context: FitContext) -> Callable[[], None]:
        # From random weights the running statistics lag: EfficientNet-B0 looked untrained for three epochs.
        normalized = any(isinstance(part, nn.BatchNorm2d) for part in self.module_.tail.modules())
        if not normalized or len(self.module_.frozen) or self.backbone.initial(self.weights) != "none":
            return lambda: None
        some = np.sort(np.random.default_rng(self.seed).permutation(len(train))[:SETTLED])
        parts = np.array_split(train.index[some], math.ceil(len(some) / BATCH))  # alike: each counts as much

        def settle() -> None:
            with autocast(self._device):  # as the network answers
                settle_batch_norm(self.module_, (self._normalized(self._float(train.pixels[rows])) for rows in parts))

        return settle

    def _held_out(self, samples: ImageSamples, *, watched: bool) -> Callable[[], np.ndarray]:
        seen = self.seen(samples)
        held = self._held(seen, 1 if watched else self.test_views_)
        return lambda: self._softmax(seen, held)[-1]

    @classmethod
    def mean_outputs(cls, members: Sequence[Self], samples: ImageSamples) -> np.ndarray:
        """Return the mean of the ``members``' outputs; frozen stages run once if all have the same."""
        return cls.mean_outputs_embedded(members, samples)[0]

    @classmethod
    def mean_outputs_embedded(cls, members: Sequence[Self], samples: ImageSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return `mean_outputs`, and the `embedded` features of the first member, from the same passes."""
        if len({member._frozen_identity() for member in members}) > 1:
            every = [member.outputs_embedded(samples) for member in members]
            return np.mean([outputs for outputs, _ in every], axis=0), every[0][1]
        first = members[0]
        samples = first.seen(samples)
        if len(first.module_.frozen) and len(samples) > BATCH and not first._kept(samples):  # too many at once
            parts = [cls.mean_outputs_embedded(members, samples.take(at).alone()) for _, at in _batches(samples)]
            return np.concatenate([outputs for outputs, _ in parts]), np.concatenate([seen for _, seen in parts])
        held = first._held(samples, first.test_views_)
        for member in members:
            member._shape = first._shape
        passes = [member._passes(samples, held) for member in members]
        return np.mean([probabilities[-1] for probabilities, _ in passes], axis=0), passes[0][1]

    def embedded(self, samples: ImageSamples) -> np.ndarray:
        """Return what the head sees of the image itself, float32, ``(n, width)``: of frozen stages, if there are any.

        To a stage that was trained on some of the images, others look less alike.
        """
        seen = self.seen(samples)
        return self._passes(seen, self._held(seen, 1))[1]

    def outputs_embedded(self, samples: ImageSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return `outputs` and `embedded`, from the same passes."""
        seen = self.seen(samples)
        probabilities, embedding = self._passes(seen, self._held(seen, self.test_views_))
        return probabilities[-1], embedding

    def outputs_by_views(self, samples: ImageSamples) -> np.ndarray:
        """Return probabilities averaged over 1, 2, ... ``test_views`` views, ``(views, n, classes)``."""
        seen = self.seen(samples)
        return self._softmax(seen, self._held(seen, self.test_views))

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned; models of earlier releases average all views and have no stain."""
        return super().restore({"test_views": self.test_views, "by_views": {}, "stain": None, **state})

    def _frozen_identity(self) -> tuple[object, ...]:
        """Return all that the frozen stages' features depend on, besides the image."""
        if "fingerprint" not in self._of_frozen:
            self._of_frozen["fingerprint"] = fingerprint(self.module_.frozen)
        return self._of_frozen["fingerprint"], self.isolation, self._layout(), self.strength, self.test_views_

    def _held(self, samples: ImageSamples, views: int) -> list[np.ndarray | None]:
        """Return for each view the frozen stages' features; None if there are no such stages, or too many features."""
        kept = self._kept(samples)
        return [self._frozen(samples, view, self.strength) if kept else None for view in range(views)]

    def _softmax(self, samples: ImageSamples, held: list[np.ndarray | None]) -> np.ndarray:
        """Return probabilities averaged over the first view, the first two, ...: ``(views, n, classes)``."""
        return self._passes(samples, held)[0]

    def _passes(self, samples: ImageSamples, held: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """Return the result of `_softmax`, and the result of `embedded`."""
        found = np.zeros((len(held), len(samples), len(self.classes_)))
        embedding: list[np.ndarray] = []
        for view, frozen in enumerate(held):
            for rows, positions in _batches(samples):
                with torch.inference_mode(), autocast(self._device):
                    if frozen is not None:
                        kept = torch.from_numpy(frozen[positions]).to(self._device).float()
                        summary = self._summary(kept)
                        seen = [kept[:, math.prod(self._shape) :] if len(self.module_.tail) else kept]
                    else:
                        images = viewed(self._float(samples.pixels[rows]), view, self.strength)
                        maps, seen = self.module_.before(self._normalized(images))
                        summary = self.module_.summary(maps, seen)
                    logits = self.module_.head(summary)
                found[view, positions] = logits.double().softmax(dim=1).cpu().numpy()
                if view == 0:
                    fixed = torch.cat(seen, dim=1) if seen and seen[0].shape[1] else summary
                    embedding.append(fixed.float().cpu().numpy())
        mean = found.cumsum(axis=0) / np.arange(1, len(held) + 1)[:, None, None]
        return mean, np.concatenate(embedding) if embedding else np.zeros((0, 0), np.float32)

    def graph(self, contract: Any) -> Graph:
        """See `Estimator.graph`; its input are decoded images, as the model sees them."""
        what = "RGB" if self.isolation == "none" else "the cell alone, see `training.features.isolated_cells`"
        about = {"image": f"uint8 images of {self.size_} by {self.size_} pixels, channels last: {what}"}

        def inputs(samples: ImageSamples) -> dict[str, np.ndarray]:
            seen = self.seen(samples)
            return {"image": seen.pixels[seen.index]}

        return Graph(_Views(self), inputs, about)

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        """Return Grad-CAM of the predicted class (LayerCAM; Jiang et al., 2021) on `seen` images, 0..1.

        Of all stages that the head sees, each with the same weight: what speaks for the class, not what it outweighs.
        """
        samples, size = self.seen(samples), samples.pixels.shape[1]
        maps = np.zeros((len(samples), size, size), np.float32)
        predicted = self.predict(samples)
        for rows, positions in _batches(samples):
            images = self._normalized(self._float(samples.pixels[rows])).requires_grad_()
            logits, outputs = self.module_.with_maps(images)
            target = torch.as_tensor(predicted[positions], device=self._device)
            gradients = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), outputs)
            for output, gradient in zip(outputs, gradients, strict=True):
                small = (output * gradient.relu()).detach().float().sum(dim=1, keepdim=True).relu()
                small = small / small.mean(dim=(2, 3), keepdim=True).clamp(min=1e-12)
                large = nn.functional.interpolate(small, (size, size), mode="bilinear")
                maps[positions] += large.cpu().numpy()[:, 0]
        return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


class _Views(nn.Module):
    """Probabilities of images, averaged over the views that a `CellNetwork` answers by."""

    def __init__(self, of: CellNetwork) -> None:
        super().__init__()
        self.module, self.of = of.module_, of
        self.stains = [_stain(view, of.strength) for view in range(of.test_views_)]

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float()
        views = [viewed(pixels, view, self.of.strength, stain=stain) for view, stain in enumerate(self.stains)]
        logits = [self.module(self.of._normalized(each)) for each in views]
        return torch.stack([each.double().softmax(dim=1) for each in logits]).mean(dim=0)


def register(name: str, backbone: Backbone) -> type[Any]:
    """Register a network for images of cells."""
    own_space = partial(space, backbone=backbone)
    return declare(name, CellNetwork, "images", "classification", space=own_space, backbone=backbone)


def viewed(
    images: Tensor, view: int, strength: float, *, jitter: bool = False, stain: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return a fixed view of images (float in 0..255): 0 is the image, others are turned, mirrored and restained.

    With ``jitter`` every third of the others is out of focus, larger, or smaller and grained. ``stain`` is what
    `_stain` returns, where it is known: a graph that is exported has no generator to draw it by.
    """
    if view == 0:
        return images
    turned = torch.rot90(images, view % 4, (2, 3))
    turned = turned.flip(3) if (view // 4) % 2 else turned
    if jitter:
        turned = blurred(turned) if view % 3 == 1 else zoomed(turned, ZOOMS[view % 3 // 2])
        turned = grained(turned, torch.Generator().manual_seed(view)) if view % 3 == 0 else turned
    if strength == 0:
        return turned
    scale, shift = stain or _stain(view, strength)
    return restained(turned, scale.to(images.device), shift.to(images.device))


def _stain(view: int, strength: float) -> tuple[Tensor, Tensor]:
    """Return scale and shift of the optical density of a view."""
    draw = torch.Generator().manual_seed(view)
    scale = 1 + 0.12 * strength * torch.randn(1, 3, 1, 1, generator=draw)
    return scale, 0.12 * strength * torch.randn(1, 3, 1, 1, generator=draw)


def _batches(samples: ImageSamples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(samples), BATCH):
        positions = np.arange(start, min(start + BATCH, len(samples)))
        yield samples.index[positions], positions
