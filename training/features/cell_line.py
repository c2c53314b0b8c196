"""A cell line's omics tables and tissue as one row of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pipelines.samples import UNKNOWN


@dataclass
class _Table:
    """The affine map of one omics table: impute, keep, scale, and rotate where PCA is asked for.

    Attributes
    ----------
    names
        All features of the raw table, in its order.
    kept
        Positions of the features that pass the variance filter.
    fill
        Mean of every kept feature over the training lines; stands in where a value is missing.
    center, scale
        Of every kept feature.
    components
        Orthonormal columns, shape ``(len(kept), k)``; None without PCA.
    flagged
        Whether a column says that the line was not measured.
    """

    names: list[str]
    kept: np.ndarray
    fill: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    components: np.ndarray | None
    flagged: bool

    @property
    def width(self) -> int:
        return (len(self.kept) if self.components is None else self.components.shape[1]) + int(self.flagged)

    def scaled(self, table: pd.DataFrame) -> np.ndarray:
        """Return the kept features, imputed and scaled, shape ``(lines, len(kept))``."""
        values = _aligned(table, self.names)[:, self.kept]
        return (np.where(np.isnan(values), self.fill, values) - self.center) / self.scale

    def transform(self, table: pd.DataFrame) -> np.ndarray:
        values = self.scaled(table)
        if self.components is not None:
            values = values @ self.components
        if self.flagged:
            values = np.hstack([values, np.isnan(table.to_numpy(np.float64)).all(axis=1, keepdims=True)])
        return values


@dataclass
class CellLineFeatures:
    """Numbers that describe a cell line.

    Parameters
    ----------
    omics
        Tables that are used, in this order.
    scaling
        ``standard`` (zero mean, unit variance) or ``min_max`` (to 0..1), per feature over the training lines.
    keep_share
        Share of each table's features that is kept, the most variable first; features that do not vary never are.
    components
        Principal components a table is reduced to; 0 for none. Fewer where lines or features are fewer.
    """

    omics: tuple[str, ...]
    scaling: str = "standard"
    keep_share: float = 1.0
    components: int = 0
    tables: dict[str, _Table] = field(default_factory=dict)
    tissues: list[str] = field(default_factory=list)

    def fit(self, lines: pd.DataFrame, omics: dict[str, pd.DataFrame]) -> CellLineFeatures:
        """Fit on the cell lines of the training rows, and on no others."""
        self.tables = {name: self._fit_table(omics[name]) for name in self.omics}
        self.tissues = sorted(set(lines["tissue"]) - {UNKNOWN})
        return self

    def _fit_table(self, table: pd.DataFrame) -> _Table:
        values = table.to_numpy(np.float64)
        missing = np.isnan(values).all(axis=1)
        known = values[~missing]
        if len(known) == 0:
            known = np.zeros((1, values.shape[1]))
        fill = np.nan_to_num(np.nanmean(known, axis=0))
        known = np.where(np.isnan(known), fill, known)
        variance = known.var(axis=0)
        wanted = max(1, round(self.keep_share * len(variance)))
        most = np.sort(np.argsort(-variance, kind="stable")[:wanted])
        kept = most[variance[most] > 1e-12]
        known = known[:, kept]
        if self.scaling == "min_max":
            center, scale = known.min(axis=0), np.ptp(known, axis=0)
        else:
            center, scale = known.mean(axis=0), known.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        components = None
        if self.components and kept.size:
            scaled = (known - center) / scale
            # Not centered again: with min-max scaling the first component carries the mean, and the map stays linear.
            _, _, rotation = np.linalg.svd(scaled, full_matrices=False)
            rotation = rotation[: self.components]
            largest = np.abs(rotation).argmax(axis=1)
            components = (rotation * np.sign(rotation[np.arange(len(rotation)), largest])[:, None]).T
        return _Table(list(table.columns), kept, fill[kept], center, scale, components, bool(missing.any()))

    def transform(self, lines: pd.DataFrame, omics: dict[str, pd.DataFrame]) -> np.ndarray:
        """Return float32 of shape ``(lines, width)``."""
        blocks = [table.transform(omics[name]) for name, table in self.tables.items()]
        blocks.append(
            (lines["tissue"].to_numpy()[:, None] == np.array(self.tissues, dtype=object)[None, :]).astype(float)
        )
        return np.hstack(blocks).astype(np.float32)

    @property
    def names(self) -> list[str]:
        """Return the raw features that attributions speak of: ``expression:EGFR``, ..., ``tissue:lung``."""
        names: list[str] = []
        for name, table in self.tables.items():
            names += [f"{name}:{table.names[position]}" for position in table.kept]
            names += [f"{name}:not_measured"] if table.flagged else []
        return names + [f"tissue:{tissue}" for tissue in self.tissues]

    def spread(self, attribution: np.ndarray) -> np.ndarray:
        """Hand attributions of the transformed features down to the raw ones; sums are kept.

        A component's share goes to its features by their squared loadings, which add up to one. (The share by actual
        contribution, loading times value over score, is exact for a linear model but without bound where the score is
        near zero.)

        Parameters
        ----------
        attribution
            Shape ``(n, width)``.

        Returns
        -------
        numpy.ndarray
            Shape ``(n, len(names))``.
        """
        return self._blocks(attribution, lambda table, part: part @ np.square(table.components).T)

    def spread_gradient(
        self, gradient: np.ndarray, lines: pd.DataFrame, omics: dict[str, pd.DataFrame], cell: np.ndarray
    ) -> np.ndarray:
        """Return path-averaged gradients times the distance from the baseline, per raw feature.

        Exact for Integrated Gradients, since the map from raw to transformed features is affine. The baseline is a
        line whose transformed features are all zero: the training mean under standard scaling.

        Parameters
        ----------
        gradient
            Averaged along the path, with respect to the transformed features, shape ``(n, width)``.
        lines, omics
            Tables of the cell lines.
        cell
            Row of each sample in them, shape ``(n,)``.
        """
        transformed = self.transform(lines, omics)[cell]
        scaled = {name: table.scaled(omics[name])[cell] for name, table in self.tables.items()}
        start, blocks = 0, []
        for name, table in self.tables.items():
            inner = table.width - int(table.flagged)
            part = gradient[:, start : start + inner]
            if table.components is not None:
                part = part @ table.components.T
            blocks.append(part * scaled[name])
            if table.flagged:
                blocks.append((gradient * transformed)[:, start + inner : start + inner + 1])
            start += table.width
        blocks.append((gradient * transformed)[:, start:])
        return np.hstack(blocks)

    def _blocks(self, values: np.ndarray, down: Any) -> np.ndarray:
        start, blocks = 0, []
        for table in self.tables.values():
            inner = table.width - int(table.flagged)
            part = values[:, start : start + inner]
            blocks.append(part if table.components is None else down(table, part))
            blocks.append(values[:, start + inner : start + table.width])
            start += table.width
        return np.hstack([*blocks, values[:, start:]])

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted, as JSON values and arrays."""
        return {
            "omics": list(self.omics),
            "scaling": self.scaling,
            "keep_share": self.keep_share,
            "components": self.components,
            "tissues": self.tissues,
            "tables": {name: vars(table) for name, table in self.tables.items()},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CellLineFeatures:
        """Rebuild from `state`."""
        tables = {name: _Table(**table) for name, table in state["tables"].items()}
        return cls(**{**state, "omics": tuple(state["omics"]), "tables": tables})


def _aligned(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return the table's values in the order of ``names``; a feature that it lacks is NaN."""
    if list(table.columns) != names:
        table = table.reindex(columns=names)
    return table.to_numpy(np.float64)
