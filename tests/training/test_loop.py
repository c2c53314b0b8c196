"""What would waste a night on a GPU: the wrong weights kept, an epoch forgotten, a run that cannot be repeated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.estimator import FitContext
from training.networks.loop import Trained, TrainingChoices, train_network

Monitor = Callable[[], dict[str, float]]
Weights = dict[str, Tensor]

SETTINGS = TrainingChoices(epochs=8, patience=3, batch_size=16, learning_rate=0.02, weight_decay=0.1, seed=5)
N_ROWS = 50


class KilledError(Exception):
    pass


@pytest.fixture
def network() -> nn.Module:
    return _network(0)


def _network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def _data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(N_ROWS, 4, generator=generator)
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


def _loss(network: nn.Module) -> Callable[[Tensor], Tensor]:
    inputs, target = _data()
    return lambda rows: nn.functional.mse_loss(network(inputs[rows]), target[rows])


def _real_monitor(network: nn.Module) -> Monitor:
    inputs, target = _data()
    return lambda: {"validation_rmse": float((network(inputs) - target).square().mean().sqrt())}


def _scripted(values: list[float]) -> Monitor:
    left: Iterator[float] = iter(values)
    return lambda: {"validation_rmse": next(left)}


def _weights(network: nn.Module) -> Weights:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def _equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def _train(
    network: nn.Module,
    monitor: Monitor | None,
    settings: TrainingChoices = SETTINGS,
    loss: Callable[[Tensor], Tensor] | None = None,
    context: FitContext | None = None,
    *,
    start_counts: bool = False,
) -> tuple[Trained, list[Weights]]:
    """Train and return what came of it with the weights after each epoch."""
    after: list[Weights] = []
    context = context or FitContext()
    inner = context.on_step

    def on_step(step: int, metrics: dict[str, float]) -> None:
        after.append(_weights(network))
        if inner:
            inner(step, metrics)

    told = replace(context, on_step=on_step)
    options: dict[str, Any] = {"settings": settings, "context": told, "start_counts": start_counts}
    trained = train_network(network, loss or _loss(network), N_ROWS, monitor, **options)
    return trained, after


# Early stopping


@pytest.mark.parametrize(
    ("values", "best", "epochs"),
    [
        ([3, 1, 2, 2, 2, 2, 2, 2], 1, 5),  # three epochs of patience after the best
        ([3, 2, 2.5, 2.5, 1, 2, 2, 2], 4, 8),  # patience starts anew with every new best
        ([5, 4, 4, 4, 4, 4, 4, 4], 1, 5),  # an equal value is no improvement
        ([8, 7, 6, 5, 4, 3, 2, 1], 7, 8),
        ([3, 2, math.nan, math.nan, math.nan, 1], 1, 5),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(
    network: nn.Module, values: list[float], best: int, epochs: int
) -> None:
    trained, after = _train(network, _scripted(values))
    assert trained.best_epoch == best
    assert len(trained.history) == len(after) == epochs
    assert _equal(_weights(network), after[best])
    assert all(not _equal(after[best], other) for number, other in enumerate(after) if number != best)
    assert not network.training


@pytest.mark.parametrize(("values", "best", "epochs"), [([1, 2, 2, 2, 2], -1, 3), ([3, 1, 2, 2, 2, 2], 0, 4)])
def test_the_start_may_be_the_best(network: nn.Module, values: list[float], best: int, epochs: int) -> None:
    before = _weights(network)
    trained, after = _train(network, _scripted(values), start_counts=True)
    assert trained.best_epoch == best
    assert len(trained.history) == epochs  # three epochs of patience after the best
    assert _equal(_weights(network), [*after, before][best])


def test_a_fit_that_is_gone_on_with_knows_its_start(network: nn.Module, tmp_path: Path) -> None:
    def dies(step: int, metrics: dict[str, float]) -> None:
        if step == 1:
            raise KilledError

    before = _weights(network)
    context = FitContext(checkpoint=tmp_path / "checkpoint", on_step=dies)
    with pytest.raises(KilledError):
        _train(network, _scripted([1, 2, 2, 2, 2]), context=context, start_counts=True)
    again = _network(1)
    trained, _ = _train(
        again, _scripted([2, 2, 2]), context=FitContext(checkpoint=tmp_path / "checkpoint"), start_counts=True
    )
    assert trained.best_epoch == -1
    assert _equal(_weights(again), before)


def test_without_a_monitor_all_epochs_are_trained_and_the_last_weights_kept(network: nn.Module) -> None:
    trained, after = _train(network, None)
    assert trained.best_epoch == SETTINGS.epochs - 1
    assert len(after) == SETTINGS.epochs
    assert _equal(_weights(network), after[-1])


def test_the_monitor_sees_the_network_in_evaluation_mode_and_the_loss_in_training_mode(network: nn.Module) -> None:
    modes = set()
    loss, monitor = _loss(network), _real_monitor(network)

    def watched() -> dict[str, float]:
        modes.add(("monitor", network.training, torch.is_grad_enabled()))
        return monitor()

    def learned(rows: Tensor) -> Tensor:
        modes.add(("loss", network.training, torch.is_grad_enabled()))
        return loss(rows)

    _train(network, watched, loss=learned)
    assert modes == {("monitor", False, False), ("loss", True, True)}


# Training


def test_each_group_learns_at_its_share_of_the_rate_and_what_is_in_none_not_at_all() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    first, middle, last = (list(network[place].parameters()) for place in (0, 2, 4))
    before = _weights(network)
    one_step = replace(SETTINGS, epochs=1, batch_size=N_ROWS, weight_decay=0.0)
    groups = [(first, 0.1), (last, 1.0)]
    train_network(network, _loss(network), N_ROWS, None, settings=one_step, context=FitContext(), groups=groups)
    moved = {key: float((value - before[key]).abs().max()) for key, value in network.state_dict().items()}
    # The first step of Adam is as long as the rate, whatever the gradient.
    for key, share in {"0.weight": 0.1, "0.bias": 0.1, "4.weight": 1.0, "4.bias": 1.0}.items():
        assert moved[key] == pytest.approx(share * SETTINGS.learning_rate, rel=1e-3), key
    assert middle and moved["2.weight"] == moved["2.bias"] == 0


def test_every_row_is_seen_once_an_epoch_in_an_order_of_its_own(network: nn.Module) -> None:
    seen: list[list[int]] = [[]]
    loss = _loss(network)

    def learned(rows: Tensor) -> Tensor:
        seen[-1] += rows.tolist()
        return loss(rows)

    _train(network, None, loss=learned, context=FitContext(on_step=lambda step, metrics: seen.append([])))
    epochs = seen[:-1]
    assert all(sorted(epoch) == list(range(N_ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


@pytest.mark.parametrize(("n_rows", "sizes"), [(33, {16}), (1, {1}), (34, {16, 2})])
def test_a_last_batch_of_one_row_is_left_out_unless_it_is_all_there_is(
    network: nn.Module, n_rows: int, sizes: set[int]
) -> None:
    loss, seen = _loss(network), set()

    def learned(rows: Tensor) -> Tensor:
        seen.add(len(rows))
        return loss(rows)

    train_network(network, learned, n_rows, None, settings=replace(SETTINGS, epochs=1), context=FitContext())
    assert seen == sizes


def test_the_learning_rate_warms_up_and_falls(network: nn.Module) -> None:
    trained, _ = _train(network, None, replace(SETTINGS, epochs=40))
    rates = [metrics["learning_rate"] for metrics in trained.history]
    peak = int(np.argmax(rates))
    assert peak < 4 and max(rates) == pytest.approx(SETTINGS.learning_rate, rel=0.05)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * SETTINGS.learning_rate, rel=0.1)


# Repeating and going on


def test_a_fixed_seed_gives_the_same_weights_and_another_seed_others() -> None:
    found = []
    for seed, noise in ((5, 1), (5, 2), (6, 1)):
        network = _network(0)
        torch.manual_seed(noise)  # what else was drawn before must not matter
        _train(network, None, replace(SETTINGS, seed=seed))
        found.append(_weights(network))
    assert _equal(found[0], found[1])
    assert not _equal(found[0], found[2])


@pytest.mark.parametrize("where", ["on_step", "monitor", "loss"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_killed_fit_goes_on_to_exactly_the_same_weights(tmp_path: Path, where: str, epoch: int) -> None:
    settings = replace(SETTINGS, patience=8)
    whole = _network(0)
    expected, _ = _train(whole, _real_monitor(whole), settings)

    checkpoint = tmp_path / "deeper" / "fit.0.pt"
    killed = _network(0)
    loss, monitor, count = _loss(killed), _real_monitor(killed), {"loss": 0, "monitor": 0, "on_step": 0}

    def die(at: str, every: int) -> None:
        count[at] += 1
        if at == where and count[at] == epoch * every + 1:
            raise KilledError

    def die_in_loss(rows: Tensor) -> Tensor:
        die("loss", math.ceil(N_ROWS / settings.batch_size))
        return loss(rows)

    def die_in_monitor() -> dict[str, float]:
        die("monitor", 1)
        return monitor()

    context = FitContext(lambda step, metrics: die("on_step", 1), checkpoint)
    with pytest.raises(KilledError):
        _train(killed, die_in_monitor, settings, die_in_loss, context)

    other = _network(7)  # a new process draws other weights where there is no checkpoint, so start from the same
    if not checkpoint.is_file():
        other = _network(0)
    steps: list[int] = []
    context = FitContext(lambda step, metrics: steps.append(step), checkpoint)
    trained, _ = _train(other, _real_monitor(other), settings, context=context)
    # One whose metrics may not have been told is trained again, wherever in it the kill fell.
    assert steps == list(range(epoch, settings.epochs)), "an epoch was left out, or one before it trained again"
    assert trained.first_epoch == epoch
    assert _equal(_weights(other), _weights(whole))
    assert trained == expected


def test_going_on_after_the_end_trains_nothing_more(tmp_path: Path) -> None:
    context = FitContext(checkpoint=tmp_path / "fit.pt")
    network, again = _network(0), _network(7)
    expected, _ = _train(network, _scripted([3.0, 1, 2, 2, 2]), context=context)
    trained, after = _train(again, _scripted([]), context=context)
    assert (trained, after) == (expected, [])
    assert _equal(_weights(again), _weights(network))


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    network = _network(0)
    _train(network, None, replace(SETTINGS, epochs=3), context=FitContext(checkpoint=path))
    whole = path.read_bytes()
    half_written = _network(0)
    with pytest.MonkeyPatch.context() as patch:

        def half(content: object, target: Path) -> None:
            Path(target).write_bytes(whole[:100])
            raise KilledError

        patch.setattr(torch, "save", half)
        with pytest.raises(KilledError):
            _train(half_written, None, replace(SETTINGS, epochs=4), context=FitContext(checkpoint=path))
    assert path.read_bytes() == whole


# Diverging


@pytest.mark.parametrize(("value", "monitored"), [(math.nan, True), (math.inf, False)])
def test_a_loss_that_is_not_finite_does_not_lose_the_weights(network: nn.Module, value: float, monitored: bool) -> None:
    loss, epoch = _loss(network), [0]

    def diverging(rows: Tensor) -> Tensor:
        return loss(rows) * (value if epoch[0] == 3 else 1.0)

    def count(step: int, metrics: dict[str, float]) -> None:
        epoch[0] = step + 1

    monitor = _scripted([3, 1, 2, 2, 2, 2, 2, 2]) if monitored else None
    trained, after = _train(network, monitor, loss=diverging, context=FitContext(count))
    assert len(trained.history) == 3
    assert trained.best_epoch == (1 if monitored else 2)
    assert _equal(_weights(network), after[trained.best_epoch])
    assert all(torch.isfinite(weight).all() for weight in _weights(network).values())
