"""The genes that a model names for each class or target, and what two models have in common."""

from pathlib import Path

import numpy as np
import pandas as pd


def gene_table(folder: Path) -> pd.DataFrame | None:
    """Return ``class, gene`` of a model's evidence: the genes that it names for each class or target, None without."""
    for file, key in (("genes_by_class.csv", "class"), ("predictors_by_target.csv", "target")):
        if (folder / file).is_file():
            table = pd.read_csv(folder / file, dtype={key: str, "gene": str})
            return table.rename(columns={key: "class"})[["class", "gene"]]
    return None


def overlap(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Return the mean share of the top genes of a class that two gene tables have in common."""
    sets = [table.groupby("class")["gene"].agg(set) for table in (one, other)]
    pairs = [(sets[0][label], sets[1][label]) for label in sets[0].index.intersection(sets[1].index)]
    shares = [len(a & b) / max(1, min(len(a), len(b))) for a, b in pairs]
    return float(np.mean(shares)) if shares else float("nan")
