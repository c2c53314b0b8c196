"""Groups of images: those of a subject, and copies: identical and nearly identical ones, also turned and mirrored.

A perceptual hash proposes candidates, pixels decide. Both see texture: gray pixels at 64 px, band-pass filtered and
divided by their local contrast. With plain pixels, cells that are cut out onto a black frame correlate above 0.9 by
their outline alone. In texture, of 5 million pairs of C-NMC cells in 8 views no two of different labels correlate above
0.92; copies correlate above 0.95 also after JPEG at quality 60, resizing to half and 10 % of brightness.
"""

import hashlib
from collections.abc import Iterator

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipelines.groups import owned_groups, pairs_by
from pipelines.params import Split
from pipelines.samples.images import ImageSamples

COLUMNS = ["a", "b", "similarity", "how"]
_SIDE = 64
_FINE, _COARSE = 0.7, 2.5  # the band: below it is noise of compression, above it the outline of the cell
_NOISE = 3.0  # gray levels; fainter texture is not scaled up to full contrast
_SCALE, _ZERO = 48.0, 128  # texture is kept as uint8: 4 kB an image
_LEAST_TEXTURE = 0.1  # root mean square, of cells 0.35 and more; two blank images are not one sample
_HASH = 16  # bits are its square: 64 bits propose a hundred times more pairs of cells that are not copies
_FAR = 0.25  # share of bits; copies differ in at most 0.15, unrelated images in half
_TURNS = tuple((mirrored, quarters) for mirrored in (False, True) for quarters in range(4))  # the first is the identity
_BLOCK = 1024


