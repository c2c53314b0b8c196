"""Features of images on disk: a frozen network runs once over each image."""

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipelines.code_closure import loaded_code
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
        decided = json.dumps([self.made_of, loaded_code(self.module)])
        return self.folder / "frozen" / hashlib.sha256(decided.encode()).hexdigest()[:32]

    def features(self, samples: ImageSamples, run: Run, *, progress: bool = False) -> np.ndarray:
        """Return the features of ``samples`` as ``run`` returns them, ``(n, ...)``; it computes those not cached."""
        if not isinstance(samples.pixels, np.memmap):  # images of requests are not cached
            parts = [run(samples.pixels[samples.index[at : at + BATCH]]) for at in range(0, len(samples), BATCH)]
            return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)
        digests = samples.digests
        known = self._known()
        if missing := list(dict.fromkeys(digest for digest in digests if digest not in known)):
            self._add(samples, missing, run, progress)
            known = self._known()
        gathered = np.zeros((0, 0), dtype=np.float32)
        for path, rows, positions in _by_shard(digests, known):
            shard = np.load(path, mmap_mode="r")
            if not len(gathered):
                gathered = np.empty((len(digests), *shard.shape[1:]), dtype=shard.dtype)
            gathered[positions] = shard[rows]
        return gathered

    def seconds(self, samples: ImageSamples) -> float:
        """Return the seconds in which the features of ``samples`` were computed; NaN if unknown."""
        total = 0.0
        for path, rows, _ in _by_shard(list(dict.fromkeys(samples.digests)), self._known()):
            try:
                took = float(path.with_suffix(".seconds").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return math.nan
            total += took * len(rows) / len(np.load(path, mmap_mode="r"))
        return total

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
        began = time.perf_counter()
        array: np.ndarray | None = None
        with written_whole(shard) as temporary:
            starts = range(0, len(rows), BATCH)
            for start in tqdm(starts, desc="frozen features", disable=not progress, leave=False):
                made = run(samples.pixels[rows[start : start + BATCH]])
                if array is None:
                    shape = (len(rows), *made.shape[1:])
                    array = np.lib.format.open_memmap(temporary, mode="w+", dtype=made.dtype, shape=shape)
                array[start : start + len(made)] = made
            del array
        for ending, text in ((".seconds", str(time.perf_counter() - began)), (".json", json.dumps(digests))):
            with written_whole(shard.with_suffix(ending)) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _by_shard(digests: list[str], known: dict[str, tuple[Path, int]]) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    found = [known[digest] for digest in digests]
    for path in dict.fromkeys(path for path, _ in found):
        positions = np.array([position for position, (where, _) in enumerate(found) if where == path])
        yield path, np.array([found[position][1] for position in positions]), positions
