"""A marker is found because it is there: planted ones are, absent ones and those of the wrong sign are not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.evidence.evidence_file import check_schema
from evaluation.evidence.parts import Evidence
from evaluation.explain import biomarkers, genes
from evaluation.explain.biomarkers import Marker, data_effect, look_up
from evaluation.explain.genes import FEWEST, LINES, directed, explained_rows, rows_by_drug
from evaluation.explain.pairs import explain_drugs
from evaluation.promotion.card import _biomarkers
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.samples.response import ResponseSamples, make_samples
from tests.evaluation.made_evidence import made_cell_evidence as made_evidence
from tests.evaluation.planted import Known, pairs_setting
from training.estimator import Attribution

GENES = [f"G{number}" for number in range(30)]
BRAF = Marker("Dabrafenib", "BRAF", "mutation", "sensitive", "somebody", ("GSK-2118436",))
ERBB2 = Marker("Lapatinib", "ERBB2", "expression", "sensitive", "somebody")
TP53 = Marker("Nutlin-3a", "TP53", "mutation", "resistant", "somebody", ("Nutlin-3a (-)",))
BOOTSTRAP: dict[str, Any] = {"resamples": 200, "confidence": 0.95, "seed": 0}


@pytest.fixture(scope="module")
def samples() -> ResponseSamples:
    """Return 60 lines that met four drugs; a mutated BRAF lowers what dabrafenib does by 3, and so on."""
    rng = np.random.default_rng(3)
    lines = [f"L{number:02d}" for number in range(60)]
    drugs = pd.DataFrame(
        {"name": ["dabrafenib", "LAPATINIB", "Nutlin-3a (-)", "another"], "smiles": ["C", "CC", "CCC", None]},
        index=pd.Index(["D1", "D2", "D3", "D4"]),
    )
    pairs = pd.DataFrame([(line, drug) for line in lines for drug in drugs.index], columns=["cell_line_id", "drug_id"])
    mutation = pd.DataFrame((rng.random((60, 32)) < 0.25).astype(float), columns=["BRAF", "TP53", *GENES])
    expression = pd.DataFrame(rng.normal(5, 1, (60, 31)), columns=["ERBB2|2064", *GENES])
    omics = {
        name: table.set_index(pd.Index(lines)) for name, table in (("mutation", mutation), ("expression", expression))
    }
    found = make_samples(pairs, pd.DataFrame({"tissue": "lung"}, index=pd.Index(lines)), drugs, omics)
    return replace(found, pairs=pairs.assign(target=Planted().predict(found) + rng.normal(0, 0.3, len(pairs))))


class Planted(Known):
    """A linear model of each drug's own marker, of this sign and weight, with small weights on the other genes."""

    def __init__(self, sign: float = 1.0, weight: float = 3.0) -> None:
        self.sign = sign
        self.weight = weight

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        names = [f"{omics}:{gene}" for omics, table in samples.omics.items() for gene in table.columns]
        values = np.hstack([table.to_numpy(np.float64)[samples.cell] for table in samples.omics.values()])
        values = (values - values.mean(axis=0)) * np.linspace(0.001, 0.01, len(names))
        for drug, name, way in (("D1", "mutation:BRAF", -1), ("D2", "expression:ERBB2|2064", -1),
                                ("D3", "mutation:TP53", 1)):  # fmt: skip
            rows, place = np.flatnonzero(samples.pairs["drug_id"] == drug), names.index(name)
            values[rows, place] *= way * self.sign * self.weight / np.linspace(0.001, 0.01, len(names))[place]
        drugs = np.full((len(samples), 1), 0.5)
        tissue = np.full((len(samples), 1), 0.25)
        names = [*names, "tissue:lung", "drug:mean_response", "fingerprint:7", "atom:C"]
        values = np.hstack([values, tissue, drugs, drugs / 2, drugs / 4])
        base = np.full(len(samples), 2.0)
        return Attribution(names, values, base, base + values.sum(axis=1), "planted")

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return self.attribute(samples).prediction


def looked_up(samples: ResponseSamples, *markers: Marker, model: Planted | None = None) -> pd.DataFrame:
    every = directed((model or Planted()).attribute(samples), samples)
    return look_up(markers, every, samples, samples, **BOOTSTRAP)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 6), seed=st.integers(0, 999))
