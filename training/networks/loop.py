"""The training loop of all networks: batches are index tensors, which is faster for tables than a DataLoader."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from training.estimator import FitContext
from training.networks import distributed

History = list[dict[str, float]]
Best = tuple[float, dict[str, Tensor] | None]  # score and weights

_LONGEST_GRADIENT = 5.0  # norm over all parameters


@dataclass(eq=False, repr=False, kw_only=True)
class TrainingChoices:
    """Hyperparameters of every estimator that is a network."""

    epochs: int  # at most
    patience: int  # epochs without a lower monitored loss before training stops
    batch_size: int
    learning_rate: float  # of AdamW; warms up over the first 5 % of the steps and falls along a cosine
    weight_decay: float
    seed: int = 0  # of initial weights, dropout and the order of rows
    device: str = "auto"


@dataclass(frozen=True)
class Trained:
    """The course of a fit."""

    best_epoch: int  # counted from 0, whose weights the network now has; -1 for the initial weights
    history: History  # metrics of each epoch
    first_epoch: int = field(default=0, compare=False)  # trained by this process; a killed one trained those before


def train_network(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    n_rows: int,
    monitor: Callable[[], dict[str, float]] | None,
    *,
    settings: TrainingChoices,
    context: FitContext,
    groups: list[tuple[list[nn.Parameter], float]] | None = None,
    start_counts: bool = False,
    ema: float = 0.0,
) -> Trained:
    """Train ``network`` in place, from the context's checkpoint if there is one.

    ``loss`` takes row numbers on the device and returns their mean loss. ``monitor`` is called after each epoch; its
    first metric is minimized for early stopping, and None trains all epochs and keeps the last weights. ``groups`` are
    parameters with their share of the learning rate; with ``start_counts`` the initial weights may be the best. ``ema``
    above 0 is the decay, a step, of an average of the weights, which is what is monitored and kept.
    """
    if context.loop is not None:
        return context.loop(network, loss, n_rows, monitor, settings=settings, context=replace(context, loop=None))
    device = next(network.parameters()).device
    shuffle = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    optimizer = optimizer_of(network, settings, groups)
    steps = math.ceil(n_rows / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(steps * settings.epochs))
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "schedule": schedule}
    if average is not None:
        parts["average"] = average
    state = _Checkpoint(context.checkpoint, parts, shuffle, device)
    epoch, best, best_epoch, history = state.load()
    first_epoch = epoch
    distributed.check_same_epoch(epoch, device)
    distributed.same_everywhere(network)
    if distributed.rank():
        torch.manual_seed(settings.seed + distributed.rank())  # other dropout and other views than the first's
    bar = tqdm(total=settings.epochs, initial=epoch, desc="epochs", disable=not context.progress, leave=False)
    if start_counts and monitor is not None and best[1] is None:
        watched = _monitored(network, monitor, device)
        best, best_epoch = (next(iter(watched.values())), _copy(network)), -1
    while epoch < settings.epochs and (monitor is None or epoch - best_epoch <= settings.patience):
        order = torch.randperm(n_rows, generator=shuffle).to(device)
        step: dict[str, Any] = {"batch_size": settings.batch_size, "optimizer": optimizer, "schedule": schedule}
        metrics = {"train_loss": _train_epoch(network, loss, order, average=average, **step)}
        if not math.isfinite(metrics["train_loss"]):
            break  # diverged, in all processes: keep the best weights; a trial without any scores as failed
        distributed.same_everywhere(network)
        with _weights_of_average(network, average):
            watched = {} if monitor is None else _monitored(network, monitor, device)
            score = next(iter(watched.values()), metrics["train_loss"])
            if monitor is None or score < best[0]:  # without a monitor the last: the next epoch may diverge
                best, best_epoch = (score, _copy(network)), epoch
        metrics |= {**watched, "learning_rate": float(schedule.get_last_lr()[0])}
        history.append(metrics)
        epoch += 1
        if context.on_step is not None:  # before saving: after a kill in between the epoch is repeated and reported
            context.on_step(epoch - 1, metrics)
        state.save(epoch, best, best_epoch, history)
        bar.update()
        bar.set_postfix({key: f"{value:.4g}" for key, value in metrics.items()})
    bar.close()
    if best[1] is not None:
        network.load_state_dict(best[1])
    network.eval()
    return Trained(best_epoch, history, first_epoch)


def optimizer_of(
    network: nn.Module, settings: TrainingChoices, groups: list[tuple[list[nn.Parameter], float]] | None
) -> torch.optim.Optimizer:
    """Return AdamW; biases and other vectors do not decay."""
    every = [
        {
            "params": [p for p in parameters if p.requires_grad and (p.ndim > 1) == decays],
            "weight_decay": settings.weight_decay if decays else 0.0,
            "lr": settings.learning_rate * share,
        }
        for parameters, share in groups or [(list(network.parameters()), 1.0)]
        for decays in (True, False)
    ]
    return torch.optim.AdamW(every)


def _train_epoch(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    order: Tensor,
    *,
    batch_size: int,
    optimizer: Any,
    schedule: Any,
    average: AveragedModel | None,
) -> float:
    """Train on the rows in ``order`` and return their mean loss, over all processes."""
    network.train()
    device, several = order.device, distributed.size() > 1
    clipped = list(network.parameters())  # walking the modules anew costs a small network a hundredth of each step
    total, seen = torch.zeros((), device=device), 0
    for rows in order.split(batch_size):
        if len(rows) < 2 * distributed.size() and len(order) > batch_size:
            continue  # a batch of one has no spread for normalization layers
        own = distributed.share(rows) if several else rows
        with autocast(device):
            value = loss(own)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if several:
            distributed.average_gradients(network, len(own) / len(rows))
        _clip(clipped)
        optimizer.step()
        schedule.step()
        if average is not None:
            average.update_parameters(network)
        total += value.detach() * len(own)
        seen += len(rows)
    return float(distributed.summed(total)) / seen


def _clip(parameters: list[nn.Parameter]) -> None:
    """Scale the gradients, all on one device, to a norm of at most `_LONGEST_GRADIENT`.

    `torch.nn.utils.clip_grad_norm_` comes to the same bits and groups gradients by device and type first, twice: that
    is a twentieth of a small network's step.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, torch.clamp(_LONGEST_GRADIENT / (norm + 1e-6), max=1.0))


