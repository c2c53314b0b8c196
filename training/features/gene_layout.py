"""Orders of genes, and the position of each gene in a gene image: by the table, the genome, or correlation."""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from pipelines.errors import UserError
from pipelines.samples.expression import POSITION
from training.estimator import Featurizer

Kind = Literal["given", "chromosome", "similarity"]
LAYOUTS: tuple[Kind, ...] = get_args(Kind)
MOST_SIMILAR = 4000  # genes; the exact assignment takes cubic time
_PERPLEXITY = 20.0
_LARGE = ("X", "Y", "M")  # chromosomes after the numbered ones


@dataclass
class GeneLayout(Featurizer):
    """A map from genes to pixels of a square image; ``similarity`` is as in DeepInsight (Sharma et al., 2019)."""

    kind: Kind = "given"  # in the table's order; ``chromosome``, along the genome; ``similarity``, by correlation
    smallest: int = 32  # pixels a side, at least
    side: int = 0
    genes: list[str] = field(default_factory=list)
    pixel: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # number of each gene's, row by row

    def fit(self, values: np.ndarray, genes: list[str], about: pd.DataFrame, seed: int = 0) -> Self:
        """Lay ``genes`` out; ``values`` are for ``similarity``. UserError without positions, or for too many genes."""
        self.genes = list(genes)
        within = max(1, math.ceil(math.sqrt(len(genes))))  # the genes' own square, in the middle of the image
        self.side = max(self.smallest, within)
        if self.kind == "chromosome":
            cells = np.empty(len(genes), dtype=np.int64)
            cells[genome_order(genes, about)] = np.arange(len(genes))
        elif self.kind == "similarity":
            cells = _assigned(values, within, seed)
        else:
            cells = np.arange(len(genes))
        margin = (self.side - within) // 2
        self.pixel = (cells // within + margin) * self.side + cells % within + margin
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Return images of one channel, float32, ``(n, 1, side, side)``; empty pixels are 0."""
        images = np.zeros((len(values), self.side * self.side), dtype=np.float32)
        images[:, self.pixel] = values
        return images.reshape(len(values), 1, self.side, self.side)

    def of_genes(self, images: np.ndarray) -> np.ndarray:
        """Return the pixel of each gene; ``(n, genes)`` of ``(n, 1, side, side)``."""
        return images.reshape(len(images), -1)[:, self.pixel]

    def table(self) -> pd.DataFrame:
        """Return the map as a table ``gene, row, column``."""
        return pd.DataFrame({"gene": self.genes, "row": self.pixel // self.side, "column": self.pixel % self.side})


def genome_order(genes: list[str], about: pd.DataFrame) -> np.ndarray:
    """Return the positions of ``genes`` along the genome, unknown ones last; raise UserError if all are unknown."""
    if not all(column in about for column in POSITION):
        raise UserError(
            "an order along the genome needs the columns chromosome and start in genes.csv; add them or choose another "
            "order (of gene images: tune.layouts in params.yaml)"
        )
    known = about.reindex(genes)
    start = pd.to_numeric(known["start"], errors="coerce").to_numpy(np.float64)
    rank = np.array([_chromosome(name) for name in known["chromosome"]])
    unknown = np.isnan(start) | np.isinf(rank)
    if unknown.all():
        raise UserError("an order along the genome needs positions of genes, and genes.csv has none that can be read")
    return np.lexsort((np.nan_to_num(start), rank, unknown))


def correlation_order(values: np.ndarray) -> np.ndarray:
    """Return an order of columns of centered rows in which correlated ones are adjacent (average linkage); int64."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    count = values.shape[1]
    if count < 3:
        return np.arange(count)
    values = values / np.maximum(np.linalg.norm(values, axis=0), 1e-6)
    distance = np.clip(1 - np.abs(values.T @ values), 0, 1)
    return leaves_list(linkage(distance[np.triu_indices(count, 1)], "average")).astype(np.int64)


def _chromosome(name: Any) -> float:
    text = re.sub(r"(?i)^chr(omosome)?[ _]?", "", str(name)).upper()
    number = re.match(r"\d+", text)
    if number:
        return float(number.group())
    return 100.0 + _LARGE.index(text[:1]) if text[:1] in _LARGE else math.inf


def _assigned(values: np.ndarray, side: int, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    genes = values.shape[1]
    if genes > MOST_SIMILAR:
        raise UserError(
            f"the layout similarity takes at most {MOST_SIMILAR} genes, these are {genes}; tune the selection, or "
            "leave similarity out of tune.layouts in params.yaml"
        )
    centered = values - values.mean(axis=0)
    size = np.sqrt((centered**2).sum(axis=0))
    correlation = (centered / np.where(size > 0, size, 1)).astype(np.float64)
    distance = np.clip(1 - correlation.T @ correlation, 0, 2)
    np.fill_diagonal(distance, 0)
    perplexity = min(_PERPLEXITY, max(1.0, (genes - 1) / 3))
    scaler = TSNE(metric="precomputed", init="random", perplexity=perplexity, random_state=seed)
    embedding = scaler.fit_transform(distance)
    # Ranks spread the points evenly over the square before they are assigned.
    spread = np.argsort(np.argsort(embedding, axis=0, kind="stable"), axis=0, kind="stable") / max(1, genes - 1)
    ticks = np.linspace(0, 1, side)
    cells = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    cost = ((spread[:, None, :] - cells[None, :, :]) ** 2).sum(axis=2)
    _, assigned = linear_sum_assignment(cost)
    return assigned.astype(np.int64)
