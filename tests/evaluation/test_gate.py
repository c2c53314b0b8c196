"""A model without proof must not pass: each check is seen failing, each alone, and nothing that is lacking passes."""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.promotion.gate import OF, Verdict, allowed, as_dicts, failures, judge, lines
from pipelines.policy import CHECKS, UNWAIVABLE, Answer, Policy, Waiver
from tests.evaluation.made_evidence import made_evidence, made_policy, made_situation, sealed

ROWS, LUNG = "worst__rows", "strata__rows__0"
PRODUCTION = {"with": "mlp", "kind": "production", "run_id": "r", "metric": "r2", "p": None, "rows": 9, "groups": 3}


def with_production(version: str, difference: float | None, low: float | None) -> list[dict[str, Any]]:
    high = None if difference is None else difference + 0.05
    compared = {**PRODUCTION, "version": version, "difference": difference, "low": low, "high": high}
    return [*made_evidence()["comparisons"], compared]


def word(check: str, evidence: dict[str, Any], policy: Policy | None = None, **situation: Any) -> Verdict:
    """Return the verdict of one check, the others having passed."""
    verdicts = judge(evidence, policy or made_policy(), made_situation(evidence, **situation))
    assert [each.check for each in failures(verdicts)] in ([], [check]), failures(verdicts)
    (verdict,) = [each for each in verdicts if each.check == check]
    assert verdict.reason
    return verdict


def test_good_evidence_passes_every_check() -> None:
    evidence = made_evidence()
    verdicts = judge(evidence, made_policy(), made_situation(evidence))
    assert [verdict.check for verdict in verdicts] == list(CHECKS) == list(OF)
    assert {row[0] for row in FAILING} == set(OF)
    assert {verdict.status for verdict in verdicts} == {"pass"}
    assert allowed(verdicts)
    assert {each.check: each.by for each in verdicts if each.by} == {"audit": "A. Person, B. Person"}
    json.dumps(as_dicts(verdicts))
    assert len(list(lines(verdicts))) == len(CHECKS)


def checks_but(*names: str) -> list[dict[str, Any]]:
    return [each for each in made_evidence()["explanation"]["checks"] if each["name"] not in names]


def stressed(**drops: float | None) -> dict[str, Any]:
    kinds = [{"kind": kind, "drop": {"value": drop, "low": -0.01, "high": 0.1}} for kind, drop in drops.items()]
    return {"samples": 40, "metric": "accuracy", "kinds": kinds}


def brought(trained_on: list[str] | None, collections: Sequence[str] = ("C-NMC 2019",)) -> dict[str, Any]:
    about = {"weights": "weights/ours.pt", "encoder": "ours", "license": "MIT"}
    return {**about, "pretrained_on": trained_on, "collections": list(collections)}


