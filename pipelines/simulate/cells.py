"""Simulated images of stained cells in the raw format ``images``, not made from photographs.

A cell is drawn as amounts of what absorbs light (Beer and Lambert): basic azure in nuclei, acid eosin in cytoplasm, and
hemoglobin in red cells. Kinds of cells overlap, the stain differs between subjects, and more between laboratories.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter

from pipelines.samples.images import IMAGES_FOLDER, IMAGES_TABLE

SIDE = 96
_Y, _X = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
_AZURE = np.array([0.72, 0.80, 0.30])  # optical density in red, green and blue of one unit of the dye
_EOSIN = np.array([0.10, 0.52, 0.13])
_HEMOGLOBIN = np.array([0.10, 0.52, 0.33])  # with eosin, which it binds: more blue to green than any cytoplasm

Range = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How a kind of cell looks; each cell draws from the ranges."""

    radius: Range  # of the cell, in pixels
    nucleus: Range  # radius of the nucleus as a share of the cell's
    shapes: dict[str, float]  # of the nucleus, with their frequency: `round`, `indented`, or a number of lobes
    density: Range  # azure in the nucleus
    chromatin: Range  # how much it varies there (clumps)
    cytoplasm: tuple[Range, Range]  # azure and eosin
    granules: tuple[int, int] = (0, 0)  # number
    granule: tuple[float, float] = (0.0, 0.0)  # azure and eosin of one
    nucleoli: int = 0  # light spots in the nucleus, at most
    vacuoles: int = 0  # light spots in the cytoplasm, at most


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """How a laboratory stains, lights and photographs its smears; factors are on what is usual."""

    name: str = ""
    light: tuple[float, float, float] = (0.93, 0.93, 0.93)  # that passes the background, red, green and blue
    azure: tuple[float, float, float] = (1.0, 1.0, 1.0)  # density of nuclei, and its color
    eosin: float = 1.0
    hemoglobin: tuple[float, float, float] = (1.0, 1.0, 1.0)  # density of red cells, and their color
    magnification: float = 1.0  # 1 or more
    blur: Range = (0.3, 1.0)  # standard deviation in pixels
    quality: int = 85  # of the JPEG file


LABORATORIES = (
    Laboratory(name="A", light=(0.95, 0.92, 0.96)),
    Laboratory(
        name="B",
        light=(0.92, 0.89, 0.79),
        azure=(0.85, 0.75, 0.70),
        eosin=0.8,
        hemoglobin=(2.0, 1.35, 1.3),
        magnification=1.15,
        blur=(0.5, 1.1),
        quality=60,
    ),
)


@dataclass(frozen=True)
class Stain:
    """Optical densities of a unit of what is in a smear, and its light, in red, green and blue."""

    azure: np.ndarray
    eosin: np.ndarray
    hemoglobin: np.ndarray
    light: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, spread: float, laboratory: Laboratory = Laboratory()) -> Self:
        """Return the stain of a subject; ``spread`` is the relative deviation of what differs."""
        strength = rng.normal(1, spread, 2)
        azure = _AZURE * laboratory.azure * strength[0] * rng.normal(1, spread / 2, 3)
        dyed = strength[1] * rng.normal(1, spread / 2, 3)
        light = np.clip(laboratory.light + rng.normal(0, spread / 5, 3), 0.7, 1)
        return cls(azure, _EOSIN * laboratory.eosin * dyed, _HEMOGLOBIN * laboratory.hemoglobin * dyed, light)

    def transmit(self, azure: np.ndarray, eosin: np.ndarray, hemoglobin: np.ndarray) -> np.ndarray:
        """Return the light that passes the amounts, shape ``(SIDE, SIDE, 3)``."""
        amounts, units = (azure, eosin, hemoglobin), (self.azure, self.eosin, self.hemoglobin)
        density = sum(amount[..., None] * unit for amount, unit in zip(amounts, units, strict=True))
        return np.asarray(self.light * 10**-density)


