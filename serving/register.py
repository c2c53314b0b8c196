"""Register a candidate with its evidence: ``python -m serving.register --task T``, after ``evaluation.candidate``."""

from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.params import read_params
from pipelines.paths import REPORTS

REFUSED = 2


def main() -> int:
    """Register, and print the verdicts for staging; exit code 2 where the gate would refuse."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--evidence", type=Path, help="default: reports/<task>/candidate/evidence.json")
    arguments.add_argument("--by", default="", help="who registers, for the history (default: git's user.name)")
    arguments.add_argument("--why", default="", help="for the history")
    given = arguments.parse_args()
    from evaluation.evidence.evidence_file import read_evidence
    from evaluation.promotion.gate import allowed, lines
    from pipelines import tracking
    from serving.registry import register, whoever

    read_params().task(given.task)
    tracking.experiment(given.task)
    evidence = read_evidence(given.evidence or REPORTS / given.task / "candidate" / "evidence.json")
    done = register(given.task, evidence, by=whoever(given.by), why=given.why)
    for line in lines(done.verdicts):
        print(line)
    again = "is the candidate already" if done.entry is None else "is the candidate"
    print(f"{given.task} version {done.version} ({evidence['architecture']}) {again}")
    if allowed(done.verdicts):
        print(f"the gate allows staging: make promote TASK={given.task}")
        return 0
    print("the gate does not allow staging")
    return REFUSED


if __name__ == "__main__":
    run_command(main)
