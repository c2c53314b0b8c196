"""Whether a model may go where it is to go: named checks over its evidence, each with its verdict and reason.

A check passes, fails, or is waived by a person. What does not apply passes and says so. Whatever the evidence lacks
fails. Thresholds, answers and waivers are under ``policy`` in ``params.yaml``.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from typing import Any, Literal, NamedTuple

from evaluation.evidence.evidence_file import evidence_sha256
from evaluation.modalities import modality_names, modality_of
from evaluation.promotion.situation import Situation
from pipelines.encoders import SAMPLE, plain_name
from pipelines.formatting import UNDEFINED, counted, finite, interval, listed, number, p_value
from pipelines.policy import CHECKS, UNWAIVABLE, Gate, Policy, TaskPolicy
from pipelines.problems import metrics

_number = partial(number, form=".3g", nothing=UNDEFINED)
_interval = partial(interval, form=".3g", nothing=UNDEFINED, alone="{} (no interval)")

Evidence = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What every check looks at."""

    evidence: Evidence
    gate: Gate
    task: TaskPolicy
    now: Situation

    def comparisons(self, kind: str) -> list[dict[str, Any]]:
        """Return the comparisons of the evidence with models of a kind."""
        return [each for each in list(self.evidence["comparisons"]) if each["kind"] == kind]

    def called(self, metric: str) -> str:
        """Return a metric's name with its meaning."""
        known = metrics().get(metric)
        return metric if known is None else f"{metric} ({known.meaning.format(baseline=self.evidence['baseline'])})"


class Checked(NamedTuple):
    """What a check found: whether it passes, why, who answered for it, and the classes, drugs or genes at fault."""

    passes: bool
    reason: str
    by: str | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What came of one check."""

    check: str
    status: Literal["pass", "fail", "waived"]
    reason: str
    by: str | None = None
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.status:<6} {self.check}: {self.reason}" + (f" ({self.by})" if self.by else "")


def _margin(case: Case) -> Checked:
    """The interval of the margin over the naive baseline lies above ``gate.margin``."""
    margin, over = case.evidence["test"]["metrics"]["margin"], case.evidence["baseline"]
    if not finite(margin["value"], margin["low"]):
        return Checked(False, f"the margin over {over} is not defined")
    least = case.gate.margin
    said = f"the margin over {over} is {_interval(margin)}; its low end must lie above {least:g}"
    return Checked(margin["low"] > least, said)


def _simple_models(case: Case) -> Checked:
    """No simple model is better by more than ``gate.non_inferiority``."""
    if not case.comparisons("naive"):
        return Checked(False, "compared with nothing; run `python -m evaluation.candidate`")
    if not (simple := case.comparisons("simple")):
        return Checked(True, "does not apply: no other simple model is trained")
    told = [f"{each['with']} {_interval(each, 'difference')}" for each in simple]
    least = -case.gate.non_inferiority
    worse = [each for each in simple if not finite(each["difference"]) or each["difference"] < least]
    said = f"{case.called(simple[0]['metric'])} over {', '.join(told)}; each must be at least {least:+g}"
    return Checked(not worse, said)


def _production(case: Case) -> Checked:
    """Not worse than what is in production: non-inferiority by the paired interval, on the same rows."""
    now = case.now.production
    if now is None:
        return Checked(True, "does not apply: nothing is in production")
    if now == case.now.version:
        return Checked(True, "does not apply: this version is in production")
    compared = [each for each in case.comparisons("production") if str(each["version"]) == str(now)]
    if not compared:
        said = f"not compared with version {now}, which is in production; run `python -m evaluation.candidate` again"
        return Checked(False, said)
    difference, least = compared[-1], -case.gate.non_inferiority
    if not finite(difference["difference"], difference["low"]):
        return Checked(False, f"the difference from version {now} is not defined")
    said = f"{case.called(difference['metric'])} over version {now} {_interval(difference, 'difference')}"
    return Checked(difference["low"] >= least, f"{said}; its low end must be at least {least:+g}")


def _floor(case: Case) -> Checked:
    """No class, drug or gene has a value below the task's floor."""
    floor, worst = case.task.floor, case.evidence["worst"]
    if math.isinf(floor):
        return Checked(True, "does not apply: policy.tasks has no floor for this task")
    unit, metric, rows = worst["unit"], worst["metric"], worst["rows"]
    known = [row for row in rows if finite(row["value"])]
    unknown = [row["name"] for row in rows if not finite(row["value"])]
    if not known:
        return Checked(False, f"no {unit} has a {metric}")
    lowest = min(known, key=lambda row: row["value"])
    below = [row for row in known if row["value"] < floor]
    where = f"{lowest['name']} {_interval(lowest)}, n {lowest['n']}"
    said = f"lowest {case.called(metric)} of {len(known)}: {where}; the floor is {floor:g}"
    if below:
        said = f"{len(below)} below the floor: {listed([row['name'] for row in below], 50)}; {said}"
    if unknown:
        said += f"; without a value: {listed(unknown)}"
    failed = [*(row["name"] for row in below), *(unknown if unit == "class" else ())]
    return Checked(not failed, said, names=tuple(failed))


