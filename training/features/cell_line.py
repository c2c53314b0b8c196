"""A cell line's omics tables and tissue as one row of numbers, and the tuned choices of how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import ndtri
from sklearn.feature_selection import RFE, mutual_info_regression
from sklearn.impute import KNNImputer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import QuantileTransformer

from pipelines.errors import UserError
from pipelines.samples.response import UNKNOWN, ResponseSamples
from training.architectures import draw

SCALINGS = ("standard", "min_max", "quantile_normal")
IMPUTATIONS = ("mean", "knn", "drop")
SUPERVISED = ("mutual_information", "rfe")
SELECTIONS = ("all", "variance", *SUPERVISED)

_QUANTILES = 100  # at most: as many as there are training lines
_TAIL = 1e-7  # of the normal distribution, where scikit-learn clips as well: no value is infinite
_NEIGHBORS = 5  # of imputation
_NO_SPREAD = 1e-9
_PARTS = 5  # that training lines are cut into, to see how lines spread that components were not fitted on
_CONSTANT = 1e-12  # a variance below this is none
_NEAREST = 3  # neighbors of the estimate of mutual information
_FEW = 5  # a feature with no more different values (a mutation, a call of copy number) is discrete
_STEP = 0.1  # share of the features that recursive elimination drops at a time
_SHARES = (0.1, 0.25, 0.5)  # that ``keep_share`` is tuned among
_ENOUGH = 0.5  # more of the training lines have every table, or `drop` is not tried


@dataclass
class Table:
    """The map of one omics table: select, impute, scale, and rotate for PCA."""

    names: list[str]
    kept: np.ndarray  # positions in ``names``
    fill: np.ndarray  # training means of the kept, as all that follows
    center: np.ndarray
    scale: np.ndarray
    flagged: bool  # whether lines without data are marked
    quantiles: np.ndarray | None = None  # ``(levels, len(kept))``
    components: np.ndarray | None = None  # ``(len(kept), k)``, orthonormal columns
    middle: np.ndarray | float = 0.0  # means of the scaled features, 0 without PCA

    @property
    def inner(self) -> int:
        """Return the number of columns without the flag."""
        return len(self.kept) if self.components is None else self.components.shape[1]

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return self.inner + int(self.flagged)

    def scaled(self, table: pd.DataFrame, impute: bool = True) -> np.ndarray:
        """Return the kept features, found by name and scaled, ``(lines, len(kept))``; gaps are imputed or left."""
        aligned = table if table.columns.tolist() == self.names else table.reindex(columns=self.names)
        values = aligned.to_numpy(np.float64)[:, self.kept]
        if impute:
            values = np.where(np.isnan(values), self.fill, values)
        return (values - self.center) / self.scale if self.quantiles is None else _ranked(values, self.quantiles)

    def flags(self, table: pd.DataFrame) -> list[np.ndarray]:
        """Return which lines lack the table, ``(lines, 1)``, in a list that is empty if none did in training."""
        return [1.0 - measured(table)[:, None]] if self.flagged else []


@dataclass
class CellLineFeatures:
    """Numbers that describe a cell line."""

    omics: tuple[str, ...]
    scaling: str = "standard"  # mean 0, variance 1; ``min_max``, 0 to 1; ``quantile_normal``, normal scores of ranks
    keep_share: float = 0.25  # see `selected`
    components: int = 0  # principal components per table, at most; 0 for none
    selection: str = "all"
    # Of missing tables and values: the training ``mean``; ``knn``, that of the five nearest training lines over all
    # tables (Troyanskaya et al., 2001); with ``drop`` lines without a table are left aside, see `complete`.
    imputation: str = "mean"
    tables: dict[str, Table] = field(default_factory=dict)
    tissues: list[str] = field(default_factory=list)
    neighbors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    needed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, choices in (("scaling", SCALINGS), ("selection", SELECTIONS), ("imputation", IMPUTATIONS)):
            if (value := getattr(self, name)) not in choices:
                raise UserError(f"{name}: {value!r} is none of {', '.join(choices)}")

    def fit(self, lines: pd.DataFrame, omics: dict[str, pd.DataFrame], response: np.ndarray | None = None) -> Self:
        """Fit on the training lines; ``response`` is for supervised selections. UserError if ``drop`` leaves none."""
        if self.imputation == "drop":
            # A table that no line has is none.
            self.needed = [name for name in self.omics if measured(omics[name]).any()]
            whole = self.complete(lines, omics)
            if not whole.any():
                raise UserError(
                    f"imputation drop: none of {len(lines)} training lines has all of {', '.join(self.needed)}; "
                    "choose mean or knn"
                )
            lines, omics = lines[whole], {name: omics[name][whole] for name in self.omics}
            response = None if response is None else response[whole]
        self.tables = {name: self._fit_table(omics[name], response) for name in self.omics}
        if self.imputation == "knn" and self.tables:
            with_gaps = [table.scaled(omics[name], impute=False) for name, table in self.tables.items()]
            self.neighbors = np.hstack(with_gaps).astype(np.float32)
        if self.components:
            for (name, table), scaled in zip(self.tables.items(), self._scaled(omics), strict=True):
                self._fit_components(table, scaled[measured(omics[name])])
        self.tissues = sorted(set(lines["tissue"]) - {UNKNOWN})
        return self

    def _fit_table(self, table: pd.DataFrame, response: np.ndarray | None) -> Table:
        values = table.to_numpy(np.float64)
        has = measured(table)
        values = values[has] if has.any() else np.zeros((1, values.shape[1]))
        fill = np.nansum(values, axis=0) / np.maximum((~np.isnan(values)).sum(axis=0), 1)
        known = np.where(np.isnan(values), fill, values)
        kept = selected(known, self.selection, self.keep_share, None if response is None else response[has])
        values, known = values[:, kept], known[:, kept]
        if self.scaling == "min_max":
            center, scale = known.min(axis=0), np.ptp(known, axis=0)
        else:
            center, scale = known.mean(axis=0), known.std(axis=0)
        fitted = Table(
            list(table.columns), kept, fill[kept], center, np.where(scale > 0, scale, 1.0), flagged=not has.all()
        )
        if self.scaling == "quantile_normal" and kept.size:
            transformer = QuantileTransformer(n_quantiles=min(_QUANTILES, len(values)), subsample=None)
            fitted.quantiles = transformer.fit(values).quantiles_
        return fitted

    def _fit_components(self, table: Table, scaled: np.ndarray) -> None:
        if not table.kept.size:
            return
        if self.scaling != "standard":  # whose means are 0
            table.middle = scaled.mean(axis=0)
        _, _, rotation = np.linalg.svd(scaled - table.middle, full_matrices=False)
        rotation = rotation[: self.components]
        largest = np.abs(rotation).argmax(axis=1)
        table.components = (rotation * np.sign(rotation[np.arange(len(rotation)), largest])[:, None]).T

    def unseen_spread(self, omics: dict[str, pd.DataFrame]) -> np.ndarray:
        """Return how much wider lines spread along components of other lines, ``(width,)``; infinite if unknown."""
        found = np.ones(self.width)
        blocks = self.blocks.values()
        for (name, table), scaled, block in zip(self.tables.items(), self._scaled(omics), blocks, strict=True):
            if table.components is not None:
                found[block] = _unseen_spread((scaled - table.middle)[measured(omics[name])], table.components)
        return found

    def complete(self, lines: pd.DataFrame, omics: dict[str, pd.DataFrame]) -> np.ndarray:
        """Return which lines have every table that ``drop`` needs, bool, ``(lines,)``; others get the drug's mean."""
        return np.all([np.ones(len(lines), dtype=bool), *(measured(omics[name]) for name in self.needed)], axis=0)

    def _scaled(self, omics: dict[str, pd.DataFrame]) -> list[np.ndarray]:
        """Return each table's kept features, imputed and scaled, shapes ``(lines, len(kept))``."""
        blocks = [table.scaled(omics[name], self.imputation != "knn") for name, table in self.tables.items()]
        if self.imputation != "knn" or not blocks:
            return blocks
        joined = np.hstack(blocks)
        gaps = np.isnan(joined).any(axis=1)
        if gaps.any():
            imputer = KNNImputer(n_neighbors=_NEIGHBORS).fit(self.neighbors.astype(np.float64))
            joined[gaps] = imputer.transform(joined[gaps])
        return np.split(joined, np.cumsum([block.shape[1] for block in blocks])[:-1], axis=1)

    def transform(self, lines: pd.DataFrame, omics: dict[str, pd.DataFrame]) -> np.ndarray:
        """Return float32 of shape ``(lines, width)``."""
        blocks = []
        for (name, table), scaled in zip(self.tables.items(), self._scaled(omics), strict=True):
            rotated = scaled if table.components is None else (scaled - table.middle) @ table.components
            blocks += [rotated, *table.flags(omics[name])]
        return np.hstack([*blocks, self._of_tissue(lines)]).astype(np.float32)

    def _of_tissue(self, lines: pd.DataFrame) -> np.ndarray:
        return (lines["tissue"].to_numpy()[:, None] == np.array(self.tissues, dtype=object)[None, :]).astype(float)

    @property
    def width(self) -> int:
        """Return the number of columns of `transform`."""
        return sum(table.width for table in self.tables.values()) + len(self.tissues)

    @property
    def blocks(self) -> dict[str, slice]:
        """Return the columns of each table in `transform`, without the flag after them; tissues come last."""
        start, found = 0, {}
        for name, table in self.tables.items():
            found[name] = slice(start, start + table.inner)
            start += table.width
        return found

    @property
    def names(self) -> list[str]:
        """Return the raw features of attributions: ``expression:EGFR``, ..., ``tissue:lung``."""
        names: list[str] = []
        for name, table in self.tables.items():
            names += [f"{name}:{table.names[position]}" for position in table.kept]
            names += [f"{name}:not_measured"] if table.flagged else []
        return names + [f"tissue:{tissue}" for tissue in self.tissues]

    def spread(self, attribution: np.ndarray) -> np.ndarray:
        """Distribute attributions of transformed features to raw ones, ``(n, len(names))``, by squared loadings."""
        return self._to_features(attribution, lambda components, part: part @ np.square(components).T)

    def spread_gradient(
        self, gradient: np.ndarray, lines: pd.DataFrame, omics: dict[str, pd.DataFrame], cell: np.ndarray
    ) -> np.ndarray:
        """Return path-averaged gradients ``(n, width)`` times the distance from the baseline, ``(n, len(names))``.

        ``cell`` is the row of each sample in ``lines``; transformed features of the baseline are all zero.
        """
        distances = []
        for (name, table), scaled in zip(self.tables.items(), self._scaled(omics), strict=True):
            distances += [scaled - table.middle, *table.flags(omics[name])]
        slope = self._to_features(gradient, lambda components, part: part @ components.T)
        return slope * np.hstack([*distances, self._of_tissue(lines)])[cell]

    def _to_features(self, values: np.ndarray, down: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return ``values`` of the transformed features with components brought ``down`` to scaled features."""
        start, blocks = 0, []
        for table in self.tables.values():
            part = values[:, start : start + table.inner]
            blocks.append(part if table.components is None else down(table.components, part))
            blocks.append(values[:, start + table.inner : start + table.width])
            start += table.width
        return np.hstack([*blocks, values[:, start:]])

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted, as JSON values and arrays."""
        return {**vars(self), "tables": {name: vars(table) for name, table in self.tables.items()}}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from `state`."""
        tables = {name: Table(**table) for name, table in state["tables"].items()}
        return cls(**{**state, "omics": tuple(state["omics"]), "tables": tables})


def measured(table: pd.DataFrame) -> np.ndarray:
    """Return which lines have any value of the table, bool, shape ``(lines,)``."""
    return ~np.isnan(table.to_numpy(np.float64)).all(axis=1)


def leading(products: np.ndarray, components: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading right singular vectors ``(n, k)`` and values ``(k,)`` of a matrix by its products ``(n, n)``.

    ``rows`` is how many the matrix has: there are no more components. The largest entry of each vector is positive.
    """
    values, vectors = np.linalg.eigh(products)
    order = np.argsort(-values)[: min(components, rows)]
    vectors = vectors[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(order))])
    return vectors * signs, np.sqrt(np.maximum(values[order], 0.0))


