"""Random changes that leave a cell's class as it is: turned, mirrored, shifted, stained and lit another way."""

import math

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

BLUR = 1.2 / 224  # standard deviation, of the side
GRAIN = 8.0  # standard deviation, of 255
ZOOMS = (0.75, 1.35)
CHUNK = 8  # images that share one draw: torchvision changes a batch alike, and one image at a time is slow


def restained(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return images (float in 0..255) of scaled and shifted optical density; the black frame of a cell stays black."""
    density = -torch.log((images + 1) / 256)
    frame = (images.amax(dim=1, keepdim=True) < 8).to(images.dtype)
    changed = 256 * torch.exp(-(density * scale + shift)) - 1
    return (frame * images + (1 - frame) * changed).clamp(0, 255)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """Return images magnified by ``factor``; below 1 they are mirrored at the edge, and a black frame is continued."""
    size = images.shape[-1]
    side = round(size / factor)
    pad = max(0, -(-(side - size) // 2))
    padded = nn.functional.pad(images, (pad, pad, pad, pad), "reflect")
    black = (images.amax(dim=1, keepdim=True) < 8).to(images.dtype)
    edge = torch.cat([black[:, :, [0, -1]].flatten(1), black[..., [0, -1]].flatten(1)], dim=1)
    framed = (edge.mean(dim=1) > 0.5).to(images.dtype)[:, None, None, None]
    padded = padded * (1 - framed * (1 - nn.functional.pad(torch.ones_like(black), (pad, pad, pad, pad))))
    cut = v2.functional.center_crop(padded, [side, side])
    return v2.functional.resize(cut, [size, size], antialias=False)


def blurred(images: Tensor) -> Tensor:
    """Return images out of focus, as those of another laboratory may be; a black frame stays black."""
    sigma = BLUR * images.shape[-1]
    frame = (images.amax(dim=1, keepdim=True) < 8).to(images.dtype)
    return (1 - frame) * v2.functional.gaussian_blur(images, [2 * math.ceil(2 * sigma) + 1] * 2, [sigma] * 2)


def grained(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return images with noise, as of another camera; a black frame stays black."""
    frame = (images.amax(dim=1, keepdim=True) < 8).to(images.dtype)
    noise = torch.randn(images.shape[1:], generator=generator).to(images.device)
    return ((1 - frame) * (images + GRAIN * noise)).clamp(0, 255)


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


def augmentation(strength: float, size: int, *, jitter: bool = False) -> v2.Transform:
    """Return the changes of images of side ``size``; a strength of 1 is the variation of smears of one laboratory.

    With ``jitter`` magnification, focus and grain vary too, as between laboratories.
    """
    turn = v2.Lambda(lambda images: torch.rot90(images, int(torch.randint(4, ())), (2, 3)))  # leaves no empty corner
    changes: list[v2.Transform] = [v2.RandomHorizontalFlip(), turn]
    if jitter:
        drawn = v2.Lambda(lambda images: zoomed(images, float(torch.empty(()).uniform_(*ZOOMS))))
        changes += [drawn, v2.RandomApply([v2.Lambda(blurred)], p=0.5), v2.RandomApply([v2.Lambda(grained)], p=0.5)]
    if strength > 0:
        crop = v2.RandomResizedCrop(size, scale=(1 - 0.25 * strength, 1.0), ratio=(0.9, 1.1), antialias=False)
        changes += [crop, StainJitter(0.12 * strength)]
    return v2.Compose(changes)


def augment(images: Tensor, change: v2.Transform) -> Tensor:
    """Return ``images`` (float in 0..255, shape ``(n, 3, h, w)``) changed, `CHUNK` at a time alike in geometry."""
    return torch.cat([change(part) for part in images.split(CHUNK)])