def _worst_stratum(case: Case) -> Checked:
    """No judged stratum scores further below all test rows than ``gate.stratum_drop``, by the difference itself."""
    strata, most = case.evidence.get("strata"), case.gate.stratum_drop
    if strata is None:
        return Checked(False, "the evidence has no strata; run the stage evaluate again")
    metric, rows = case.called(strata["metric"]), strata["rows"]
    if not rows:
        return Checked(True, "does not apply: evaluate.strata names no column that the data has")
    judged = {f"{row['column']}={row['name']}": row for row in rows if row["judged"]}
    few = f"{len(judged)} of {counted(len(rows), 'stratum', 'strata')} with {strata['least_groups']} groups and a score"
    unknown = [name for name, row in judged.items() if not finite(row["drop"]["value"])]
    if unknown or not judged:
        return Checked(not judged, f"not measured: {listed(unknown)}" if unknown else f"does not apply: {few}")
    beyond = [name for name, row in judged.items() if row["drop"]["value"] > most]
    worst = max(judged, key=lambda name: float(judged[name]["drop"]["value"]))
    by = f"{_interval(judged[worst]['drop'])} (against the rest p {p_value(judged[worst]['rest']['p_corrected'])})"
    said = f"{metric} lies furthest below all rows for {worst}: by {by}, {few}"
    more = f"; {len(beyond)} lie further below: {listed(beyond, 50)}" if beyond else ""
    return Checked(not beyond, f"{said}; at most {most:g} is allowed{more}", names=tuple(beyond))


def _calibration(case: Case) -> Checked:
    """Stated probabilities are right on average: expected calibration error of classes."""
    metrics = case.evidence["test"]["metrics"]
    if case.evidence["worst"]["unit"] != "class" and "ece" not in metrics:
        return Checked(True, "does not apply: numbers are predicted, see coverage")
    error, most = metrics["ece"], case.gate.ece
    said = f"the expected calibration error: {_interval(error)}, at most {most:g}"
    return Checked(finite(error["value"]) and error["value"] <= most, said)


def _coverage(case: Case) -> Checked:
    """Prediction sets or intervals hold the truth about as often as they say."""
    coverage = case.evidence["coverage"]
    declared, observed = coverage["declared"], coverage["observed"]
    if not finite(declared, observed):
        return Checked(False, "not measured")
    least = declared - case.gate.coverage_shortfall
    said = f"{_interval(coverage, 'observed')} of test rows are covered, {declared:g} is declared; at least"
    return Checked(observed >= least, f"{said} {least:.3f} is asked")


