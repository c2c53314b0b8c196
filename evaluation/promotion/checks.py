"""The checks of the gate: each looks at one thing and returns its verdict with the numbers.

A key that the evidence lacks is no business of theirs: `evaluation.promotion.gate.judge` makes a failure of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Literal

from evaluation.evidence.evidence_file import evidence_sha256
from pipelines.formatting import UNDEFINED, finite, interval, listed, number
from pipelines.policy import Gate, TaskPolicy
from pipelines.problems import metrics

_number = partial(number, form=".3g", nothing=UNDEFINED)
_interval = partial(interval, form=".3g", nothing=UNDEFINED, alone="{} (no interval)")

Status = Literal["pass", "fail", "waived"]
Evidence = dict[str, Any]


@dataclass(frozen=True)
class Situation:
    """What is known of a version when it is judged; None is what cannot be found out, and it proves nothing.

    Attributes
    ----------
    to, today
        Where the version is to go, and the day, since waivers end.
    run_id, model_uri, evidence_sha256, version
        Of the version, as the registry has them; the number is None before it has one.
    model_sha256
        Of the fitted model's files behind the version, hashed now.
    files_sha256, registered_files_sha256
        Of all that is served, code included: hashed now, and when the version was registered.
    dvc_data_md5, dvc_lock_md5
        What ``data.dvc`` records now of all raw data, and ``dvc.lock`` of the task's own; None where nothing is
        recorded.
    data_sha256
        Of the task's own raw folder now; only needed where ``dvc_data_md5`` is another.
    split_sha256
        Of the task's split now.
    production
        Number of the version in production, None where there is none.
    """

    to: Literal["staging", "production"]
    today: date
    run_id: str | None
    model_uri: str | None
    evidence_sha256: str | None
    model_sha256: str | None
    files_sha256: str | None
    registered_files_sha256: str | None
    dvc_data_md5: str | None
    data_sha256: str | None
    split_sha256: str | None
    version: int | None = None
    production: int | None = None
    dvc_lock_md5: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of one check."""

    check: str
    status: Status
    reason: str
    by: str | None = None
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.status:<6} {self.check}: {self.reason}" + (f" ({self.by})" if self.by else "")


@dataclass(frozen=True)
class Case:
    """What every check looks at."""

    evidence: Evidence
    gate: Gate
    task: TaskPolicy
    now: Situation

    def verdict(
        self, check: str, holds: bool, reason: str, by: str | None = None, names: tuple[str, ...] = ()
    ) -> Verdict:
        """Return the verdict of ``check``."""
        return Verdict(check, "pass" if holds else "fail", reason, by, names)


def _margin(case: Case) -> Verdict:
    """The interval of the margin over the naive baseline lies above ``gate.margin``."""
    margin, over = case.evidence["test"]["metrics"]["margin"], case.evidence["baseline"]
    if not finite(margin["value"], margin["low"]):
        return case.verdict("margin", False, f"the margin over {over} is not defined")
    least = case.gate.margin
    said = f"the margin over {over} is {_interval(margin)}; its low end must lie above {least:g}"
    return case.verdict("margin", margin["low"] > least, said)


def _simple_models(case: Case) -> Verdict:
    """No simple model is better by more than ``gate.non_inferiority``."""
    compared = list(case.evidence["comparisons"])
    if not any(each["kind"] == "naive" for each in compared):
        return case.verdict("simple_models", False, "compared with nothing; run `python -m evaluation.candidate`")
    simple = [each for each in compared if each["kind"] == "simple"]
    if not simple:
        return case.verdict("simple_models", True, "does not apply: no other simple model is trained")
    told = [f"{each['with']} {_interval(each, 'difference')}" for each in simple]
    least = -case.gate.non_inferiority
    worse = [each for each in simple if not finite(each["difference"]) or each["difference"] < least]
    said = f"{_called(case, simple[0]['metric'])} over {', '.join(told)}; each must be at least {least:+g}"
    return case.verdict("simple_models", not worse, said)


def _production(case: Case) -> Verdict:
    """Not worse than what is in production: non-inferiority by the paired interval, on the same rows."""
    now = case.now.production
    if now is None:
        return case.verdict("production", True, "does not apply: nothing is in production")
    if now == case.now.version:
        return case.verdict("production", True, "does not apply: this version is in production")
    compared = [
        each
        for each in list(case.evidence["comparisons"])
        if each["kind"] == "production" and str(each["version"]) == str(now)
    ]
    if not compared:
        said = f"not compared with version {now}, which is in production; run `python -m evaluation.candidate` again"
        return case.verdict("production", False, said)
    difference, least = compared[-1], -case.gate.non_inferiority
    if not finite(difference["difference"], difference["low"]):
        return case.verdict("production", False, f"the difference from version {now} is not defined")
    said = f"{_called(case, difference['metric'])} over version {now} {_interval(difference, 'difference')}"
    return case.verdict("production", difference["low"] >= least, f"{said}; its low end must be at least {least:+g}")


