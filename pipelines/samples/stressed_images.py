"""Images of cells with what should not matter exchanged or changed: slide, border, stain, light, focus, and so on."""

import hashlib
import io
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from pipelines.files import cores
from pipelines.samples.cell_masks import CYTOPLASM, NUCLEUS, OUTSIDE, cell_masks, frame, is_framed
from pipelines.samples.images import ImageSamples

_EDGE = 0.015  # of the side: width of the soft edge of what is pasted
_HALO = 0.03  # of the side, around the partner's cell, that is filled with background too
_NO_CELL = 0.35  # of the side: radius of the disk that stands for a cell where none is found
_CENTER = 0.75  # of the side: what `border` leaves as it is
_SPREAD = (0.7, 1.4)  # bounds of the factors by which `stain` changes densities
_BRIGHTNESS = (0.7, 1.3)
_MAGNIFICATION = (0.7, 1.4)
_WEAKEST = 1 / 3  # of the way from 1 to an end of these two ranges
_BLUR = 1.5 / 224  # of the side
_JPEG_QUALITY, _JPEG_SIDE = 20, 224  # smaller images are compressed at this size: blocks have 8 pixels
_NOISE = 8.0  # of 255
_ASKED = 200  # images, of which most or few are cells that were cut out


@dataclass(frozen=True)
class _Cell:
    """An image, its cell, its partner's image and cell, and random numbers of its own."""

    pixels: np.ndarray  # uint8, ``(size, size, 3)``
    mask: np.ndarray  # see `pipelines.samples.cell_masks.segment`; of a disk where no cell was found
    partner: np.ndarray
    partner_mask: np.ndarray
    rng: np.random.Generator


def stressed(
    samples: ImageSamples, others: ImageSamples, seed: int, kinds: Collection[str] | None = None
) -> dict[str, ImageSamples]:
    """Return for each kind of stress the samples with changed pixels, in memory; table and order stay.

    ``slide``, ``border``, ``stain`` and ``slide_and_stain`` take what they change from a partner: an image of
    ``others`` of another class and another subject; classes, and subjects of a class, are drawn evenly. What is pasted
    is brought to the partner's light. What an image becomes depends on ``seed``, its digest and ``others``, not on the
    other ``samples``. Where most of ``others`` are cells that were cut out on black, there is no slide and no border to
    exchange, and black stays black.
    """
    known = KINDS if not _cut_out(others) else {kind: of for kind, of in KINDS.items() if kind not in _OF_SLIDES}
    chosen = {kind: of for kind, of in known.items() if kinds is None or kind in kinds}
    partners = others.take(_partners(samples, others, seed))
    masks, partner_masks = cell_masks(samples), cell_masks(partners)

    def changed(row: int) -> list[np.ndarray]:
        def stress(kind: str, change: Callable[[_Cell], np.ndarray]) -> np.ndarray:
            pixels, partner = samples.pixels[samples.index[row]], partners.pixels[partners.index[row]]
            rng = _random(seed, kind, samples.digests[row])
            found = change(_Cell(pixels, _found(masks[row]), partner, _found(partner_masks[row]), rng))
            return np.round(np.clip(found, 0, 255)).astype(np.uint8)

        return [stress(kind, change) for kind, change in chosen.items()]

    with ThreadPoolExecutor(cores()) as pool:
        rows = list(pool.map(changed, range(len(samples))))
    shape, index = (len(samples), *samples.pixels.shape[1:]), np.arange(len(samples))
    pixels = {kind: np.array([row[at] for row in rows], np.uint8).reshape(shape) for at, kind in enumerate(chosen)}
    return {
        kind: replace(samples, pixels=of, index=index, made=f"{samples.made} {kind} {seed}")
        for kind, of in pixels.items()
    }


