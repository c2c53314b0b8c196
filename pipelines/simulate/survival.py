"""Simulated tumors with a follow-up in the raw format ``expression``.

A gene g of sample i of patient p has

    x_ig = max(0, a_g + w_g z_pk + s_g [second platform] + e_pg + u_ig)        log2(counts per million + 1)
    h_p(t) = (t / b) / b * exp(β·z_p - 0.5 max(z_p1, 0) z_p2)                  hazard: Weibull, shape 2

- z, activities of six programs, standard normal; the first raises the hazard (proliferation), the second lowers it
  (immune), and a tumor with much of the first is helped more by the second; the others mean nothing
- w, log2 fold change of a gene of program k at one unit of activity: 0.4 to 1.2, a quarter negative; nil for a third of
  the genes, which are of no program
- a, level: 3 to 10; s, shift of the second platform: standard deviation 0.2; e, u, of the patient and of the sample:
  0.4 and 0.3
- censoring: patients enter over five years and the study ends three years after the last; one in ten is lost before
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.simulate.expression import write_profiles

_GENES, _PROGRAMS, _PER_PROGRAM = 200, 6, 22
_RISK = np.array([0.9, -0.7, 0.0, 0.0, 0.0, 0.0])
_INTERACTION, _SCALE_YEARS, _ENTRY_YEARS, _STUDY_YEARS, _LOST = -0.5, 4.3, 5.0, 8.0, 0.1
_PLATFORMS = ("SIM-ARRAY 1", "SIM-ARRAY 2")
_DAYS = 365.25


def simulate_breast_survival(folder: Path, patients: int = 300, seed: int = 7) -> None:
    """Write a raw folder of the task ``breast_survival``; the same seed gives the same bytes."""
    rng = np.random.default_rng([seed, 11])
    activity = rng.normal(0, 1, (patients, _PROGRAMS))
    days, relapse = _follow_up(activity, rng)
    # A tenth of the patients has a second core of the same tumor.
    patient = np.concatenate([np.arange(patients), np.sort(rng.permutation(patients)[: patients // 10])])
    second = np.arange(len(patient)) >= patients
    platform = rng.integers(0, 2, len(patient))
    values = _values(activity, patient, platform, rng)
    names = [f"SIM-BS-{number + 1:04d}" for number in patient]
    samples = pd.DataFrame(
        {
            "sample_id": [f"{name}-{'02' if again else '01'}" for name, again in zip(names, second, strict=True)],
            "patient_id": names,
            "sample_type": np.where(second, "second core", "first core"),
            "platform": [_PLATFORMS[each] for each in platform],
            "relapse_days": days[patient],
            "relapse": relapse[patient].astype(int),
            "simulated": "true",
        }
    )
    order = np.argsort(samples["sample_id"].to_numpy(str), kind="stable")
    genes = [f"SIMG{number + 1:04d}" for number in range(_GENES)]
    write_profiles(folder, samples.iloc[order].reset_index(drop=True), genes, values[order])


def log_hazard(activity: np.ndarray) -> np.ndarray:
    """Return the true log hazard of activities ``(n, programs)``, relative to that of no activity, shape ``(n,)``."""
    return activity @ _RISK + _INTERACTION * np.maximum(activity[:, 0], 0) * activity[:, 1]


def _follow_up(activity: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return whole days of follow-up, and whether they ended with the relapse."""
    drawn = rng.exponential(size=len(activity)) / np.exp(log_hazard(activity))
    relapse = _SCALE_YEARS * np.sqrt(2 * drawn)
    censored = _STUDY_YEARS - rng.uniform(0, _ENTRY_YEARS, len(activity))
    lost = rng.random(len(activity)) < _LOST
    censored = np.where(lost, censored * rng.uniform(0.1, 1, len(activity)), censored)
    days = np.ceil(np.minimum(relapse, censored) * _DAYS).astype(int)
    return days, relapse <= censored


def _values(activity: np.ndarray, patient: np.ndarray, platform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return log2(counts per million + 1), shape ``(samples, genes)``."""
    program = np.full(_GENES, -1)
    program[rng.permutation(_GENES)[: _PROGRAMS * _PER_PROGRAM]] = np.repeat(np.arange(_PROGRAMS), _PER_PROGRAM)
    change = rng.uniform(0.4, 1.2, _GENES) * rng.choice([1, -1], _GENES, p=[0.75, 0.25]) * (program >= 0)
    level, shift = rng.uniform(3, 10, _GENES), rng.normal(0, 0.2, _GENES)
    own = rng.normal(0, 0.4, (len(activity), _GENES))
    values = level + change * activity[:, program][patient] + shift * platform[:, None] + own[patient]
    return np.maximum(values + rng.normal(0, 0.3, values.shape), 0)
