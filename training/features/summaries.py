"""Summaries of inputs in a few numbers, for novelty, the prediction log and monitoring; inputs cannot be recovered."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors
from scipy.ndimage import laplace
from skimage.filters import threshold_otsu
from sklearn.utils.extmath import randomized_svd

from pipelines.samples.molecules import parent, parse

PANELS, PANEL_GENES = 8, 20
_SIDE = 112  # pixels to which a larger image is averaged before its spectrum is taken
_BANDS = 4  # octaves of spatial frequency, the finest last


IMAGE_COLUMNS = [
    *("brightness", "contrast", "saturation", "saturation_spread"),
    *("red", "green", "blue", "red_spread", "green_spread", "blue_spread"),
    *("sharpness", "foreground", "center", "edge", "dark", "bright"),
    *(f"band_{number}" for number in range(1, _BANDS + 1)),
]


def image_numbers(pixels: np.ndarray) -> list[float]:
    """Return `IMAGE_COLUMNS` of an RGB image, uint8, ``(size, size, 3)``; sharpness by Pech-Pacheco et al., 2000."""
    channels = pixels.reshape(-1, 3).astype(np.float32) / 255
    planes = np.ascontiguousarray(channels.T)  # over which NumPy is ten times as fast
    gray = planes.mean(axis=0)
    square = gray.reshape(pixels.shape[:2])
    saturation = planes.max(axis=0) - planes.min(axis=0)
    side = square.shape[0]
    quarter = max(1, side // 4)
    middle = square[quarter : side - quarter, quarter : side - quarter]
    frame = np.concatenate([square[:2].ravel(), square[-2:].ravel(), square[:, :2].ravel(), square[:, -2:].ravel()])
    cut = threshold_otsu(square) if square.min() < square.max() else square.min()
    return [
        float(value)
        for value in (
            *(gray.mean(), gray.std(), saturation.mean(), saturation.std()),
            *planes.mean(axis=1),
            *planes.std(axis=1),
            *(np.log(laplace(square).var() + 1e-6), (square <= cut).mean(), middle.mean() - gray.mean()),
            *(frame.mean() - gray.mean(), (gray < 0.06).mean(), (gray > 0.94).mean()),
            *_bands(square),
        )
    ]


def _bands(square: np.ndarray) -> list[float]:
    factor = max(1, square.shape[0] // _SIDE)
    side = square.shape[0] // factor * factor
    small = square[:side, :side].reshape(side // factor, factor, side // factor, factor).mean(axis=(1, 3))
    power = np.abs(np.fft.rfft2(small - small.mean())) ** 2 / small.size
    octave = _octaves(len(small))
    total = np.bincount(octave.ravel(), power.ravel(), minlength=_BANDS + 1)[1:]
    count = np.bincount(octave.ravel(), minlength=_BANDS + 1)[1:]
    return np.log(total / np.maximum(count, 1) + 1e-6).tolist()


@lru_cache(maxsize=4)
def _octaves(side: int) -> np.ndarray:
    """Return the octave of each frequency of `numpy.fft.rfft2`; 0 for the mean."""
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    with np.errstate(divide="ignore"):
        octave = np.floor(np.log2(np.minimum(radius, 0.499) / 0.5)) + 1 + _BANDS
    return np.where(radius == 0, 0, np.clip(octave, 1, _BANDS)).astype(np.int64)


def choose_panels(values: np.ndarray, genes: Sequence[str]) -> dict[str, list[str]]:
    """Return panels of correlated genes, by principal components of training profiles in log2 units ``(n, genes)``."""
    spread = np.nanstd(values, axis=0) if len(values) else np.zeros(len(genes))
    varies = np.isfinite(spread) & (spread > 1e-6)
    if len(values) < 3 or varies.sum() < 2:
        return {}
    z = (values[:, varies] - np.nanmean(values[:, varies], axis=0)) / spread[varies]
    names = np.array(genes, dtype=object)[varies]
    count = min(PANELS, len(z) - 1, z.shape[1])
    _, _, rotation = randomized_svd(np.nan_to_num(z), n_components=count, random_state=0)
    rotation *= np.where(rotation.sum(axis=1, keepdims=True) < 0, -1, 1)
    size = min(PANEL_GENES, max(1, len(names) // 2))
    return {
        f"panel_{number}": names[np.argsort(-row, kind="stable")[:size]].tolist()
        for number, row in enumerate(rotation, start=1)
    }


def profile_summary(values: np.ndarray, genes: Sequence[str], panels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return level, spread, shares and panel means of profiles ``(n, genes)``; NaN where nothing is known."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.maximum(count, 1)
    filled = np.where(known, values, 0).astype(np.float64)
    mean = filled.sum(axis=1) / total
    variance = np.maximum((filled**2).sum(axis=1) / total - mean**2, 0)
    numbers = {"level": mean, "spread": np.sqrt(variance), "detected": (filled > 0).sum(axis=1) / total}
    found = {name: np.where(count == 0, np.nan, number) for name, number in numbers.items()}
    found["missing"] = 1 - count / max(1, values.shape[1])
    place = {gene: column for column, gene in enumerate(genes)}
    for name, members in panels.items():
        columns = [place[gene] for gene in members if gene in place]
        inside = known[:, columns].sum(axis=1)
        found[name] = np.where(inside, filled[:, columns].sum(axis=1) / np.maximum(inside, 1), np.nan)
    return found


DRUG_COLUMNS: dict[str, Callable[[Any], float]] = {
    "molecular_weight": rdMolDescriptors._CalcMolWt,
    "log_p": lambda molecule: rdMolDescriptors.CalcCrippenDescriptors(molecule)[0],
    "polar_area": rdMolDescriptors.CalcTPSA,
    "hydrogen_donors": rdMolDescriptors.CalcNumHBD,
    "hydrogen_acceptors": rdMolDescriptors.CalcNumHBA,
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
    "rings": rdMolDescriptors.CalcNumRings,
    "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
    "sp3_carbons": rdMolDescriptors.CalcFractionCSP3,
    "heteroatoms": rdMolDescriptors.CalcNumHeteroatoms,
    "charge": Chem.GetFormalCharge,
}


@lru_cache(maxsize=8192)
def drug_numbers(smiles: str | None) -> tuple[float, ...]:
    """Return descriptors of a molecule, 11 numbers; NaN where it is not known."""
    molecule = parse(smiles) if isinstance(smiles, str) else None
    if molecule is None:
        return (float("nan"),) * len(DRUG_COLUMNS)
    return tuple(float(descriptor(molecule)) for descriptor in DRUG_COLUMNS.values())


def drug_summary(smiles: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Return `drug_numbers` of each, and ``drug``: a short hash of the molecule."""
    table = np.array([drug_numbers(each) for each in smiles]).reshape(-1, len(DRUG_COLUMNS))
    parents = [parent(each) if isinstance(each, str) else None for each in smiles]
    hashed = ["unknown" if each is None else hashlib.sha256(each.encode()).hexdigest()[:8] for each in parents]
    return {**dict(zip(DRUG_COLUMNS, table.T, strict=True)), "drug": np.array(hashed, dtype=object)}
