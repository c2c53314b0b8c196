"""Memory that a network frees on a processor: kept, since its next layer wants as much again."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3), and the largest value that it takes.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, until it has 2 GiB of it; return whether the C library can.

    glibc asks the kernel for every block of more than 32 MiB and gives it back at once. Each layer of a convolutional
    network then has its activations zeroed and mapped page by page: half of the time of a forward pass. Numbers do not
    change. Elsewhere than in glibc nothing is done.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER))
