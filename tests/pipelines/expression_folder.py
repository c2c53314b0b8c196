"""A tiny valid raw folder of kind ``expression``: simulated, the same bytes every time."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import read_params
from pipelines.samples.expression import ExpressionSamples, ExpressionTables, keep_profiles
from pipelines.tasks.profiles_classification import ProfilesClassification
from pipelines.tasks.profiles_multi_target import ProfilesMultiTarget

ROOT = Path(__file__).parents[2]
LABELS = ("BLUE", "GREEN", "RED")
PATIENTS = 16  # of each label
GENES = [f"SIM{number:02d}|{number}" for number in range(1, 31)]
LANDMARKS = GENES[:10]
NORMAL = 11
PARAMS = read_params(ROOT / "params.yaml")


def label_task() -> ProfilesClassification:
    return cast(ProfilesClassification, PARAMS.task("tumor_type"))


def gene_task(targets: str = "most_variable", count: int = 6) -> ProfilesMultiTarget:
    """Return the shipped task that predicts genes, with fewer targets."""
    task = cast(ProfilesMultiTarget, PARAMS.task("gene_expression"))
    return replace(task, data=replace(task.data, targets=targets, target_count=count))


def make_tables(scale: str = "linear", patients: int = PATIENTS, seed: int = 7) -> ExpressionTables:
    """Return profiles of three labels: a primary of each patient, a metastasis of one in four, a normal of one in 8.

    Labels differ in ten genes, patients in all; depth, platform and gaps (there are none) tell nothing. ``log2`` values
    are log2(x + 1) of the ``linear`` ones, ``as_is`` their standard scores.
    """
    rng = np.random.default_rng(seed)
    rows, means = [], []
    shift = rng.normal(0, 0.5, (len(LABELS), len(GENES))) * (np.arange(len(GENES)) % 3 == 0)
    level = rng.uniform(3, 9, len(GENES))
    for number in range(patients * len(LABELS)):
        code = number % len(LABELS)
        own = level + shift[code] + rng.normal(0, 0.7, len(GENES))
        kinds = [1, *([6] if number % 4 == 1 else []), *([NORMAL] if number % 8 == 3 else [])]
        for kind in kinds:
            platform = ("SEQ 1", "SEQ 2")[int(rng.integers(2))]
            rows.append((f"P{number:03d}-{kind:02d}", f"P{number:03d}", LABELS[code], kind, platform))
            means.append(own + rng.normal(0, 0.4, len(GENES)))
    linear = np.exp2(np.array(means))
    linear *= (1e5 * np.exp(rng.normal(0, 0.2, len(rows))) / linear.sum(axis=1))[:, None]
    logged = np.log2(linear + 1)
    values = {"linear": linear, "log2": logged, "as_is": (logged - logged.mean(axis=0)) / logged.std(axis=0)}[scale]
    expression = pd.DataFrame(values.astype(np.float32), columns=GENES)
    samples = pd.DataFrame(rows, columns=["sample_id", "patient_id", "label", "sample_type", "platform"])
    expression.insert(0, "sample_id", samples["sample_id"])
    genes = pd.DataFrame({"gene": GENES, "is_l1000_landmark": [gene in LANDMARKS for gene in GENES]})
    return ExpressionTables(expression, samples, genes)


def write_expression_folder(folder: Path, tables: ExpressionTables | None = None) -> Path:
    tables = make_tables() if tables is None else tables
    folder.mkdir(parents=True, exist_ok=True)
    tables.expression.to_parquet(folder / "expression.parquet", index=False)
    tables.samples.to_csv(folder / "samples.csv", index=False)
    if tables.genes is not None:
        tables.genes.to_csv(folder / "genes.csv", index=False)
    return folder


def with_cells(table: pd.DataFrame, column: str, values: dict[int, Any]) -> pd.DataFrame:
    changed = table.copy()
    for row, value in values.items():
        changed.loc[row, column] = value
    return changed


def samples_of(tables: ExpressionTables, task: ProfilesTask | None = None) -> ExpressionSamples:
    return cast(ExpressionSamples, keep_profiles(tables, task or label_task()).samples)
