"""Training images joined by copies of themselves on the slides, and in the stains, of other classes."""

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.code_closure import loaded_code
from pipelines.files import written_whole
from pipelines.samples.images import CACHE, ImageSamples
from pipelines.samples.stressed_images import stressed

_BLOCK = 256  # images at a time, in memory
EXCHANGES = ("none", "slide", "slide_and_stain")


def exchanged(train: ImageSamples, exchange: str, seed: int) -> ImageSamples:
    """Return training samples and after them a copy of each, whose slide, or slide and stain, is of another class.

    The partners are training samples too. Of cells that were cut out on black the stain is exchanged. Copies have
    digests of their own; the pixels of files are cached.
    """
    if exchange == "none":
        return train
    of_partners = train.table[["digest", "target", "subject_id", "sample_id"]].astype(str).to_numpy().tolist()
    decided = json.dumps([of_partners, train.made, exchange, seed, loaded_code(__name__)])
    key = hashlib.sha256(decided.encode()).hexdigest()
    if isinstance(train.pixels, np.memmap):
        pixels = _on_disk(train, exchange, seed, CACHE / "exchanged" / f"{key[:32]}.npy")
    else:
        pixels = np.concatenate([train.pixels[train.index], _copies(train, train, exchange, seed)])
    digests = [hashlib.sha256(f"{digest} {key}".encode()).hexdigest() for digest in train.digests]
    copies = train.table.assign(digest=digests, sample_id=train.table["sample_id"].astype(str) + f" {exchange}")
    return replace(
        train,
        table=pd.concat([train.table, copies], ignore_index=True),
        pixels=pixels,
        index=np.arange(2 * len(train)),
    )


def _on_disk(train: ImageSamples, exchange: str, seed: int, path: Path) -> np.ndarray:
    with contextlib.suppress(OSError, ValueError, EOFError):  # the file is missing, or an incomplete copy
        return np.asanyarray(np.load(path, mmap_mode="r"))
    with written_whole(path) as temporary:
        shape = (2 * len(train), *train.pixels.shape[1:])
        into = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        into[: len(train)] = train.pixels[train.index]
        for start in range(0, len(train), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(train)))
            into[len(train) + rows] = _copies(train.take(rows), train, exchange, seed)
        into.flush()
    return np.asanyarray(np.load(path, mmap_mode="r"))


def _copies(samples: ImageSamples, train: ImageSamples, exchange: str, seed: int) -> np.ndarray:
    made = stressed(samples, train, seed, [exchange]) or stressed(samples, train, seed, ["stain"])
    (copies,) = made.values()
    return copies.pixels