BLOOD_CELLS = {
    "basophil": Look(
        (23, 29), (0.60, 0.74), {"indented": 0.4, "2": 0.6}, (0.75, 0.95), (0.10, 0.20),
        ((0.10, 0.22), (0.20, 0.35)), granules=(40, 100), granule=(0.75, 0.1),
    ),
    "erythroblast": Look(
        (16, 22), (0.55, 0.72), {"round": 1.0}, (0.95, 1.30), (0.08, 0.22), ((0.12, 0.40), (0.25, 0.45)),
    ),
    "monocyte": Look(
        (25, 34), (0.60, 0.76), {"indented": 0.9, "round": 0.1}, (0.60, 0.82), (0.14, 0.26),
        ((0.20, 0.34), (0.10, 0.20)), granules=(0, 15), granule=(0.06, 0.1), vacuoles=5,
    ),
    "myeloblast": Look(
        (23, 33), (0.75, 0.88), {"round": 0.93, "indented": 0.07}, (0.62, 0.85), (0.03, 0.11),
        ((0.28, 0.44), (0.05, 0.15)), granules=(0, 4), granule=(0.3, 0.2), nucleoli=3,
    ),
    "seg_neutrophil": Look(
        (22, 30), (0.52, 0.66), {"2": 0.1, "3": 0.4, "4": 0.35, "5": 0.15}, (0.80, 1.05), (0.10, 0.22),
        ((0.04, 0.12), (0.15, 0.30)), granules=(30, 90), granule=(0.08, 0.14),
    ),
}  # fmt: skip
LYMPHOID_CELLS = {
    "all": Look(
        (22, 29), (0.80, 0.92), {"round": 0.7, "indented": 0.3}, (0.60, 0.85), (0.04, 0.14),
        ((0.22, 0.40), (0.05, 0.15)), nucleoli=2, vacuoles=2,
    ),
    "hem": Look(
        (19.5, 26.5), (0.76, 0.90), {"round": 0.8, "indented": 0.2}, (0.65, 0.95), (0.09, 0.20),
        ((0.18, 0.36), (0.05, 0.18)), nucleoli=1, vacuoles=1,
    ),
}  # fmt: skip