OF_TREES = {key: value for key, value in made_evidence()["cost"].items() if key != "cost_multiply_adds"}
ONLY_MARGIN = {"margin": made_evidence()["test"]["metrics"]["margin"]}
BARE = {"probe": "border", "metric": "roc_auc", "score": 0.6, "low": None, "high": None, "finding": False}
FAILING: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("margin", {"test__metrics__margin__low": 0.0}, {}, "must lie above 0"),
    ("margin", {"test__metrics__margin__low": None}, {}, "not defined"),
    ("simple_models", {"comparisons__1__difference": -0.021}, {}, "at least -0.02"),
    ("simple_models", {"comparisons__1__difference": None}, {}, "ridge not defined"),
    ("simple_models", {"comparisons": []}, {}, "compared with nothing"),
    ("production", {"comparisons": with_production("1", 0.0, -0.021)}, {"production": 1}, "at least -0.02"),
    ("production", {"comparisons": with_production("1", None, None)}, {"production": 1}, "not defined"),
    ("production", {"comparisons": with_production("1", 0.1, 0.0)}, {"production": 3}, "candidate` again"),
    ("production", {}, {"production": 1}, "candidate` again"),
    ("floor", {f"{ROWS}__0__value": 0.49}, {}, "1 below the floor: hem"),  # though its interval reaches to 0.9
    ("floor", {f"{ROWS}__0__value": None}, {}, "without a value: hem"),
    ("floor", {ROWS: []}, {}, "no class has a recall"),
    ("worst_stratum", {f"{LUNG}__drop__value": 0.151}, {}, r"tissue=lung: by 0\.151 \[0\.01, 0\.15\] \(.*p 0\.010\)"),
    ("worst_stratum", {f"{LUNG}__drop__value": None}, {}, "not measured: tissue=lung"),
    ("worst_stratum", {"strata": None}, {}, "the evidence has no strata"),
    ("worst_stratum", {"strata__rows__1__judged": True}, {}, "the evidence lacks 'drop'"),
    ("calibration", {"test__metrics__ece__value": 0.151}, {}, r"0\.151 \[0\.01, 0\.09\], at most 0\.15"),
    ("calibration", {"test__metrics__ece__value": None}, {}, "not defined"),
    ("calibration", {"test__metrics": ONLY_MARGIN}, {}, "the evidence lacks 'ece'"),  # it is never forgotten of classes
    ("coverage", {"coverage__observed": 0.84}, {}, r"0\.84 \[0\.85, 0\.95\] of test rows"),
    ("coverage", {"coverage__observed": None}, {}, "not measured"),
    ("latency", {"cost__cost_latency_ms_batch_1": 1001.0}, {}, "for 1 \\(at most 1000\\)"),
    ("latency", {"cost__cost_latency_ms_batch_32": 10001.0}, {}, "for 32 \\(at most 10000\\)"),
    ("size", {"cost__cost_model_megabytes": 150.5}, {}, "at most 150"),
    ("stress", {"stress": stressed(slide=0.02, blur=0.051)}, {}, r"under blur: by 0\.051 \[-0\.01, 0\.1\] on"),
    ("stress", {"stress": stressed(slide=0.06, blur=0.07)}, {}, "2 of 2 drop by more: blur, slide|slide, blur"),
    ("stress", {"stress": stressed(slide=0.02, blur=None)}, {}, "not measured: blur"),
    ("stress", {"stress": stressed()}, {}, "no kind"),
    ("stress", {"stress": {"samples": 40}}, {}, "the evidence lacks 'kinds'"),
    ("stress", {"modality": "images"}, {}, "no stress test; run"),  # of cells it is never forgotten
    ("stress", {"modality": "movies"}, {}, "no stress test; run"),
    ("explanation", {"explanation__checks__0__value": 0.051}, {}, "completeness 0.051"),
    ("explanation", {"explanation__checks__1__value": 0.71}, {}, "random_weights 0.71"),
    ("explanation", {"explanation__checks__2__low": 0.0}, {}, "deletion"),
    ("explanation", {"explanation__checks__0__value": None}, {}, "completeness not defined"),
    ("explanation", {"explanation__checks": []}, {}, "not checked"),
    ("explanation", {"explanation__checks": checks_but("completeness")}, {}, "without completeness;"),
    ("explanation", {"explanation__checks": checks_but("random_weights")}, {}, "without random_weights;"),
    ("explanation", {"explanation__checks": checks_but("deletion")}, {}, "without deletion;"),
    ("explanation", {"explanation__method": "grad_cam", "explanation__checks": checks_but("random_weights")}, {},
     "without random_weights;"),
    ("explanation", {"explanation__method": "grad_cam", "explanation__checks": checks_but("deletion")}, {},
     "without deletion;"),
    ("validation", {"data__validation__passed": False}, {}, "did not pass"),
    ("validation", {"data__validation": None}, {}, "cannot be read"),
    ("audit", {"data__audit__findings__0__name": "copies"}, {}, "copies is not answered"),
    ("audit", {"data__audit__findings__1__score": 0.71, "data__audit__shortcuts__0__score": 0.71}, {},
     "answered for a score of 0.7"),
    ("audit", {"data__audit__shortcuts__1__finding": True}, {},
     r"shortcut_metadata at 0\.5 \[0\.45, 0\.55\] is not answered"),
    ("audit", {"data__audit": None}, {}, "was not audited"),
    ("identity", {}, {"run_id": "run2"}, "not of this version: run$"),
    ("identity", {}, {"model_uri": "models:/m-2"}, "not of this version: model$"),
    ("identity", {}, {"model_sha256": "9" * 64}, "model's files"),
    ("identity", {}, {"model_sha256": None}, "model's files"),
    ("identity", {}, {"files_sha256": "9" * 64}, "served files"),
    ("identity", {}, {"registered_files_sha256": None, "files_sha256": None}, "served files"),
    ("identity", {}, {"evidence_sha256": "9" * 64}, "not of this version: evidence$"),
    ("identity", {}, {"rotation_sha256": "9" * 64}, "not of this version: rotation$"),
    ("identity", {"hashes__rotation.sha256": "8" * 64}, {}, "not of this version: rotation$"),
    ("identity", {"hashes__rotation.sha256": "8" * 64}, {"rotation_sha256": "9" * 64}, "version: rotation$"),
    ("data", {}, {"dvc_data_md5": "other.dir"}, "data.dvc records other.dir"),
    ("data", {}, {"dvc_lock_md5": "other.dir", "dvc_data_md5": "other.dir", "data_sha256": "f" * 64}, "dvc.lock"),
    ("data", {"hashes__dvc.task_md5": "none"}, {}, "of the task, dvc.lock records"),
    ("data", {}, {"dvc_data_md5": "other.dir", "data_sha256": "9" * 64}, "make train"),
    ("data", {}, {"dvc_data_md5": None}, "data.dvc records None"),
    ("data", {}, {"split_sha256": "9" * 64}, "the split is another"),
    ("data", {}, {"split_sha256": None}, "the split is another"),
    ("new_test_split", {}, {"looks": 501}, "501 times; at most 500: add data"),
    ("new_test_split", {}, {"looks": None}, "not on record"),
    ("new_test_split", {}, {"looks": 0}, "not on record"),
    ("simulated", {"simulated": True}, {"to": "production"}, "says nothing of patients"),
    ("pretraining", {"pretraining__collections": ["PBC", "imagenet_1K"]}, {}, "was trained on ImageNet-1k; .* of PBC"),
    ("pretraining", {"pretraining": brought(["PBC", "c_nmc 2019"])}, {}, "was trained on PBC, c_nmc 2019"),
    ("pretraining", {"pretraining": brought(None)}, {}, "ours.pt: nothing is declared"),
    ("pretraining", {"pretraining": brought(["PBC"], [])}, {}, "data.collections is empty"),
    ("pretraining", {"pretraining": {**brought(["PBC"], []), "encoder": None}}, {}, "data.collections is empty"),
    ("pretraining", {"pretraining": brought(["PBC"], ["oncolineage_simulated_cells"])}, {}, "names the shipped sample"),
    ("pretraining", {"pretraining": None}, {}, "does not say what the weights were trained on"),
]  # fmt: skip