def test_sums_of_any_attribution_add_up(samples: ResponseSamples, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = samples.take(rng.integers(0, len(samples), rows))
    names = ["mutation:BRAF", "mutation:not_measured", "expression:G1", "tissue:lung", "drug:offset", "smiles:C"]
    kept = rng.permutation(len(names))[: rng.integers(1, len(names) + 1)]
    values, base = rng.normal(size=(rows, len(kept))), rng.normal(size=rows)
    made = Attribution([names[k] for k in kept], values, base, base + values.sum(axis=1), "any")
    by_omics, by_drug = genes.by_omics(made, some), genes.by_drug(made, some)
    assert by_omics["mean"].sum() + base.mean() == pytest.approx(made.prediction.mean())
    np.testing.assert_allclose(by_drug["gap"], 0, atol=1e-9)
    assert by_drug["rows"].sum() == rows
    by_gene = genes.by_gene(made, some).set_index("gene")["mean"]  # whatever is measured, by the gene's name
    measured = genes.measured(made.names, some)
    assert by_gene.sum() == pytest.approx(values[:, measured].sum(axis=1).mean() if measured.any() else 0)


def test_the_planted_gene_stands_first_with_its_direction(samples: ResponseSamples) -> None:
    features = ("methylation:NKX2-1_14_36989430_36990430", "methylation:SIMG0001_promoter", "expression:TP53|7157")
    assert [genes.gene_of(feature) for feature in features] == ["NKX2-1", "SIMG0001", "TP53"]
    attribution = Planted().attribute(samples)
    found = directed(attribution, samples)
    first = found[found["rank"] == 1].set_index("drug_id").drop("D4")
    assert first["gene"].to_dict() == {"D1": "BRAF", "D2": "ERBB2|2064", "D3": "TP53"}
    assert first["direction"].to_dict() == {"D1": -1, "D2": -1, "D3": 1}
    shifted = directed(replace(attribution, values=attribution.values + 1), samples).set_index(["drug_id", "gene"])
    assert shifted["direction"]["D2", "ERBB2|2064"] == -1  # a constant has no direction
    assert (found["effect"] == found["direction"] * found["mean_abs"]).all()
    assert (found.groupby("drug_id")["rank"].max() == 63).all()
    by_drug = genes.by_feature_and_drug(attribution, samples)
    leading = by_drug[by_drug["rank"] == 1].set_index("drug_id").drop("D4")
    assert leading["gene"].to_dict() == first["gene"].to_dict() and (by_drug["rows"] == 60).all()
    over_all = genes.by_feature(attribution, samples)
    assert set(over_all["gene"].head(3)) == set(first["gene"]) and "drug" not in set(over_all["omics"])


def test_what_does_not_vary_and_drugs_with_few_lines_have_no_direction(samples: ResponseSamples) -> None:
    mutation = samples.omics["mutation"].assign(BRAF=0.0)
    mutation.loc[mutation.index[:30], "TP53"] = np.nan
    changed = replace(samples, omics={**samples.omics, "mutation": mutation})
    found = directed(Planted().attribute(samples), changed).set_index(["drug_id", "gene"])["direction"]
    assert (found["D1", "BRAF"], found["D3", "TP53"]) == (0, 1)  # the latter of the lines whose value is known
    few = samples.take(np.flatnonzero((samples.pairs["drug_id"] == "D2") | (samples.cell < FEWEST - 1)))
    assert set(directed(Planted().attribute(few), few)["drug_id"]) == {"D2"}
    none = samples.take(np.flatnonzero(samples.cell < FEWEST - 1))
    assert directed(Planted().attribute(none), none).empty


def test_marked_drugs_come_first_and_others_as_far_as_rows_go(samples: ResponseSamples) -> None:
    def drugs(first: list[str], count: int) -> dict[Any, int]:
        rows = rows_by_drug(samples, first, count, seed=1)
        assert len(set(rows)) == len(rows)
        return samples.pairs["drug_id"].iloc[rows].value_counts().to_dict()

    assert drugs(["D3", "gone"], 0) == {"D3": LINES}
    assert drugs(["D3"], 2 * LINES) == {"D3": LINES, "D1": LINES, "D2": LINES}
    assert drugs([], LINES - 1) == {}
    assert set(samples.drug[explained_rows(samples, 4, seed=1)]) == {0, 1, 2, 3}
    assert len(explained_rows(samples, 1000, seed=1)) == len(samples)


@pytest.mark.parametrize(
    ("model", "status", "why"),
    [
        (Planted(), "found", "its place is 1 of 63"),
        (Planted(weight=0.0005), "not found", rf"its place is \d+, beyond {biomarkers.PLACES}"),
        (Planted(sign=-1), "not found", "its direction is the other one"),
    ],
)
def test_planted_markers_are_found_where_the_model_relies_on_them_and_always_in_the_data(
    samples: ResponseSamples, model: Planted, status: str, why: str
) -> None:
    found = looked_up(samples, BRAF, ERBB2, TP53, model=model)
    assert found["status"].tolist() == [status] * 3
    assert found["why"].str.fullmatch(why).all() and found["data"].tolist() == ["shown"] * 3
    spread = samples.omics["expression"]["ERBB2|2064"].std()  # an effect of expression is that of one deviation
    assert found["data_effect"].to_numpy() == pytest.approx([-3, -3 * spread, 3], abs=0.4)
    wrong = looked_up(samples, replace(BRAF, makes="resistant"))
    assert (wrong["status"][0], wrong["data"][0]) == ("not found", "contrary")


def test_what_data_or_model_do_not_have_is_not_looked_at_and_what_was_left_out_not_found(
    samples: ResponseSamples,
) -> None:
    other = replace(BRAF, drug="Vemurafenib", synonyms=())
    found = looked_up(samples, other, replace(BRAF, gene="NRAS"), replace(BRAF, omics="copy_number"))
    assert found["status"].tolist() == ["not in the data"] * 3
    assert [why.removeprefix("there is no ") for why in found["why"]] == [
        *("Vemurafenib", "NRAS in mutation", "BRAF in copy number")
    ]
    every = directed(Planted().attribute(samples), samples)
    for kept, status, why in (
        (every["omics"] != "mutation", "not looked at", "the model does not look at mutation"),
        (every["gene"] != "BRAF", "not found", "of mutation the model does not look at BRAF"),
        (every["drug_id"] != "D1", "not tested", "fewer than 8 lines of the test split met the drug"),
    ):
        found = look_up([BRAF, ERBB2], every[kept], samples, samples, **BOOTSTRAP)
        assert (found["status"].tolist(), found["why"][0]) == ([status, "found"], why)
        assert found["data"].tolist() == ["shown", "shown"]  # what the data shows is said all the same


def test_the_place_counts_one_in_a_hundred_where_features_are_many(samples: ResponseSamples) -> None:
    every = directed(Planted().attribute(samples), samples)
    row = every[(every["drug_id"] == "D1") & (every["gene"] == "BRAF")]
    others = pd.concat([row] * 2999).assign(gene=[f"X{number}" for number in range(2999)])
    for place, status in ((30, "found"), (31, "not found")):
        many = pd.concat([row.assign(rank=place), others], ignore_index=True)
        assert look_up([BRAF], many, samples, samples, **BOOTSTRAP)["status"][0] == status


def test_slope_is_the_difference_of_means_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(0)
    x = (rng.random(80) < 0.3).astype(float)
    y = rng.normal(size=80) + 1.5 * x
    found = biomarkers.slope(x, y, np.arange(80), **BOOTSTRAP)
    assert found.value == pytest.approx(y[x == 1].mean() - y[x == 0].mean())
    assert found.low < found.value < found.high
    wider = biomarkers.slope(np.repeat(x, 5), np.repeat(y, 5), np.repeat(np.arange(80), 5), **BOOTSTRAP)
    assert (wider.low, wider.high) == pytest.approx((found.low, found.high))  # copies of a line are no more lines


def test_the_mean_of_an_id_is_no_effect_and_few_carriers_are_too_few(samples: ResponseSamples) -> None:
    pairs, rng = samples.pairs.copy(), np.random.default_rng(1)
    mutated = samples.omics["mutation"]["BRAF"].to_numpy()[samples.cell] > 0
    pairs["target"] = rng.normal(0, 1, len(pairs)) + np.where(pairs["drug_id"] == "D1", 0.0, 5.0)
    # One id met mutated lines more often: taken together without their means, it would look like an effect.
    some = (pairs["drug_id"] == "D1") | ((pairs["drug_id"] == "D2") & (mutated | (samples.cell < 9)))
    kept = replace(samples, pairs=pairs).take(np.flatnonzero(some))
    assert data_effect(BRAF, ["D1", "D2"], "mutation:BRAF", kept, **BOOTSTRAP)["data"] == "not shown"
    lines = np.unique(samples.cell[mutated])[2:]
    without = samples.take(np.flatnonzero(~np.isin(samples.cell, lines)))
    found = data_effect(BRAF, ["D1"], "mutation:BRAF", without, **BOOTSTRAP)
    assert (found["data"], found["data_carriers"]) == ("too few lines", 2)
    few = samples.take(np.flatnonzero(samples.cell < 10))
    assert data_effect(ERBB2, ["D2"], "expression:ERBB2|2064", few, **BOOTSTRAP)["data"] == "too few lines"


def test_the_shipped_markers_read_and_name_no_drug_and_gene_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    markers = biomarkers.read_markers()
    keys = [(marker.drug, marker.gene, marker.omics) for marker in markers]
    assert len(set(keys)) == len(keys) >= 30
    wanted = {("Dabrafenib", "BRAF"), ("Lapatinib", "ERBB2"), ("Nutlin-3a", "MDM2"), ("Nutlin-3a", "TP53")}
    assert wanted <= {key[:2] for key in keys}
    for right, wrong in (("makes: sensitive", "sensitve"), ("omics: mutation", "mutaton")):
        changed = tmp_path / wrong  # either would turn the known direction round
        changed.write_text(biomarkers.FILE.read_text().replace(right, f"{right.split()[0]} {wrong}", 1))
        with monkeypatch.context() as patch, pytest.raises(UserError, match=wrong):
            patch.setattr(biomarkers, "FILE", changed)
            biomarkers.read_markers()
    assert all(len(marker.reference) > 30 and "(" in marker.reference for marker in markers)


def test_drugs_and_genes_are_known_by_all_their_names(samples: ResponseSamples) -> None:
    assert biomarkers.ids_of(TP53, samples) == ["D3"]  # Nutlin-3a (-)
    assert biomarkers.ids_of(replace(BRAF, drug="x", synonyms=("DABRA-FENIB",)), samples) == ["D1"]
    assert biomarkers.ids_of(replace(BRAF, drug="d4"), samples) == ["D4"]  # called so by its id
    assert biomarkers.ids_of(BRAF, replace(samples, drugs=samples.drugs.assign(name=None))) == []
    assert biomarkers.feature_of(ERBB2, samples) == "expression:ERBB2|2064"
    assert biomarkers.feature_of(replace(BRAF, gene="none", aliases=("TP53",)), samples) == "mutation:TP53"
    assert biomarkers.marked_drugs([TP53, BRAF, TP53], samples) == ["D3", "D1"]


def explained_by(model: Planted, samples: ResponseSamples) -> tuple[dict[str, Any], Evidence]:
    """Return what the evidence says of single drugs, of a model that is judged on the last fifteen lines."""
    sides = np.where(samples.cell < 45, "train", "test")
    table = samples.pairs.assign(sample_id=[str(n) for n in range(len(samples))], group=samples.pairs["cell_line_id"])
    prepared = Prepared(samples, table.assign(split=sides, fold=0), "0", {})
    return explain_drugs(pairs_setting(prepared, table[sides == "test"], resamples=100).run(model), "ln IC50", 100)


def test_the_evidence_tells_what_was_found_of_what_the_model_could_see(samples: ResponseSamples) -> None:
    said, found = explained_by(Planted(), samples)
    section = said["biomarkers"]
    by_gene = {(row["drug"], row["gene"]): row for row in section["rows"]}
    assert by_gene["Dabrafenib", "BRAF"]["status"] == "found"
    assert by_gene["Nutlin-3a", "MDM2"]["status"] == "not in the data"
    assert by_gene["Nutlin-3a", "MDM2"]["rank"] is None
    assert section["found"] == (found.tables["biomarkers"]["status"] == "found").sum() == 3
    assert set(found.tables) == {"biomarkers", "sensitizing_genes"}
    assert set(found.figures) == {"sensitizing_genes"}
    _, table = _biomarkers(section)
    assert ["Dabrafenib (D1)", "BRAF mutation: sensitive"] in [row[:2] for row in table["rows"]]
    (nothing,) = _biomarkers({**section, "looked_up": 0, "rows": [], "status": {"not in the data": 35}})
    assert "35 are not in the data" in nothing["text"]

    class Blind(Planted):
        def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
            ones = np.ones(len(samples))
            return Attribution(["drug:mean_response"], ones[:, None], ones, ones * 2, "exact")

    class OfExpression(Planted):
        def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
            made = super().attribute(samples, output)
            kept = [place for place, name in enumerate(made.names) if not name.startswith("mutation:")]
            return replace(made, names=[made.names[place] for place in kept], values=made.values[:, kept])

    assert explained_by(Blind(), samples) == ({}, Evidence())
    said, found = explained_by(OfExpression(), samples)
    section, known = said["biomarkers"], found.tables["biomarkers"]
    assert (section["found"], section["looked_up"]) == (1, 1)  # ERBB2, of expression
    outside = section["status"]["not looked at"]
    assert outside == (known["status"] == "not looked at").sum() == 2  # BRAF and TP53, both mutations
    evidence = made_evidence()
    evidence["explanation"] = {**evidence["explanation"], **said}
    check_schema(evidence, "evidence.json")
    section["rows"][0]["status"] = "overlooked"
    with pytest.raises(UserError, match="overlooked"):
        check_schema(evidence, "evidence.json")
