"""Whether a model may go where it is to go: named checks over its evidence, each with its verdict and reason.

A check passes, fails, or is waived by a person. What does not apply passes and says so. Whatever the evidence lacks
fails. Thresholds, answers and waivers are under ``policy`` in ``params.yaml``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from evaluation.promotion.checks import OF, Case, Evidence, Situation
from pipelines.policy import CHECKS, UNWAIVABLE, Policy

__all__ = ["Situation", "Verdict", "allowed", "as_dicts", "failures", "judge", "lines"]


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


def judge(evidence: Evidence, policy: Policy, situation: Situation) -> list[Verdict]:
    """Return a verdict of each check, in the order of `pipelines.policy.CHECKS`."""
    task = str(evidence.get("task"))
    case = Case(evidence, policy.gate, policy.task(task), situation)
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
    return [dataclasses.asdict(verdict) for verdict in verdicts]


def _judged(check: str, case: Case) -> Verdict:
    try:
        found = OF[check](case)
        return Verdict(check, "pass" if found.passes else "fail", found.reason, found.by, found.names)
    except KeyError as error:
        return Verdict(
            check, "fail", f"the evidence lacks {error.args[0]!r}; run `python -m evaluation.candidate` again"
        )
    except (TypeError, AttributeError, ValueError) as error:
        return Verdict(check, "fail", f"the evidence cannot be read: {error}")


def _waived(verdict: Verdict, case: Case) -> Verdict:
    if verdict.status != "fail" or verdict.check in UNWAIVABLE:
        return verdict
    for waiver in case.task.waivers:
        if waiver.check != verdict.check:
            continue
        if beyond := sorted(set(verdict.names) - set(waiver.of)):
            unnamed = f"{verdict.reason}; the waiver by {waiver.by} does not name {', '.join(beyond)}"
            verdict = dataclasses.replace(verdict, reason=unnamed)
            continue
        if case.now.today > date.fromisoformat(waiver.until):
            ended = f"{verdict.reason}; the waiver by {waiver.by} ended on {waiver.until}"
            return dataclasses.replace(verdict, reason=ended)
        reason = f"{waiver.reason} (until {waiver.until}); without the waiver: {verdict.reason}"
        return Verdict(verdict.check, "waived", reason, waiver.by, verdict.names)
    return verdict


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield a line a verdict, what failed first."""
    order = {"fail": 0, "waived": 1, "pass": 2}
    for verdict in sorted(verdicts, key=lambda each: order[each.status]):
        yield str(verdict)
