"""Random changes that leave a cell's class as it is: turned, mirrored, shifted, stained and lit another way."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

CHUNK = 8  # images that share one draw: torchvision changes a batch alike, and one image at a time is slow


def restained(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return images (float in 0..255) of scaled and shifted optical density; the black frame of a cell stays black."""
    density = -torch.log((images + 1) / 256)
    frame = (images.amax(dim=1, keepdim=True) < 8).to(images.dtype)
    changed = 256 * torch.exp(-(density * scale + shift)) - 1
    return (frame * images + (1 - frame) * changed).clamp(0, 255)


def grayed(images: Tensor) -> Tensor:
    """Return the brightness of images, float in 0..255, standardized over the cell; a black frame stays black."""
    red, green, blue = images.split(1, dim=1)
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    return _spread_alike(gray, images, 30).expand_as(images)


def standardized(images: Tensor) -> Tensor:
    """Return images whose channels are standardized over the cell, which removes staining (Reinhard et al., 2001)."""
    return _spread_alike(images, images, 40)


def _spread_alike(channels: Tensor, images: Tensor, spread: float) -> Tensor:
    cell = (images.amax(dim=1, keepdim=True) >= 8).to(images.dtype)
    count = cell.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (channels * cell).sum(dim=(2, 3), keepdim=True) / count
    deviation = (((channels - mean) ** 2 * cell).sum(dim=(2, 3), keepdim=True) / count).sqrt().clamp(min=1)
    return cell * (120 + spread * (channels - mean) / deviation).clamp(0, 255)


COLORS: dict[str, Callable[[Tensor], Tensor]] = {"as_is": lambda x: x, "gray": grayed, "standard": standardized}


class StainJitter(v2.Transform):
    """Scales and shifts each channel's optical density by Gaussian noise of ``strength`` (Tellez et al., 2018)."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def transform(self, inpt: Tensor, params: dict) -> Tensor:
        """Return changed images, float in 0..255, ``(n, 3, h, w)``; black stays black."""
        shape = (len(inpt), 3, 1, 1)
        scale, shift = (self.strength * torch.randn(shape, device=inpt.device) for _ in range(2))
        return restained(inpt, 1 + scale, shift)


def augmentation(strength: float, size: int) -> v2.Transform:
    """Return the changes of images of side ``size``; a strength of 1 is the variation of smears of one laboratory."""
    turn = v2.Lambda(lambda images: torch.rot90(images, int(torch.randint(4, ())), (2, 3)))  # leaves no empty corner
    changes: list[v2.Transform] = [v2.RandomHorizontalFlip(), turn]
    if strength > 0:
        crop = v2.RandomResizedCrop(size, scale=(1 - 0.25 * strength, 1.0), ratio=(0.9, 1.1), antialias=False)
        changes += [crop, StainJitter(0.12 * strength)]
    return v2.Compose(changes)


def augment(images: Tensor, change: v2.Transform) -> Tensor:
    """Return ``images`` (float in 0..255, shape ``(n, 3, h, w)``) changed, `CHUNK` at a time alike in geometry."""
    return torch.cat([change(part) for part in images.split(CHUNK)])
