"""Transfer learning on photographs of cells: turned, mirrored and restained views, cached features, Grad-CAM."""

import hashlib
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
from training.estimator import FitContext
from training.feature_cache import FeatureCache
from training.features.isolated_cells import ISOLATIONS, isolated
from training.networks.augment import COLORS, augment, augmentation, restained
from training.networks.loop import autocast
from training.networks.transfer import BATCH, Criterion, TransferNetwork, probe, training_space

LARGEST_FEATURES = 3e9  # bytes of cached feature maps; above, the frozen part runs again in every epoch


def space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    drawn = training_space(trial, settings)
    drawn |= draw(trial, isolation=ISOLATIONS, color=list(COLORS), penalty=Range(1e-2, 30.0, log=True))
    if drawn["mode"] == "full":  # frozen features are computed for one strength, once
        drawn |= draw(trial, strength=Range(0.0, 1.0))
    return drawn


@dataclass(eq=False, repr=False, kw_only=True)
class CellNetwork(TransferNetwork):
    """A classifier of cell images, whose training starts from the head of `training.networks.transfer.probe`."""

    strength: float = 0.5  # of augmentation, see `training.networks.augment.augmentation`
    isolation: str = "none"  # of the cell, see `training.features.isolated_cells.isolated`
    color: str = "as_is"  # or, since stains differ between smears, another of `COLORS`
    views: int = 4  # turned, mirrored and restained, of each training image
    test_views: int = 4  # over which a prediction is averaged, at most: a final fit drops some
    penalty: float | None = 0.5  # of that head; None, or no trained weights: a random one

    fitted: ClassVar = (*TransferNetwork.fitted, "test_views", "by_views")

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        """See `TransferNetwork.fit`."""
        return super().fit(self.seen(train), None if validation is None else self.seen(validation), context)

    def seen(self, samples: ImageSamples) -> ImageSamples:
        """See `Estimator.seen`."""
        return isolated(samples, self.isolation)

    def _learn_images(self, train: ImageSamples, context: FitContext) -> int:
        self.test_views_, self.by_views_ = self.test_views, dict[str, list[float]]()
        size = train.pixels.shape[1]
        if size < self.backbone.smallest:
            raise UserError(
                f"{self.architecture} takes images of {self.backbone.smallest} pixels and more, these have {size}; "
                "raise data.size in params.yaml"
            )
        return size

    def _make(self, stages: list[nn.Module], width: int) -> None:
        super()._make(stages, width)
        both = torch.tensor([self.backbone.mean, self.backbone.std], device=self._device)
        self._mean, self._std = both.view(2, 1, 3, 1, 1)
        self._maps: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}  # by the shape of images

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
        change = augmentation(self.strength, train.pixels.shape[1])

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
        return count * 2 * self.views * len(samples) <= LARGEST_FEATURES

    def _remembered(self, train: ImageSamples, context: FitContext) -> np.ndarray:
        """Return the frozen stages' features of every view, float16, ``(views, n, ...)``, made once a study."""
        images = hashlib.sha256("".join(train.digests).encode()).digest(), train.made
        key = ("frozen", images, self.weights, len(self.module_.frozen), self.views, self.strength, self.color)

        def made() -> tuple[np.ndarray, float]:
            began, views = time.perf_counter(), range(self.views)
            found = np.stack([self._frozen(train, view, self.strength, context.progress) for view in views])
            seconds = time.perf_counter() - began
            if isinstance(train.pixels, np.memmap):  # whose features are on disk, perhaps since another fit
                on_disk = sum(self._cache(train, view, self.strength).seconds(train) for view in views)
                seconds = float(np.maximum(seconds, on_disk))
            return found, seconds

        found, self._frozen_seconds = context.remember(key, made)
        return found

    def _start(self, train: ImageSamples, context: FitContext, criterion: Criterion, codes: Tensor) -> bool:
        if self.penalty is None or self.weights == "none":
            return False
        features = self._summaries(train, context)
        probe(self.module_.head, features, codes.repeat(len(features) // len(train)), criterion, self.penalty)
        return True

    def _summaries(self, train: ImageSamples, context: FitContext) -> Tensor:
        """Return the head's inputs of the training images before training: of every view, if features are kept."""
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

    def _frozen(self, samples: ImageSamples, view: int, strength: float, progress: bool = False) -> np.ndarray:
        """Return the frozen stages' features of one view; from the cache if the images are files."""
        run = partial(self._run_frozen, view=view, strength=strength)
        return self._cache(samples, view, strength).features(samples, run, progress=progress)

    def _cache(self, samples: ImageSamples, view: int, strength: float) -> FeatureCache:
        made_of = f"{self._frozen_identity()[0]} {self.backbone.mean} {self.backbone.std} {samples.pixels.shape[1:]} "
        made_of += f"{samples.made} {self._layout()} view {view} {strength if view else 0.0}"
        return FeatureCache(made_of, f"training.architectures.{self.architecture}")

    def _run_frozen(self, pixels: np.ndarray, view: int, strength: float) -> np.ndarray:
        return self._frozen_rows(self._normalized(viewed(self._float(pixels), view, strength)))

    def _layout(self) -> str:
        return f"{self.color} {'maps' if len(self.module_.tail) else 'pooled'}"

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
        images = COLORS[self.color](images)
        return ((images / 255 - self._mean) / self._std).contiguous(memory_format=torch.channels_last)

    def _held_out(self, samples: ImageSamples, *, watched: bool) -> Callable[[], np.ndarray]:
        seen = self.seen(samples)
        held = self._held(seen, 1 if watched else self.test_views_)
        return lambda: self._softmax(seen, held)[-1]

    @classmethod
    def mean_outputs(cls, members: Sequence[Self], samples: ImageSamples) -> np.ndarray:
        """Return the mean of the ``members``' outputs; frozen stages run once if all have the same."""
        if len({member._frozen_identity() for member in members}) > 1:
            return super().mean_outputs(members, samples)
        first = members[0]
        samples = first.seen(samples)
        if len(first.module_.frozen) and len(samples) > BATCH and not first._kept(samples):  # too many at once
            return np.concatenate([cls.mean_outputs(members, samples.take(at).alone()) for _, at in _batches(samples)])
        held = first._held(samples, first.test_views_)
        for member in members:
            member._shape = first._shape
        return np.mean([member._softmax(samples, held)[-1] for member in members], axis=0)

    def outputs_by_views(self, samples: ImageSamples) -> np.ndarray:
        """Return probabilities averaged over 1, 2, ... ``test_views`` views, ``(views, n, classes)``."""
        seen = self.seen(samples)
        return self._softmax(seen, self._held(seen, self.test_views))

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned; models of earlier releases average all views."""
        return super().restore({"test_views": self.test_views, "by_views": {}, **state})

    def _frozen_identity(self) -> tuple[object, ...]:
        """Return all that the frozen stages' features depend on, besides the image."""
        if self._frozen_id is None:
            self._frozen_id = fingerprint(self.module_.frozen)
        return self._frozen_id, self.isolation, self._layout(), self.strength, self.test_views_

    def _held(self, samples: ImageSamples, views: int) -> list[np.ndarray | None]:
        """Return for each view the frozen stages' features; None if there are no such stages, or too many features."""
        kept = self._kept(samples)
        return [self._frozen(samples, view, self.strength) if kept else None for view in range(views)]

    def _softmax(self, samples: ImageSamples, held: list[np.ndarray | None]) -> np.ndarray:
        """Return probabilities averaged over the first view, the first two, ...: ``(views, n, classes)``."""
        found = np.zeros((len(held), len(samples), len(self.classes_)))
        for view, frozen in enumerate(held):
            for rows, positions in _batches(samples):
                with torch.inference_mode(), autocast(self._device):
                    if frozen is not None:
                        logits = self._after(torch.from_numpy(frozen[positions]).to(self._device).float())
                    else:
                        images = viewed(self._float(samples.pixels[rows]), view, self.strength)
                        logits = self.module_(self._normalized(images))
                found[view, positions] = logits.double().softmax(dim=1).cpu().numpy()
        return found.cumsum(axis=0) / np.arange(1, len(held) + 1)[:, None, None]

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        """Return Grad-CAM of the predicted class (HiResCAM; Draelos and Carin, 2020) on `seen` images, 0..1."""
        from captum.attr import LayerAttribution, LayerGradientXActivation

        samples, size = self.seen(samples), samples.pixels.shape[1]
        explainer = LayerGradientXActivation(self.module_, self.module_.seen_stages)
        maps = np.zeros((len(samples), size, size), np.float32)
        predicted = self.predict(samples)
        for rows, positions in _batches(samples):
            images = self._normalized(self._float(samples.pixels[rows]))
            target = torch.as_tensor(predicted[positions], device=self._device)
            for found in explainer.attribute(images, target=target):
                small = found.detach().float().sum(dim=1, keepdim=True).relu()
                small = small / small.sum(dim=(2, 3), keepdim=True).clamp(min=1e-12)
                large = LayerAttribution.interpolate(small, (size, size), interpolate_mode="bilinear")
                maps[positions] += large.cpu().numpy()[:, 0] * small[0, 0].numel()
        return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


def register(name: str, backbone: Backbone) -> type[Any]:
    """Register a network for images of cells."""
    return declare(name, CellNetwork, "images", "classification", space=space, backbone=backbone)


def viewed(images: Tensor, view: int, strength: float) -> Tensor:
    """Return a fixed view of images (float in 0..255): 0 is the image, others are turned, mirrored and restained."""
    if view == 0:
        return images
    turned = torch.rot90(images, view % 4, (2, 3))
    turned = turned.flip(3) if (view // 4) % 2 else turned
    if strength == 0:
        return turned
    draw = torch.Generator().manual_seed(view)
    scale = 1 + 0.12 * strength * torch.randn(1, 3, 1, 1, generator=draw)
    shift = 0.12 * strength * torch.randn(1, 3, 1, 1, generator=draw)
    return restained(turned, scale.to(images.device), shift.to(images.device))


def _batches(samples: ImageSamples) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(samples), BATCH):
        positions = np.arange(start, min(start + BATCH, len(samples)))
        yield samples.index[positions], positions
