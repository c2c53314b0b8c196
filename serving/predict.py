"""Answer all questions of an unlabelled folder: ``python -m serving.predict --task T --data DIR --out DIR``.

``OUT/answers`` gets the answers in parts, ``OUT/refused.csv`` the rows that the model refuses, and ``OUT/<task>`` what
``python -m serving.monitor --log OUT`` reads. A run that was broken off goes on.
"""

from collections.abc import Sequence
from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError


def main(given: Sequence[str] | None = None) -> int:
    """Write the answers; exit code 1 where there is none."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", required=True, type=Path, help="raw folder without labels, or a table of profiles")
    arguments.add_argument("--out", required=True, type=Path, help="folder of the answers")
    arguments.add_argument("--model", default="", help="model URI (default: models:/<task>@production)")
    arguments.add_argument("--cluster", default="", help="ray://HOST:PORT, or local: spread the parts by Ray Data")
    arguments.add_argument("--share", type=_share, help="N/OF, N from 0: answer one part in OF, and finish nothing")
    asked = arguments.parse_args(given)
    from serving.bulk.run import REFUSED, Bulk

    bulk = Bulk(asked.task, asked.data, asked.out, asked.model)
    if asked.share:
        bulk.answer(lambda number: number % asked.share[1] == asked.share[0])
        return 0
    if asked.cluster:
        from training.studies.cluster import spread

        named = ("--task", asked.task, "--data", str(asked.data), "--out", str(asked.out), "--model", asked.model)
        spread(("serving.predict", *named), asked.cluster)
    answered, refused = bulk.finish(bulk.answer(lambda number: not asked.cluster))
    why = f"{len(refused)} refused ({asked.out / REFUSED})"
    if not answered:
        raise UserError(f"no question was answered, {why}; the first: {refused['reason'].iloc[0]}")
    model = f"{asked.task} version {bulk.model.version} ({bulk.model.contract.architecture})"
    print(f"{model}: {answered} answered, {why}; {asked.out}")
    return 0


def _share(text: str) -> tuple[int, int]:
    number, of = map(int, text.split("/"))
    if not 0 <= number < of:
        raise ValueError(f"{number} is not below {of}")
    return number, of


if __name__ == "__main__":
    run_command(main)
