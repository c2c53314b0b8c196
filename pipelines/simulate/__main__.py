"""``python -m pipelines.simulate --task T --out DIR [--seed N]``: write the simulated raw folder of a task."""

import argparse
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.command import run_command
from pipelines.errors import UserError


def simulators() -> dict[str, Callable[..., None]]:
    """Return by task the functions ``simulate_<task>`` of the modules of this package."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    modules = [importlib.import_module(f"pipelines.simulate.{stem}") for stem in stems]
    return {
        name.removeprefix("simulate_"): function
        for module in modules
        for name, function in vars(module).items()
        if name.startswith("simulate_")
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample of one task."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", required=True)
    options.add_argument("--out", type=Path, required=True, help="folder, made if it is not there")
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args(argv)
    known = simulators()
    if given.task not in known:
        raise UserError(f"--task: there is no sample of {given.task!r}; there are {', '.join(sorted(known))}")
    known[given.task](given.out, seed=given.seed)
    print(f"simulated sample written to {given.out}")


if __name__ == "__main__":
    run_command(main)
