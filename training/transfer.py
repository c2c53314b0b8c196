"""Transfer learning: a network that was trained on other images learns ours, in part or whole.

What stays frozen runs once over each image (`training.frozen`), in every mode: in ``head`` mode that leaves a linear
layer to train, in ``partial`` mode the last stages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from pipelines.faults import UserError
from pipelines.images import ImageSamples
from training.augment import augment, augmentation, grayed, restained
from training.backbone import Backbone, fingerprint
from training.device import torch_device
from training.estimator import Classifier, FitContext
from training.frozen import FeatureCache
from training.loop import LoopSettings, Trained, autocast, train_network

if TYPE_CHECKING:
    import optuna

BATCH = 64  # images at a time where no gradient is kept
LARGEST_FEATURES = 3e9  # bytes of cached feature maps; above, the frozen part runs anew every epoch
MODES = ("head", "partial", "full")
_LARGEST_HALF = 65504.0  # of a float16

DEFAULTS: dict[str, Any] = {
    "mode": "head",
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "dropout": 0.2,
    "label_smoothing": 0.05,
    "balanced": True,
    "batch_size": 64,
    "color": "as_is",
}


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters; which modes are tried is ``tune.modes`` in ``params.yaml``."""
    mode = trial.suggest_categorical("mode", list(settings.get("modes", MODES)))
    drawn = {
        "mode": mode,
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.3, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.1),
        "balanced": trial.suggest_categorical("balanced", [True, False]),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
        "color": trial.suggest_categorical("color", ["as_is", "gray"]),
    }
    if mode == "partial":
        drawn["unfrozen"] = trial.suggest_int("unfrozen", 1, 3)
    if mode != "head":
        drawn["backbone_rate"] = trial.suggest_float("backbone_rate", 0.02, 0.5, log=True)
        drawn["layer_decay"] = trial.suggest_float("layer_decay", 0.5, 1.0)
    if mode == "full":  # frozen features are made for one strength, once
        drawn["strength"] = trial.suggest_float("strength", 0.0, 1.0)
    return drawn


