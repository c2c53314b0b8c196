"""Training with differential privacy of a site's groups (patients, cell lines), and the privacy that it spends.

Stochastic gradient descent with noise (Abadi et al., 2016, CCS): each step draws groups, clips the gradient of each,
and adds noise to the sum. What is protected is thus all rows of a group.
"""

import math
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from training.estimator import FitContext
from training.federated.plan import Plan
from training.networks.loop import Trained, TrainingChoices, optimizer_of

_ORDERS = tuple(
    map(float, range(2, 257))
)  # of Rényi divergences: for fractions the accountant's series may not converge


def drawn(plan: Plan, groups: int) -> tuple[int, int]:
    """Return how many of ``groups`` a step draws on average, and the steps of an epoch."""
    size = max(1, round(plan.share * groups))
    return size, math.ceil(groups / size)


def private_loop(plan: Plan, group: np.ndarray) -> Callable[..., Trained]:
    """Return a loop in the place of `train_network`; ``group`` ``(n,)`` is that of each training row."""
    _, code = np.unique(group, return_inverse=True)
    rows_of = [torch.from_numpy(np.flatnonzero(code == each)) for each in range(code.max() + 1)]
    size, steps = drawn(plan, len(rows_of))

    def train(
        network: nn.Module,
        loss: Callable[[Tensor], Tensor],
        n_rows: int,
        monitor: Any,
        *,
        settings: TrainingChoices,
        context: FitContext,
        groups: list[tuple[list[nn.Parameter], float]] | None = None,
        **others: Any,
    ) -> Trained:
        if n_rows != len(code):
            raise UserError(f"{len(code) - n_rows} training rows lack an omics table; complete the data or the task")
        network.train()
        if any(part.training and isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()):
            raise UserError(
                "batch normalization mixes groups: this architecture cannot be trained with privacy, but for the head "
                "on a frozen backbone (mode: head)"
            )
        device = next(network.parameters()).device
        parameters = [each for each in network.parameters() if each.requires_grad]
        optimizer = optimizer_of(network, settings, groups)
        # Who knows the noise can take it off again: it does not come from the seed of the plan.
        random = torch.Generator(device).manual_seed(secrets.randbits(63))
        for _ in range(settings.epochs * steps):
            chosen = torch.rand(len(rows_of), generator=random, device=device) < size / len(rows_of)
            total = [torch.zeros_like(each) for each in parameters]
            for number in torch.nonzero(chosen).flatten().tolist():
                own = torch.autograd.grad(loss(rows_of[number].to(device)), parameters, allow_unused=True)
                gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, own, strict=True)]
                norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each) for each in gradients]))
                factor = torch.clamp(plan.clip / (norm + 1e-12), max=1.0)
                torch._foreach_add_(total, torch._foreach_mul(gradients, factor))
            for parameter, each in zip(parameters, total, strict=True):
                noise = torch.empty_like(each).normal_(generator=random) * (plan.noise * plan.clip)
                parameter.grad = (each + noise) / size
            optimizer.step()
        network.eval()
        return Trained(settings.epochs - 1, [])

    return train


def epsilon(plan: Plan, groups: int, rounds: int) -> float:
    """Return what a site of ``groups`` training groups has spent after ``rounds``, at ``plan.delta``.

    It is of the weights, by Flower's accountant (Mironov et al., 2019), for adding or removing a group.
    """
    from flwr.supercore import privacy_accounting as accounting
    from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

    size, steps = drawn(plan, groups)
    accountant = RdpAccountant(
        accounting.PrivacyConfig(
            target_delta=plan.delta,
            population_size=groups,
            neighboring_relation=accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=accounting.SamplingMethod.POISSON,
        ),
        orders=_ORDERS,
    )
    accountant.compose(accounting.GaussianPrivacyEvent(plan.noise, size, groups), rounds * plan.epochs * steps)
    return accountant.get_privacy_spent().epsilon
