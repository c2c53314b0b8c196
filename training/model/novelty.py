"""The novelty of an input: a score of its distance from the training rows, and a threshold."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.utils.extmath import randomized_svd

from training.model.calibration import quantile_of_groups

SHARE = 0.01  # of known inputs beyond the threshold
ROWS = 2_000  # training rows that are used, at most
_LEAST = 5  # different rows that a view needs
_FOLDS = 5
_FEW = 8  # molecules, for which unpacking those of the training would take longer than the answer
_COMPONENTS = 20
_NEAREST = 5  # training rows, whose distance counts; several modes, such as classes, need no model of their own
_DIRECTIONS = 32  # principal components of an embedding
_CLIP = 6.0  # robust standard deviations beyond which a training row does not stretch the covariance further

Kind = Literal["summary", "profile", "fingerprint", "neighbors", "embedding"]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class View:
    """One side of the inputs: a few correlated numbers, many numbers, zeros and ones, or features of a network."""

    kind: Kind
    values: np.ndarray  # a row of each different input, NaN where the side is not known
    index: np.ndarray  # row of each input, ``(n,)``

    def take(self, rows: np.ndarray) -> "View":
        """Return the view of the inputs at ``rows``, with only their values."""
        used, index = np.unique(self.index[rows], return_inverse=True)
        return View(self.kind, self.values[used], index)


Views = Mapping[str, View]


@dataclass(frozen=True)
class Part:
    """The fitted measure of one view; `SHARE` of the scores of held-out training rows exceed ``scales``."""

    view: str
    kind: Kind
    scales: tuple[float, ...]
    arrays: Arrays

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Return the scores of values in units of the scales; NaN where values are not known."""
        return (_MEASURES[self.kind][1](self.arrays, values) / np.array(self.scales)).max(axis=1)


