"""Whether registry, history, evidence and files still say the same: ``python -m serving.verify --task T``.

A line a problem, and exit code 1 if there is one. ``--restore`` puts aliases and stages that were moved behind the
tools' back to where the history says.
"""

from __future__ import annotations

from pipelines.command import parser, run_command


def main() -> int:
    """Print the problems."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--restore", action="store_true", help="put aliases and stages where the history says")
    arguments.add_argument("--by", default="", help="who restores, for the history (default: git's user.name)")
    arguments.add_argument("--why", default="moved behind the tools' back", help="why, for the history")
    given = arguments.parse_args()
    from serving.alias_moves import look
    from serving.registry import restore, whoever
    from serving.registry_checks import verify

    if given.restore:
        entry = restore(given.task, by=whoever(given.by), why=given.why)
        print("nothing to restore" if entry is None else f"restored: row {entry.number} of the history")
    problems = verify(given.task)
    for problem in problems:
        print(problem)
    rows = len(look(given.task).entries)
    if not problems:
        print(f"{given.task}: {rows} rows of history, aliases, evidence and files fit")
    return 1 if problems else 0


if __name__ == "__main__":
    run_command(main)
