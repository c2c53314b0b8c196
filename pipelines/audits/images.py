"""The audit of images: the same cell in several files, shortcuts to the class, and uneven subjects."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pipelines.audits import (
    Parts,
    group_findings,
    group_sizes,
    labeled_copies,
    metadata,
    name_classes,
    shortcut_finding,
    unknown_finding,
)
from pipelines.groups.images import duplicate_pairs
from pipelines.params import Split
from pipelines.probes import probe_labels
from pipelines.samples.cell_masks import OUTSIDE, cell_masks
from pipelines.samples.images import IMAGES_FOLDER, ImageSamples
from pipelines.samples.raw_files import FORMATS


def audit(samples: ImageSamples, folder: Path, split: Split, seed: int) -> Parts:
    """Look for copies, shortcuts and uneven subjects; probes of pixels are measured on the isolated cell too."""
    table = samples.table
    alone = table["subject_id"].isna()
    subject = table["subject_id"].where(~alone, table["sample_id"]).to_numpy(str)
    label = table["label"].to_numpy(str)
    pairs = duplicate_pairs(samples, split.near_identical)
    unit = "group" if alone.any() else "subject"
    group, duplicates, findings = labeled_copies(pairs, table, subject, label, sample="image", unit=unit)
    shortcuts = [
        probe_labels(probe, features, samples.target, group, seed)
        for probe, features in image_confounders(samples, folder).items()
    ]
    masks = cell_masks(samples)
    alone_on_black = _pixel_nuisances(samples, masks)
    for shortcut in (each for each in shortcuts if each["probe"] in alone_on_black):
        left = probe_labels("", alone_on_black[shortcut["probe"]], samples.target, group, seed)
        shortcut["isolated"] = {key: left[key] for key in ("score", "low", "high", "finding")}
    name_classes(shortcuts, samples.classes)
    groups = {"unit": "subject", **group_sizes(group, label), "unknown": int(alone.sum())}
    groups["without_cell"] = int((masks == OUTSIDE).all(axis=(1, 2)).sum())
    findings += [shortcut_finding(shortcut) for shortcut in shortcuts if shortcut["finding"]]
    findings += unknown_finding(alone.to_numpy(), sample="image", unit="subject")
    return duplicates, shortcuts, groups, findings + ([] if alone.all() else group_findings(groups, split))


_BLOCK = 64


def image_confounders(samples: ImageSamples, folder: Path) -> dict[str, pd.DataFrame]:
    """Return the features of each probe, a row an image, of pixels and raw files: they do not show the cell."""
    files = [folder / IMAGES_FOLDER / name for name in samples.table["sample_id"]]
    headers = pd.DataFrame([_header(file) for file in files])
    size = headers[["width", "height"]].assign(aspect=headers["width"] / headers["height"])
    return {
        **_pixel_nuisances(samples),
        "image_size": size,
        "file_size": headers[["bytes"]].apply(np.log),
        "compression": pd.concat(
            [
                headers[["tables", "quantization", "comment", "exif", "profile"]].astype(float),
                pd.get_dummies(headers[["format", "mode", "sampling"]].astype(str), dtype=float),
            ],
            axis=1,
        ),
        "file_name": pd.DataFrame([_numbers(Path(name).stem) for name in samples.table["sample_id"]]),
        "metadata": metadata(samples.table),
    }


def _pixel_nuisances(samples: ImageSamples, masks: np.ndarray | None = None) -> dict[str, pd.DataFrame]:
    """Return the features of the probes of pixels; with ``masks`` of cells alone on black, as far as one was found."""
    side = samples.pixels.shape[1]
    ring, corner = max(1, side // 32), max(1, side // 8)
    near, far = slice(None, corner), slice(-corner, None)
    borders, corners, means = [], [], []
    for start in range(0, len(samples), _BLOCK):
        pixels = samples.pixels[samples.index[start : start + _BLOCK]].astype(np.float32)
        if masks is not None:
            inside = masks[start : start + _BLOCK] != OUTSIDE
            pixels *= (inside | ~inside.any(axis=(1, 2), keepdims=True))[..., None]
        strips = (pixels[:, :ring], pixels[:, -ring:], pixels[:, :, :ring], pixels[:, :, -ring:])
        patches = (pixels[:, near, near], pixels[:, near, far], pixels[:, far, near], pixels[:, far, far])
        borders.append(np.hstack([_moments(strip) for strip in strips]))
        corners.append(np.hstack([_moments(patch) for patch in patches]))
        means.append(pixels.mean(axis=(1, 2)))
    parts = {"border": borders, "corners": corners, "mean_color": means}
    return {name: pd.DataFrame(np.concatenate(part)) for name, part in parts.items()}


def _moments(patch: np.ndarray) -> np.ndarray:
    return np.hstack([patch.mean(axis=(1, 2)), patch.std(axis=(1, 2))])


def _header(path: Path) -> dict[str, Any]:
    """Return the facts of an image file's header; no pixel is decoded."""
    with Image.open(path, formats=FORMATS) as image:
        tables = getattr(image, "quantization", None) or {}
        return {
            "width": image.width,
            "height": image.height,
            "bytes": path.stat().st_size,
            "format": image.format,
            "mode": image.mode,
            "tables": len(tables),
            "quantization": sum(sum(table) for table in tables.values()),  # the coarser, the lower the JPEG quality
            "comment": len(image.info.get("comment", b"")),  # names the program that wrote the file
            "exif": len(image.info.get("exif", b"")),
            "profile": len(image.info.get("icc_profile") or b""),
            "sampling": [layer[1:3] for layer in getattr(image, "layer", [])],
        }


def _numbers(name: str) -> dict[str, float]:
    """Return the numbers in a file name, which depend on where and when it was taken; words may name the label."""
    found = re.findall(r"\d+", name)
    values = {f"number_{place}": float(text[:15]) for place, text in enumerate(found[:4])}
    return {"numbers": float(len(found)), "digits": float(sum(map(len, found))), **values}