@dataclass(frozen=True)
class Novelty:
    """A fitted score, 0 without parts; an input whose score exceeds ``threshold`` is out of distribution."""

    parts: tuple[Part, ...]
    threshold: float

    def scores(self, views: Views) -> np.ndarray:
        """Return the score of each input, float64, shape ``(n,)``: the largest of `by_view`."""
        return largest(self.by_view(views), len(next(iter(views.values())).index) if views else 0)

    def by_view(self, views: Views) -> dict[str, np.ndarray]:
        """Return the score of each input in each fitted view, ``(n,)``; NaN where the view does not know the input.

        Of training rows that were held out, `SHARE` have a score above 1.
        """
        return {part.view: part.scores(views[part.view].values)[views[part.view].index] for part in self.parts}

    def save(self, folder: Path) -> None:
        """Write ``novelty.json`` and ``novelty.npz``: text and plain arrays."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = [{"view": part.view, "kind": part.kind, "scales": list(part.scales)} for part in self.parts]
        content = {"threshold": self.threshold, "parts": parts}
        (folder / "novelty.json").write_text(json.dumps(content), encoding="utf-8")
        arrays: dict[str, Any] = {
            f"{number}.{name}": array for number, part in enumerate(self.parts) for name, array in part.arrays.items()
        }
        np.savez(folder / "novelty.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        content = json.loads((folder / "novelty.json").read_text(encoding="utf-8"))
        owns: list[Arrays] = [{} for _ in content["parts"]]
        with np.load(folder / "novelty.npz", allow_pickle=False) as stored:
            for name in stored.files:
                number, _, own = name.partition(".")
                owns[int(number)][own] = stored[name]
        both = zip(content["parts"], owns, strict=True)
        parts = tuple(Part(part["view"], part["kind"], tuple(part["scales"]), own) for part, own in both)
        return cls(parts, content["threshold"])


def largest(by_view: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """Return the largest score of each of ``count`` inputs, 0 where no view knows it."""
    return np.asarray(np.fmax.reduce([np.zeros(count), *by_view.values()]))


def some(rows: np.ndarray) -> np.ndarray:
    """Return at most `ROWS` of ``rows``, drawn with a fixed seed, in their order."""
    if len(rows) <= ROWS:
        return rows
    return rows[np.sort(np.random.default_rng(0).choice(len(rows), ROWS, replace=False))]


def fit_novelty(views: Views, folds: np.ndarray, groups: np.ndarray) -> Novelty:
    """Fit the score on training rows, and its threshold: the larger of those of left-out ``folds`` and fitted rows."""
    fits = {name: arrays for name, view in views.items() if (arrays := _fit_view(view)) is not None}
    parts = tuple(Part(name, views[name].kind, _scales(views[name]), arrays) for name, arrays in fits.items())
    if not parts:
        return Novelty((), 0.0)
    scores = np.full(len(folds), np.nan)
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds != fold)
        refitted = {name: _fit_view(view.take(inside)) for name, view in views.items()}
        known = tuple(Part(p.view, p.kind, p.scales, refitted[p.view] or p.arrays) for p in parts)
        outside = np.flatnonzero(folds == fold)
        scores[outside] = Novelty(known, 0.0).scores({name: v.take(outside) for name, v in views.items()})
    # Components of few rows and many columns follow the rows' own noise: along them these rows lie farther out than new
    # rows do, and would be called novel.
    found = [1.0]
    for each in (scores, Novelty(parts, 0.0).scores(views)):
        if (known := np.isfinite(each)).any():
            found.append(min(quantile_of_groups(each[known], groups[known], 1 - SHARE), each[known].max()))
    return Novelty(parts, float(max(found)))


def _known(view: View) -> np.ndarray:
    used = view.values[np.unique(view.index)]
    return used[np.isfinite(used).any(axis=1)] if used.shape[1] else used[:0]


def _fit_view(view: View) -> Arrays | None:
    known = _known(view)
    return _MEASURES[view.kind][0](known) if len(known) >= _LEAST else None


def _scales(view: View) -> tuple[float, ...]:
    """Return the scores that `SHARE` of held-out values exceed."""
    fit, score = _MEASURES[view.kind]
    values = _known(view)
    fold = np.random.default_rng(0).permutation(len(values)) % _FOLDS
    fits = [(fit(values[fold != each]), values[fold == each]) for each in range(_FOLDS)]
    scores = np.concatenate([score(arrays, left_out) for arrays, left_out in fits if arrays is not None])
    return tuple(np.maximum(np.nanquantile(scores, 1 - SHARE, axis=0, method="higher"), 1e-9).tolist())


def _fit_distance(values: np.ndarray) -> Arrays | None:
    """Fit medians, robust spreads, and a covariance shrunk as by Ledoit and Wolf (2004)."""
    center = np.nanmedian(values, axis=0)
    low, high = np.nanquantile(values, [0.25, 0.75], axis=0)
    spread = (high - low) / 1.349
    # Counts are often the same in most rows, and columns that never varied have no spread.
    spread = np.where(spread > 0, spread, np.nanstd(values, axis=0))
    varies = np.isfinite(spread) & (spread > 1e-9)
    if not varies.any():
        return None
    z = np.nan_to_num((values[:, varies] - center[varies]) / spread[varies])
    covariance, _ = ledoit_wolf(np.clip(z, -_CLIP, _CLIP), assume_centered=True)
    found = {"columns": np.flatnonzero(varies), "center": center[varies], "spread": spread[varies]}
    return {**found, "precision": np.linalg.pinv(covariance, hermitian=True)}


def _distance(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values).any(axis=1)
    z = np.nan_to_num((values[:, arrays["columns"]] - arrays["center"]) / arrays["spread"])
    squared = np.einsum("ij,jk,ik->i", z, arrays["precision"], z)
    return _column(known, np.sqrt(np.maximum(squared, 0) / len(arrays["columns"])))


def _fit_neighbors(values: np.ndarray) -> Arrays | None:
    """Fit `_fit_distance`, and keep the rows where this distance is Euclidean."""
    if (found := _fit_distance(values)) is None:
        return None
    size, axes = np.linalg.eigh(found["precision"])
    found["whiten"] = axes * np.sqrt(np.maximum(size, 0))
    return {**found, "rows": _whitened(found, values)}


def _whitened(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    z = np.nan_to_num((values[:, arrays["columns"]] - arrays["center"]) / arrays["spread"])
    # Not a product of matrices, whose last digits depend on how many images are asked about at once.
    return np.asarray(np.einsum("ij,jk->ik", z, arrays["whiten"]))


def _neighbors(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values).any(axis=1)
    return _column(known, _to_nearest(arrays["rows"], _whitened(arrays, values)))


def _fit_embedding(values: np.ndarray) -> Arrays | None:
    """Fit principal components of standardized columns, and keep the rows' directions (Sun et al., 2022)."""
    center, spread = values.mean(axis=0), values.std(axis=0)
    varies = spread > 1e-6
    if not varies.any():
        return None
    z = ((values[:, varies] - center[varies]) / spread[varies]).astype(np.float32)
    count = min(_DIRECTIONS, *z.shape)
    _, _, rotation = randomized_svd(z, n_components=count, random_state=0)
    found = {"center": center[varies], "spread": spread[varies], "rotation": rotation}
    arrays = {"columns": np.flatnonzero(varies), **{key: array.astype(np.float32) for key, array in found.items()}}
    return {**arrays, "rows": _direction(arrays, values)}


