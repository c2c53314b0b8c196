"""Doubtful labels of images: a linear layer on frozen features sees them, and people see the images."""

import io
from typing import Any

import numpy as np
from PIL import Image

ARCHITECTURE = "efficientnet_lite0"
HYPERPARAMETERS = {"mode": "probe", "strength": 0.0, "views": 1, "test_views": 1}
_SIDE = 160  # pixels


def reasons(samples: Any, models: Any, given: Any, suggested: Any) -> list[str]:
    """Return nothing: people see the image."""
    return [""] * len(samples)


def pictures(samples: Any) -> list[bytes]:
    """Return each image as a small PNG."""
    found = []
    for pixels in samples.pixels[samples.index]:
        image, file = Image.fromarray(np.asarray(pixels)), io.BytesIO()
        image.thumbnail((_SIDE, _SIDE))
        image.save(file, "PNG")
        found.append(file.getvalue())
    return found
