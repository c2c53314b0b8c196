"""Names of DVC stages, for the Makefile: ``python -m pipelines.stage_names --demo`` or ``--leaderboards``."""

import argparse

from pipelines.command import run_command
from pipelines.params import Params, read_params


def demo_targets(params: Params) -> list[str]:
    """Return the stages of ``make demo``: checks of every task, and models that need no download."""
    checked = [f"{stage}@{name}" for name in params.tasks for stage in ("validate", "audit")]
    return checked + [f"evaluate@{key}" for key, model in params.models.items() if model.demo]


def main() -> int:
    """Print the names on one line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    which = arguments.add_mutually_exclusive_group(required=True)
    which.add_argument("--demo", action="store_true", help="stages of the demo")
    which.add_argument("--leaderboards", action="store_true", help="the leaderboard of every task")
    demo, params = arguments.parse_args().demo, read_params()
    print(*(demo_targets(params) if demo else [f"leaderboard@{name}" for name in params.tasks]))
    return 0


if __name__ == "__main__":
    run_command(main)