def _unseen_spread(values: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return `CellLineFeatures.unseen_spread` of components ``(features, k)`` of ``values`` (lines, features)."""
    own, count = (values @ components).std(axis=0), components.shape[1]
    squares, lines = np.zeros(count), np.zeros(count)
    part = np.arange(len(values)) % _PARTS
    for left_out in np.unique(part):
        rest, others = values[part != left_out], values[part == left_out]
        middle = rest.mean(axis=0) if len(rest) else np.zeros(values.shape[1])
        _, size, rotation = np.linalg.svd(rest - middle, full_matrices=False)
        rotation = rotation[size > _NO_SPREAD * max(size.max(initial=0.0), _NO_SPREAD)][:count]
        squares[: len(rotation)] += (((others - middle) @ rotation.T) ** 2).sum(axis=0)
        lines[: len(rotation)] += len(others)
    unseen = np.sqrt(squares / np.maximum(lines, 1))
    ratio = np.divide(unseen, own, out=np.ones(count), where=own > _NO_SPREAD)
    return np.where(lines == len(values), np.maximum(ratio, 1.0), np.inf)


def _ranked(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return normal scores of values in their column, as scikit-learn's QuantileTransformer; missing values stay."""
    levels = np.linspace(0, 1, len(quantiles))
    ranks = np.empty_like(values)
    for column, (value, at) in enumerate(zip(values.T, quantiles.T, strict=True)):
        ranks[:, column] = (np.interp(value, at, levels) - np.interp(-value, -at[::-1], -levels[::-1])) / 2
    ranks = np.where(values <= quantiles[0], 0.0, np.where(values >= quantiles[-1], 1.0, ranks))
    return ndtri(np.clip(ranks, _TAIL, 1 - _TAIL))


def selected(values: np.ndarray, selection: str, share: float, response: np.ndarray | None = None) -> np.ndarray:
    """Return the positions of the columns of ``values`` ``(lines, features)`` that are kept, ascending.

    All that vary, or at most ``share`` of them: the most variable, also where the response is constant;
    ``mutual_information`` (Kraskov et al., 2004); ``rfe``, recursive elimination by ridge (Guyon et al., 2002).
    """
    variance = values.var(axis=0)
    varying = np.flatnonzero(variance > _CONSTANT)
    wanted = max(1, round(share * values.shape[1]))
    if selection == "all" or len(varying) <= wanted:
        return varying
    score = variance[varying]
    if selection in SUPERVISED:
        if response is None:
            raise ValueError(f"the selection {selection} needs the response of the training lines")
        if (response.var(axis=0) > _CONSTANT).any():
            known = values[:, varying]
            by_rank = selection == "rfe"
            score = _elimination(known, response, wanted) if by_rank else _mutual_information(known, response)
    return np.sort(varying[np.argsort(-score, kind="stable")[:wanted]])


def _mutual_information(values: np.ndarray, response: np.ndarray) -> np.ndarray:
    lines = len(values)
    few = min(_FEW, lines - 1)  # with fewer values than lines one of them occurs twice, which the estimate needs
    discrete = np.array([len(np.unique(column)) <= few for column in values.T])
    options = {"discrete_features": discrete, "n_neighbors": min(_NEAREST, lines - 1), "random_state": 0}
    found = [mutual_info_regression(values, column, **options) for column in response.T]
    return np.average(found, axis=0, weights=response.var(axis=0))


def _elimination(values: np.ndarray, response: np.ndarray, wanted: int) -> np.ndarray:
    standardized = (values - values.mean(axis=0)) / values.std(axis=0)
    # With the number of lines as penalty, the weight of a feature that correlates with no other is halved.
    ridge = Ridge(alpha=float(len(values)))
    return -RFE(ridge, n_features_to_select=wanted, step=_STEP).fit(standardized, response).ranking_


@dataclass(eq=False, repr=False, kw_only=True)
class CellLineChoices:
    """Hyperparameters of a cell line's features, for estimators to inherit; see `CellLineFeatures`."""

    omics: str = "expression"  # or ``all`` tables
    selection: str = "all"
    keep_share: float = 0.25
    scaling: str = "standard"
    imputation: str = "mean"

    def cell_line_features(self, train: ResponseSamples, components: int = 0) -> CellLineFeatures:
        """Return the unfitted featurizer of lines; without expression all tables are used."""
        chosen = ("expression",) if self.omics == "expression" and "expression" in train.omics else tuple(train.omics)
        return CellLineFeatures(
            chosen, self.scaling, self.keep_share, components, self.selection, imputation=self.imputation
        )


def cell_line_space(
    trial: Any, settings: Mapping[str, Any], omics: Sequence[str] = ("expression", "all")
) -> dict[str, Any]:
    """Draw `CellLineChoices`, of each only what matters given the others, and imputations that the data allow."""
    drawn = draw(trial, omics=omics) if len(omics) > 1 else {}
    drawn |= draw(trial, selection=SELECTIONS, scaling=SCALINGS)
    if drawn["selection"] != "all":
        drawn |= draw(trial, keep_share=_SHARES)
    tried = settings.get("imputations", IMPUTATIONS)
    if drawn.get("omics", omics[0]) == "all" and len(tried) > 1:
        drawn |= draw(trial, imputation=tried)
    return drawn


def imputations(train: ResponseSamples) -> tuple[str, ...]:
    """Return the imputations that are worth a trial: one without gaps, no ``drop`` that drops half the lines."""
    lines = np.unique(train.cell)
    tables = [table.iloc[lines] for table in train.omics.values()]
    if not any(table.isna().to_numpy().any() for table in tables):
        return IMPUTATIONS[:1]
    found = [measured(table) for table in tables]
    complete = np.all([lines for lines in found if lines.any()], axis=0)
    return IMPUTATIONS if np.mean(complete) > _ENOUGH else tuple(each for each in IMPUTATIONS if each != "drop")
