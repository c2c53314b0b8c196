"""A model that sees the hospital and nobody says so; a probe that tells classes and calls them hospitals."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence.evidence_file import SCHEMA_FILE
from evaluation.evidence.origins import evidence, told
from evaluation.modalities import modality_of
from evaluation.promotion.card_parts import origin_blocks
from pipelines.files import read_json
from pipelines.params import read_params
from pipelines.samples.expression import ExpressionSamples
from tests.evaluation.planted import Setting, profile_samples, split_by
from tests.pipelines.expression_folder import ROOT
from training.architectures import get_architecture

GENES = tuple(f"G{number}" for number in range(30))
BOOTSTRAP: dict[str, Any] = {"resamples": 100, "confidence": 0.95, "seed": 1}


def samples(shift: float) -> ExpressionSamples:
    """Return two classes of three sites each, which shift every gene by ``shift``; a patient has two samples."""
    rng = np.random.default_rng(2)
    n = 360
    patient = np.arange(n) // 6 * 3 + np.arange(n) % 3
    target, site = patient % 2, patient % 6
    values = 8 + rng.normal(0, 3, (2, 30))[target] + shift * rng.normal(0, 1, (6, 30))[site]
    values += rng.normal(0, 1, (n, 30))
    label = np.array(["a", "b"])[target]
    named = [f"h{code}" for code in site]
    return profile_samples(values, GENES, label, classes=("a", "b"), target=target.astype(np.int64), site=named)


@pytest.mark.parametrize(("shift", "found"), [(1.0, True), (0.0, False)])
def test_sites_of_a_class_are_told_where_they_differ_and_classes_are_none(shift: float, found: bool) -> None:
    given = samples(shift)
    score = told(lambda rows: given.values, given.table["site"], given, **BOOTSTRAP)
    assert score is not None
    assert (score["chance"], score["sites"], score["samples"]) == (pytest.approx(1 / 3), 6, 360)
    assert (score["low"] > 0.6) if found else (score["low"] < 1 / 3 < score["high"] + 0.05)
    few = given.take(np.arange(20))
    assert told(lambda rows: few.values, few.table["site"], few, **BOOTSTRAP) is None


def test_the_section_has_what_is_asked_and_after_combat_what_was_learned() -> None:
    given = samples(1.0)
    side = np.where(np.arange(360) < 300, "train", "test")
    prepared = split_by(given, side, np.where(side == "test", -1, 0))
    task = read_params(ROOT / "params.yaml").task("tumor_type")
    contract: dict[str, Any] = {"classes": ["a", "b"], "temperature": 1.0, "threshold": 0.5}
    contract |= {"genes": list(GENES), "known": list(GENES)}
    setting = Setting(task, prepared, pd.DataFrame(), contract).evaluated(resamples=100)
    architecture, train = get_architecture("logistic_regression", "profiles", "classification"), prepared.side("train")
    told_of = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for combat in ("none", "site"):
            run = setting.run(architecture.build({"combat": combat}).fit(train))
            told_of[combat] = evidence(run)
    plain, corrected = (told_of[each].sections["origins"]["rows"] for each in ("none", "site"))
    assert [row["features"] for row in plain] == ["asked"] and plain == corrected[:1]
    assert [(row["origin"], row["features"]) for row in corrected] == [("site", "asked"), ("site", "learned")]
    assert corrected[1]["value"] < plain[0]["value"] - 0.2
    assert told_of["site"].logged["origins/site_learned"] == corrected[1]["value"]
    import jsonschema

    schema = read_json(SCHEMA_FILE)
    jsonschema.validate({"rows": corrected}, {**schema["properties"]["origins"], "$defs": schema["$defs"]})
    assert origin_blocks({"origins": {"rows": corrected}}) and not origin_blocks({})


def test_unknown_sites_are_not_told_and_patients_are_resampled_in_every_mode() -> None:
    given = samples(1.0)
    lacking = given.table["site"].where(given.table["site"] != "h0", None)
    score = told(lambda rows: given.values, lacking, given, **BOOTSTRAP)
    assert score is not None and (score["sites"], score["samples"]) == (5, 300)
    prepared = split_by(given, np.full(360, "test"), np.full(360, -1))
    task = read_params(ROOT / "params.yaml").task("tumor_type")
    by_site = replace(prepared, table=prepared.table.assign(group=prepared.table["site"]))
    for mode, made in (("site_blind", by_site), ("patient_blind", prepared)):
        unit, rows = modality_of("profiles").resampled(made.table[::-1], made, replace(task.split, mode=mode))
        assert unit == "patient" and len(rows.groupby(["patient_id", "group"])) == rows["patient_id"].nunique()
    elsewhere = replace(given, table=given.table.drop(columns="site"))  # an outside cohort, of one hospital
    _, names = modality_of("profiles").units(elsewhere, replace(task.split, mode="site_blind"))
    assert len(set(names)) == given.table["patient_id"].nunique()