def _floor(case: Case) -> Verdict:
    """No class, drug or gene has a value below the task's floor."""
    floor, worst = case.task.floor, case.evidence["worst"]
    if math.isinf(floor):
        return case.verdict("floor", True, "does not apply: policy.tasks has no floor for this task")
    unit, metric, rows = worst["unit"], worst["metric"], worst["rows"]
    unknown = [row["name"] for row in rows if not finite(row["value"])]
    known = [row for row in rows if finite(row["value"])]
    if not known:
        return case.verdict("floor", False, f"no {unit} has a {metric}")
    lowest = min(known, key=lambda row: row["value"])
    below = [row for row in known if row["value"] < floor]
    where = f"{lowest['name']} {_interval(lowest)}, n {lowest['n']}"
    said = f"lowest {_called(case, metric)} of {len(known)}: {where}; the floor is {floor:g}"
    if below:
        said = f"{len(below)} below the floor: {listed([row['name'] for row in below], 50)}; {said}"
    if unknown:
        said += f"; without a value: {listed(unknown)}"
    failed = [*(row["name"] for row in below), *(unknown if unit == "class" else ())]
    return case.verdict("floor", not failed, said, names=tuple(failed))


def _calibration(case: Case) -> Verdict:
    """Stated probabilities are right on average: expected calibration error of classes."""
    metrics = case.evidence["test"]["metrics"]
    if case.evidence["worst"]["unit"] != "class" and "ece" not in metrics:
        return case.verdict("calibration", True, "does not apply: numbers are predicted, see coverage")
    error, most = metrics["ece"], case.gate.ece
    said = f"the expected calibration error: {_interval(error)}, at most {most:g}"
    return case.verdict("calibration", finite(error["value"]) and error["value"] <= most, said)


def _coverage(case: Case) -> Verdict:
    """Prediction sets or intervals hold the truth about as often as they say."""
    coverage = case.evidence["coverage"]
    declared, observed = coverage["declared"], coverage["observed"]
    if not finite(declared, observed):
        return case.verdict("coverage", False, "not measured")
    least = declared - case.gate.coverage_shortfall
    said = f"{_interval(coverage, 'observed')} of test rows are covered, {declared:g} is declared; "
    said += f"at least {least:.3f} is asked"
    return case.verdict("coverage", observed >= least, said)


def _latency(case: Case) -> Verdict:
    """Of a request of 1 and of 32 rows."""
    cost, gate = case.evidence["cost"], case.gate
    asked = ((1, gate.latency_ms_batch_1), (32, gate.latency_ms_batch_32))
    took = [(batch, cost[f"cost_latency_ms_batch_{batch}"], most) for batch, most in asked]
    said = ", ".join(f"{_number(value)} ms for {batch} (at most {most:g})" for batch, value, most in took)
    return case.verdict("latency", all(finite(value) and value <= most for _, value, most in took), said)


def _size(case: Case) -> Verdict:
    """Of the model's files."""
    value, most = case.evidence["cost"]["cost_model_megabytes"], case.gate.megabytes
    return case.verdict("size", finite(value) and value <= most, f"megabytes: {_number(value)}, at most {most:g}")


def _explanation(case: Case) -> Verdict:
    """What the explanation says of itself: it adds up, it needs the learnt weights, and it points at what matters."""
    checks = case.evidence["explanation"]["checks"]
    if not checks:
        alone = case.evidence["architecture"] == case.evidence["baseline"]
        said = "does not apply: the model looks at no feature" if alone else "the explanation was not checked"
        return case.verdict("explanation", alone, said)
    told = [_explained(check, case.gate) for check in checks]
    if lacking := _unexplained(case.evidence):
        told.append((False, f"without {' and '.join(lacking)}; run `make train` again"))
    return case.verdict("explanation", all(holds for holds, _ in told), ", ".join(said for _, said in told))


def _unexplained(evidence: Evidence) -> list[str]:
    """Return the checks that an explanation of its kind has to bring, and does not."""
    explanation = evidence["explanation"]
    maps = explanation["method"] == "grad_cam"
    needed = [] if maps else ["completeness"]
    if not ("deletion" in explanation and explanation["deletion"] is None):
        needed.append("deletion")
    if maps or "cost_multiply_adds" in evidence["cost"]:
        needed.append("random_weights")
    there = {check["name"] for check in explanation["checks"]}
    return [name for name in needed if name not in there]


def _explained(check: dict[str, Any], gate: Gate) -> tuple[bool, str]:
    name, value, low = check["name"], check["value"], check["low"]
    if name == "deletion":
        return finite(low) and low > 0, f"{name} {_interval(check)}, its low end above 0"
    limits = {"completeness": gate.completeness, "random_weights": gate.random_weights_correlation}
    if name not in limits:
        return False, f"{name} is a check that the gate does not know"
    return finite(value) and value <= limits[name], f"{name} {_number(value)}, at most {limits[name]:g}"


def _validation(case: Case) -> Verdict:
    """The raw data met every expectation."""
    passed = case.evidence["data"]["validation"]["passed"]
    said = "the data met every expectation" if passed is True else "the data was not validated, or did not pass"
    return case.verdict("validation", passed is True, said)


