"""A heat map laid over the image that it explains."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

_OPACITY = 0.55  # of the map where it is 1


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Return the image, uint8 ``(size, size, 3)``, under a map in 0..1 ``(size, size)`` in color."""
    import matplotlib  # here, since few who load an endpoint ask it to explain

    color = matplotlib.colormaps["inferno"](heatmap)[..., :3] * 255
    share = (_OPACITY * heatmap)[..., None]
    return (pixels * (1 - share) + color * share).clip(0, 255).astype(np.uint8)


def as_png(pixels: np.ndarray) -> str:
    """Return an image as base64 of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
