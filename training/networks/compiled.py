"""Compiling a network's parts for the time of a fit, and going on without where that fails."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn


@contextlib.contextmanager
def compiled(parts: Sequence[nn.Module], backend: str = "inductor") -> Iterator[None]:
    """Let `torch.compile` make each of ``parts`` anew when it is next called; at the end they are as before."""
    for part in parts:
        part.compile(backend=backend)
    try:
        yield
    finally:
        uncompile(parts)


def uncompile(parts: Sequence[nn.Module]) -> None:
    """Let ``parts`` be called as they were written."""
    for part in parts:
        part._compiled_call_impl = None


def or_plain(step: Callable[[Tensor], Tensor], parts: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Return ``step``, a forward and backward pass; where its first call fails it is done again without compiling."""
    if not parts:
        return step
    first = True

    def tried(rows: Tensor) -> Tensor:
        nonlocal first
        if not first:
            return step(rows)
        first = False
        try:
            return step(rows)
        except Exception as error:  # compilers fail in many ways; an error of the step itself comes up again
            uncompile(parts)
            warnings.warn(f"torch.compile failed, the fit goes on without: {error}", RuntimeWarning, stacklevel=2)
            return step(rows)

    return tried
