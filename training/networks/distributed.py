"""One fit in several processes, started by ``accelerate`` or ``torchrun``: each sees a share of every batch."""

import os
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipelines.errors import UserError
from training.device import torch_device


def start(device: str = "auto") -> None:
    """Join the processes that a launcher has started, over NCCL or gloo; without a launcher nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        found = torch.device(torch_device(device))
        if found.type == "cuda":
            torch.cuda.set_device(found)  # on which NCCL's barriers run
        dist.init_process_group("nccl" if found.type == "cuda" else "gloo")


def rank() -> int:
    """Return the number of this process, 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(rows: Tensor) -> Tensor:
    """Return this process's rows of a batch."""
    return rows[rank() :: size()]


def same_everywhere(network: nn.Module) -> None:
    """Give every process the first one's parameters and buffers (the statistics of batch normalization among them)."""
    if size() > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)


def average_gradients(network: nn.Module, weight: float) -> None:
    """Replace each gradient by its mean over the processes, this one's counted with ``weight``; weights sum to 1."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad *= weight
            dist.all_reduce(parameter.grad)


def summed(total: Tensor) -> Tensor:
    """Return the sum of ``total`` over the processes."""
    if size() > 1:
        dist.all_reduce(total)
    return total


def of_first(metrics: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Return the first process's metrics in every process, so that all decide alike to the last bit."""
    if size() == 1:
        return dict(metrics)
    values = torch.tensor(list(metrics.values()), dtype=torch.float64, device=device)
    dist.broadcast(values, 0)
    return dict(zip(metrics, values.tolist(), strict=True))


def check_same_epoch(epoch: int, device: torch.device) -> None:
    """Raise UserError if this process has a checkpoint of another epoch than the first: one would wait forever."""
    first = of_first({"epoch": float(epoch)}, device)["epoch"]
    if first != epoch:
        raise UserError(
            f"process {rank()} resumes at epoch {epoch}, process 0 at epoch {first:.0f}; give all machines "
            "the same folder checkpoints/, or delete the checkpoint"
        )
