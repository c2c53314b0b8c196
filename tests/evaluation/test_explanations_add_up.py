from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.explain.genes import explain, explained_rows
from pipelines.samples.response import ResponseSamples, make_samples
from training.estimator import Attribution, Estimator, FitContext


class Planted(Estimator):
    """Answers with 2 x gene A, for the drug D1 alone."""

    def fit(
        self, train: ResponseSamples, validation: ResponseSamples | None = None, context: FitContext | None = None
    ) -> Planted:
        return self

    def _share(self, samples: ResponseSamples) -> np.ndarray:
        gene = samples.omics["expression"]["A"].to_numpy(np.float64)[samples.cell]
        return 2 * gene * (samples.pairs["drug_id"] == "D1").to_numpy()

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return 1 + self._share(samples)

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        values = np.column_stack([np.zeros(len(samples)), self._share(samples), np.zeros(len(samples))])
        names = ["expression:B", "expression:A", "drug:offset"]
        return Attribution(names, values, np.ones(len(samples)), self.predict(samples), "planted")

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> Planted:
        return self


@pytest.fixture
def samples() -> ResponseSamples:
    lines, drugs = [f"L{i}" for i in range(30)], ["D1", "D2", "D3"]
    pairs = pd.DataFrame([(line, drug) for line in lines for drug in drugs], columns=["cell_line_id", "drug_id"])
    rng = np.random.default_rng(0)
    return make_samples(
        pairs,
        pd.DataFrame({"tissue": "lung"}, index=pd.Index(lines)),
        pd.DataFrame({"smiles": ["C", "CC", None], "name": ["one", "two", "three"]}, index=pd.Index(drugs)),
        {"expression": pd.DataFrame(rng.normal(3, 1, (30, 2)), index=pd.Index(lines), columns=["A", "B"])},
    )


def test_the_planted_gene_is_found_for_its_drug_and_no_other(samples: ResponseSamples) -> None:
    found = explain(Planted(), samples)
    assert found is not None
    assert found.genes.iloc[0]["gene"] == "A"
    assert found.relative_error < 1e-12
    by_drug = found.by_drug.set_index(["drug_id", "gene"])["mean_abs"]
    assert by_drug["D1", "A"] > 1
    assert by_drug["D2", "A"] == by_drug["D3", "A"] == 0
    assert not found.genes["omics"].isin(["drug", "fingerprint"]).any()


def test_attributions_that_do_not_add_up_are_measured(samples: ResponseSamples) -> None:
    class Liar(Planted):
        def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
            true = super().attribute(samples)
            return Attribution(true.names, true.values * 0.5, true.base, true.prediction, true.method)

    found = explain(Liar(), samples)
    assert found is not None
    assert found.relative_error == pytest.approx(0.5)


def test_every_drug_is_explained_where_rows_allow(samples: ResponseSamples) -> None:
    assert set(samples.drug[explained_rows(samples, 3, seed=1)]) == {0, 1, 2}
    assert len(explained_rows(samples, 1000, seed=1)) == len(samples)
    assert (explained_rows(samples, 10, seed=1) == explained_rows(samples, 10, seed=1)).all()
