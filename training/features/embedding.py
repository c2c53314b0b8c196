"""Features of images by a frozen network: means and spreads of its middle and last feature maps."""

import functools
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.samples.images import ImageSamples
from training.backbone import LITE, fingerprint
from training.device import network_device
from training.feature_cache import FeatureCache
from training.features.cell_color import COLORS

EMBEDDER = "efficientnet_lite0"
_TAPPED = (3, 5)  # stages whose maps are used besides the last: texture shows earlier than objects


@functools.lru_cache(maxsize=1)
def _network() -> tuple[list[nn.Module], str, torch.Tensor, torch.Tensor]:
    stages = [stage.eval().requires_grad_(False) for stage in LITE.build(EMBEDDER, "imagenet")]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (LITE.mean, LITE.std))
    return stages, fingerprint(nn.Sequential(*stages)), mean, std


def embeddings(samples: ImageSamples, device: str = "auto", color: str = "as_is", stain: Any = None) -> np.ndarray:
    """Return mean and spread of every channel of three feature maps, float16 ``(n, features)``; files are cached.

    ``color`` is one of `training.features.cell_color.COLORS`, with its ``stain``.
    """
    stages, identity, mean, std = _network()
    where = network_device(device)

    def run(pixels: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        maps = ((COLORS[color](images, stain) - mean) / std).to(where).contiguous(memory_format=torch.channels_last)
        parts = []
        with torch.inference_mode():
            for number, stage in enumerate(stages):
                maps = stage.to(where)(maps)
                if number in (*_TAPPED, len(stages) - 1):
                    parts += [maps.mean(dim=(2, 3)), maps.std(dim=(2, 3), correction=0)]
        return torch.cat(parts, dim=1).cpu().numpy().astype(np.float16)

    made_of = f"{EMBEDDER} {identity} taps {_TAPPED} {samples.pixels.shape[1:]} {samples.made} {color}"
    made_of += "" if stain is None else f" {stain.tolist()}"
    return FeatureCache(made_of, __name__).features(samples, run)
