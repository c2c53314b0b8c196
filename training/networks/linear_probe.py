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
    """Set a head to the minimum of its penalized loss: logistic regression on standardized features.

    The problem is convex: the result is that of no learning rate, no order of rows and no number of epochs. Training
    that starts from it distorts less than training from chance (Kumar et al., 2022).

    Parameters
    ----------
    head
        Batch normalization without weights, dropout, a linear layer; its statistics are set to those of all rows.
    features, codes
        What the head sees, shape ``(n, width)``, of any float type, and the class of each row.
    criterion
        Takes logits and codes, returns the mean loss.
    penalty
        Half of it times the squared weights is added to the mean loss.
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
    standardized = torch.empty(
        features.shape, dtype=torch.float32, device=device
    )  # parts joined would stand there twice
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
