"""Counts, without a GPU, where the host would wait for one: every tensor is the device's but those made on the host."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ASKING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "equal"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class HostWaits:
    """What a stretch of code would wait for, in ``found``."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._made_here: dict[int, Tensor] = {}  # by address; kept alive, so that no address is given out twice
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        self._stack.enter_context(_Calls(self))
        self._stack.enter_context(_Operations(self))

    def stop(self) -> None:
        self._stack.close()

    def is_here(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._made_here

    def made_here(self, value: Any) -> None:
        for each in tree_leaves(value):
            if isinstance(each, Tensor) and each.numel():
                self._made_here[each.untyped_storage().data_ptr()] = each


class _Calls(TorchFunctionMode):
    """Tells tensors made on the host from those made on the device, and sees what is sent there or mixed."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, waits = kwargs or {}, self._waits
        tensors = [each for each in tree_leaves((args, given)) if isinstance(each, Tensor)]
        here = [each for each in tensors if waits.is_here(each)]
        name = getattr(func, "__name__", str(func))
        done = func(*args, **given)
        place = given.get("device")
        if not tensors:
            if place is None or place == "cpu":
                waits.made_here(done)
            elif name in ("tensor", "as_tensor"):
                waits.found.append(f"{name} of the host's numbers")
        elif len(here) == len(tensors):
            if name in ("to", "cuda") and any(isinstance(each, torch.device) for each in tree_leaves((args, given))):
                waits.found.append("a tensor of the host is sent")
            else:
                waits.made_here(done)
        elif any(each.ndim for each in here):
            waits.found.append(f"{name} of a tensor of the host and one of the device")
        return done


class _Operations(TorchDispatchMode):
    """Sees what asks a tensor of the device for its values, in the backward pass too."""

    def __init__(self, waits: HostWaits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in _ASKING or name in _INDEXING:
            for each in tree_leaves(args[1] if name in _INDEXING else args[:1]):
                by_mask = isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8)
                if isinstance(each, Tensor) and (by_mask or name in _ASKING) and not self._waits.is_here(each):
                    self._waits.found.append(name)
        return func(*args, **(kwargs or {}))


def watch_a_step(monkeypatch: pytest.MonkeyPatch, module: Any, constants: Sequence[Tensor] = ()) -> list[HostWaits]:
    """Watch the first step of each fit that ``module`` asks `train_network` for, from its loss to the next one's.

    ``constants`` were made on the host before it.
    """
    watched: list[HostWaits] = []
    real = module.train_network

    def train(network: Any, loss: Callable[[Tensor], Tensor], *others: Any, **more: Any) -> Any:
        waits, calls = HostWaits(), 0

        def seen(rows: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 1:
                watched.append(waits)
                waits.made_here(constants)
                waits.start()
            elif calls == 2:
                waits.stop()
            return loss(rows)

        try:
            done = real(network, seen, *others, **more)
        finally:
            waits.stop()
        assert calls > 1, "a fit of one step was not watched to the step's end"
        return done

    monkeypatch.setattr(module, "train_network", train)
    return watched