def group_samples(samples: ImageSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return the groups of images, those of a subject and copies, and each group's most frequent label, ``(n,)``."""
    copies = duplicate_pairs(samples, split.near_identical)
    owners = [samples.table["subject_id"]] if split.mode == "subject_blind" else []
    return owned_groups(samples.table, copies, owners, samples.table["label"])


def sample_identities(samples: ImageSamples, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides: the file's bytes, the decoded pixels, and the subject."""
    table = samples.table
    pixels = [hashlib.blake2b(samples.pixels[row].tobytes()).hexdigest() for row in samples.index]
    identities = {
        "image": pd.Series(table["digest"].to_numpy(), dtype=object),
        "decoded image": pd.Series(pixels, dtype=object),
    }
    if mode == "subject_blind":
        identities["subject"] = pd.Series(table["subject_id"].to_numpy(), dtype=object)
    return identities


def duplicate_pairs(samples: ImageSamples, near_identical: float) -> pd.DataFrame:
    """Return pairs of images whose texture correlates above ``near_identical``; 0.95 separates copies from other cells.

    Columns are ``a``, ``b`` (positions of samples, ``a < b``), ``similarity`` (correlation of texture, 1 for identical
    images), ``how``: ``bytes`` (identical files), ``pixels`` (identical once decoded), ``near``, or ``turned`` (nearly
    identical once turned or mirrored). Of identical images only neighbors are paired, and only the first is compared
    with others. The pairs do not depend on the order of the rows.
    """
    order = np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable")
    digests = np.asarray(samples.digests, dtype=object)[order]
    found = [(a, b, 1.0, "bytes") for a, b in pairs_by(pd.Series(digests))]
    first = np.flatnonzero(~pd.Series(digests).duplicated())
    pixels = (samples.pixels[samples.index[order[row]]] for row in first)
    decoded = pd.Series([hashlib.blake2b(each.tobytes()).hexdigest() for each in pixels], index=first)
    found += [(a, b, 1.0, "pixels") for a, b in pairs_by(decoded)]
    first = first[~decoded.duplicated().to_numpy()]
    texture = _texture(samples, order[first])
    strength = np.array([np.std(one.astype(np.float32)) for one in texture]) / _SCALE
    textured = np.flatnonzero(strength > _LEAST_TEXTURE)
    found += [
        (first[textured[a]], first[textured[b]], similarity, "turned" if turn else "near")
        for a, b, similarity, turn in _near(texture[textured], near_identical)
    ]
    pairs = pd.DataFrame(found, columns=COLUMNS)
    ends = np.sort(order[pairs[["a", "b"]].to_numpy(np.int64)], axis=1)
    return pairs.assign(a=ends[:, 0], b=ends[:, 1]).sort_values(["a", "b"], ignore_index=True)


def _texture(samples: ImageSamples, rows: np.ndarray) -> np.ndarray:
    """Return the texture of the images at ``rows``; uint8 around `_ZERO`, shape ``(len(rows), 64, 64)``."""
    texture = np.empty((len(rows), _SIDE, _SIDE), np.uint8)
    for start in range(0, len(rows), _BLOCK):
        images = (Image.fromarray(samples.pixels[row]) for row in samples.index[rows[start : start + _BLOCK]])
        small = [np.asarray(one.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)) for one in images]
        gray = np.stack(small).astype(np.float32)
        band = gaussian_filter(gray, (0, _FINE, _FINE)) - gaussian_filter(gray, (0, _COARSE, _COARSE))
        band /= np.sqrt(gaussian_filter(band**2, (0, _COARSE, _COARSE)) + _NOISE**2)
        texture[start : start + len(gray)] = np.clip(np.rint(_ZERO + _SCALE * band), 0, 255)
    return texture


def _turned(texture: np.ndarray, turn: int) -> np.ndarray:
    """Return textures in one of the 8 views."""
    mirrored, quarters = _TURNS[turn]
    return np.rot90(texture[..., ::-1] if mirrored else texture, quarters, axes=(-2, -1))


def _near(texture: np.ndarray, near_identical: float) -> Iterator[tuple[int, int, float, int]]:
    """Yield ``a < b``, their similarity and the view of ``a`` in which it is highest, for near copies."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    signs = _signs(texture)
    for turn in range(len(_TURNS)):
        other = _signs(_turned(texture, turn)) if turn else signs
        for a, b in _candidates(other, signs):
            similarity = _similarity(_turned(texture[a], turn), texture[b])
            for row in np.flatnonzero(similarity > near_identical):
                pair, value = (int(a[row]), int(b[row])), float(similarity[row])
                if pair not in best or value > best[pair][0]:
                    best[pair] = (value, turn)
    yield from ((a, b, round(value, 6), turn) for (a, b), (value, turn) in sorted(best.items()))


def _signs(texture: np.ndarray) -> np.ndarray:
    """Return the perceptual hash of each texture, bits as -1 and 1; int8, shape ``(n, 256)``."""
    hashes = [imagehash.phash(Image.fromarray(np.ascontiguousarray(one)), _HASH).hash.ravel() for one in texture]
    return np.stack(hashes).astype(np.int8) * 2 - 1 if hashes else np.empty((0, _HASH**2), np.int8)


def _candidates(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions ``a < b`` whose hashes differ in few bits, at most `_BLOCK` at a time."""
    least = left.shape[1] * (1 - 2 * _FAR)
    for start in range(0, len(left), _BLOCK):
        rows = left[start : start + _BLOCK].astype(np.float32)
        for begin in range(start, len(right), _BLOCK):
            columns = right[begin : begin + _BLOCK].astype(np.float32)
            a, b = np.nonzero(rows @ columns.T >= least)
            a, b = a + start, b + begin
            a, b = a[a < b], b[a < b]
            for part in range(0, len(a), _BLOCK):
                yield a[part : part + _BLOCK], b[part : part + _BLOCK]


def _similarity(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the correlation of textures, pair by pair."""
    one, other = (side.reshape(len(side), -1).astype(np.float32) for side in (left, right))
    one -= one.mean(axis=1, keepdims=True)
    other -= other.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", other, other))
    return np.einsum("ij,ij->i", one, other) / np.maximum(norms, 1e-6)
