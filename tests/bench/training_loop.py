"""The training loop against a bare PyTorch loop of the same work, and against Lightning's Trainer."""

import contextlib
import functools
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.bench.measured import Record, compare
from training.estimator import FitContext
from training.networks.loop import TrainingChoices, train_network

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
    settings: TrainingChoices

    def fresh(self) -> nn.Module:
        """Return the untrained network, the same every time."""
        torch.manual_seed(self.settings.seed)
        return self.network()

    def cross(self, network: nn.Module, rows: Tensor) -> Tensor:
        return self.loss(network(self.inputs[rows]), self.target[rows])


def tabular(rows: int, epochs: int) -> Work:
    """Return a perceptron on 64 features in batches of 64: bound by overhead, not by arithmetic."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 64, generator=draw)
    target = inputs[:, :1] - 2 * inputs[:, 1:2] * inputs[:, 2:3]
    settings = TrainingChoices(epochs=epochs, patience=epochs, batch_size=64, learning_rate=1e-3, weight_decay=1e-2)

    def network() -> nn.Module:
        last: list[nn.Module] = [nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 1)]
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), *last)

    name = f"tabular network, {rows} rows of 64 features, batches of 64, {epochs} epochs"
    return Work(name, network, inputs, target, nn.functional.mse_loss, settings)


def images(rows: int, epochs: int) -> Work:
    """Return a convolutional network of three blocks on images of 32 x 32."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 3, 32, 32, generator=draw)
    target = torch.arange(rows) % 5
    inputs[torch.arange(rows), 0, target, target] += 5
    settings = TrainingChoices(epochs=epochs, patience=epochs, batch_size=32, learning_rate=1e-3, weight_decay=1e-2)

    def block(channels: int, more: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, more, 3, padding=1), nn.BatchNorm2d(more), nn.ReLU(), nn.MaxPool2d(2)]

    def network() -> nn.Module:
        pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)]
        return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *pool)

    name = f"convolutional network, {rows} images of 32 x 32, batches of 32, {epochs} epochs"
    return Work(name, network, inputs, target, nn.functional.cross_entropy, settings)


def ours(work: Work) -> nn.Module:
    network = work.fresh()
    given: dict[str, Any] = {"settings": work.settings, "context": FitContext()}
    train_network(network, lambda rows: work.cross(network, rows), len(work.inputs), None, **given)
    return network


def optimizer_of(work: Work, network: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW, which spares vectors its decay, and the schedule: warm, then a cosine."""
    steps = math.ceil(len(work.inputs) / work.settings.batch_size) * work.settings.epochs
    warm = max(1, round(0.05 * steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    parts = [[p for p in network.parameters() if (p.ndim > 1) == decays] for decays in (True, False)]
    groups = [{"params": part, "weight_decay": work.settings.weight_decay * (not at)} for at, part in enumerate(parts)]
    optimizer = torch.optim.AdamW(groups, lr=work.settings.learning_rate)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def bare(work: Work) -> nn.Module:
    network = work.fresh()
    optimizer, schedule = optimizer_of(work, network)
    shuffle = torch.Generator().manual_seed(work.settings.seed)
    torch.manual_seed(work.settings.seed)
    parameters = list(network.parameters())
    network.train()
    for _ in range(work.settings.epochs):
        for rows in torch.randperm(len(work.inputs), generator=shuffle).split(work.settings.batch_size):
            value = work.cross(network, rows)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            schedule.step()
    return network


def by_lightning(work: Work) -> nn.Module:
    """Train by Lightning's Trainer with logging, checkpoints and progress bar off."""
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = work.fresh()

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            return work.loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer, schedule = optimizer_of(work, self.network)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    module = Module()
    torch.manual_seed(work.settings.seed)
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    on: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "gradient_clip_val": CLIP, **off}
    trainer = lightning.Trainer(max_epochs=work.settings.epochs, **on)
    trainer.fit(module, DataLoader(TensorDataset(work.inputs, work.target), work.settings.batch_size, shuffle=True))
    return module.network


def check_same_work(work: Work, other: nn.Module, *, exactly: bool) -> None:
    """Fail where ``other`` is not what the platform's loop makes of this work.

    The bare loop draws the same batches and must end at the same bits; Lightning shuffles its own way, and must lower
    the loss as far.
    """
    mine = ours(work)
    if exactly:
        theirs = other.state_dict()
        if not all(torch.equal(value, theirs[key]) for key, value in mine.state_dict().items()):
            raise AssertionError(f"{work.name}: the bare loop ends at other weights, so it does other work")
        return
    everything = torch.arange(len(work.inputs))
    with torch.no_grad():
        before, one, two = (float(work.cross(each.eval(), everything)) for each in (work.fresh(), mine, other))
    if not two < before or abs(one - two) > 0.3 * (before - min(one, two)):
        losses = f"losses {before:.3f} before, {one:.3f} and {two:.3f} after"
        raise AssertionError(f"{work.name}: {losses}: not the same work")


@contextlib.contextmanager
def one_quiet_thread() -> Iterator[None]:
    """One thread, so that processor seconds are what a quiet core would take; and no advice of Lightning's."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Lightning looks for checkpoints of its own in the current folder.
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            torch.set_num_threads(before)


def training_loop(small: bool = False) -> list[Record]:
    """Train the same network on the same rows with the platform's loop, a bare one and Lightning's Trainer.

    Processor seconds of one thread. The bare loop has the same batches, optimizer, schedule and clipping and must end
    at the very same weights; it is run in many short rounds, since the bound is close. Lightning reads its batches from
    a DataLoader, as its users do, in longer fits, so that its start does not weigh; it must lower the loss as far.
    """
    short = (tabular(2048, 2), images(128, 2))
    long = (tabular(2048, 2), images(64, 2)) if small else (tabular(8192, 5), images(512, 3))
    sides: list[tuple[Work, str, Callable[[Work], nn.Module], int, float | None]] = [
        *((work, "bare PyTorch", bare, 41, LEAST) for work in short),
        *((work, "Lightning", by_lightning, 7, None) for work in long),
    ]
    records = []
    with one_quiet_thread():
        for work, name, job, rounds, bound in sides:
            check_same_work(work, job(work), exactly=bound is not None)
            jobs = functools.partial(ours, work), functools.partial(job, work)
            more: dict[str, Any] = {"rounds": 3 if small else rounds, "clock": time.process_time, "bound": bound}
            records.append(compare(f"training loop, {work.name}", *jobs, sides=("ours", name), **more))
    return records
