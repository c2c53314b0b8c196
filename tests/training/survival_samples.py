"""What the tests on times to an event share: invented profiles with a follow-up, and the breast tumors of GSE7390."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.params import Params, PerBudget, read_params
from pipelines.samples.expression import ExpressionSamples
from pipelines.tasks.profiles_survival import ProfilesSurvival
from tests.training.profile_samples import GENES, gene_samples
from tests.training.tiny import ROOT

NAME = "breast_survival"
_RISKY = 8  # genes that raise the hazard


def follow_up_samples(count: int = 120, *, seed: int = 0) -> ExpressionSamples:
    """Return logged profiles; what the first genes have in common raises the hazard, and some are censored."""
    samples = gene_samples(count, seed=seed)
    rng = np.random.default_rng([5, seed])
    values = rng.normal(6, 1, (count, len(GENES))).astype(np.float32)
    activity = rng.normal(0, 1, count)
    values[:, :_RISKY] += activity[:, None].astype(np.float32)
    hazard = np.exp(1.3 * activity)
    time, censored = rng.exponential(100 / hazard), rng.uniform(20, 300, count)
    table = samples.table.assign(time=np.minimum(time, censored) + 1.0, event=(time <= censored).astype(np.int64))
    return replace(samples, table=table, values=values, targets=(), predictors=(), outcome=("time", "event"))


def follow_up(samples: ExpressionSamples) -> tuple[np.ndarray, np.ndarray]:
    return samples.target[:, 0], samples.target[:, 1]


def survival_params() -> Params:
    params = read_params(ROOT / "params.yaml")
    task: Any = params.task(NAME)
    tune = replace(task.tune, trials=PerBudget(1, 1), epochs=PerBudget(5, 5), rounds=PerBudget(20, 20))
    small = replace(task, evaluate=replace(task.evaluate, resamples=200), tune=tune)
    return replace(params, tasks={NAME: small}, device="cpu")


def real_task() -> ProfilesSurvival:
    """Return the task for the breast tumors of GSE7390: time to distant metastasis."""
    task: Any = survival_params().task(NAME)
    outcome: Any = {"time": "t.tdm", "event": "e.tdm", "horizons": (1095.0, 1825.0, 3650.0), "horizon": 3650.0}
    return replace(task, data=replace(task.data, **outcome), validate=replace(task.validate, library_size_factor=100.0))


def write_real(folder: Path) -> None:
    """Write the breast tumors that scikit-survival ships (Desmedt et al., 2007; 76 probes) in the raw format."""
    from sksurv.datasets import load_breast_cancer

    features, follow_up = load_breast_cancer()
    probes = [column for column in features if column.startswith("X")]
    names = [f"GSE7390-{number + 1:03d}" for number in range(len(features))]
    patients = [name.replace("GSE7390", "P") for name in names]
    folder.mkdir(parents=True, exist_ok=True)
    table = features[probes].astype(np.float32).reset_index(drop=True)
    table.insert(0, "sample_id", names)
    table.to_parquet(folder / "expression.parquet", index=False)
    columns = {"sample_id": names, "patient_id": patients, **{name: follow_up[name] for name in ("t.tdm", "e.tdm")}}
    pd.DataFrame(columns).to_csv(folder / "samples.csv", index=False)
