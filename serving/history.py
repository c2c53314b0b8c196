"""Print the history of a task's versions: ``python -m serving.history --task T [--json]``, see `serving.audit_log`."""

import json
from dataclasses import asdict

from pipelines.command import parser, run_command
from pipelines.params import read_params


def main() -> int:
    """Print the history of a task."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--json", action="store_true", help="with verdicts and hashes, as JSON")
    given = arguments.parse_args()
    from serving.registry import history

    entries = history(given.task)
    if given.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False))
        return 0
    if not entries:
        read_params().task(given.task)
        print(f"{given.task} has no history; register a model first: make register TASK={given.task}")
    for entry in entries:
        print(entry)
    return 0


if __name__ == "__main__":
    run_command(main)