def _latency(case: Case) -> Checked:
    """Of a request of 1 and of 32 rows."""
    cost, gate = case.evidence["cost"], case.gate
    asked = ((1, gate.latency_ms_batch_1), (32, gate.latency_ms_batch_32))
    took = [(batch, cost[f"cost_latency_ms_batch_{batch}"], most) for batch, most in asked]
    said = ", ".join(f"{_number(value)} ms for {batch} (at most {most:g})" for batch, value, most in took)
    return Checked(all(finite(value) and value <= most for _, value, most in took), said)


def _size(case: Case) -> Checked:
    """Of the model's files."""
    value, most = case.evidence["cost"]["cost_model_megabytes"], case.gate.megabytes
    return Checked(finite(value) and value <= most, f"megabytes: {_number(value)}, at most {most:g}")


def _explanation(case: Case) -> Checked:
    """What the explanation says of itself: it adds up, it needs the learnt weights, and it points at what matters."""
    explanation = case.evidence["explanation"]
    if not (checks := explanation["checks"]):
        alone = case.evidence["architecture"] == case.evidence["baseline"]
        said = "does not apply: the model looks at no feature" if alone else "the explanation was not checked"
        return Checked(alone, said)
    told = [_explained(check, case.gate) for check in checks]
    maps = explanation["method"] in ("grad_cam", "occlusion")
    needed = {  # of an explanation of its kind
        "completeness": not maps,
        "deletion": not ("deletion" in explanation and explanation["deletion"] is None),
        "random_weights": maps or "cost_multiply_adds" in case.evidence["cost"],
    }
    there = {check["name"] for check in checks}
    if lacking := [name for name, asked in needed.items() if asked and name not in there]:
        told.append((False, f"without {' and '.join(lacking)}; run `make train` again"))
    return Checked(all(passes for passes, _ in told), ", ".join(said for _, said in told))


def _explained(check: dict[str, Any], gate: Gate) -> tuple[bool, str]:
    name, value, low = check["name"], check["value"], check["low"]
    if name == "deletion":
        return finite(low) and low > 0, f"{name} {_interval(check)}, its low end above 0"
    limits = {"completeness": gate.completeness, "random_weights": gate.random_weights_correlation}
    if name not in limits:
        return False, f"{name} is a check that the gate does not know"
    return finite(value) and value <= limits[name], f"{name} {_number(value)}, at most {limits[name]:g}"


def _stress(case: Case) -> Checked:
    """No stress test takes more of the accuracy than ``gate.stress_drop``, by the difference itself."""
    stress, modality = case.evidence.get("stress"), case.evidence["modality"]
    if stress is None:
        if modality in modality_names() and not modality_of(modality).stress_tested:
            return Checked(True, f"does not apply: there are no stress tests of {modality}")
        return Checked(False, "no stress test; run the stage evaluate again")
    drops = {each["kind"]: each["drop"] for each in stress["kinds"]}
    unknown, most = [kind for kind, drop in drops.items() if not finite(drop["value"])], case.gate.stress_drop
    if unknown or not drops:
        return Checked(False, f"not measured: {listed(unknown)}" if unknown else "the stress tests have no kind")
    kind, drop = max(drops.items(), key=lambda each: each[1]["value"])
    said = f"{stress['metric']} drops most under {kind}: by {_interval(drop)} on {stress['samples']} rows"
    beyond = [each for each, of in drops.items() if of["value"] > most]
    more = f"; {len(beyond)} of {len(drops)} drop by more: {listed(beyond)}" if len(beyond) > 1 else ""
    return Checked(not beyond, f"{said}; at most {most:g} is allowed{more}")


def _validation(case: Case) -> Checked:
    """The raw data met every expectation."""
    passed = case.evidence["data"]["validation"]["passed"]
    said = "the data met every expectation" if passed is True else "the data was not validated, or did not pass"
    return Checked(passed is True, said)


