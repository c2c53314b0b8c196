"""What would waste a night on a GPU: the wrong weights kept, an epoch forgotten, a run that cannot be repeated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

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


def _network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


@pytest.fixture
def network() -> nn.Module:
    return _network()


def _loss(network: nn.Module) -> Callable[[Tensor], Tensor]:
    inputs = torch.randn(N_ROWS, 4, generator=torch.Generator().manual_seed(1))
    target = inputs @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    return lambda rows: nn.functional.mse_loss(network(inputs[rows]), target[rows])


def _real_monitor(network: nn.Module) -> Monitor:
    loss = _loss(network)
    return lambda: {"validation_rmse": float(loss(torch.arange(N_ROWS)).sqrt())}


def _scripted(values: list[float] | None) -> Monitor | None:
    left = iter(values or [])
    return None if values is None else lambda: {"validation_rmse": next(left)}


def _weights(network: nn.Module) -> Weights:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def _equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def _train(
    network: nn.Module,
    monitor: Monitor | None = None,
    *,
    loss: Callable[[Tensor], Tensor] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    checkpoint: Path | None = None,
    n_rows: int = N_ROWS,
    start_counts: bool = False,
    **settings: Any,
) -> tuple[Trained, list[Weights]]:
    """Train and return what came of it with the weights after each epoch."""
    after: list[Weights] = []

    def seen(step: int, metrics: dict[str, float]) -> None:
        after.append(_weights(network))
        if on_step:
            on_step(step, metrics)

    options: dict[str, Any] = {"settings": replace(SETTINGS, **settings), "start_counts": start_counts}
    context = FitContext(seen, checkpoint)
    return train_network(network, loss or _loss(network), n_rows, monitor, context=context, **options), after


@pytest.mark.parametrize(
    ("values", "start_counts", "best", "epochs"),
    [
        ([3, 1, 2, 2, 2, 2, 2, 2], False, 1, 5),  # three epochs of patience after the best
        ([3, 2, 2.5, 2.5, 1, 2, 2, 2], False, 4, 8),  # patience starts anew with every new best
        ([5, 4, 4, 4, 4, 4, 4, 4], False, 1, 5),  # an equal value is no improvement
        ([3, 2, math.nan, math.nan, math.nan, 1], False, 1, 5),
        (None, False, 7, 8),
        ([1, 2, 2, 2, 2], True, -1, 3),  # the start is the best
        ([3, 1, 2, 2, 2, 2], True, 0, 4),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(
    network: nn.Module, values: list[float] | None, start_counts: bool, best: int, epochs: int
) -> None:
    before = _weights(network)
    trained, after = _train(network, _scripted(values), start_counts=start_counts)
    assert (trained.best_epoch, len(trained.history), len(after)) == (best, epochs, epochs)
    kept = [_equal(_weights(network), each) for each in [*after, before]]
    assert kept[best] and sum(kept) == 1
    assert not network.training


def test_a_fit_that_is_gone_on_with_knows_its_start(network: nn.Module, tmp_path: Path) -> None:
    before, again = _weights(network), _network(1)
    options: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint", "start_counts": True}
    with pytest.raises(KilledError):
        _train(network, _scripted([1, 2, 2, 2, 2]), on_step=Mock(side_effect=[None, KilledError]), **options)
    trained, _ = _train(again, _scripted([2, 2, 2]), **options)
    assert trained.best_epoch == -1 and _equal(_weights(again), before)


def test_the_monitor_sees_the_network_in_evaluation_mode_and_the_loss_in_training_mode(network: nn.Module) -> None:
    modes = set()

    def watched(of: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*arguments: Any) -> Any:
            modes.add((of, network.training, torch.is_grad_enabled()))
            return call(*arguments)

        return seen

    _train(network, watched("monitor", _real_monitor(network)), loss=watched("loss", _loss(network)))
    assert modes == {("monitor", False, False), ("loss", True, True)}


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


@pytest.mark.parametrize(("n_rows", "sizes"), [(33, {16}), (1, {1}), (N_ROWS, {16, 2})])
def test_every_row_is_seen_once_an_epoch_in_an_order_of_its_own_and_no_batch_is_of_one_row_unless_all_is(
    network: nn.Module, n_rows: int, sizes: set[int]
) -> None:
    loss = _loss(network)
    epochs: list[list[list[int]]] = [[]]

    def learned(rows: Tensor) -> Tensor:
        epochs[-1].append(rows.tolist())
        return loss(rows)

    _train(network, loss=learned, n_rows=n_rows, on_step=lambda step, metrics: epochs.append([]))
    orders = [[row for batch in epoch for row in batch] for epoch in epochs[:-1]]
    assert {len(batch) for epoch in epochs for batch in epoch} == sizes
    assert all(len(set(order)) == len(order) == n_rows - (n_rows == 33) for order in orders)
    assert n_rows == 1 or len(set(map(tuple, orders))) == len(orders) == SETTINGS.epochs


def test_the_learning_rate_warms_up_and_falls(network: nn.Module) -> None:
    rates = [metrics["learning_rate"] for metrics in _train(network, epochs=40)[0].history]
    peak = int(np.argmax(rates))
    assert peak < 4 and max(rates) == pytest.approx(SETTINGS.learning_rate, rel=0.05)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * SETTINGS.learning_rate, rel=0.1)


def test_a_fixed_seed_gives_the_same_weights_and_another_seed_others() -> None:
    found = []
    for seed, noise in ((5, 1), (5, 2), (6, 1)):
        network = _network()
        torch.manual_seed(noise)  # what else was drawn before must not matter
        found.append(_train(network, seed=seed)[1][-1])
    assert _equal(found[0], found[1]) and not _equal(found[0], found[2])


@pytest.mark.parametrize("where", ["on_step", "monitor", "loss"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_killed_fit_goes_on_to_exactly_the_same_weights(tmp_path: Path, where: str, epoch: int) -> None:
    whole, killed, checkpoint = _network(), _network(), tmp_path / "deeper" / "fit.0.pt"
    expected, _ = _train(whole, _real_monitor(whole), patience=8)
    calls: dict[str, Any] = {"loss": _loss(killed), "monitor": _real_monitor(killed), "on_step": lambda *_: None}
    before = epoch * (math.ceil(N_ROWS / SETTINGS.batch_size) if where == "loss" else 1)
    calls[where] = Mock(wraps=calls[where], side_effect=[DEFAULT] * before + [KilledError])
    with pytest.raises(KilledError):
        _train(killed, **calls, checkpoint=checkpoint, patience=8)
    # A new process draws other weights; where there is no checkpoint, it starts from the same.
    other = _network(7 if checkpoint.is_file() else 0)
    steps: list[int] = []
    trained, _ = _train(
        other, _real_monitor(other), on_step=lambda step, _: steps.append(step), checkpoint=checkpoint, patience=8
    )
    # One whose metrics may not have been told is trained again, wherever in it the kill fell.
    assert steps == list(range(epoch, SETTINGS.epochs)), "an epoch was left out, or one before it trained again"
    assert trained.first_epoch == epoch and trained == expected
    assert _equal(_weights(other), _weights(whole))


def test_going_on_after_the_end_trains_nothing_more(tmp_path: Path) -> None:
    network, again = _network(), _network(7)
    expected, _ = _train(network, _scripted([3.0, 1, 2, 2, 2]), checkpoint=tmp_path / "fit.pt")
    assert _train(again, _scripted([]), checkpoint=tmp_path / "fit.pt") == (expected, [])
    assert _equal(_weights(again), _weights(network))


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fit.pt"
    _train(_network(), epochs=3, checkpoint=path)
    whole = path.read_bytes()

    def half(content: object, target: Path) -> None:
        Path(target).write_bytes(whole[:100])
        raise KilledError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KilledError):
        _train(_network(), epochs=4, checkpoint=path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(("value", "monitored"), [(math.nan, True), (math.inf, False)])
def test_a_loss_that_is_not_finite_does_not_lose_the_weights(network: nn.Module, value: float, monitored: bool) -> None:
    loss, epoch = _loss(network), [0]

    def count(step: int, metrics: dict[str, float]) -> None:
        epoch[0] = step + 1

    def diverging(rows: Tensor) -> Tensor:
        return loss(rows) * (value if epoch[0] == 3 else 1.0)

    monitor = _scripted([3, 1, 2, 2, 2, 2, 2, 2] if monitored else None)
    trained, after = _train(network, monitor, loss=diverging, on_step=count)
    assert (len(trained.history), trained.best_epoch) == (3, 1 if monitored else 2)
    assert _equal(_weights(network), after[trained.best_epoch])
    assert all(torch.isfinite(weight).all() for weight in _weights(network).values())
