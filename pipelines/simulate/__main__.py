"""``python -m pipelines.simulate --task T --out DIR [--seed N]``: write the simulated raw folder of a task."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import run_command

TASKS = {
    "tumor_type": ("expression", "simulate_tumor_type"),
    "gene_expression": ("expression", "simulate_gene_expression"),
    "drug_response": ("response", "simulate"),
    "blood_cell": ("cells", "simulate_blood_cells"),
    "leukemia_cell": ("cells", "simulate_leukemia_cells"),
}
"""Module and function that write the sample of each task; imported when it is asked for."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the sample of one task."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", choices=TASKS, required=True)
    options.add_argument("--out", type=Path, required=True, help="folder, made if it is not there")
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args(argv)
    module, function = TASKS[given.task]
    getattr(importlib.import_module(f"pipelines.simulate.{module}"), function)(given.out, seed=given.seed)
    print(f"simulated sample written to {given.out}")


if __name__ == "__main__":
    run_command(main)
