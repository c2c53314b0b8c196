"""Memory that a network frees on a processor: kept, since its next layer wants as much again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _NEVER = -1, -4, 2**31 - 1  # of glibc's mallopt(3)


def keep_freed_memory() -> bool:
    """Let the process keep up to 2 GiB of freed memory; return whether the C library can.

    glibc returns blocks of more than 32 MiB to the kernel, and zeroing and mapping them again takes half of the forward
    pass of a convolutional network.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
