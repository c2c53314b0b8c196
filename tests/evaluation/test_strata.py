"""A part of the test rows on which a model fails must not hide in the mean: it is found, named and refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence import strata
from evaluation.evidence.evidence_file import check_schema, seal
from evaluation.evidence.strata import MISSING, strata_of, stratify
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from evaluation.promotion.card import content
from evaluation.promotion.gate import judge
from pipelines.errors import UserError
from pipelines.files import jsonable
from pipelines.params import read_params
from pipelines.policy import TaskPolicy, Waiver
from pipelines.report import as_markdown
from pipelines.samples.response import make_samples
from tests.evaluation.made_evidence import made_cell_evidence, made_policy, made_situation
from tests.evaluation.planted import Known, Setting, profile_samples, split_by
from training.problems.classification import with_probabilities

ROOT = Path(__file__).parents[2]
CLASSES = ("A", "B")
SITES = np.array(["good", "bad", None, "tiny"], dtype=object)


@pytest.fixture(scope="module")
def setting() -> Setting:
    """Return predictions that are right at three sites of four, at the site ``bad`` half of the time."""
    n, rng = 480, np.random.default_rng(0)
    code, patient = rng.integers(0, 2, n), np.arange(n) // 6 * 3 + np.arange(n) % 3
    site = np.where(patient > 231, "tiny", SITES[patient % 3])
    samples = profile_samples(
        rng.normal(size=(n, 2)),
        ("G1", "G2"),
        np.array(CLASSES)[code],
        classes=CLASSES,
        target=code,
        site=site,
        age=patient,
    )
    side = np.where(patient < 120, "train", "test")
    prepared = split_by(samples, side, np.where(side == "train", 0, -1))
    rows = prepared.table.iloc[prepared.rows("test")].reset_index(drop=True)
    wrong = (rows["site"] == "bad").to_numpy() & (rng.random(len(rows)) < 0.5)
    probability = np.eye(2)[np.where(wrong, 1 - rows["target"], rows["target"])] * 0.9 + 0.05
    predictions = with_probabilities(rows, CLASSES, probability, 1.0, np.full((len(rows), 2), 0.5))
    task = read_params(ROOT / "params.yaml").task("tumor_type")
    contract = {"classes": list(CLASSES), "temperature": 1.0, "threshold": 0.5, "genes": ["G1"], "known": ["G1"]}
    made = Setting(task, prepared, predictions, contract)
    return made.evaluated(resamples=200, metric="accuracy", strata=("site", "age", "plate?"), bands={"age": (150.0,)})


def section(setting: Setting) -> dict[str, Any]:
    inside = np.ones(len(setting.predictions))
    found = strata.evidence(setting.run(Known()), measures_of("classification"), inside)
    return dict(jsonable(found.sections["strata"]))


def test_a_site_at_which_the_model_fails_is_found_refused_and_waived_by_its_name(setting: Setting) -> None:
    found = section(setting)
    rows = {row["name"]: row for row in found["rows"] if row["column"] == "site"}
    assert set(rows) == {"good", "bad", "tiny", MISSING} and found["columns"] == ["site", "age"]
    assert rows["tiny"]["groups"] < 10 and not rows["tiny"]["judged"] and "drop" not in rows["tiny"]
    assert rows["bad"]["judged"] and rows["bad"]["rest"]["significant"]
    assert rows["good"]["metrics"]["accuracy"]["value"] == 1 > rows["bad"]["metrics"]["accuracy"]["high"]
    ages = {row["name"]: row for row in found["rows"] if row["column"] == "age"}
    assert set(ages) == {"up to 150", "above 150"} and not any(row["rest"]["significant"] for row in ages.values())
    every = (setting.predictions["prediction"] == setting.predictions["target"]).mean()
    drop = rows["bad"]["drop"]
    assert drop["value"] == pytest.approx(every - rows["bad"]["metrics"]["accuracy"]["value"])
    assert 0.1 < drop["low"] < drop["value"] < drop["high"]
    assert (found["worst"]["column"], found["worst"]["name"]) == ("site", "bad")

    evidence = seal({**made_cell_evidence(), "strata": found})
    check_schema(evidence, "the evidence")
    assert "The worst stratum is site bad" in as_markdown(content(evidence, []))

    def status(*names: str) -> str:
        waivers = (Waiver("worst_stratum", "known", "A. Person", "2027-01-01", names),) if names else ()
        policy = replace(made_policy(), tasks={"leukemia_cell": TaskPolicy(waivers=waivers)})
        verdicts = judge(evidence, policy, made_situation(evidence))
        return next(each.status for each in verdicts if each.check == "worst_stratum")

    assert [status(), status("site=good"), status("site=bad")] == ["fail", "fail", "waived"]


def test_a_column_that_is_not_there_is_named_with_those_that_are(setting: Setting) -> None:
    settings = replace(setting.task.evaluate, strata=("sit",), bands={})
    with pytest.raises(UserError, match=r"params.yaml: tasks.tumor_type.evaluate.strata names 'sit'.*label.*site, age"):
        strata_of(setting.prepared, replace(setting.task, evaluate=settings), "tumor_type")
    settings = replace(settings, strata=("site",), bands={"site": (1.0,)})
    with pytest.raises(UserError, match=r"tasks.tumor_type.evaluate.bands.site has edges"):
        strata_of(setting.prepared, replace(setting.task, evaluate=settings), "tumor_type")


def test_numbers_are_cut_at_quartiles_of_training_rows_and_few_values_are_categories() -> None:
    ages = pd.Series([*range(40), 1000, None])
    found = stratify(ages, np.arange(40), (), "key")
    assert pd.Series(found[:40]).value_counts().tolist() == [10] * 4
    assert found[-2:].tolist() == ["above 29.25", MISSING]
    assert stratify(pd.Series([0, 1, None]), np.arange(3), (), "key").tolist() == ["0.0", "1.0", MISSING]


def test_columns_of_lines_and_drugs_and_parts_of_barcodes_are_strata() -> None:
    pairs = pd.DataFrame({"sample_id": ["1", "2"], "cell_line_id": ["L", "M"], "drug_id": ["D", "D"]})
    lines = pd.DataFrame({"tissue": ["lung", "unknown"]}, index=["L", "M"])
    drugs = pd.DataFrame({"smiles": ["C"], "pathway": ["MAPK"]}, index=["D"])
    prepared: Any = SimpleNamespace(samples=make_samples(pairs, lines, drugs, {}), table=pairs, tested=np.arange(2))
    prepared.rows = lambda side: np.arange(2)
    settings = SimpleNamespace(strata=("tissue", "pathway"), bands={})
    task: Any = SimpleNamespace(modality="pairs", evaluate=settings)
    found = {column: each.tolist() for column, each in strata_of(prepared, task, "any").items()}
    assert found == {"tissue": ["lung", MISSING], "pathway": ["MAPK", "MAPK"]}

    profiles = profile_samples(np.zeros((2, 1)), ("G",), np.array(["A", "B"]))
    ids = ["TCGA-OR-A5J1-01A-11R-A29W-13", "TCGA-05-4244-01A-01T-1108-13"]
    described = modality_of("profiles").described(replace(profiles, table=profiles.table.assign(sample_id=ids)))
    assert described[["site", "plate"]].to_numpy().tolist() == [["OR", "A29W"], ["05", "1108"]]
    assert "site" not in modality_of("profiles").described(profiles)