def _direction(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    along = ((values[:, arrays["columns"]] - arrays["center"]) / arrays["spread"]) @ arrays["rotation"].T
    return along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)


def _embedding(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    """Return the odds against the cosine of the angle to the nearest rows."""
    unlike = _to_nearest(arrays["rows"], _direction(arrays, values)) ** 2 / 2
    return _column(np.isfinite(values).all(axis=1), unlike / np.maximum(2.05 - unlike, 0.05))


def _to_nearest(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the distance of each of ``values`` to the last of its `_NEAREST` rows."""
    far = cdist(np.nan_to_num(values), rows)
    nearest = min(_NEAREST, len(rows)) - 1
    return np.asarray(np.partition(far, nearest, axis=1)[:, nearest])


def _fit_components(values: np.ndarray) -> Arrays | None:
    """Fit principal components of standardized columns, and the spread of rows along them."""
    center, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    varies = np.isfinite(spread) & (spread > 1e-6)
    if not varies.any():
        return None
    spread = np.maximum(spread[varies], 0.1 * np.median(spread[varies]))  # a gene that hardly moves is mostly noise
    z = np.nan_to_num((values[:, varies] - center[varies]) / spread).astype(np.float32)
    count = max(1, min(_COMPONENTS, len(z) // _FOLDS, z.shape[1] // 2))
    _, size, rotation = randomized_svd(z, n_components=count, random_state=0)
    found = {"center": center[varies], "spread": spread, "rotation": rotation}
    found["size"] = np.maximum(size / math.sqrt(len(z)), 1e-6)
    return {"columns": np.flatnonzero(varies), **{name: array.astype(np.float32) for name, array in found.items()}}


def _components(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    """Return the distance along the components (Hotelling's T) and off them (Jackson and Mudholkar, 1979)."""
    columns = arrays["columns"]
    part = values if len(columns) == values.shape[1] else values[:, columns]
    known = np.isfinite(part).any(axis=1)
    z = np.nan_to_num((part - arrays["center"]) / arrays["spread"])
    scores = z @ arrays["rotation"].T
    along = np.sqrt(np.mean((scores / arrays["size"]) ** 2, axis=1))
    left = np.maximum((z**2).sum(axis=1) - (scores**2).sum(axis=1), 0)
    off = np.sqrt(left / z.shape[1]) if len(arrays["rotation"]) < z.shape[1] else np.zeros(len(z))
    return np.hstack([_column(known, along), _column(known, off)])


def _fit_neighbor(values: np.ndarray) -> Arrays | None:
    return {"bits": np.packbits(values > 0, axis=1), "length": np.array(values.shape[1])}


def _neighbor(arrays: Arrays, values: np.ndarray) -> np.ndarray:
    """Return the odds against the Tanimoto similarity of the nearest training molecule."""
    known = np.isfinite(values).any(axis=1)
    if not 0 < len(values) <= _FEW:
        theirs = np.unpackbits(arrays["bits"], axis=1, count=int(arrays["length"])).astype(np.float32)
        own = (np.nan_to_num(values) > 0).astype(np.float32)
        shared = own @ theirs.T
        union = own.sum(axis=1)[:, None] + theirs.sum(axis=1)[None, :] - shared
    else:
        shared, union = (
            np.array(
                [np.bitwise_count(join(own, arrays["bits"])).sum(axis=1) for own in np.packbits(values > 0, axis=1)]
            )
            for join in (np.bitwise_and, np.bitwise_or)
        )
    similarity = (shared.astype(np.float32) / np.maximum(union, 1).astype(np.float32)).max(axis=1)
    return _column(known, (1 - similarity) / (similarity + 0.05))


def _column(known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.where(known, scores.astype(np.float64), np.nan)[:, None]


# The fit of each kind of view, and its scores, shape (n, scores).
_MEASURES: dict[Kind, tuple[Callable[[np.ndarray], Arrays | None], Callable[[Arrays, np.ndarray], np.ndarray]]] = {
    "summary": (_fit_distance, _distance),
    "profile": (_fit_components, _components),
    "fingerprint": (_fit_neighbor, _neighbor),
    "neighbors": (_fit_neighbors, _neighbors),
    "embedding": (_fit_embedding, _embedding),
}