def _cut_out(samples: ImageSamples) -> bool:
    """Return whether most images are cells on black, of some that are spread over all."""
    some = samples.index[:: max(1, len(samples) // _ASKED)]
    return bool(np.mean([is_framed(samples.pixels[row]) for row in some]) > 0.5)


def _random(seed: int, purpose: str, digest: str) -> np.random.Generator:
    drawn = hashlib.sha256(f"{seed} {purpose} {digest}".encode()).digest()
    return np.random.default_rng(int.from_bytes(drawn))


def _partners(samples: ImageSamples, others: ImageSamples, seed: int) -> np.ndarray:
    """Return for each sample a row of ``others`` of another class and another source, if there is any."""
    table = others.table[["target", "subject_id", "sample_id", "digest"]].reset_index(names="row")
    table["source"] = table["subject_id"].fillna(table["sample_id"]).astype(str)
    table = table.sort_values(["target", "source", "digest", "sample_id"])
    of_class = {
        target: {source: rows["row"].to_numpy() for source, rows in of.groupby("source")}
        for target, of in table.groupby("target")
    }
    own = samples.table["subject_id"].fillna(samples.table["sample_id"]).astype(str)
    chosen = []
    for target, digest, source in zip(samples.target.tolist(), samples.digests, own, strict=True):
        rng = _random(seed, "partner", digest)
        classes = [of_class[other] for other in of_class if other != target] or list(of_class.values())
        elsewhere = [[rows for name, rows in of.items() if name != source] for of in classes]
        sources = [of for of in elsewhere if of] or [list(of.values()) for of in classes]
        of_one = sources[rng.integers(len(sources))]
        chosen.append(rng.choice(of_one[rng.integers(len(of_one))]))
    return np.array(chosen, dtype=np.int64)


def _found(mask: np.ndarray) -> np.ndarray:
    """Return a mask, or that of a disk in the middle if there is no cell."""
    if mask.any():
        return mask
    y, x = np.indices(mask.shape) - (len(mask) - 1) / 2
    return np.where(np.hypot(y, x) <= _NO_CELL * len(mask), CYTOPLASM, OUTSIDE).astype(np.uint8)


def _soft(inside: np.ndarray) -> np.ndarray:
    """Return 1 inside and a linear descent to 0 outside of it, ``(size, size, 1)``."""
    away = ndimage.distance_transform_edt(~inside)
    return np.clip(1 - away / (_EDGE * len(inside) + 1), 0, 1)[..., None]


def _empty(cell: _Cell) -> np.ndarray:
    """Return the partner's slide, whose cell is filled with the color of the background."""
    size = len(cell.partner)
    hole = ndimage.binary_dilation(cell.partner_mask != OUTSIDE, iterations=max(1, round(_HALO * size)))
    green = cell.partner[..., 1]
    outside = ~hole if not hole.all() else hole
    light = outside & (green >= np.quantile(green[outside], 0.5))
    drawn = cell.partner[light][cell.rng.integers(light.sum(), size=hole.shape)].astype(float)
    grain = ndimage.gaussian_filter(drawn - drawn.mean(axis=(0, 1)), (1, 1, 0))
    soft = _soft(hole)
    return soft * (np.median(cell.partner[light], axis=0) + grain) + (1 - soft) * cell.partner


def _slide(cell: _Cell) -> np.ndarray:
    return _pasted(_relit(cell), cell.mask != OUTSIDE, cell)


def _border(cell: _Cell) -> np.ndarray:
    size = len(cell.pixels)
    away = np.abs(np.arange(size) - (size - 1) / 2)
    central = np.maximum(away[:, None], away) <= _CENTER * size / 2
    return _pasted(_relit(cell), central | (cell.mask != OUTSIDE), cell)


def _slide_and_stain(cell: _Cell) -> np.ndarray:
    return _pasted(_stain(cell), cell.mask != OUTSIDE, cell)


def _pasted(pixels: np.ndarray, inside: np.ndarray, cell: _Cell) -> np.ndarray:
    soft = _soft(inside)
    return soft * np.clip(pixels, 0, 255) + (1 - soft) * _empty(cell)


def _relit(cell: _Cell) -> np.ndarray:
    """Return the image in the partner's light: cytoplasm in another light than its slide is of no real color."""
    own, partner = _density(cell.pixels), _density(cell.partner)
    light, partner_light = _lights(cell, own, partner)
    return _off_frame(cell, _pixels(own - light + partner_light))


def _stain(cell: _Cell) -> np.ndarray:
    """Bring the background's moments (Reinhard et al., 2001), the light and the nucleus' color to the partner's."""
    own, partner = _density(cell.pixels), _density(cell.partner)
    light, partner_light = _lights(cell, own, partner)
    strength = (partner - partner_light)[_stained(cell.partner_mask)].mean(axis=0)
    strength /= np.maximum((own - light)[_stained(cell.mask)].mean(axis=0), 1e-3)
    inside, background = (own - light) * np.clip(strength, *_SPREAD) + partner_light, own
    outside, partner_outside = _outside(cell)
    if outside.any() and partner_outside.any():
        spread = partner[partner_outside].std(axis=0) / np.maximum(own[outside].std(axis=0), 1e-3)
        background = (own - own[outside].mean(axis=0)) * np.clip(spread, *_SPREAD)
        background = background + partner[partner_outside].mean(axis=0)
    soft = _soft(cell.mask != OUTSIDE)
    return _off_frame(cell, _pixels(soft * inside + (1 - soft) * background))


def _density(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(-np.log((pixels.astype(np.float32) + 1) / 256))


def _pixels(density: np.ndarray) -> np.ndarray:
    return np.asarray(256 * np.exp(-density) - 1)


def _outside(cell: _Cell) -> tuple[np.ndarray, np.ndarray]:
    """Return where the slides of an image and of its partner are seen."""
    own = (cell.mask == OUTSIDE) & ~frame(cell.pixels)
    return own, (cell.partner_mask == OUTSIDE) & ~frame(cell.partner)


def _lights(cell: _Cell, own: np.ndarray, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the densities of what absorbs least on the slides of an image and of its partner; 0 where one has none."""
    outside, partner_outside = _outside(cell)
    if not (outside.any() and partner_outside.any()):
        return np.zeros(3), np.zeros(3)
    return np.quantile(own[outside], 0.1, axis=0), np.quantile(partner[partner_outside], 0.1, axis=0)


def _stained(mask: np.ndarray) -> np.ndarray:
    """Return the nucleus, or the cell where none was found."""
    return np.asarray(mask == NUCLEUS if (mask == NUCLEUS).any() else mask != OUTSIDE)


def _off_frame(cell: _Cell, changed: np.ndarray) -> np.ndarray:
    return np.where(frame(cell.pixels)[..., None], cell.pixels, changed)


def _factor(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a factor near one of the ends, each as often."""
    end = low if rng.random() < 0.5 else high
    return float(1 + (end - 1) * rng.uniform(_WEAKEST, 1))


def _brightness(cell: _Cell) -> np.ndarray:
    return _off_frame(cell, cell.pixels * _factor(cell.rng, *_BRIGHTNESS))


def _blur(cell: _Cell) -> np.ndarray:
    seen = (~frame(cell.pixels)[..., None]).astype(np.float32)
    sigma = (_BLUR * len(cell.pixels),) * 2 + (0,)
    blurred, weight = (ndimage.gaussian_filter(of, sigma) for of in (cell.pixels * seen, seen))
    return _off_frame(cell, blurred / np.maximum(weight, 1e-6))


def _jpeg(cell: _Cell) -> np.ndarray:
    image, size = Image.fromarray(cell.pixels), (max(len(cell.pixels), _JPEG_SIDE),) * 2
    file = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=_JPEG_QUALITY)
    return _off_frame(cell, np.asarray(Image.open(file).resize(image.size, Image.Resampling.BICUBIC)))


def _magnification(cell: _Cell) -> np.ndarray:
    """Zoom in where the cell stays whole, or out, and mirror what is missing; a black frame is continued."""
    size, factor = len(cell.pixels), _factor(cell.rng, *_MAGNIFICATION)
    reach = np.abs(np.argwhere(cell.mask != OUTSIDE) - (size - 1) / 2).max() + 1
    if factor > 1 and reach * factor > size / 2:
        factor = _MAGNIFICATION[0]
    pad = int(np.ceil(max(0.0, size / factor - size) / 2))
    padded = np.pad(cell.pixels, ((pad, pad), (pad, pad), (0, 0)), "constant" if is_framed(cell.pixels) else "reflect")
    middle, half = len(padded) / 2, size / factor / 2
    box = (middle - half, middle - half, middle + half, middle + half)
    return np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.BICUBIC, box=box))


def _noise(cell: _Cell) -> np.ndarray:
    return _off_frame(cell, cell.pixels + cell.rng.normal(0, _NOISE, cell.pixels.shape))


KINDS: dict[str, Callable[[_Cell], np.ndarray]] = {
    "slide": _slide,
    "border": _border,
    "stain": _stain,
    "slide_and_stain": _slide_and_stain,
    "brightness": _brightness,
    "blur": _blur,
    "jpeg": _jpeg,
    "magnification": _magnification,
    "noise": _noise,
}
_OF_SLIDES = ("slide", "border", "slide_and_stain")
