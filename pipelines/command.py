"""What every entry point shares: arguments, and faults told in a line instead of a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from pipelines.faults import UserError


def parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser with ``--task``."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--task", required=True, help="name of the task in params.yaml")
    return made


def architecture_parser(description: str) -> argparse.ArgumentParser:
    """Return an argument parser with ``--task`` and ``--architecture``."""
    made = parser(description)
    made.add_argument("--architecture", required=True, help="name of the architecture")
    return made


def run_command(main: Callable[[], int | None]) -> None:
    """Run an entry point and exit: 0 when done, 1 with ``error: ...`` on stderr for what the user can mend."""
    try:
        code = main()
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted; run the same command to go on", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