PASSING: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("margin", {"test__metrics__margin__low": 1e-9}, {}, "margin over mean_effects"),
    ("simple_models", {"comparisons__1__difference": -0.02}, {}, "ridge"),
    ("simple_models", {"comparisons__1__kind": "peer"}, {}, "does not apply"),
    ("production", {"comparisons": with_production("1", 0.0, -0.02)}, {"production": 1}, "over version 1"),
    ("production", {}, {"production": 2}, "does not apply"),
    ("floor", {f"{ROWS}__0__value": 0.5}, {}, "lowest recall of 2: hem"),
    ("floor", {"worst__unit": "gene", f"{ROWS}__0__value": None}, {}, "without a value: hem"),
    ("floor", {f"{ROWS}__0__low": None, f"{ROWS}__0__high": None}, {}, r"hem 0\.7 \(no interval\), n 20"),
    ("worst_stratum", {f"{LUNG}__drop__value": 0.15}, {}, "at most 0.15 is allowed"),
    ("worst_stratum", {f"{LUNG}__judged": False}, {}, "does not apply: 0 of 2 strata with 10 groups"),
    ("worst_stratum", {"strata__rows": []}, {}, "does not apply"),
    ("calibration", {"test__metrics": ONLY_MARGIN, "worst__unit": "gene"}, {}, "does not apply"),
    ("coverage", {"coverage__observed": 0.86}, {}, "0.9 is declared"),
    ("explanation", {"explanation__checks": [], "architecture": "mean_effects"}, {}, "does not apply"),
    ("explanation", {"explanation__checks": checks_but("random_weights"), "cost": OF_TREES}, {}, "completeness"),
    ("explanation", {"explanation__method": "grad_cam", "explanation__checks": checks_but("completeness")}, {},
     "random_weights"),
    ("explanation", {"explanation__checks": checks_but("deletion"), "explanation__deletion": None}, {}, "completeness"),
    ("audit", {"data__audit__findings": [], "data__audit__shortcuts": []}, {}, "found nothing"),
    ("audit", {}, {}, r"shortcut_border at 0\.6 \[0\.55, 0\.65\]: cropped"),
    ("audit", {"data__audit__shortcuts": []}, {}, r"shortcut_border at 0\.6 \(no interval\): cropped"),
    ("audit", {"data__audit__shortcuts": [BARE]}, {}, r"shortcut_border at 0\.6 \(no interval\): cropped"),
    ("data", {}, {"dvc_data_md5": "other.dir", "data_sha256": "f" * 64}, "none other of this task"),
    ("data", {}, {"dvc_lock_md5": None}, "data.dvc records the same data"),
    ("simulated", {"simulated": True}, {"to": "staging"}, "does not apply"),
    ("pretraining", {"pretraining__collections": []}, {}, "trained on ImageNet-1k; the data is of no named collection"),
    ("pretraining", {"pretraining__pretrained_on": []}, {}, "does not apply"),
    ("pretraining", {"pretraining": brought(["PBC"])}, {}, "ours.pt was trained on PBC; the data is of C-NMC 2019"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "case"), [*(("fail", each) for each in FAILING), *(("pass", each) for each in PASSING)]
)
def test_a_check_fails_alone_and_passes_at_its_limit(
    status: str, case: tuple[str, dict[str, Any], dict[str, Any], str]
) -> None:
    check, changes, situation, says = case
    verdict = word(check, made_evidence(**changes), **situation)
    assert verdict.status == status and re.search(says, verdict.reason), verdict.reason