def simulate_blood_cell(
    folder: Path, per_class: int = 40, subjects: int = 12, seed: int = 7, laboratories: str = "one"
) -> None:
    """Write a raw folder of the task ``blood_cell``: five kinds of cells among red cells.

    ``laboratories`` is ``one``; ``confounded``: the first three kinds are of one laboratory, the others of another; or
    ``both``: half of the cells of each kind are of either.
    """
    rows = []
    for code, (label, look) in enumerate(BLOOD_CELLS.items()):
        for number in range(per_class):
            rng = np.random.default_rng([seed, 1, code, number])
            subject, known = number % subjects, number % 3 > 0
            of = {"one": -1, "confounded": int(code > 2), "both": number // subjects % 2}[laboratories]
            laboratory = Laboratory() if of < 0 else LABORATORIES[of]
            stain = Stain.draw(np.random.default_rng([seed, 0, subject]), 0.08, laboratory)
            file = f"{label}/SIM_{label}_{number + 1:03d}.jpg"
            _save(folder / IMAGES_FOLDER / file, _smear(look, stain, rng, laboratory), laboratory.quality)
            own = (file, label, f"SIM-{laboratory.name}{subject + 1:02d}" if known else "")
            rows.append(own if of < 0 else (*own, laboratory.name))
    _list(folder, rows)


def simulate_leukemia_cell(folder: Path, subjects: int = 24, per_subject: int = 12, seed: int = 7) -> None:
    """Write a raw folder of the task ``leukemia_cell``: segmented cells on black; a seed gives the same bytes."""
    rows = []
    for subject in range(subjects):
        label = "all" if subject % 5 in (0, 2, 4) else "hem"
        rng = np.random.default_rng([seed, 2, subject])
        stain, own = Stain.draw(rng, 0.10), _shifted(LYMPHOID_CELLS[label], rng)
        images = per_subject // 2 + per_subject * (subjects - 1 - subject) // max(1, subjects - 1)
        for number in range(images):
            file = f"{label}/SIM_{subject + 1:02d}_{number + 1:02d}_{label}.jpg"
            cell = _segmented(own, stain, np.random.default_rng([seed, 3, subject, number]))
            _save(folder / IMAGES_FOLDER / file, cell)
            rows.append((file, label, f"SIM-{subject + 1:02d}"))
    _list(folder, rows)


def _shifted(look: Look, rng: np.random.Generator) -> Look:
    """Return the look of one subject's cells."""
    ranges: dict[str, Any] = {}
    for name, spread in (("radius", 1.5), ("nucleus", 0.02), ("density", 0.08)):
        by = rng.normal(0, spread)
        ranges[name] = tuple(bound + by for bound in getattr(look, name))
    low, high = look.chromatin
    return replace(look, **ranges, chromatin=(low, high + abs(rng.normal(0, 0.03))))


def _smear(look: Look, stain: Stain, rng: np.random.Generator, laboratory: Laboratory = Laboratory()) -> np.ndarray:
    """Return a cell in the middle of red cells."""
    azure, eosin = np.full((2, SIDE, SIDE), 0.02)
    hemoglobin = np.zeros((SIDE, SIDE))
    shift = rng.uniform(-5, 5, 2)
    for _ in range(rng.integers(2, 8)):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(36, 66)
        center = (shift[0] + far * np.sin(angle), shift[1] + far * np.cos(angle))
        radius = rng.uniform(13, 17)
        disk, pallor = _blob(center, radius, rng, 0.03), _blob(center, radius * 0.45, rng, 0.05, soft=4)
        hemoglobin = _over(hemoglobin, disk, rng.uniform(0.35, 0.5) * (1 - 0.45 * pallor))
    azure, eosin, cell = _draw(look, tuple(shift), azure, eosin, rng)
    return _photograph(stain.transmit(azure, eosin, hemoglobin * (1 - cell)), rng, laboratory)


def _segmented(look: Look, stain: Stain, rng: np.random.Generator) -> np.ndarray:
    """Return a cell cut out and put on black."""
    nothing = np.zeros((SIDE, SIDE))
    azure, eosin, cell = _draw(look, (0.0, 0.0), nothing, nothing, rng)
    photograph = _photograph(stain.transmit(azure, eosin, nothing), rng)
    return photograph * (cell > 0.5)[..., None]


def _draw(
    look: Look, center: tuple[float, ...], azure: np.ndarray, eosin: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a cell over amounts of both dyes; return them and the cell's mask, each of shape ``(SIDE, SIDE)``."""
    radius = rng.uniform(*look.radius)
    cell = _blob(center, radius, rng, 0.05)
    shape = str(rng.choice(list(look.shapes), p=np.array(list(look.shapes.values()))))
    size = radius * rng.uniform(*look.nucleus)
    away = rng.uniform(0, 0.7) * (radius - size)
    angle = rng.uniform(0, 2 * np.pi)
    middle = (center[0] + away * np.sin(angle), center[1] + away * np.cos(angle))
    nucleus = _nucleus(shape, middle, size, rng) * cell

    mottled = 1 + 0.12 * _noise(rng, 2.0)
    azure = _over(azure, cell, rng.uniform(*look.cytoplasm[0]) * mottled)
    eosin = _over(eosin, cell, rng.uniform(*look.cytoplasm[1]) * mottled)
    for _ in range(rng.integers(0, look.vacuoles + 1)):
        hole = 0.7 * _blob(_within(center, radius * 0.85, rng), rng.uniform(1.2, 2.6), rng, 0.05) * cell
        azure, eosin = _over(azure, hole, 0.05), _over(eosin, hole, 0.05)
    clumps = 1 + rng.uniform(*look.chromatin) * (_noise(rng, 1.2) + _noise(rng, 2.5))
    azure = _over(azure, nucleus, rng.uniform(*look.density) * clumps)
    eosin = _over(eosin, nucleus, 0.35)
    for _ in range(rng.integers(0, look.nucleoli + 1)):
        spot = 0.5 * _blob(_within(middle, size * 0.7, rng), rng.uniform(2.0, 3.6), rng, 0.1) * nucleus
        azure = _over(azure, spot, 0.35)
    for _ in range(rng.integers(look.granules[0], look.granules[1] + 1)):
        grain = _blob(_within(center, radius * 0.95, rng), rng.uniform(0.6, 1.5), rng, 0.0) * cell
        azure, eosin = azure + look.granule[0] * grain * rng.uniform(0.4, 1), eosin + look.granule[1] * grain
    return azure, eosin, cell


def _nucleus(shape: str, center: tuple[float, float], size: float, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)

    def at(far: float, turn: float) -> tuple[float, float]:
        return center[0] + far * np.sin(angle + turn), center[1] + far * np.cos(angle + turn)

    if shape == "round":
        return _blob(center, size, rng, 0.04)
    if shape == "indented":
        bay = _blob(at(size * rng.uniform(0.75, 1.1), 0), size * rng.uniform(0.35, 0.65), rng, 0.08)
        return _blob(center, size * 1.05, rng, 0.07) * (1 - bay)
    lobes = int(shape)
    # Along an arc; a thread joins each lobe with the one before.
    turns = np.arange(lobes) * rng.uniform(1.1, 1.7) + rng.normal(0, 0.12, lobes)
    centers = [at(size * rng.uniform(0.5, 0.75), turn) for turn in turns]
    radius = size * (0.78 if lobes == 2 else 1.3 / lobes**0.75)
    mask = np.zeros((SIDE, SIDE))
    for number, here in enumerate(centers):
        mask = np.maximum(mask, _blob(here, radius * rng.uniform(0.8, 1.15), rng, 0.12))
        for share in np.linspace(0.2, 0.8, 4) if number else ():
            before = centers[number - 1]
            between = (here[0] * share + before[0] * (1 - share), here[1] * share + before[1] * (1 - share))
            mask = np.maximum(mask, _blob(between, rng.uniform(1.4, 2.2), rng, 0.0))
    return mask


def _blob(
    center: tuple[float, ...], radius: float, rng: np.random.Generator, wobble: float, soft: float = 0.7
) -> np.ndarray:
    """Return the mask of a disk whose radius varies with the direction, from 0 to 1 over a soft edge."""
    y, x = _Y - center[0], _X - center[1]
    direction = np.arctan2(y, x)
    edge = np.ones_like(y)
    if wobble:
        for waves in (2, 3, 4, 5):
            edge += rng.normal(0, wobble / np.sqrt(waves)) * np.cos(waves * direction + rng.uniform(0, 2 * np.pi))
    return 1 / (1 + np.exp(np.clip((np.hypot(y, x) - radius * edge) / soft, -30, 30)))


def _within(center: tuple[float, ...], radius: float, rng: np.random.Generator) -> tuple[float, float]:
    angle, far = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random())
    return center[0] + far * np.sin(angle), center[1] + far * np.cos(angle)


def _over(below: np.ndarray, mask: np.ndarray, amount: np.ndarray | float) -> np.ndarray:
    return below * (1 - mask) + amount * mask


def _noise(rng: np.random.Generator, scale: float) -> np.ndarray:
    smooth = gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), scale)
    return smooth / smooth.std()


def _photograph(light: np.ndarray, rng: np.random.Generator, laboratory: Laboratory = Laboratory()) -> np.ndarray:
    """Return the light out of focus to a degree, with noise, from 0 to 255."""
    if (scale := laboratory.magnification) > 1:
        middle = (SIDE - 1) / 2 * (1 - 1 / scale)
        light = affine_transform(light, [1 / scale, 1 / scale, 1], (middle, middle, 0), order=1)
    blurred = gaussian_filter(light, (*[rng.uniform(*laboratory.blur)] * 2, 0))
    return np.clip(255 * (blurred * rng.normal(1, 0.04) + rng.normal(0, 0.01, light.shape)), 0, 255)


def _save(path: Path, picture: np.ndarray, quality: int = 85) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without subsampling: color that bleeds off the cell would show its size.
    Image.fromarray(np.round(picture).astype(np.uint8)).save(path, quality=quality, subsampling=0)


def _list(folder: Path, rows: Sequence[tuple[str, ...]]) -> None:
    columns = ["file", "label", "subject_id", "laboratory"][: len(rows[0])]
    table = pd.DataFrame(rows, columns=columns).sort_values("file")
    table.assign(simulated="true").to_csv(folder / IMAGES_TABLE, index=False)
