"""Compare registry, history, evidence and files: ``python -m serving.verify --task T``.

Prints a line a problem; exit code 1 if there is one. ``--restore`` puts aliases and stages where the history says.
"""

from pipelines.command import parser, run_command


def main() -> int:
    """Print the problems."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--restore", action="store_true", help="put aliases and stages where the history says")
    arguments.add_argument("--by", default="", help="your name, for the history (default: git's user.name)")
    arguments.add_argument("--why", default="moved without these commands", help="for the history")
    given = arguments.parse_args()
    from serving.alias_moves import look
    from serving.registry import restore, verify, whoever

    if given.restore:
        entry = restore(given.task, by=whoever(given.by), why=given.why)
        print("nothing to restore" if entry is None else f"restored: row {entry.number} of the history")
    problems = verify(given.task)
    for problem in problems:
        print(problem)
    rows = len(look(given.task).entries)
    if not problems:
        print(f"{given.task}: {rows} rows of history, aliases, evidence and files match")
    return 1 if problems else 0


if __name__ == "__main__":
    run_command(main)
