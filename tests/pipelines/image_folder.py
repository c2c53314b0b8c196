"""A tiny valid raw folder of kind ``images``: simulated, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

CLASSES = ("all", "hem")
SUBJECTS = 6  # of each class, with two images each
SIDE = 24


def picture(*seed: int) -> Image.Image:
    """Return an RGB image of noise that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8))


def write_image_folder(folder: Path) -> Path:
    """Write 12 images of 6 subjects for each class, and ``images.csv``; return ``folder``."""
    rows = []
    for code, label in enumerate(CLASSES):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(2 * SUBJECTS):
            file = f"{label}/cell_{number:02d}.png"
            picture(code, number).save(folder / "images" / file)
            rows.append((file, label, f"{label}-{number // 2}"))
    pd.DataFrame(rows, columns=["file", "label", "subject_id"]).to_csv(folder / "images.csv", index=False)
    return folder
