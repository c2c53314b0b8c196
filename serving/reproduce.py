"""Fit a version again from its tags and compare: ``python -m serving.reproduce --model models:/T/N``.

Exit code 0: the same; 2: something differs; 1: it cannot be fitted again.
"""

import argparse
import signal
import sys
from pathlib import Path

from pipelines.command import run_command

DIFFERS = 2


def main() -> int:
    """Fit again and print the comparison; exit code 2 where the version differs."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, help="models:/<task>/<number> or models:/<task>@<alias>")
    given = arguments.parse_args()
    from serving.reproduction import reproduce, verdict

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worktree is removed
    found, path = reproduce(given.model, Path.cwd())
    for each in found:
        state = {True: "same", False: "DIFFERS", None: "unknown"}[each.equal]
        print(f"  {each.what:<16} {state:<8} {each.message}")
    answer = verdict(found)
    print(f"{given.model} was fitted again: {answer if answer == 'differs' else 'it is the same'}; {path}")
    return 0 if answer == "equal" else DIFFERS


if __name__ == "__main__":
    run_command(main)
