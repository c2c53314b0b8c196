"""Refuse a commit whose subject is longer than 72 characters. Called by pre-commit with the file of the message."""

import sys
from pathlib import Path

LIMIT = 72


def main(path: str) -> int:
    """Print what is wrong with the subject and return 1, else 0."""
    subject = (Path(path).read_text(encoding="utf-8").splitlines() or [""])[0]
    if len(subject) <= LIMIT:
        return 0
    print(f"the subject has {len(subject)} characters, at most {LIMIT} are allowed: {subject}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
