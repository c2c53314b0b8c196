"""The training loop against a bare PyTorch loop of the same work."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.bench.measured import Record, paired
from training.estimator import FitContext
from training.networks.loop import LoopSettings, train_network

LEAST = 0.97  # of the bare loop's speed
CLIP = 5.0


@dataclass(frozen=True)
class Work:
    """What all sides train: a network, its rows, and for how long."""

    name: str
    network: Callable[[], nn.Module]
    inputs: Tensor
    target: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    settings: LoopSettings

    def fresh(self) -> nn.Module:
        """Return the untrained network, the same every time."""
        torch.manual_seed(self.settings.seed)
        return self.network()

    def cross(self, network: nn.Module, rows: Tensor) -> Tensor:
        """Return the loss of rows."""
        return self.loss(network(self.inputs[rows]), self.target[rows])


def tabular(rows: int, epochs: int) -> Work:
    """Return a perceptron on 64 features in batches of 64: bound by overhead, not by arithmetic."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 64, generator=draw)
    target = inputs[:, :1] - 2 * inputs[:, 1:2] * inputs[:, 2:3]
    settings = LoopSettings(epochs, epochs, 64, 1e-3, 1e-2, 0)

    def network() -> nn.Module:
        return nn.Sequential(
            *(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1))
        )

    name = f"tabular network, {rows} rows of 64 features, batches of 64, {epochs} epochs"
    return Work(name, network, inputs, target, nn.functional.mse_loss, settings)


def images(rows: int, epochs: int) -> Work:
    """Return a convolutional network of three blocks on images of 32 x 32."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 3, 32, 32, generator=draw)
    target = torch.arange(rows) % 5
    inputs[torch.arange(rows), 0, target, target] += 5
    settings = LoopSettings(epochs, epochs, 32, 1e-3, 1e-2, 0)

    def block(channels: int, more: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, more, 3, padding=1), nn.BatchNorm2d(more), nn.ReLU(), nn.MaxPool2d(2)]

    def network() -> nn.Module:
        pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)]
        return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *pool)

    name = f"convolutional network, {rows} images of 32 x 32, batches of 32, {epochs} epochs"
    return Work(name, network, inputs, target, nn.functional.cross_entropy, settings)


def ours(work: Work) -> nn.Module:
    """Train with the platform's loop."""
    network = work.fresh()
    train_network(network, lambda rows: work.cross(network, rows), len(work.inputs), None, work.settings, FitContext())
    return network


def bare(work: Work) -> nn.Module:
    """Train with AdamW, which does not decay vectors, a warm cosine schedule and clipping, and nothing else."""
    network, settings = work.fresh(), work.settings
    steps = math.ceil(len(work.inputs) / settings.batch_size) * settings.epochs
    warm = max(1, round(0.05 * steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    parts = [[p for p in network.parameters() if (p.ndim > 1) == decays] for decays in (True, False)]
    groups = [{"params": part, "weight_decay": settings.weight_decay * (not at)} for at, part in enumerate(parts)]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    shuffle = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    parameters = list(network.parameters())
    network.train()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(work.inputs), generator=shuffle).split(settings.batch_size):
            value = work.cross(network, rows)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            schedule.step()
    return network


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, so that processor seconds are those of a quiet core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_loop(small: bool = False) -> list[Record]:
    """Train the same network on the same rows with the platform's loop and a bare one.

    Processor seconds of one thread. The bare loop has the same batches, optimizer, schedule and clipping and must end
    at the very same weights; it is run in many short rounds, since the bound is close.
    """
    records = []
    with one_thread():
        for work in (tabular(2048, 2), images(128, 2)):
            mine, theirs = ours(work).state_dict(), bare(work).state_dict()
            if not all(torch.equal(value, theirs[key]) for key, value in mine.items()):
                raise AssertionError(f"{work.name}: the bare loop ends at other weights, so it does other work")
            rounds, clock = 11 if small else 41, time.process_time
            seconds, other, ratio = paired(lambda: ours(work), lambda: bare(work), rounds=rounds, clock=clock)  # noqa: B023
            sides = ("ours", "bare PyTorch")
            records.append(Record(f"training loop, {work.name}", seconds, other, ratio, "s", bound=LEAST, sides=sides))
    return records
