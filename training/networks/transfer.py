"""Transfer learning: a network that was trained on other images is trained on ours, in part or whole."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from pipelines.errors import UserError
from training.architectures import Range, draw
from training.backbone import Backbone
from training.device import network_device
from training.estimator import IMAGENET, Classifier, FitContext
from training.networks.folded import folded
from training.networks.loop import TrainingChoices, autocast, cost_of, restore_weights, train_network, weights_of

BATCH = 64  # images at a time where no gradient is kept
# Numbers of images or maps that go through stages together on a CPU, such as 16 images of 224 by 224 pixels: of fewer
# two threads gain little, and with more than its cache holds some CPUs take twice as long.
_IN_CACHE = 16 * 3 * 224**2
WIDEST = 256  # inputs of a head that learns at `learning_rate` from where `probe` has put it; a wider one learns slower
SETTLED = 1024  # training images that set the statistics of batch normalization
MODES = ("probe", "head", "partial", "full")
Criterion = Callable[[Tensor, Tensor], Tensor]
_STEPS = 100  # of the solver of `probe`, each over all rows
_ROWS = 4096  # at a time, where all at once would fill the memory


class Head(nn.Sequential):
    """Normalization, dropout and a linear layer; once ``settled``, the statistics of the first stay as they are."""

    settled = False

    def train(self, mode: bool = True) -> Self:
        """Set the mode."""
        super().train(mode)
        if self.settled:
            self[0].eval()
        return self


class TransferModule(nn.Module):
    """Frozen stages, trained stages, and a linear head of ``width`` inputs on a summary of every stage, see `tapped`.

    With ``wide`` it sees the pixels too, a linear model beside the deep one (Cheng et al., 2016).
    """

    def __init__(
        self,
        stages: list[nn.Module],
        *,
        frozen: int,
        width: int,
        classes: int,
        dropout: float,
        grid: int = 0,
        wide: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.wide = wide
        self.frozen = nn.Sequential(*stages[:frozen])
        self.tail = nn.Sequential(*stages[frozen:])
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)
        self.head = Head(nn.BatchNorm1d(width, affine=False), nn.Dropout(dropout), nn.Linear(width, classes))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of what is trained; frozen batch normalization keeps the statistics that it came with."""
        super().train(mode)
        self.frozen.eval()
        return self

    @property
    def seen_stages(self) -> list[nn.Module]:
        """Return the stages whose outputs the head sees, and Grad-CAM looks at: all but the stem."""
        return [cast(nn.Module, getattr(stage, "maps", stage)) for stage in [*self.frozen, *self.tail][1:]]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of normalized images ``(n, channels, size, size)``."""
        return self.head(self.summary(*self.before(images)))

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits of normalized images, and the outputs of `seen_stages`."""
        maps: list[Tensor] = []
        hooks = [stage.register_forward_hook(lambda *given: maps.append(given[-1])) for stage in self.seen_stages]
        try:
            return self(images), maps
        finally:
            for hook in hooks:
                hook.remove()

    def before(self, images: Tensor, stages: nn.Sequential | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the frozen stages' last maps and what is tapped of them on the way; ``stages`` stand for them."""
        maps, seen = tapped(stages or self.frozen, images, 0, self.grid, len(self.frozen) + len(self.tail))
        return maps, [images.flatten(1), *seen] if self.wide else seen

    def summary(self, maps: Tensor, seen: list[Tensor]) -> Tensor:
        """Return what the head sees of what `before` returned, shape ``(n, width)``."""
        _, more = tapped(self.tail, maps, len(self.frozen), self.grid, len(self.frozen) + len(self.tail))
        return torch.cat([*seen, *more], dim=1)


def tapped(
    stages: nn.Sequential, maps: Tensor, first: int, grid: int = 0, count: int = 0
) -> tuple[Tensor, list[Tensor]]:
    """Run ``stages``, from ``first`` of ``count``, and return the last maps and a summary of each but the stem.

    What a stage returns beside its maps, such as a class token, is a part of the summary.

    With ``grid`` 0 it is mean and spread of each channel; above 0 means over ``grid`` by ``grid`` fields of the last
    stage alone, since in a gene image the position is the gene.
    """
    alone = torch.is_inference_mode_enabled() and not stages.training  # no image's maps depend on another's
    few = max(1, _IN_CACHE // max(1, math.prod(maps.shape[1:])))
    if alone and maps.device.type == "cpu" and len(maps) > few:
        last, every = zip(*(tapped(stages, part, first, grid, count) for part in maps.split(few)), strict=True)
        return torch.cat(last), [torch.cat(parts) for parts in zip(*every, strict=True)]
    seen: list[Tensor] = []
    for number, stage in enumerate(stages, start=first):
        maps = stage(maps)
        if isinstance(maps, tuple):
            maps, numbers = maps
            seen.append(numbers)
        if grid and number + 1 < count:
            continue
        if grid:
            fields = (min(grid, maps.shape[2]), min(grid, maps.shape[3]))
            seen.append(nn.functional.adaptive_avg_pool2d(maps, fields).flatten(1))
        elif number > 0 and maps.shape[1]:
            spread = (_variance(maps) + 1e-5).sqrt()  # whose slope at zero is finite
            seen += [maps.mean(dim=(2, 3)), spread]
    return maps, seen


def _variance(maps: Tensor) -> Tensor:
    """Return the variance of each channel; PyTorch's own on a CPU is as exact, and takes a fifth of a forward pass."""
    if torch.is_grad_enabled() or maps.device.type != "cpu":
        return maps.var(dim=(2, 3), correction=0)
    maps = maps.to(torch.float64, copy=True)
    return maps.sub_(maps.mean(dim=(2, 3), keepdim=True)).square_().mean(dim=(2, 3)).float()


def settle_batch_norm(module: TransferModule, batches: Iterable[Tensor]) -> None:
    """Set the statistics of trained batch normalization to means over ``batches`` (Wu and Johnson, 2021)."""
    norms = [
        part
        for trained in (module.tail, module.head)
        for part in trained.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which means: the plain mean over batches
    was_training = module.training
    module.train()
    with torch.no_grad():
        for batch in batches:
            if len(batch) > 1:  # one image has no spread
                module(batch)
    module.train(was_training)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before


def probe(
    head: nn.Sequential,
    features: Tensor,
    codes: Tensor,
    criterion: Criterion,
    penalty: float,
    *,
    apart: Tensor | None = None,
) -> None:
    """Set a head to the minimum of its penalized loss on features ``(n, width)`` (Kumar et al., 2022).

    ``apart`` are differences of features, ``(m, width)``: how far they move the logits is penalized, too.
    """
    norm, linear = cast(nn.BatchNorm1d, head[0]), cast(nn.Linear, head[2])
    device = linear.weight.device
    assert norm.running_mean is not None and norm.running_var is not None
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=device)
    squares = torch.zeros_like(total)
    for rows in features.split(_ROWS):
        here = rows.to(device, torch.float64)
        total += here.sum(dim=0)
        squares += here.square().sum(dim=0)
    mean = total / len(features)
    variance = (squares / len(features) - mean.square()).clamp(min=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    mean, scale = mean.float(), (variance + norm.eps).rsqrt().float()
    standardized = torch.empty(features.shape, device=device)  # joined parts would be in memory twice
    for rows, into in zip(features.split(_ROWS), standardized.split(_ROWS), strict=True):
        torch.sub(rows.to(device, torch.float32), mean, out=into).mul_(scale)
    codes = codes.to(device)
    moved = None if apart is None else apart.to(device) * scale
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
    solver = torch.optim.LBFGS(linear.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = criterion(linear(standardized), codes) + 0.5 * penalty * linear.weight.square().sum()
        if moved is not None:
            value = value + 0.5 * penalty * (moved @ linear.weight.T).square().sum()
        value.backward()
        return value

    solver.step(loss)


def head_width(stages: list[nn.Module], channels: int, size: int, grid: int = 0) -> int:
    """Return how many numbers of an image the head sees."""
    with torch.no_grad():
        _, seen = tapped(nn.Sequential(*stages).eval(), torch.zeros(1, channels, size, size), 0, grid, len(stages))
    return sum(each.shape[1] for each in seen)


def of_one_channel(stages: list[nn.Module]) -> list[nn.Module]:
    """Sum the first convolution's weights over its channels, in place: ``stages`` then take images of one channel."""
    for part in stages[0].modules():
        if isinstance(part, nn.Conv2d) and part.in_channels == 3:
            part.weight = nn.Parameter(part.weight.detach().sum(dim=1, keepdim=True))
            part.in_channels = 1
            return stages
    raise ValueError("the first stage has no convolution of three channels")


def training_space(
    trial: Any,
    settings: Mapping[str, Any],
    rates: tuple[float, float] = (0.02, 0.5),
    batches: Sequence[int] = (32, 64, 128),
) -> dict[str, Any]:
    """Draw the hyperparameters of `TransferNetwork`; ``rates`` bounds ``backbone_rate``."""
    modes = list(settings.get("modes", MODES[1:]))
    drawn = draw(trial, mode=modes, label_smoothing=Range(0.0, 0.1), balanced=[True, False])
    if drawn["mode"] != "probe":
        drawn |= draw(
            trial,
            learning_rate=Range(3e-4, 3e-2, log=True),
            weight_decay=Range(1e-4, 0.3, log=True),
            dropout=Range(0.0, 0.5),
            batch_size=list(batches),
        )
    if drawn["mode"] == "partial":
        drawn |= draw(trial, unfrozen=Range(1, 3))
    if drawn["mode"] in ("partial", "full"):
        drawn |= draw(trial, backbone_rate=Range(*rates, log=True), layer_decay=Range(0.5, 1.0))
    return drawn


@dataclass(eq=False, repr=False, kw_only=True)
class TransferNetwork(TrainingChoices, Classifier):
    """A classifier on the subclass's `Backbone`; ``learning_rate`` is the head's."""

    # ``probe`` solves a linear layer; ``head`` trains it; ``partial`` also the last ``unfrozen`` stages; ``full`` all
    mode: str = "head"
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
    grid: ClassVar[int] = 0  # see `training.networks.transfer.tapped`
    fitted: ClassVar[tuple[str, ...]] = ("classes", "size", "counts", "images_per_second")
    starts = True
    still = ("frozen.",)

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the network starts from trained weights, and their source."""
        weights = cls.backbone.initial(str(settings.get("weights", "imagenet")))
        named = f"imagenet ({cls.backbone.source})" if weights == "imagenet" else weights
        return {"pretrained": str(weights != "none").lower(), "weights": named}

    @property
    def watches(self) -> bool:
        """See `Estimator.watches`."""
        return self.mode != "probe"

    @classmethod
    def expected_megabytes(cls, **given: Any) -> float:
        """Return the size of the backbone's weights and buffers, nearly all of a saved model."""
        tensors = nn.Sequential(*cls.backbone.build(cls.architecture, "none")).state_dict().values()
        return sum(tensor.numel() for tensor in tensors) * 4 / 1e6

    def pretraining(self) -> dict[str, Any]:
        """See `Estimator.pretraining`; a file of weights does not tell what they were trained on."""
        known, weights = {"imagenet": [IMAGENET], "none": []}, self.backbone.initial(self.weights)
        return {"weights": weights, "pretrained_on": known.get(weights)}

    # For subclasses

    @abstractmethod
    def _learn_images(self, train: Any, context: FitContext) -> int:
        """Fit the map from samples to images, and return the side of the images in pixels."""

    @abstractmethod
    def summaries(self, train: Any, context: FitContext) -> Tensor:
        """Return the head's inputs of training samples before training, ``(n, width)``, or of views of each."""

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
        if context.start is None:
            size = self._learn_images(train, context)
            self._begin(train.classes, size, np.bincount(train.target, minlength=len(train.classes)))
        else:
            self.restore(context.start)
            self.module_.head.settled = self.frozen
        module = self.module_
        codes = torch.tensor(train.target, device=self._device)
        counts = self.counts_.clip(1)
        shares = self.counts_.sum() / (len(self.classes_) * counts)
        shares = torch.as_tensor(shares, dtype=torch.float32, device=self._device)
        criterion = nn.CrossEntropyLoss(shares if self.balanced else None, label_smoothing=self.label_smoothing)
        loss = self._loss(train, context, criterion, codes)
        started = context.start is None and self._start(train, context, criterion, codes)
        if self.mode == "probe" and not started and context.start is None:
            raise UserError(f"mode is 'probe', but {self.architecture} has no trained weights here, or no `penalty`")
        monitor = self._monitor(train, validation, context) if validation is not None and len(validation) else None
        began = time.perf_counter()
        options: dict[str, Any] = {"context": context, "groups": self._rates(module, started), "start_counts": started}
        options["ema"] = getattr(self, "ema", 0.0)
        trained = nn.ModuleDict({"tail": module.tail, "head": module.head})
        choices = self if self.watches or context.start is not None else replace(self, epochs=0)
        self.trained_ = train_network(trained, loss, len(train), monitor, settings=choices, **options)
        if monitor is None:  # which settles after every epoch
            self._settle(train, context)()
        seen = len(train) * (len(self.trained_.history) - self.trained_.first_epoch)
        rate = seen / (time.perf_counter() - began + self._frozen_seconds)
        self.images_per_second_ = rate if math.isfinite(rate) else 0.0
        module.eval()
        return self

    def _begin(self, classes: Sequence[str], size: int, counts: np.ndarray) -> Self:
        """Make the network before training; ``counts`` are the rows of each class, which weigh it if `balanced`."""
        torch.manual_seed(self.seed)
        self.classes_, self.size_, self.counts_, self.images_per_second_ = list(classes), size, counts, 0.0
        stages = self._stages(self.weights)
        pixels = self.channels * size**2 if getattr(self, "wide", False) else 0
        self._make(stages, pixels + head_width(stages, self.channels, size, self.grid))
        return self

    @property
    def frozen(self) -> bool:
        """Whether the head alone is trained, so that the `summaries` stay as they are."""
        return self.mode in ("probe", "head")

    def settle(self, mean: np.ndarray, deviation: np.ndarray) -> Self:
        """Set the statistics of the `summaries`, ``(width,)``, by which the head standardizes them."""
        norm = cast(nn.BatchNorm1d, self.module_.head[0])
        for statistic, value in ((norm.running_mean, mean), (norm.running_var, deviation**2)):
            assert statistic is not None
            statistic.copy_(torch.as_tensor(value))
        return self

    def _stages(self, weights: str) -> list[nn.Module]:
        stages = self.backbone.build(self.architecture, weights)
        return stages if self.channels == 3 else of_one_channel(stages)

    def _make(self, stages: list[nn.Module], width: int) -> None:
        last = {"probe": len(stages), "head": len(stages), "partial": len(stages) - self.unfrozen, "full": 0}
        if self.mode not in last:
            raise UserError(f"mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        self._device = network_device(self.device)
        shape = {"frozen": max(0, last[self.mode]), "width": width, "classes": len(self.classes_), "grid": self.grid}
        module = TransferModule(stages, **shape, dropout=self.dropout, wide=getattr(self, "wide", False))
        if self._device.type == "cuda":
            module = module.to(memory_format=torch.channels_last)
        self.module_ = module.to(self._device).eval()
        self._of_frozen: dict[str, Any] = {}  # what is known of the frozen stages, while their weights stay
        self._frozen_seconds = 0.0  # of the one run of frozen stages over the training images, set by `_loss`
        self._shape: tuple[int, ...] = ()

    def _rates(self, module: TransferModule, started: bool) -> list[tuple[list[nn.Parameter], float]]:
        """Return the trained parameters with their share of the learning rate: the deeper, the larger.

        A step of Adam moves all weights alike, so a logit moves by the sum over the head's inputs: that would carry a
        wide head that has ``started`` off its minimum, and its share falls with its width (Yang et al., 2022).
        """
        depth, width = len(module.tail), cast(nn.Linear, module.head[2]).in_features
        shares = [self.backbone_rate * self.layer_decay ** (depth - 1 - position) for position in range(depth)]
        of_head = min(1.0, WIDEST / width) if started else 1.0
        parts = zip([*module.tail, module.head], [*shares, of_head], strict=True)
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
        return self._held_out(samples, watched=False)()

    def _frozen_rows(self, images: Tensor) -> np.ndarray:
        """Return the frozen stages' features of normalized images, float32, a row per image."""
        stages = self.module_.frozen
        if self._device.type == "cpu":
            if "folded" not in self._of_frozen:
                self._of_frozen["folded"] = folded(stages, images[:1])
            stages = self._of_frozen["folded"]
        with torch.inference_mode(), autocast(self._device):
            maps, seen = self.module_.before(images, stages)
        if len(self.module_.tail):
            self._shape = tuple(maps.shape[1:])
            seen = [maps.flatten(1), *seen]
        return torch.cat(seen, dim=1).float().cpu().numpy()

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
        return {**super().state(), "weights": weights_of(self._saved)}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned; models of earlier releases have no counts."""
        super().restore({"counts": np.zeros(0, np.int64), **state})
        self._make(self._stages("empty"), state["weights"]["head.2.weight"].shape[1])
        restore_weights(self._saved, state["weights"])
        return self

    @property
    def _saved(self) -> nn.Module:
        """Return the part of the network whose weights are saved: all of it."""
        return self.module_