def test_edited_evidence_and_answers_for_simulated_data() -> None:
    assert word("identity", made_evidence() | {"seconds": 2.0}).status == "fail"
    known = Answer("few_groups", "the sample is small", "A. Person", simulated=True)
    policy = made_policy(answers=(known, Answer("shortcut_border", "cropped", "A. Person", 0.7)))
    assert word("audit", made_evidence(), policy).status == "fail"
    assert word("audit", made_evidence(simulated=True), policy, to="staging").status == "pass"


def waiver(check: str, until: str = "2026-11-20") -> tuple[Waiver, ...]:
    names = {"floor": ("hem",), "worst_stratum": ("tissue=lung",)}
    return (Waiver(check, "known", "A. Person", until, names.get(check, ())),)


def test_a_floor_is_waived_for_those_who_are_named_alone_and_an_identity_never() -> None:
    low = made_evidence(**{f"{ROWS}__0__value": 0.1, f"{ROWS}__1__value": 0.2})
    both = Waiver("floor", "both rare", "B. Person", "2026-11-20", ("hem", "all"))
    refused = word("floor", low, made_policy(waivers=waiver("floor")))
    assert (refused.status, refused.names) == ("fail", ("hem", "all"))
    assert word("floor", low, made_policy(waivers=(*waiver("floor"), both))).by == "B. Person"
    unnamed = Waiver("floor", "all of them", "A. Person", "2026-11-20")
    assert word("floor", low, made_policy(waivers=(unnamed,))).status == "fail"
    for check in UNWAIVABLE:  # nobody waives whose evidence it is
        policy = made_policy(waivers=waiver(check, "2099-01-01"))
        assert word(check, made_evidence(), policy, model_sha256="9" * 64).status == "fail"


@pytest.mark.parametrize("check", [check for check in CHECKS if check not in UNWAIVABLE])
def test_a_waiver_counts_by_name_until_its_day(check: str) -> None:
    _, changes, situation, _ = next(each for each in FAILING if each[0] == check)
    evidence = made_evidence(**changes)
    waived = word(check, evidence, made_policy(waivers=waiver(check)), **situation)
    assert (waived.status, waived.by) == ("waived", "A. Person")
    assert "known" in waived.reason and "2026-11-20" in waived.reason
    late = word(check, evidence, made_policy(waivers=waiver(check)), **{**situation, "today": date(2026, 11, 21)})
    assert late.status == "fail"
    other = "size" if check != "size" else "margin"
    assert word(check, evidence, made_policy(waivers=waiver(other)), **situation).status == "fail"


def places(part: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every key and entry of nested JSON values."""
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [path for key, value in below for path in ((*here, key), *places(value, (*here, key)))]


JUNK = st.one_of(st.none(), st.text(max_size=3), st.booleans(), st.just(float("nan")), st.just([]), st.just({}))


@settings(deadline=None, max_examples=200)
@given(path=st.sampled_from(places(made_evidence())), junk=st.one_of(st.just(KeyError), JUNK))
def test_what_is_lacking_or_spoilt_never_raises_and_never_helps(path: tuple[Any, ...], junk: Any) -> None:
    """Evidence that fails in one thing does not pass by losing a part or by holding nonsense there."""
    evidence = copy.deepcopy(made_evidence(test__metrics__margin__low=-0.1))
    part = evidence
    for key in path[:-1]:
        part = part[key]
    if junk is KeyError:
        del part[path[-1]]
    else:
        part[path[-1]] = junk
    if path[0] != "sha256":
        evidence = sealed({key: value for key, value in evidence.items() if key != "sha256"})
    verdicts = judge(evidence, made_policy(), made_situation({"sha256": None, **evidence}))
    assert [verdict.check for verdict in verdicts] == list(CHECKS)
    assert not allowed(verdicts)
    json.dumps(as_dicts(verdicts), allow_nan=False)


def test_no_list_with_a_failure_without_a_check_or_with_one_twice_allows() -> None:
    every = [Verdict(check, "pass", "x") for check in CHECKS]
    assert allowed([replace(every[0], status="waived"), *every[1:]])
    for verdicts in ([], every[1:], [*every, every[0]], [replace(every[0], status="fail"), *every[1:]]):
        assert not allowed(verdicts)
