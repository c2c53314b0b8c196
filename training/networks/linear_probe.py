"""The best linear layer on frozen features: what training of a head starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

_STEPS = 100  # of the solver, each over all rows
_ROWS = 4096  # at a time, where all at once would fill the memory


def probe(
    head: nn.Sequential,
    features: Tensor,
    codes: Tensor,
    criterion: Callable[[Tensor, Tensor], Tensor],
    penalty: float,
) -> None:
    """Set a head (normalization, dropout, linear layer) to the minimum of its penalized loss on standardized features.

    The problem is convex, and training that starts from its solution distorts less (Kumar et al., 2022). The mean loss
    has ``penalty / 2`` times the squared weights added. ``features``, ``(n, width)``, are the head's inputs.
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
