"""Transfer learning: a network that was trained on other images learns ours, in part or whole.

What stays frozen runs once over each image, in every mode: in ``head`` mode that leaves a linear layer to train, in
``partial`` mode the last stages. `training.networks.cell_network` does so with photographs of cells,
`training.networks.gene_image_network` with expression profiles laid out as images.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from pipelines.errors import UserError
from training.backbone import Backbone
from training.device import network_device
from training.estimator import Classifier, FitContext
from training.networks.loop import Trained, TrainingChoices, autocast, train_network
from training.networks.transfer_module import TransferModule, head_width, of_one_channel

if TYPE_CHECKING:
    import optuna

BATCH = 64  # images at a time where no gradient is kept
MODES = ("head", "partial", "full")
_LARGEST_HALF = 65504.0  # of a float16


def training_space(
    trial: optuna.Trial, settings: Mapping[str, Any], rates: tuple[float, float] = (0.02, 0.5)
) -> dict[str, Any]:
    """Draw how a network is trained; which modes are tried is ``tune.modes`` in ``params.yaml``.

    Parameters
    ----------
    rates
        Bounds of ``backbone_rate``: below 1 for networks that know something of such images already.
    """
    mode = trial.suggest_categorical("mode", list(settings.get("modes", MODES)))
    drawn = {
        "mode": mode,
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 0.3, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.1),
        "balanced": trial.suggest_categorical("balanced", [True, False]),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
    }
    if mode == "partial":
        drawn["unfrozen"] = trial.suggest_int("unfrozen", 1, 3)
    if mode != "head":
        drawn["backbone_rate"] = trial.suggest_float("backbone_rate", *rates, log=True)
        drawn["layer_decay"] = trial.suggest_float("layer_decay", 0.5, 1.0)
    return drawn


@dataclass(eq=False, repr=False, kw_only=True)
class TransferNetwork(TrainingChoices, Classifier):
    """A classifier on a `Backbone`, which subclasses name; what an image is, they say too.

    Parameters
    ----------
    mode
        ``head`` trains a linear layer, ``partial`` also the last ``unfrozen`` stages, ``full`` everything.
    backbone_rate, layer_decay
        Learning rate of the last stage, as a share of the head's, and from each stage to the one before it.
    dropout, label_smoothing
        As usual.
    balanced
        Whether classes weigh alike in the loss, however many samples each has.
    unfrozen
        Stages that ``partial`` trains.
    weights
        As in ``params.yaml``.

    The others are those of `training.networks.loop.TrainingChoices`; ``learning_rate`` is the head's.
    """

    mode: str = "head"
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float = 0.2
    label_smoothing: float = 0.05
    balanced: bool = True
    batch_size: int = 64
    unfrozen: int = 1
    backbone_rate: float = 0.1
    layer_decay: float = 0.7
    epochs: int = 30
    patience: int = 6
    weights: str = "imagenet"

    backbone: ClassVar[Backbone]
    channels: ClassVar[int] = 3
    grid: ClassVar[int] = 0  # see `training.networks.transfer_module.tapped`

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the network starts from trained weights, and from which."""
        weights = str(settings.get("weights", "imagenet"))
        named = f"imagenet ({cls.backbone.source})" if weights == "imagenet" else weights
        return {"pretrained": str(weights != "none").lower(), "weights": named}

    @classmethod
    def expected_megabytes(cls) -> float:
        """Return the size of the backbone's weights, buffers among them, which is nearly all of a saved model."""
        stages = nn.Sequential(*cls.backbone.build(cls.architecture, "none"))
        return sum(tensor.numel() for tensor in stages.state_dict().values()) * 4 / 1e6

    # What subclasses say of their images

    @property
    def _wide(self) -> bool:
        """Whether the head sees the pixels too."""
        return False

    @abstractmethod
    def _learn_images(self, train: Any, context: FitContext) -> int:
        """Fit what turns samples into images, and return the side of the images in pixels."""

    @abstractmethod
    def _training_logits(self, train: Any, context: FitContext) -> Callable[[Tensor], Tensor]:
        """Return what gives logits of training rows, changed at random as the subclass sees fit."""

    def _loss(
        self, train: Any, context: FitContext, criterion: Callable[[Tensor, Tensor], Tensor], codes: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """Return what gives the loss of training rows."""
        logits = self._training_logits(train, context)
        return lambda rows: criterion(logits(rows), codes[rows])

    @abstractmethod
    def _held_out(self, samples: Any, *, watched: bool) -> Callable[[], np.ndarray]:
        """Return what gives probabilities of ``samples`` again and again, prepared once.

        ``watched`` samples are those of early stopping, for which the cheapest way to predict does.
        """

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest log loss are kept."""
        context = context or FitContext()
        torch.manual_seed(self.seed)
        self.classes_ = list(train.classes)
        self.size_ = self._learn_images(train, context)
        stages = self._stages(self.weights)
        pixels = self.channels * self.size_**2 if self._wide else 0
        self._make(stages, pixels + head_width(stages, self.channels, self.size_, self.grid))
        module = self.module_
        codes = torch.tensor(train.target, device=self._device)
        weight = None
        if self.balanced:
            counts = np.bincount(train.target, minlength=len(self.classes_)).clip(1)
            weight = torch.as_tensor(len(train) / (len(self.classes_) * counts), dtype=torch.float32)
            weight = weight.to(self._device)
        criterion = nn.CrossEntropyLoss(weight, label_smoothing=self.label_smoothing)
        loss = self._loss(train, context, criterion, codes)
        started = self._start(train, context, criterion, codes)
        monitor = self._monitor(train, validation, context) if validation is not None and len(validation) else None
        began = time.perf_counter()
        trained = nn.ModuleDict({"tail": module.tail, "head": module.head})
        self.trained_: Trained = train_network(
            *(trained, loss, len(train), monitor, self.loop_settings, context),
            groups=self._rates(module),
            start_counts=started,
        )
        if monitor is None:  # which settles after every epoch
            self._settle(train, context)()
        seen = len(train) * (len(self.trained_.history) - self.trained_.first_epoch)
        rate = seen / (time.perf_counter() - began + self._frozen_seconds)
        self.images_per_second_ = rate if math.isfinite(rate) else 0.0
        module.eval()
        return self

    def _start(
        self, train: Any, context: FitContext, criterion: Callable[[Tensor, Tensor], Tensor], codes: Tensor
    ) -> bool:
        """Give the head a start, where there is a good one; return whether there was."""
        return False

    def _stages(self, weights: str) -> list[nn.Module]:
        stages = self.backbone.build(self.architecture, weights)
        return stages if self.channels == 3 else of_one_channel(stages)

    def _make(self, stages: list[nn.Module], width: int) -> None:
        last = {"head": len(stages), "partial": len(stages) - self.unfrozen, "full": 0}
        if self.mode not in last:
            raise UserError(f"mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        self._device = network_device(self.device)
        frozen, classes = max(0, last[self.mode]), len(self.classes_)
        module = TransferModule(
            stages,
            frozen=frozen,
            width=width,
            classes=classes,
            dropout=self.dropout,
            grid=self.grid,
            wide=self._wide,
        )
        if self._device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        self.module_ = module.to(self._device)
        self.module_.train(False)
        self._frozen_id: str | None = None
        self._frozen_seconds = 0.0  # of the one run of frozen stages over the training images; `_loss` finds it
        self._shape: tuple[int, ...] = ()

    def _rates(self, module: TransferModule) -> list[tuple[list[nn.Parameter], float]]:
        """Return the trained parameters with their share of the learning rate: the deeper, the more."""
        depth = len(module.tail)
        groups = [
            (list(stage.parameters()), self.backbone_rate * self.layer_decay ** (depth - 1 - position))
            for position, stage in enumerate(module.tail)
        ]
        return [*groups, (list(module.head.parameters()), 1.0)]

    def _settle(self, train: Any, context: FitContext) -> Callable[[], None]:
        """Return what is done to the network before it is judged after an epoch; nothing, unless a subclass says so."""
        return lambda: None

    def _monitor(self, train: Any, validation: Any, context: FitContext) -> Callable[[], dict[str, float]]:
        codes = validation.target
        labels = np.arange(len(self.classes_))
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

    # What the frozen stages give, as rows of numbers

    def _frozen_rows(self, images: Tensor) -> np.ndarray:
        """Return what the frozen stages give for normalized images, float16, a row an image."""
        with torch.inference_mode(), autocast(self._device):
            maps, seen = self.module_.before(images)
        if len(self.module_.tail):
            self._shape = tuple(maps.shape[1:])
            seen = [maps.flatten(1), *seen]
        row = torch.cat(seen, dim=1).float().clamp(-_LARGEST_HALF, _LARGEST_HALF)
        return row.cpu().numpy().astype(np.float16)

    def _after(self, rows: Tensor) -> Tensor:
        """Return logits of rows as `_frozen_rows` made them."""
        return self.module_.head(self._summary(rows))

    def _summary(self, rows: Tensor) -> Tensor:
        """Return what the head sees of such rows."""
        if not len(self.module_.tail):
            return rows
        cells = math.prod(self._shape)
        maps = rows[:, :cells].unflatten(1, self._shape).contiguous(memory_format=torch.channels_last)
        return self.module_.summary(maps, [rows[:, cells:]])

    # Keeping

    def cost(self) -> dict[str, float]:
        """Return parameters, multiply-adds of one image, and images a second in training.

        The rate is training images times epochs, over the seconds of the epochs and of the frozen stages' one run over
        these images. Where an earlier trial left their features in the cache, the seconds that they took then are
        counted, not those of reading them; where the cache does not tell, or no epoch was left to train, there is no
        rate.
        """
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.module_(torch.zeros(1, self.channels, self.size_, self.size_, device=self._device))
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
        self._make(self._stages("none"), weights["head.2.weight"].shape[1])
        own = self.module_.state_dict()  # a count of batches has no dimension, which files of arrays do not keep
        self.module_.load_state_dict({key: value.reshape(own[key].shape) for key, value in weights.items()})
        self.module_.eval()
        return self
