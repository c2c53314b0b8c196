"""Doubtful labels of images: a linear layer on frozen features sees them, and people see the images."""

import io
from typing import Any

import numpy as np
from PIL import Image

from pipelines.report import Block, figure

ARCHITECTURE = "efficientnet_lite0"
HYPERPARAMETERS = {"mode": "probe", "strength": 0.0, "views": 1, "test_views": 1}
_SIDE = 160  # pixels


def shown(
    samples: Any, models: Any, captions: list[str], given: Any, suggested: Any
) -> tuple[list[Block], dict[str, bytes]]:
    """Return a figure a sample; the models have no say."""
    figures = {}
    for row, pixels in enumerate(samples.pixels[samples.index]):
        image, file = Image.fromarray(np.asarray(pixels)), io.BytesIO()
        image.thumbnail((_SIDE, _SIDE))
        image.save(file, "PNG")
        figures[f"{row}.png"] = file.getvalue()
    return [figure(name, caption) for name, caption in zip(figures, captions, strict=True)], figures
