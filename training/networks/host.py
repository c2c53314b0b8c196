"""When the host would have to wait for a device: a GPU works behind it, until somebody asks how many or which."""

from __future__ import annotations

from torch import Tensor


def waits_for(tensor: Tensor) -> bool:
    """Whether shapes that depend on the values of ``tensor`` stop the host until the device has computed them.

    Where they do, a network computes on all rows and masks some; on a processor it computes on those alone.
    """
    return tensor.device.type != "cpu"
