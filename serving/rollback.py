"""Put the previous version back into production: ``python -m serving.rollback --task T --by NAME --why WHY``."""

from pipelines.command import parser, run_command
from pipelines.params import read_params


def main() -> int:
    """Roll back."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--by", default="", help="your name, for the history (default: git's user.name)")
    arguments.add_argument("--why", default="", help="for the history; required")
    given = arguments.parse_args()
    from serving.registry import rollback, whoever

    read_params().task(given.task)
    done = rollback(given.task, by=whoever(given.by), why=given.why)
    print(f"{given.task} version {done.version} is in production again")
    return 0


if __name__ == "__main__":
    run_command(main)
