"""``python -m pipelines.simulate --task T --out DIR [--seed N]``: write the simulated raw folder of a task."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.command import run_command
from pipelines.simulate.cells import simulate_blood_cells, simulate_leukemia_cells
from pipelines.simulate.expression import simulate_gene_expression, simulate_tumor_type
from pipelines.simulate.response import simulate

TASKS: dict[str, Callable[..., None]] = {
    "tumor_type": simulate_tumor_type,
    "gene_expression": simulate_gene_expression,
    "drug_response": simulate,
    "blood_cell": simulate_blood_cells,
    "leukemia_cell": simulate_leukemia_cells,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample of one task."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", choices=TASKS, required=True)
    options.add_argument("--out", type=Path, required=True, help="folder, made if it is not there")
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args(argv)
    TASKS[given.task](given.out, seed=given.seed)
    print(f"simulated sample written to {given.out}")


if __name__ == "__main__":
    run_command(main)
