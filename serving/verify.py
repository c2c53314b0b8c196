"""Compare registry, history, evidence and files: ``python -m serving.verify --task T``.

Prints a line a problem; exit code 1 if there is one. ``--restore`` puts aliases and stages where the history says.
``--sign`` signs what is not signed by somebody who may, where nothing else is wrong.
"""

from pipelines.command import parser, run_command
from pipelines.params import read_params


def main() -> int:
    """Print the problems."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--restore", action="store_true", help="put aliases and stages where the history says")
    arguments.add_argument("--sign", action="store_true", help="vouch with your key for what is not signed")
    arguments.add_argument("--by", default="", help="your name, for the history (default: git's user.name)")
    arguments.add_argument("--why", default="", help="for the history")
    given = arguments.parse_args()
    from evaluation.promotion.signatures import signers
    from serving.alias_moves import look
    from serving.audit_log import anchor
    from serving.registry import restore, sign, verify, whoever

    if given.restore:
        entry = restore(given.task, by=whoever(given.by), why=given.why or "moved without these commands")
        print("nothing to restore" if entry is None else f"restored: row {entry.number} of the history")
    if given.sign:
        rows = [str(each.number) for each in sign(given.task, by=whoever(given.by), why=given.why)]
        print(f"signed: row {', '.join(rows)} of the history" if rows else "nothing to sign")
    problems = verify(given.task)
    for problem in problems:
        print(problem)
    entries = look(given.task).entries
    if not entries:
        read_params().task(given.task)  # nothing matches under a name that is no task's
    if not problems:
        print(f"{given.task}: {len(entries)} rows of history, aliases, evidence and files match")
        if entries and signers() is not None:
            print(f"signed, up to row {anchor(entries)}; kept elsewhere, that tells an older registry from this one")
    return 1 if problems else 0


if __name__ == "__main__":
    run_command(main)
