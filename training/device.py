"""Which device a run uses, how many threads, and what memory it keeps."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.files import cores

if TYPE_CHECKING:
    import torch

# NVIDIA's driver, on Tegra, under Windows, and AMD's.
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX, _NEVER = -1, -4, -8, 2**31 - 1  # of glibc's mallopt(3)


def threads() -> int:
    """Return the number of CPU threads: ``OMP_NUM_THREADS`` where it is set, else the cores this process may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or cores())


def torch_device(device: str) -> str:
    """Return the PyTorch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; UserError for what there is not."""
    if device == "auto" and not _may_have_gpu():
        return "cpu"
    import torch

    if device == "auto" and not torch.cuda.is_available():
        return "cpu"
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise UserError(f"device is {device!r}; it must be auto, cpu, cuda or cuda:N")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device is {device!r}, but PyTorch sees no CUDA device; set device: auto in params.yaml")
    if device not in ("auto", "cuda"):
        return device
    # The GPU of this process, by the launcher's LOCAL_RANK.
    rank = os.environ.get("LOCAL_RANK")
    if rank is None:
        return "cuda"
    if int(rank) >= (count := torch.cuda.device_count()):
        raise UserError(f"LOCAL_RANK is {rank}, and PyTorch sees {count} GPUs; start no more processes than GPUs")
    return f"cuda:{rank}"


def network_device(device: str) -> torch.device:
    """Return the device of `torch_device` for a network; on a CPU freed memory is kept for its next layers."""
    import torch

    found = torch.device(torch_device(device))
    if found.type == "cpu":
        keep_freed_memory()
    return found


def keep_freed_memory() -> bool:
    """Let the process keep up to 2 GiB of freed memory; return whether the C library can."""
    # glibc returns blocks of more than 32 MiB to the kernel, and mapping them again takes half of a forward pass.
    # Arenas of later threads cannot keep such blocks: all threads share the first.
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, _NEVER) and mallopt(_ARENA_MAX, 1))


def _may_have_gpu() -> bool:
    """Whether it is worth asking PyTorch, which takes seconds to load: on Linux a GPU is a device file."""
    if "torch" in sys.modules or sys.platform != "linux":
        return True
    return any(Path(device).exists() for device in _GPU_FILES)
