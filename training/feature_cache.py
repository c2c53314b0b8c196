"""Features of images on disk: a frozen network runs once over each image."""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipelines.code_closure import closure
from pipelines.files import written_whole
from pipelines.samples.images import CACHE, ImageSamples

BATCH = 64

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FeatureCache:
    """Features of images under one setting, in a folder of shards that are written once."""

    made_of: str  # all that the features depend on, besides the image's bytes and the code
    module: str  # that computes them, by its dotted name; its code is part of the key, see `pipelines.code_closure`
    folder: Path = CACHE  # may be deleted at any time

    @functools.cached_property
    def place(self) -> Path:
        """Return the folder of this setting's shards."""
        decided = json.dumps([self.made_of, closure(self.module)])
        return self.folder / "frozen" / hashlib.sha256(decided.encode()).hexdigest()[:32]

    def features(self, samples: ImageSamples, run: Run, *, progress: bool = False) -> np.ndarray:
        """Return the features of ``samples``, float16, ``(n, ...)``; ``run`` computes those that are not cached."""
        if not isinstance(samples.pixels, np.memmap):  # images of requests are not cached
            parts = [run(samples.pixels[samples.index[at : at + BATCH]]) for at in range(0, len(samples), BATCH)]
            return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float16)
        digests = samples.digests
        known = self._known()
        if missing := list(dict.fromkeys(digest for digest in digests if digest not in known)):
            self._add(samples, missing, run, progress)
            known = self._known()
        gathered = np.zeros((0, 0), dtype=np.float16)
        places = pd.DataFrame([known[digest] for digest in digests], columns=["shard", "row"])
        for path, part in places.groupby("shard", sort=False):
            shard = np.load(str(path), mmap_mode="r")
            if not len(gathered):
                gathered = np.empty((len(digests), *shard.shape[1:]), dtype=np.float16)
            gathered[part.index] = shard[part["row"]]
        return gathered

    def _known(self) -> dict[str, tuple[Path, int]]:
        """Return the shard and row of each image; incomplete shards are ignored."""
        known: dict[str, tuple[Path, int]] = {}
        for index in sorted(self.place.glob("[!.]*.json")):  # a dot: still being written
            shard = index.with_suffix(".npy")
            try:
                names = json.loads(index.read_text(encoding="utf-8"))
                rows = len(np.load(shard, mmap_mode="r"))
            except (OSError, ValueError, EOFError):
                continue
            if rows == len(names):
                known.update({digest: (shard, row) for row, digest in enumerate(names)})
        return known

    def _add(self, samples: ImageSamples, digests: list[str], run: Run, progress: bool) -> None:
        """Write one shard; the list of its images comes last, so that a shard cut short is not there."""
        row_of = dict(zip(samples.digests, samples.index, strict=True))
        rows = np.array([row_of[digest] for digest in digests])
        shard = self.place / f"{hashlib.sha256(''.join(digests).encode()).hexdigest()[:16]}.npy"
        array: np.ndarray | None = None
        with written_whole(shard) as temporary:
            starts = range(0, len(rows), BATCH)
            for start in tqdm(starts, desc="frozen features", disable=not progress, leave=False):
                made = run(samples.pixels[rows[start : start + BATCH]]).astype(np.float16)
                if array is None:
                    shape = (len(rows), *made.shape[1:])
                    array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
                array[start : start + len(made)] = made
            del array
        with written_whole(shard.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(digests), encoding="utf-8")
