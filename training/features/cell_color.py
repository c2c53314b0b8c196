"""Colors of a cell as a network sees them: as they are, gray, standardized, or in the stain of the training rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.samples.images import ImageSamples


def grayed(images: Tensor) -> Tensor:
    """Return the brightness of images, float in 0..255, standardized over the cell; a black frame stays black."""
    red, green, blue = images.split(1, dim=1)
    gray = 0.299 * red + 0.587 * green + 0.114 * blue
    return _spread_alike(gray, images, 30).expand_as(images)


def standardized(images: Tensor) -> Tensor:
    """Return images whose channels are standardized over the cell, which removes staining."""
    return _spread_alike(images, images, 40)


def _spread_alike(channels: Tensor, images: Tensor, spread: float) -> Tensor:
    cell = _cell(images)
    mean, deviation = _moments(channels, cell)
    return cell * (120 + spread * (channels - mean) / deviation.clamp(min=1)).clamp(0, 255)


def _cell(images: Tensor) -> Tensor:
    return (images.amax(dim=1, keepdim=True) >= 8).to(images.dtype)


def _moments(channels: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over the cell, ``(n, channels, 1, 1)``."""
    count = cell.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (channels * cell).sum(dim=(2, 3), keepdim=True) / count
    return mean, (((channels - mean) ** 2 * cell).sum(dim=(2, 3), keepdim=True) / count).sqrt()


_FLATTEST = 0.02  # deviation of optical density; what is flatter is not spread further


def learned_stain(color: str, train: ImageSamples) -> np.ndarray | None:
    """Return the moments of the training images' stain that ``color`` needs, see `stain_moments`; None for most."""
    if color != "reinhard":
        return None
    step = max(1, train.pixels.shape[1] // 28)  # some pixels of each image will do
    pixels = np.stack([train.pixels[row, ::step, ::step] for row in train.index])
    return stain_moments(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).numpy()


def stain_moments(images: Tensor) -> Tensor:
    """Return the means over images of mean and deviation of the cell's optical densities, shape ``(2, 3)``."""
    return torch.stack(_moments(_density(images), _cell(images))).mean(dim=1)[..., 0, 0]


def matched(images: Tensor, stain: Tensor) -> Tensor:
    """Return images whose cells have the `stain_moments` ``stain``; a black frame stays black.

    Reinhard et al. (2001) bring moments of one image to those of another, in a space of their own; in optical density,
    as here, how strong a stain is and how bright the light was do not count.
    """
    cell, density = _cell(images), _density(images)
    mean, deviation = _moments(density, cell)
    aim, spread = stain.to(images.device, images.dtype)[..., None, None]
    density = (density - mean) / deviation.clamp(min=_FLATTEST) * spread + aim
    return cell * (256 * torch.exp(-density) - 1).clamp(0, 255)


def _density(images: Tensor) -> Tensor:
    return -torch.log((images + 1) / 256)


# Functions of images, float in 0..255, and of `learned_stain`.
COLORS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "as_is": lambda images, _: images,
    "gray": lambda images, _: grayed(images),
    "standard": lambda images, _: standardized(images),
    "reinhard": lambda images, stain: matched(images, torch.as_tensor(stain)),
}
