"""Promote a version if the gate allows it: ``python -m serving.promote --task T [--to production] --by NAME``."""

import sys

from pipelines.command import parser, run_command
from pipelines.params import read_params

REFUSED = 2


def main() -> int:
    """Promote, and print the verdicts; exit code 2 where the gate refuses."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--to", choices=("staging", "production"), default="staging")
    # Text, since MLflow passes an empty parameter as an empty word.
    arguments.add_argument("--version", default="", help="default: the candidate, or the one in staging")
    arguments.add_argument("--by", default="", help="who promotes, for the history (default: git's user.name)")
    arguments.add_argument("--why", default="", help="for the history")
    given = arguments.parse_args()
    if given.version and not given.version.isdecimal():
        arguments.error(f"--version is a number, not {given.version!r}")
    from evaluation.promotion.gate import lines
    from serving.registry import GateError, promote, whoever

    read_params().task(given.task)
    try:
        done = promote(given.task, given.to, given.version or None, by=whoever(given.by), why=given.why)
    except GateError as error:
        print("\n".join(lines(error.verdicts)))
        print(f"error: {str(error).splitlines()[0]}: the gate refuses", file=sys.stderr)
        return REFUSED
    for line in lines(done.verdicts):
        print(line)
    again = "is already" if done.entry is None else "is now"
    print(f"{given.task} version {done.version} {again} in {done.alias}")
    return 0


if __name__ == "__main__":
    run_command(main)
