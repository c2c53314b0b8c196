"""Make a fitted model a candidate for promotion: evidence with comparisons and outside cohorts, and a model card."""

from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.formatting import interval
from pipelines.params import read_params
from pipelines.paths import REPORTS


def _cohorts(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in filter(None, given):  # make and MLflow hand an empty word on where none is given
        cohort, equals, folder = text.partition("=")
        if not (cohort and equals and folder) or cohort in found:
            raise UserError(f"--cohort {text!r}: write NAME=DIR, each name once")
        found[cohort] = Path(folder)
    return found


def main() -> int:
    """``python -m evaluation.candidate --task T [--architecture A] [--cohort NAME=DIR]``."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--architecture", default="", help="this one, instead of the best on validation rows")
    arguments.add_argument("--cohort", action="append", default=[], metavar="NAME=DIR", help="a labelled raw folder")
    given = arguments.parse_args()
    from evaluation.promotion.candidate_run import FOLDER, candidate
    from pipelines.datasets import read_prepared
    from training.architectures import get_architecture

    params = read_params()
    name, task = given.task, params.task(given.task)
    if given.architecture:
        get_architecture(given.architecture, task.modality, task.problem)
    cohorts = _cohorts(given.cohort)
    evidence = candidate(name, params, read_prepared(name, task), given.architecture or None, cohorts)
    sealed, card = evidence["sha256"][:12], REPORTS / name / FOLDER / "card.md"
    print(f"{name} {evidence['architecture']}: evidence {sealed}, see {card}")
    for row in evidence["comparisons"]:
        who = row["with"] if row["version"] is None else f"version {row['version']} ({row['with']})"
        said = f"{interval(row, 'difference', sign='+', nothing='cannot be compared')} on {row['rows']} rows"
        print(f"  {row['metric']} over {row['kind']} {who}: {said}{'; ' + row['note'] if row.get('note') else ''}")
    return 0


if __name__ == "__main__":
    run_command(main)
