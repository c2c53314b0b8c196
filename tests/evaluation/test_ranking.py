"""Agreement between models that is none: genes of other classes, of fewer classes, of models that name none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluation.comparison.ranking import agreement, agreement_text, gene_table


def table(**classes: str) -> pd.DataFrame:
    """Return a gene table: each class with its genes, a letter each."""
    return pd.DataFrame(
        [(label, gene) for label, genes in classes.items() for gene in genes], columns=["class", "gene"]
    )


def written(models: Path, name: str, found: pd.DataFrame, file: str = "genes_by_class.csv") -> None:
    """Write the table of a model as the evaluation does, with further columns."""
    (models / name).mkdir(parents=True)
    found.assign(rank=1, mean=0.5, mean_abs=0.5, rows=3).to_csv(models / name / file, index=False)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Give three models that name genes, and one that names none."""
    written(tmp_path, "linear", table(BRCA="abcd", LUAD="efgh"))
    written(tmp_path, "trees", table(BRCA="abxy", LUAD="efgz"))
    written(tmp_path, "network", table(BRCA="efgh", LUAD="abcd"))  # the same genes, of the other class
    (tmp_path / "majority").mkdir()
    return tmp_path


def test_agreement_is_the_share_of_genes_that_both_name_for_a_class(models: Path) -> None:
    names = ["linear", "trees", "network", "majority"]
    assert agreement(models, "linear", names) == {"trees": (2 / 4 + 3 / 4) / 2, "network": 0.0}
    assert agreement(models, "trees", names) == {"linear": (2 / 4 + 3 / 4) / 2, "network": 0.0}
    assert agreement(models, "majority", names) == {}


def test_a_table_is_read_with_names_that_look_like_numbers(tmp_path: Path) -> None:
    names = pd.DataFrame({"class": ["01", "1"], "gene": ["0071", "71"]})
    written(tmp_path, "one", names)
    pd.testing.assert_frame_equal(gene_table(tmp_path / "one"), names)  # type: ignore[arg-type]


def test_predictors_of_targets_are_compared_target_by_target(tmp_path: Path) -> None:
    for name, genes in (("lstm", table(ESR1="abc", ERBB2="def")), ("ridge", table(ESR1="abz", ERBB2="xyz"))):
        written(tmp_path, name, genes.rename(columns={"class": "target"}), "predictors_by_target.csv")
    assert agreement(tmp_path, "lstm", ["lstm", "ridge"]) == {"ridge": pytest.approx((2 / 3 + 0) / 2)}


def test_the_terminal_shows_the_share_of_each_pair(models: Path) -> None:
    names = ["linear", "trees", "majority"]
    rows: list[dict[str, Any]] = [{"architecture": name, "agreement": agreement(models, name, names)} for name in names]
    lines = agreement_text(rows).splitlines()
    assert lines[0].split() == ["same", "top", "genes", "linear", "trees"]
    assert [line.split() for line in lines[2:]] == [["linear", "-", "0.62"], ["trees", "0.62", "-"]]
    assert agreement_text(rows[1:]) == ""
