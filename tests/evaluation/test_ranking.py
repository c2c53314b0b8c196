"""Agreement between models that is none: genes of other classes, of fewer classes, of models that name none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluation.comparison.ranking import agreement, agreement_text, gene_table


def table(**classes: str) -> pd.DataFrame:
    return pd.DataFrame(
        [(label, gene) for label, genes in classes.items() for gene in genes], columns=["class", "gene"]
    )


def written(models: Path, name: str, found: pd.DataFrame, file: str = "genes_by_class.csv") -> None:
    (models / name).mkdir(parents=True)
    found.assign(rank=1, mean=0.5, mean_abs=0.5, rows=3).to_csv(models / name / file, index=False)


def test_agreement_is_the_share_of_genes_that_both_name_for_a_class(tmp_path: Path) -> None:
    models, names = tmp_path, ["linear", "trees", "network", "majority"]
    written(models, "linear", table(BRCA="abcd", LUAD="efgh"))
    written(models, "trees", table(BRCA="abxy", LUAD="efgz"))
    written(models, "network", table(BRCA="efgh", LUAD="abcd"))  # the same genes, of the other class
    (models / "majority").mkdir()
    assert agreement(models, "linear", names) == {"trees": (2 / 4 + 3 / 4) / 2, "network": 0.0}
    assert agreement(models, "trees", names) == {"linear": (2 / 4 + 3 / 4) / 2, "network": 0.0}
    assert agreement(models, "majority", names) == {}
    rows: list[dict[str, Any]] = [{"architecture": name, "agreement": agreement(models, name, names)} for name in names]
    assert "0.62" in agreement_text(rows) and agreement_text(rows[3:]) == ""


def test_a_table_is_read_with_names_that_look_like_numbers(tmp_path: Path) -> None:
    names = pd.DataFrame({"class": ["01", "1"], "gene": ["0071", "71"]})
    written(tmp_path, "one", names)
    pd.testing.assert_frame_equal(gene_table(tmp_path / "one"), names)  # type: ignore[arg-type]


def test_predictors_of_targets_are_compared_target_by_target(tmp_path: Path) -> None:
    for name, genes in (("lstm", table(ESR1="abc", ERBB2="def")), ("ridge", table(ESR1="abz", ERBB2="xyz"))):
        written(tmp_path, name, genes.rename(columns={"class": "target"}), "predictors_by_target.csv")
    assert agreement(tmp_path, "lstm", ["lstm", "ridge"]) == {"ridge": pytest.approx((2 / 3 + 0) / 2)}