class TransferModule(nn.Module):
    """Frozen stages, trained stages, and a linear head on the means and spreads of what every stage gives.

    The pooled head takes the place of VGG's and AlexNet's wide layers, which are most of their parameters.
    """

    def __init__(self, stages: list[nn.Module], frozen: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.frozen = nn.Sequential(*stages[:frozen])
        self.tail = nn.Sequential(*stages[frozen:])
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)
        self.head = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Dropout(dropout), nn.Linear(width, classes))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is trained; frozen batch normalization keeps the statistics that it came with."""
        super().train(mode)
        self.frozen.eval()
        return self

    @property
    def seen_stages(self) -> list[nn.Module]:
        """Return the stages whose outputs the head sees, and Grad-CAM looks at: all but the stem."""
        return [*self.frozen, *self.tail][1:]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of normalized images ``(n, 3, size, size)``."""
        return self.after(*self.before(images))

    def before(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the frozen stages' last maps and what is tapped of them on the way."""
        return tapped(self.frozen, images, 0)

    def after(self, maps: Tensor, seen: list[Tensor]) -> Tensor:
        """Return logits of what `before` returned."""
        _, more = tapped(self.tail, maps, len(self.frozen))
        return self.head(torch.cat([*seen, *more], dim=1))


def tapped(stages: nn.Sequential, maps: Tensor, first: int) -> tuple[Tensor, list[Tensor]]:
    """Run ``stages`` and return the last maps and the mean and the spread of each channel after every stage.

    The first of ``stages`` is stage ``first`` of the network; the stem, stage 0, is left out. Texture is told by the
    middle of a network, objects by its end: the head sees both.
    """
    seen: list[Tensor] = []
    for number, stage in enumerate(stages, start=first):
        maps = stage(maps)
        if number > 0:
            spread = (maps.var(dim=(2, 3), correction=0) + 1e-5).sqrt()  # whose slope at zero is finite
            seen += [maps.mean(dim=(2, 3)), spread]
    return maps, seen


class TransferNetwork(Classifier):
    """A classifier of images on a `Backbone`, which subclasses name.

    Parameters
    ----------
    mode
        ``head`` trains a linear layer, ``partial`` also the last ``unfrozen`` stages, ``full`` everything.
    learning_rate, backbone_rate, layer_decay
        Of the head; of the last stage, as a share of the head's; and from each stage to the one before it.
    weight_decay, dropout, label_smoothing
        As usual.
    balanced
        Whether classes weigh alike in the loss, however many images each has.
    batch_size
        Images a step.
    strength
        Of augmentation, see `training.augment.augmentation`.
    color
        ``as_is``, or ``gray``: brightness alone, standardized over the cell, since stains differ between smears.
    views
        Turned, mirrored and restained views of an image on which frozen stages run once each.
    test_views
        Views over which a prediction is averaged.
    epochs, patience
        At most so many epochs; fewer where the validation loss has not fallen for ``patience`` of them.
    seed, device, weights
        As in ``params.yaml``.
    """

    backbone: ClassVar[Backbone]

    def __init__(
        self,
        mode: str = "head",
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        dropout: float = 0.2,
        label_smoothing: float = 0.05,
        balanced: bool = True,
        batch_size: int = 64,
        strength: float = 0.5,
        color: str = "as_is",
        unfrozen: int = 1,
        backbone_rate: float = 0.1,
        layer_decay: float = 0.7,
        views: int = 4,
        test_views: int = 4,
        epochs: int = 30,
        patience: int = 6,
        seed: int = 0,
        device: str = "auto",
        weights: str = "imagenet",
    ) -> None:
        self.mode = mode
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.balanced = balanced
        self.batch_size = batch_size
        self.strength = strength
        self.color = color
        self.unfrozen = unfrozen
        self.backbone_rate = backbone_rate
        self.layer_decay = layer_decay
        self.views = views
        self.test_views = test_views
        self.epochs = epochs
        self.patience = patience
        self.seed = seed
        self.device = device
        self.weights = weights

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the network starts from trained weights, and from which."""
        weights = str(settings.get("weights", "imagenet"))
        named = f"imagenet ({cls.backbone.source})" if weights == "imagenet" else weights
        return {"pretrained": str(weights != "none").lower(), "weights": named}

    @classmethod
    def expected_megabytes(cls) -> float:
        """Return the size of the backbone's parameters, which is nearly all of a saved model."""
        stages = nn.Sequential(*cls.backbone.build(cls.architecture, "none"))
        return sum(parameter.numel() for parameter in stages.parameters()) * 4 / 1e6

    def fit(
        self, train: ImageSamples, validation: ImageSamples | None = None, context: FitContext | None = None
    ) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest log loss are kept."""
        context = context or FitContext()
        size = train.pixels.shape[1]
        if size < self.backbone.smallest:
            raise UserError(
                f"{self.architecture} takes images of {self.backbone.smallest} pixels and more, these have {size}; "
                "raise data.size in params.yaml"
            )
        torch.manual_seed(self.seed)
        self.classes_, self.size_ = list(train.classes), size
        stages = self.backbone.build(self.architecture, self.weights)
        self._make(stages, _width(stages, size))
        module = self.module_
        codes = torch.tensor(train.target, device=self._device)
        weight = None
        if self.balanced:
            counts = np.bincount(train.target, minlength=len(self.classes_)).clip(1)
            weight = torch.as_tensor(len(train) / (len(self.classes_) * counts), dtype=torch.float32)
            weight = weight.to(self._device)
        criterion = nn.CrossEntropyLoss(weight, label_smoothing=self.label_smoothing)
        logits = self._training_logits(train, context)

        def loss(rows: Tensor) -> Tensor:
            return criterion(logits(rows), codes[rows])

        monitor = None
        if validation is not None and len(validation):
            monitor = self._monitor(validation)
        settings = LoopSettings(
            self.epochs, self.patience, self.batch_size, self.learning_rate, self.weight_decay, self.seed
        )
        began = time.perf_counter()
        trained = nn.ModuleDict({"tail": module.tail, "head": module.head})
        self.trained_: Trained = train_network(
            trained, loss, len(train), monitor, settings, context, groups=self._rates(module)
        )
        seen = len(train) * max(1, len(self.trained_.history))
        self.images_per_second_ = seen / (time.perf_counter() - began)
        module.eval()
        return self

    def _make(self, stages: list[nn.Module], width: int) -> None:
        last = {"head": len(stages), "partial": len(stages) - self.unfrozen, "full": 0}
        if self.mode not in last:
            raise UserError(f"mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        self._device = torch.device(torch_device(self.device))
        module = TransferModule(stages, max(0, last[self.mode]), width, len(self.classes_), self.dropout)
        if self._device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        self.module_ = module.to(self._device)
        self.module_.train(False)
        self._frozen_id: str | None = None
        self._shape: tuple[int, ...] = ()

    def _rates(self, module: TransferModule) -> list[tuple[list[nn.Parameter], float]]:
        """Return the trained parameters with their share of the learning rate: the deeper, the more."""
        depth = len(module.tail)
        groups = [
            (list(stage.parameters()), self.backbone_rate * self.layer_decay ** (depth - 1 - position))
            for position, stage in enumerate(module.tail)
        ]
        return [*groups, (list(module.head.parameters()), 1.0)]

    # From pixels to what is trained

    def _training_logits(self, train: ImageSamples, context: FitContext) -> Callable[[Tensor], Tensor]:
        module = self.module_
        if len(module.frozen) and self._bytes_of_features(train) <= LARGEST_FEATURES:
            key: tuple[object, ...] = ("frozen", id(train), self.weights, len(module.frozen), self.views)
            key += (self.strength, self.color)
            # The samples are remembered too: while they live, no others can have their id.
            _, views = context.remember(key, lambda: (train, self._all_views(train, context.progress)))
            store = torch.from_numpy(views)
            store = store.to(self._device) if self._device.type == "cuda" else store

            def cached(rows: Tensor) -> Tensor:
                where = rows.to(store.device)
                view = torch.randint(self.views, (len(rows),)).to(store.device)
                return self._after(store[view, where].to(self._device, torch.float32))

            return cached
        pixels = self._resident(train)
        change = augmentation(self.strength, train.pixels.shape[1])

        def anew(rows: Tensor) -> Tensor:
            images = augment(pixels(rows), change)
            with torch.no_grad():
                maps, seen = module.before(self._normalized(images))
            return module.after(maps, seen)

        return anew

    def _bytes_of_features(self, samples: ImageSamples) -> float:
        one = self._run_frozen(np.zeros((1, *samples.pixels.shape[1:]), np.uint8), 0, 0.0)
        return float(one.size * 2 * self.views * len(samples))

    def _all_views(self, samples: ImageSamples, progress: bool) -> np.ndarray:
        """Return what the frozen stages give for every view, float16, ``(views, n, ...)``."""
        return np.stack([self._frozen(samples, view, self.strength, progress) for view in range(self.views)])

    def _frozen(self, samples: ImageSamples, view: int, strength: float, progress: bool = False) -> np.ndarray:
        """Return what the frozen stages give for one view; from the cache where the images are files."""

        def run(pixels: np.ndarray) -> np.ndarray:
            return self._run_frozen(pixels, view, strength)

        if not isinstance(samples.pixels, np.memmap):  # a request's images leave no trace
            parts = [run(samples.pixels[rows]) for rows, _ in _batches(samples)]
            return np.concatenate(parts) if parts else np.zeros((0, 0), np.float16)
        if self._frozen_id is None:
            self._frozen_id = fingerprint(self.module_.frozen)
            run(np.zeros((1, *samples.pixels.shape[1:]), np.uint8))  # tells the shape of what the cache holds
        strength = strength if view else 0.0
        made_of = f"{self._frozen_id} {self.backbone.mean} {self.backbone.std} {samples.pixels.shape[1:]} "
        cache = FeatureCache(f"{made_of} {samples.made} {self._layout()} view {view} {strength}")
        return cache.features(samples, run, progress=progress)

    def _run_frozen(self, pixels: np.ndarray, view: int, strength: float) -> np.ndarray:
        images = viewed(self._float(pixels), view, strength)
        with torch.inference_mode(), autocast(self._device):
            maps, seen = self.module_.before(self._normalized(images))
        if len(self.module_.tail):
            self._shape = tuple(maps.shape[1:])
            seen = [maps.flatten(1), *seen]
        row = torch.cat(seen, dim=1).float().clamp(-_LARGEST_HALF, _LARGEST_HALF)
        return row.cpu().numpy().astype(np.float16)

    def _layout(self) -> str:
        """Return what stands in a row of frozen features, for the cache's key."""
        return f"{self.color} {'maps' if len(self.module_.tail) else 'pooled'}"

    def _after(self, rows: Tensor) -> Tensor:
        """Return logits of rows as `_run_frozen` made them."""
        module = self.module_
        if not len(module.tail):
            return module.head(rows)
        cells = math.prod(self._shape)
        maps = rows[:, :cells].unflatten(1, self._shape).contiguous(memory_format=torch.channels_last)
        return module.after(maps, [rows[:, cells:]])

    def _resident(self, samples: ImageSamples) -> Callable[[Tensor], Tensor]:
        """Return a function from rows to float images; on a GPU that has room all pixels lie there."""
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
        images = grayed(images) if self.color == "gray" else images
        mean = torch.tensor(self.backbone.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.backbone.std, device=images.device).view(1, 3, 1, 1)
        return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    # Predicting

    def _monitor(self, validation: ImageSamples) -> Callable[[], dict[str, float]]:
        codes = validation.target
        labels = np.arange(len(self.classes_))
        held = self._held(validation, 1)  # once, and not after every epoch

        def monitor() -> dict[str, float]:
            probabilities = self._mean_softmax(validation, held)
            if not np.isfinite(probabilities).all():
                return {"validation_log_loss": float("inf"), "validation_accuracy": 0.0}
            return {
                "validation_log_loss": float(log_loss(codes, probabilities, labels=labels)),
                "validation_accuracy": float((probabilities.argmax(axis=1) == codes).mean()),
            }

        return monitor

    def _held(self, samples: ImageSamples, views: int) -> list[np.ndarray | None]:
        """Return for each view what the frozen stages give; None where there are none, or where it is too much."""
        held = len(self.module_.frozen) > 0 and self._bytes_of_features(samples) <= LARGEST_FEATURES
        return [self._frozen(samples, view, self.strength) if held else None for view in range(views)]

    def _mean_softmax(self, samples: ImageSamples, held: list[np.ndarray | None]) -> np.ndarray:
        total = np.zeros((len(samples), len(self.classes_)))
        for view, frozen in enumerate(held):
            for rows, positions in _batches(samples):
                with torch.inference_mode(), autocast(self._device):
                    if frozen is not None:
                        logits = self._after(torch.from_numpy(frozen[positions]).to(self._device).float())
                    else:
                        images = viewed(self._float(samples.pixels[rows]), view, self.strength)
                        logits = self.module_(self._normalized(images))
                total[positions] += logits.double().softmax(dim=1).cpu().numpy()
        return total / len(held)

    def predict_proba(self, samples: ImageSamples) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        self.module_.eval()
        return self._mean_softmax(samples, self._held(samples, self.test_views))

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        """Return Grad-CAM of the predicted class, 0..1, shape ``(n, size, size)``.

        In its element-wise form (HiResCAM; Draelos and Carin, 2020), since the head sees spreads as well as means,
        and over all stages that the head sees, each with the same weight.
        """
        from captum.attr import LayerAttribution, LayerGradientXActivation

        self.module_.eval()
        size = samples.pixels.shape[1]
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

    # Keeping

    def cost(self) -> dict[str, float]:
        """Return parameters, multiply-adds of one image, and images a second in training."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.module_(torch.zeros(1, 3, self.size_, self.size_, device=self._device))
        cost = {
            "parameters": sum(p.numel() for p in self.module_.parameters()),
            "trained_parameters": sum(p.numel() for p in self.module_.parameters() if p.requires_grad),
            "multiply_adds": counter.get_total_flops() / 2,
        }
        return cost | ({"images_per_second": self.images_per_second_} if self.images_per_second_ else {})

    def state(self) -> dict[str, Any]:
        """Return the weights and the classes."""
        weights = {key: value.detach().cpu().numpy() for key, value in self.module_.state_dict().items()}
        return {
            "classes": self.classes_,
            "size": self.size_,
            "images_per_second": self.images_per_second_,
            "weights": weights,
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on weights and classes; nothing is fetched."""
        self.classes_ = list(state["classes"])
        self.size_ = int(state["size"])
        self.images_per_second_ = float(state["images_per_second"])
        weights = {key: torch.as_tensor(value) for key, value in state["weights"].items()}
        self._make(self.backbone.build(self.architecture, "none"), weights["head.2.weight"].shape[1])
        own = self.module_.state_dict()  # a count of batches has no dimension, which files of arrays do not keep
        self.module_.load_state_dict({key: value.reshape(own[key].shape) for key, value in weights.items()})
        self.module_.eval()
        return self


def viewed(images: Tensor, view: int, strength: float) -> Tensor:
    """Return images (float in 0..255) as the view of this number shows them: the same change for all, every time.

    View 0 is the image itself; the others turn and mirror it, and stain it another way where ``strength`` is above 0.
    """
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
    """Give for each batch its rows of pixels and the positions of its samples."""
    for start in range(0, len(samples), BATCH):
        positions = np.arange(start, min(start + BATCH, len(samples)))
        yield samples.index[positions], positions


def _width(stages: list[nn.Module], size: int) -> int:
    """Return how many numbers of an image the head sees."""
    with torch.no_grad():
        _, seen = tapped(nn.Sequential(*stages).eval(), torch.zeros(1, 3, size, size), 0)
    return sum(each.shape[1] for each in seen)