def _monitored(network: nn.Module, monitor: Callable[[], dict[str, float]], device: torch.device) -> dict[str, float]:
    network.eval()
    with torch.no_grad():
        return distributed.of_first(monitor(), device)


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Return parameters and buffers as arrays."""
    return {key: value.detach().cpu().numpy() for key, value in network.state_dict().items()}


def restore_weights(network: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Load what `weights_of` returned, and set evaluation mode; files keep no scalars, so shapes are restored too."""
    own = network.state_dict()
    tensors = {key: torch.as_tensor(value) for key, value in weights.items()}
    shaped = {key: value.reshape(own[key].shape) if key in own else value for key, value in tensors.items()}
    network.load_state_dict(shaped)
    network.eval()


def cost_of(network: nn.Module, *inputs: Any) -> dict[str, float]:
    """Return parameters and multiply-adds of a forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:  # with gradients: fused layers would not be counted
        network(*inputs)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "multiply_adds": counter.get_total_flops() / 2}


def integrated_gradients(
    network: nn.Module, inputs: Tensor, baseline: Tensor, output: np.ndarray, *, steps: int, rows: int, batch: int
) -> np.ndarray:
    """Return Integrated Gradients (Sundararajan et al., 2017) of one output per row, float64, by ``rows`` at a time."""
    from captum.attr import IntegratedGradients

    explainer, parts = IntegratedGradients(network), [np.zeros((0, *inputs.shape[1:]))]
    for start in range(0, len(inputs), rows):
        some, chosen = (torch.as_tensor(each[start : start + rows], device=inputs.device) for each in (inputs, output))
        found = explainer.attribute(some, baseline, target=chosen, n_steps=steps, internal_batch_size=batch)
        parts.append(found.detach().double().cpu().numpy())
    return np.concatenate(parts)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Compute in bfloat16 on a GPU; on most CPUs it would be slower than float32."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def _warm_cosine(steps: int) -> Callable[[int], float]:
    warm = max(1, round(0.05 * steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return rate


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


@contextlib.contextmanager
def _weights_of_average(network: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Give ``network`` the averaged weights, if there are any, and its own again afterwards."""
    if average is None:
        yield
        return
    own = _copy(network)
    distributed.same_everywhere(average)
    network.load_state_dict(average.module.state_dict())
    yield
    network.load_state_dict(own)


class _Checkpoint:
    """The state of a fit after an epoch, with random states, in a file that is replaced atomically."""

    def __init__(self, path: Path | None, parts: dict[str, Any], shuffle: torch.Generator, device: torch.device):
        self._path, self._parts, self._shuffle, self._device = path, parts, shuffle, device

    def load(self) -> tuple[int, Best, int, History]:
        if self._path is None or not self._path.is_file():
            return 0, (math.inf, None), 0, []
        saved: dict[str, Any] = torch.load(self._path, weights_only=True, map_location="cpu")
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        self._shuffle.set_state(saved["shuffle"])
        torch.set_rng_state(saved["random"])
        if "random_on_device" in saved and self._device.type == "cuda":
            torch.cuda.set_rng_state(saved["random_on_device"], self._device)
        return saved["epoch"], (saved["best_score"], saved["best"]), saved["best_epoch"], saved["history"]

    def save(self, epoch: int, best: Best, best_epoch: int, history: History) -> None:
        if self._path is None or distributed.rank():
            return
        content: dict[str, Any] = {name: part.state_dict() for name, part in self._parts.items()}
        content |= {"epoch": epoch, "best_score": best[0], "best": best[1], "best_epoch": best_epoch}
        content |= {"history": history, "shuffle": self._shuffle.get_state(), "random": torch.get_rng_state()}
        if self._device.type == "cuda":
            content["random_on_device"] = torch.cuda.get_rng_state(self._device)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".part")
        torch.save(content, temporary)
        temporary.replace(self._path)
