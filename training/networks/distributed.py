"""One fit on several GPUs: every process sees a share of each batch, and gradients are averaged.

``accelerate launch --num_processes 4 -m training.fit --task T --architecture A`` (or ``torchrun``) starts the
processes; the first of them alone writes runs, models and checkpoints.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn


def start() -> None:
    """Join the processes that a launcher has started; without a launcher nothing happens."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


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


def average_gradients(network: nn.Module) -> None:
    """Replace each gradient by its mean over the processes."""
    if size() == 1:
        return
    for parameter in network.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= size()


def wait() -> None:
    """Return when every process has come here."""
    if size() > 1:
        dist.barrier()
