"""Transfer learning: a network that was trained on other images is trained on ours, in part or whole."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from pipelines.errors import UserError
from training.architectures import Range, draw
from training.backbone import Backbone
from training.device import network_device
from training.estimator import Classifier, FitContext
from training.features.fitted import FittedAttributes
from training.networks.loop import TrainingChoices, autocast, cost_of, restore_weights, train_network, weights_of
from training.networks.transfer_module import TransferModule, head_width, of_one_channel

BATCH = 64  # images at a time where no gradient is kept
MODES = ("head", "partial", "full")
_LARGEST_HALF = 65504.0  # of a float16
Criterion = Callable[[Tensor, Tensor], Tensor]


def training_space(trial: Any, settings: Mapping[str, Any], rates: tuple[float, float] = (0.02, 0.5)) -> dict[str, Any]:
    """Draw the hyperparameters of `TransferNetwork`; ``rates`` bounds ``backbone_rate``."""
    drawn = draw(
        trial,
        mode=list(settings.get("modes", MODES)),
        learning_rate=Range(3e-4, 3e-2, log=True),
        weight_decay=Range(1e-4, 0.3, log=True),
        dropout=Range(0.0, 0.5),
        label_smoothing=Range(0.0, 0.1),
        balanced=[True, False],
        batch_size=[32, 64, 128],
    )
    if drawn["mode"] == "partial":
        drawn |= draw(trial, unfrozen=Range(1, 3))
    if drawn["mode"] != "head":
        drawn |= draw(trial, backbone_rate=Range(*rates, log=True), layer_decay=Range(0.5, 1.0))
    return drawn


@dataclass(eq=False, repr=False, kw_only=True)
class TransferNetwork(TrainingChoices, FittedAttributes, Classifier):
    """A classifier on the subclass's `Backbone`; ``learning_rate`` is the head's."""

    mode: str = "head"  # trains a linear layer; ``partial`` also the last ``unfrozen`` stages; ``full`` everything
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    label_smoothing: float = 0.05
    balanced: bool = True  # whether classes weigh alike in the loss
    batch_size: int = 64
    unfrozen: int = 1
    backbone_rate: float = 0.1  # learning rate of the last stage, as a share of the head's
    layer_decay: float = 0.7  # of that rate, from each stage to the one before it
    epochs: int = 30
    patience: int = 6
    weights: str = "imagenet"

    backbone: ClassVar[Backbone]
    channels: ClassVar[int] = 3
    grid: ClassVar[int] = 0  # see `training.networks.transfer_module.tapped`
    fitted = ("classes", "size", "images_per_second")

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the network starts from trained weights, and their source."""
        weights = str(settings.get("weights", "imagenet"))
        named = f"imagenet ({cls.backbone.source})" if weights == "imagenet" else weights
        return {"pretrained": str(weights != "none").lower(), "weights": named}

    @classmethod
    def expected_megabytes(cls) -> float:
        """Return the size of the backbone's weights and buffers, nearly all of a saved model."""
        tensors = nn.Sequential(*cls.backbone.build(cls.architecture, "none")).state_dict().values()
        return sum(tensor.numel() for tensor in tensors) * 4 / 1e6

    # For subclasses

    @abstractmethod
    def _learn_images(self, train: Any, context: FitContext) -> int:
        """Fit the map from samples to images, and return the side of the images in pixels."""

    @abstractmethod
    def _training_logits(self, train: Any, context: FitContext) -> Callable[[Tensor], Tensor]:
        """Return a function from training rows to logits, with random changes of the images."""

    def _loss(self, train: Any, context: FitContext, criterion: Criterion, codes: Tensor) -> Callable[[Tensor], Tensor]:
        logits = self._training_logits(train, context)
        return lambda rows: criterion(logits(rows), codes[rows])

    @abstractmethod
    def _held_out(self, samples: Any, *, watched: bool) -> Callable[[], np.ndarray]:
        """Return a function that gives probabilities of ``samples``, prepared once; ``watched``: for early stopping."""

    def _settle(self, train: Any, context: FitContext) -> Callable[[], None]:
        """Return a function that prepares the network for evaluation after an epoch."""
        return lambda: None

    def _start(self, train: Any, context: FitContext, criterion: Criterion, codes: Tensor) -> bool:
        """Initialize the head, if possible; return whether that was done."""
        return False

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest log loss are kept."""
        context = context or FitContext()
        torch.manual_seed(self.seed)
        self.classes_ = list(train.classes)
        self.size_ = self._learn_images(train, context)
        stages = self._stages(self.weights)
        pixels = self.channels * self.size_**2 if getattr(self, "wide", False) else 0
        self._make(stages, pixels + head_width(stages, self.channels, self.size_, self.grid))
        module = self.module_
        codes = torch.tensor(train.target, device=self._device)
        counts = np.bincount(train.target, minlength=len(self.classes_)).clip(1)
        shares = torch.as_tensor(len(train) / (len(self.classes_) * counts), dtype=torch.float32, device=self._device)
        criterion = nn.CrossEntropyLoss(shares if self.balanced else None, label_smoothing=self.label_smoothing)
        loss = self._loss(train, context, criterion, codes)
        started = self._start(train, context, criterion, codes)
        monitor = self._monitor(train, validation, context) if validation is not None and len(validation) else None
        began = time.perf_counter()
        options: dict[str, Any] = {"context": context, "groups": self._rates(module), "start_counts": started}
        trained = nn.ModuleDict({"tail": module.tail, "head": module.head})
        self.trained_ = train_network(trained, loss, len(train), monitor, settings=self, **options)
        if monitor is None:  # which settles after every epoch
            self._settle(train, context)()
        seen = len(train) * (len(self.trained_.history) - self.trained_.first_epoch)
        rate = seen / (time.perf_counter() - began + self._frozen_seconds)
        self.images_per_second_ = rate if math.isfinite(rate) else 0.0
        module.eval()
        return self

    def _stages(self, weights: str) -> list[nn.Module]:
        stages = self.backbone.build(self.architecture, weights)
        return stages if self.channels == 3 else of_one_channel(stages)

    def _make(self, stages: list[nn.Module], width: int) -> None:
        last = {"head": len(stages), "partial": len(stages) - self.unfrozen, "full": 0}
        if self.mode not in last:
            raise UserError(f"mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        self._device = network_device(self.device)
        module = TransferModule(
            stages,
            frozen=max(0, last[self.mode]),
            width=width,
            classes=len(self.classes_),
            dropout=self.dropout,
            grid=self.grid,
            wide=getattr(self, "wide", False),
        )
        if self._device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        self.module_ = module.to(self._device).eval()
        self._frozen_id: str | None = None
        self._frozen_seconds = 0.0  # of the one run of frozen stages over the training images, set by `_loss`
        self._shape: tuple[int, ...] = ()

    def _rates(self, module: TransferModule) -> list[tuple[list[nn.Parameter], float]]:
        """Return the trained parameters with their share of the learning rate: the deeper, the larger."""
        depth = len(module.tail)
        shares = [self.backbone_rate * self.layer_decay ** (depth - 1 - position) for position in range(depth)]
        parts = zip([*module.tail, module.head], [*shares, 1.0], strict=True)
        return [(list(part.parameters()), share) for part, share in parts]

    def _monitor(self, train: Any, validation: Any, context: FitContext) -> Callable[[], dict[str, float]]:
        codes, labels = validation.target, np.arange(len(self.classes_))
        held_out, settle = self._held_out(validation, watched=True), self._settle(train, context)

        def monitor() -> dict[str, float]:
            settle()
            probabilities = held_out()
            if not np.isfinite(probabilities).all():
                return {"validation_log_loss": float("inf"), "validation_accuracy": 0.0}
            return {
                "validation_log_loss": float(log_loss(codes, probabilities, labels=labels)),
                "validation_accuracy": float((probabilities.argmax(axis=1) == codes).mean()),
            }

        return monitor

    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        self.module_.eval()
        return self._held_out(samples, watched=False)()

    def _frozen_rows(self, images: Tensor) -> np.ndarray:
        """Return the frozen stages' features of normalized images, float16, a row per image."""
        with torch.inference_mode(), autocast(self._device):
            maps, seen = self.module_.before(images)
        if len(self.module_.tail):
            self._shape = tuple(maps.shape[1:])
            seen = [maps.flatten(1), *seen]
        row = torch.cat(seen, dim=1).float().clamp(-_LARGEST_HALF, _LARGEST_HALF)
        return row.cpu().numpy().astype(np.float16)

    def _after(self, rows: Tensor) -> Tensor:
        return self.module_.head(self._summary(rows))

    def _summary(self, rows: Tensor) -> Tensor:
        if not len(self.module_.tail):
            return rows
        cells = math.prod(self._shape)
        maps = rows[:, :cells].unflatten(1, self._shape).contiguous(memory_format=torch.channels_last)
        return self.module_.summary(maps, [rows[:, cells:]])

    def cost(self) -> dict[str, float]:
        """Return parameters, multiply-adds of an image, and training images per second of epochs and the frozen run."""
        whole = cost_of(self.module_, torch.zeros(1, self.channels, self.size_, self.size_, device=self._device))
        trained = sum(p.numel() for p in self.module_.parameters() if p.requires_grad)
        cost = {"parameters": whole["parameters"], "trained_parameters": trained, **whole}
        return cost | ({"images_per_second": self.images_per_second_} if self.images_per_second_ else {})

    def state(self) -> dict[str, Any]:
        """Return what was learned, and weights."""
        return {**super().state(), "weights": weights_of(self.module_)}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        super().restore(state)
        self._make(self._stages("none"), state["weights"]["head.2.weight"].shape[1])
        restore_weights(self.module_, state["weights"])
        return self