def _audit(case: Case) -> Verdict:
    """Every finding and shortcut of the audit is answered by a person, up to the score that it had then."""
    audit = case.evidence["data"]["audit"]
    if audit is None:
        return case.verdict("audit", False, "the raw data was not audited; run the stages audit and evaluate again")
    found = {each["name"]: each.get("score") for each in audit["findings"]}
    found |= {f"shortcut_{each['probe']}": each["score"] for each in audit["shortcuts"] if each["finding"]}
    intervals = {f"shortcut_{each['probe']}": each for each in audit["shortcuts"]}
    if not found:
        return case.verdict("audit", True, "the audit found nothing")
    simulated = case.evidence["simulated"] is True
    said, by, all_hold = [], [], True
    for name, score in found.items():
        holding = [
            each
            for each in case.task.answers
            if each.finding == name
            and (simulated or not each.simulated)
            and (score is None or (finite(score) and score <= each.up_to))
        ]
        scored = "" if score is None else f" at {_interval({**intervals.get(name, {}), 'value': score})}"
        if holding:
            said.append(f"{name}{scored}: {holding[0].answer}")
            by.append(holding[0].by)
            continue
        all_hold = False
        said.append(f"{name}{scored} is not answered in policy.tasks{_beyond(case, name)}")
    return case.verdict("audit", all_hold, "; ".join(said), ", ".join(dict.fromkeys(by)) or None)


def _beyond(case: Case, finding: str) -> str:
    """Say which answers to ``finding`` there are although none holds."""
    of_it = [each for each in case.task.answers if each.finding == finding]
    limits = ["simulated data only" if each.simulated else f"a score of {each.up_to:g}" for each in of_it]
    return f" (answered for {' and '.join(limits)})" if limits else ""


def _identity(case: Case) -> Verdict:
    """The evidence is of this very version, and neither it nor the version's files were changed since."""
    evidence, now = case.evidence, case.now
    pairs = {
        "run": (evidence["run_id"], now.run_id),
        "model": (evidence["model_uri"], now.model_uri),
        "model's files": (evidence["hashes"]["model.sha256"], now.model_sha256),
        "served files": (now.registered_files_sha256, now.files_sha256),
        "evidence": (evidence_sha256(evidence), now.evidence_sha256),
        "evidence's own hash": (evidence_sha256(evidence), evidence["sha256"]),
    }
    wrong = [what for what, (told, found) in pairs.items() if told is None or told != found]
    said = f"not of this version: {', '.join(wrong)}" if wrong else "run, model, files and evidence are of this version"
    return case.verdict("identity", not wrong, said)


def _data(case: Case) -> Verdict:
    """Measured on the data and the split that are recorded now: a model of old data is not one of today's."""
    hashes, now = case.evidence["hashes"], case.now
    if now.split_sha256 is None or hashes["split.sha256"] != now.split_sha256:
        return case.verdict("data", False, "the split is another now; run `make train` and register again")
    if now.dvc_lock_md5 is not None and hashes.get("dvc.task_md5") != now.dvc_lock_md5:
        said = f"measured on data {hashes.get('dvc.task_md5')} of the task, dvc.lock records {now.dvc_lock_md5}"
        return case.verdict("data", False, f"{said}; run `make train` and register again")
    if now.dvc_data_md5 is not None and hashes.get("dvc.data_md5") == now.dvc_data_md5:
        return case.verdict("data", True, f"data.dvc records the same data, {now.dvc_data_md5}")
    if now.data_sha256 is not None and hashes.get("data.sha256") == now.data_sha256:
        return case.verdict("data", True, "data.dvc records other data, but none other of this task")
    said = f"measured on data {hashes.get('dvc.data_md5')}, data.dvc records {now.dvc_data_md5}"
    return case.verdict("data", False, f"{said}; run `make train` and register again")


def _simulated(case: Case) -> Verdict:
    """What was measured on simulated data says nothing of patients."""
    if case.evidence["simulated"] is False:
        return case.verdict("simulated", True, "measured on real data")
    if case.now.to == "staging":
        return case.verdict("simulated", True, "does not apply: simulated data, which may go to staging")
    return case.verdict("simulated", False, "measured on simulated data, which says nothing of patients")


OF: dict[str, Callable[[Case], Verdict]] = {
    "margin": _margin,
    "simple_models": _simple_models,
    "production": _production,
    "floor": _floor,
    "calibration": _calibration,
    "coverage": _coverage,
    "latency": _latency,
    "size": _size,
    "explanation": _explanation,
    "validation": _validation,
    "audit": _audit,
    "identity": _identity,
    "data": _data,
    "simulated": _simulated,
}


def _called(case: Case, metric: str) -> str:
    """Return a metric's name with what it is, for who has not met it."""
    known = metrics().get(metric)
    return metric if known is None else f"{metric} ({known.meaning.format(baseline=case.evidence['baseline'])})"
