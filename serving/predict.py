"""Answer all questions of an unlabelled folder: ``python -m serving.predict --task T --data DIR --out DIR``.

``OUT`` gets the answers in parts, the rows that the model refuses in ``refused.csv``, and in ``OUT/<task>`` what
``python -m serving.monitor --log OUT`` reads. A run that was broken off goes on.
"""

from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError


def main() -> int:
    """Write the answers; exit code 1 where there is none."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", required=True, type=Path, help="raw folder without labels, or a table of profiles")
    arguments.add_argument("--out", required=True, type=Path, help="folder of the answers")
    arguments.add_argument("--model", default="", help="model URI (default: models:/<task>@production)")
    arguments.add_argument("--cluster", default="", help="ray://HOST:PORT, or local: spread the parts by Ray Data")
    given = arguments.parse_args()
    from serving.bulk.run import REFUSED, Bulk

    asked = (given.task, given.data, given.out, given.model)
    bulk = Bulk(*asked)
    if given.cluster:
        from serving.bulk.spread import answer_on_cluster

        answer_on_cluster(given.cluster, *asked)
    else:
        bulk.answer()
    answered, refused = bulk.finish()
    why = f"{len(refused)} refused ({given.out / REFUSED})"
    if not answered:
        raise UserError(f"no question was answered, {why}; the first: {refused['reason'].iloc[0]}")
    of = f"{given.task} version {bulk.model.version} ({bulk.model.contract.architecture})"
    print(f"{of}: {answered} answered, {why}; {given.out}")
    return 0


if __name__ == "__main__":
    run_command(main)