def _audit(case: Case) -> Checked:
    """Every finding and shortcut of the audit is answered by a person, up to the score that it had then."""
    audit = case.evidence["data"]["audit"]
    if audit is None:
        return Checked(False, "the raw data was not audited; run the stages audit and evaluate again")
    shortcuts = {f"shortcut_{each['probe']}": each for each in audit["shortcuts"]}
    found = {each["name"]: each.get("score") for each in audit["findings"]}
    found |= {name: each["score"] for name, each in shortcuts.items() if each["finding"]}
    if not found:
        return Checked(True, "the audit found nothing")
    simulated = case.evidence["simulated"] is True
    said, by = [], []
    for name, score in found.items():
        given = [each for each in case.task.answers if each.finding == name]
        valid = [
            each
            for each in given
            if (simulated or not each.simulated) and (score is None or (finite(score) and score <= each.up_to))
        ]
        scored = "" if score is None else f" at {_interval({**shortcuts.get(name, {}), 'value': score})}"
        limits = ["simulated data only" if each.simulated else f"a score of {each.up_to:g}" for each in given]
        if valid:
            said.append(f"{name}{scored}: {valid[0].answer}")
            by.append(valid[0].by)
        else:
            beyond = f" (answered for {' and '.join(limits)})" if limits else ""
            said.append(f"{name}{scored} is not answered in policy.tasks{beyond}")
    return Checked(len(by) == len(found), "; ".join(said), ", ".join(dict.fromkeys(by)) or None)


def _identity(case: Case) -> Checked:
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
    rotation = evidence["hashes"].get("rotation.sha256"), now.rotation_sha256
    if rotation != (None, None):
        pairs["rotation"] = rotation
    wrong = [what for what, (told, found) in pairs.items() if told is None or told != found]
    said = f"not of this version: {', '.join(wrong)}" if wrong else "run, model, files and evidence are of this version"
    return Checked(not wrong, said)


def _data(case: Case) -> Checked:
    """Measured on the data and the split that are recorded now: a model of old data is not one of today's."""
    hashes, now = case.evidence["hashes"], case.now
    if now.split_sha256 is None or hashes["split.sha256"] != now.split_sha256:
        return Checked(False, "the split is another now; run `make train` and register again")
    if now.dvc_lock_md5 is not None and hashes.get("dvc.task_md5") != now.dvc_lock_md5:
        said = f"measured on data {hashes.get('dvc.task_md5')} of the task, dvc.lock records {now.dvc_lock_md5}"
        return Checked(False, f"{said}; run `make train` and register again")
    if now.dvc_data_md5 is not None and hashes.get("dvc.data_md5") == now.dvc_data_md5:
        return Checked(True, f"data.dvc records the same data, {now.dvc_data_md5}")
    if now.data_sha256 is not None and hashes.get("data.sha256") == now.data_sha256:
        return Checked(True, "data.dvc records other data, but none other of this task")
    said = f"measured on data {hashes.get('dvc.data_md5')}, data.dvc records {now.dvc_data_md5}"
    return Checked(False, f"{said}; run `make train` and register again")


def _new_test_split(case: Case) -> Checked:
    """The test rows were scored at most ``gate.looks`` times: who chooses by such scores fits these rows too."""
    looks, most = case.now.looks, case.gate.looks
    if not looks:
        return Checked(
            False, "how often the test rows were scored is not on record; run `make train` and register again"
        )
    said = f"the test rows were scored {counted(looks, 'time', 'times')}; at most {most:,}"
    return Checked(
        looks <= most, said if looks <= most else f"{said}: add data of new groups, which are tested instead"
    )


def _simulated(case: Case) -> Checked:
    """What was measured on simulated data says nothing of patients."""
    if case.evidence["simulated"] is False:
        return Checked(True, "measured on real data")
    if case.now.to == "staging":
        return Checked(True, "does not apply: simulated data, which may go to staging")
    return Checked(False, "measured on simulated data, which says nothing of patients")


