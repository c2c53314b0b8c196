"""The network of transfer learning: frozen stages, trained stages, and a linear head that sees them all."""

from collections.abc import Callable, Iterable
from typing import Self, cast

import torch
from torch import Tensor, nn

_STEPS = 100  # of the solver of `probe`, each over all rows
_ROWS = 4096  # at a time, where all at once would fill the memory


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
        """Return logits ``(n, classes)`` of normalized images ``(n, channels, size, size)``."""
        return self.head(self.summary(*self.before(images)))

    def before(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the frozen stages' last maps and what is tapped of them on the way."""
        maps, seen = tapped(self.frozen, images, 0, self.grid, len(self.frozen) + len(self.tail))
        return maps, [images.flatten(1), *seen] if self.wide else seen

    def summary(self, maps: Tensor, seen: list[Tensor]) -> Tensor:
        """Return what the head sees of what `before` returned, shape ``(n, width)``."""
        _, more = tapped(self.tail, maps, len(self.frozen), self.grid, len(self.frozen) + len(self.tail))
        return torch.cat([*seen, *more], dim=1)


def tapped(
    stages: nn.Sequential, maps: Tensor, first: int, grid: int = 0, count: int = 0
) -> tuple[Tensor, list[Tensor]]:
    """Run ``stages``, from ``first`` of ``count``, and return the last maps and a summary of each but the stem.

    With ``grid`` 0 it is mean and spread of each channel; above 0 means over ``grid`` by ``grid`` fields of the last
    stage alone, since in a gene image the position is the gene.
    """
    seen: list[Tensor] = []
    for number, stage in enumerate(stages, start=first):
        maps = stage(maps)
        if grid and number + 1 < count:
            continue
        if grid:
            fields = (min(grid, maps.shape[2]), min(grid, maps.shape[3]))
            seen.append(nn.functional.adaptive_avg_pool2d(maps, fields).flatten(1))
        elif number > 0:
            spread = (maps.var(dim=(2, 3), correction=0) + 1e-5).sqrt()  # whose slope at zero is finite
            seen += [maps.mean(dim=(2, 3)), spread]
    return maps, seen


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
            module(batch)
    module.train(was_training)
    for norm, before in zip(norms, momentum, strict=True):
        norm.momentum = before


def probe(
    head: nn.Sequential,
    features: Tensor,
    codes: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
    penalty: float,
) -> None:
    """Set a head to the minimum of its penalized loss on features ``(n, width)`` (Kumar et al., 2022)."""
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
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.zero_()
    solver = torch.optim.LBFGS(linear.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = criterion(linear(standardized), codes) + 0.5 * penalty * linear.weight.square().sum()
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
