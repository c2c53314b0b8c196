"""Compare a version's prediction log with its training data: ``python -m serving.monitor --task T --log DIR``.

Exit code 0: fine; 2: retrain; 1: an error, such as too few rows.
"""

from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.params import read_params

RETRAIN = 2


def main() -> int:
    """Write the report and print the findings; exit code 2 where it is time to retrain."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--log", required=True, type=Path, help="folder that ONCOLINEAGE_PREDICTION_LOG named")
    arguments.add_argument(
        "--labels",
        default="",
        help="table of labels that arrived: sample_id, and the columns of the problem (label, target, ...)",
    )
    arguments.add_argument("--version", default="", help="default: that in production, else in staging")
    arguments.add_argument("--since", default="", help="ISO date or time; earlier rows are left out")
    given = arguments.parse_args()
    from serving.drift.report import monitor
    from serving.drift.watch import since_time

    report, folder = monitor(
        given.task,
        read_params(),
        given.log,
        labels=Path(given.labels) if given.labels else None,
        version=given.version,
        since=since_time(given.since),
    )
    print(
        f"{report['task']} version {report['version']} ({report['architecture']}), {report['log']['rows']} rows: "
        f"{report['decision']}; {folder / 'monitor.html'}"
    )
    for sentence in [*report["findings"], *report["notes"]]:
        print(f"  {sentence}")
    return RETRAIN if report["decision"] == "retrain" else 0


if __name__ == "__main__":
    run_command(main)