def _pretraining(case: Case) -> Checked:
    """The weights that the fit started from were trained on none of the collections that the task's data is of."""
    found = case.evidence.get("pretraining")
    if found is None:
        return Checked(False, "the evidence does not say what the weights were trained on; run `make train` again")
    known, own, weights = found["pretrained_on"], found["collections"], found["weights"]
    if known is None:
        return Checked(False, f"{weights}: nothing is declared of what it was trained on; name it as pretrained_on")
    if not known:
        return Checked(True, "does not apply: the model starts from no trained weights")
    sample = [name for name in own if name.startswith(SAMPLE) and case.evidence["simulated"] is not True]
    if weights != "imagenet" and (sample or not own):  # of a file, whose collections must be compared with some
        said = f"names the shipped sample, {listed(sample)}" if sample else "is empty"
        return Checked(False, f"data.collections {said}; name the collections that the data is of")
    names = {plain_name(name) for name in own}
    shared = [name for name in known if plain_name(name) in names]
    said = f"{weights} was trained on {listed(known)}; the data is of {listed(own) or 'no named collection'}"
    return Checked(not shared, said)


OF: dict[str, Callable[[Case], Checked]] = {
    check.__name__.removeprefix("_"): check  # a check is named as its function
    for check in (
        *(_margin, _simple_models, _production, _floor, _worst_stratum, _calibration, _coverage, _latency, _size),
        *(_explanation, _stress, _validation, _audit, _identity, _data, _new_test_split, _simulated, _pretraining),
    )
}


def judge(evidence: Evidence, policy: Policy, situation: Situation) -> list[Verdict]:
    """Return a verdict of each check, in the order of `pipelines.policy.CHECKS`."""
    case = Case(evidence, policy.gate, policy.task(str(evidence.get("task"))), situation)
    return [_waived(_judged(check, case), case) for check in CHECKS]


def allowed(verdicts: Sequence[Verdict]) -> bool:
    """Return whether every check was judged once, and none failed."""
    judged = [verdict.check for verdict in verdicts]
    return sorted(judged) == sorted(CHECKS) and all(verdict.status != "fail" for verdict in verdicts)


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts that prevent the move."""
    return [verdict for verdict in verdicts if verdict.status == "fail"]


def as_dicts(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts for JSON."""
    return [asdict(verdict) for verdict in verdicts]


def _judged(check: str, case: Case) -> Verdict:
    try:
        found = OF[check](case)
        return Verdict(check, "pass" if found.passes else "fail", found.reason, found.by, found.names)
    except KeyError as error:
        said = f"the evidence lacks {error.args[0]!r}; run `python -m evaluation.candidate` again"
    except (TypeError, AttributeError, ValueError) as error:
        said = f"the evidence cannot be read: {error}"
    return Verdict(check, "fail", said)


def _waived(verdict: Verdict, case: Case) -> Verdict:
    if verdict.status != "fail" or verdict.check in UNWAIVABLE:
        return verdict
    for waiver in case.task.waivers:
        if waiver.check != verdict.check:
            continue
        if beyond := sorted(set(verdict.names) - set(waiver.of)):
            unnamed = f"{verdict.reason}; the waiver by {waiver.by} does not name {', '.join(beyond)}"
            verdict = replace(verdict, reason=unnamed)
            continue
        if case.now.today > date.fromisoformat(waiver.until):
            return replace(verdict, reason=f"{verdict.reason}; the waiver by {waiver.by} ended on {waiver.until}")
        reason = f"{waiver.reason} (until {waiver.until}); without the waiver: {verdict.reason}"
        return Verdict(verdict.check, "waived", reason, waiver.by, verdict.names)
    return verdict


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield a line a verdict, what failed first."""
    return map(str, sorted(verdicts, key=lambda each: ("fail", "waived", "pass").index(each.status)))
