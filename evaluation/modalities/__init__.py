"""How samples are read for scoring, explained and shown: a module a modality, found by its name."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from pipelines.groups import group_samples

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence
    from evaluation.metrics import Interval
    from evaluation.problems import Measures
    from pipelines.datasets import Prepared
    from pipelines.params import Split, Task
    from pipelines.samples.response import Kept
    from training.contract import Contract


class Modality(ABC):
    """What depends on the kind of a sample."""

    stress_tested: ClassVar[bool] = False  # whether its tasks have `Task.stressed`, and evidence a section ``stress``
    in_every_mode: ClassVar[bool] = False  # whether `evaluation.generalize` knows the units of its split modes

    # A labelled cohort.

    @abstractmethod
    def read_cohort(self, folder: Path, task: Task, contract: Contract) -> tuple[Kept, list[str]]:
        """Return the samples of a labelled raw folder in the model's terms, and notes on names that were translated.

        Tables that the model imputes may be missing. A folder that is not of the format, or lacks features that the
        model needs, is a ``DataError``.
        """

    def unit_warnings(self, task: Task, contract: Contract, samples: Any) -> list[str]:
        """Return warnings of values that may be in another unit, and of what is unknown to the model."""
        return []

    # The evidence.

    def simulated(self, samples: Any) -> bool:
        """Return whether some samples say that they are simulated."""
        column = samples.table.get("simulated", pd.Series([False]))
        return bool(column.astype(str).str.lower().eq("true").any())

    def described(self, samples: Any) -> pd.DataFrame:
        """Return every column that the raw data has on each sample, a row a sample."""
        table: pd.DataFrame = samples.table
        return table

    def cohorts(self, run: Evaluation) -> dict[str, pd.DataFrame]:
        """Return the predictions of each cohort of more than one group; none where samples name no cohort."""
        return {}

    def part_names(self, run: Evaluation) -> dict[str, str]:
        """Return the names of the parts (drugs) of the test rows by id, as far as they have one."""
        return {}

    def target_unit(self, task: Task) -> str:
        """Return the unit of a number that is predicted, for figures."""
        return "measured value"

    def probed(self, run: Evaluation) -> dict[str, Interval]:
        """Return the model's scores in measures of the audit's probes that are none of its problem's metrics."""
        return {}

    def evidence(self, run: Evaluation, measures: Measures) -> Evidence:
        """Return the section ``explanation`` and other tables and figures, made by `evaluation.explain.<modality>`."""
        module = importlib.import_module(f"evaluation.explain.{run.task.modality}")
        made: Evidence = module.evidence(self, run, measures)
        return made

    # What intervals resample.

    def units(self, samples: Any, split: Split, groups: np.ndarray | None = None) -> tuple[str, np.ndarray]:
        """Return what varies independently in a split mode: its word, and its name for each sample, ``(n,)``.

        It is the groups of the split where nothing else is said; ``groups`` has them, ``(n,)``, None: they are made.
        """
        return "group", group_samples(samples, split)[0].to_numpy(str) if groups is None else groups

    def resampled(self, predictions: pd.DataFrame, prepared: Prepared, split: Split) -> tuple[str, pd.DataFrame]:
        """Return the word of what is resampled, see `units`, and predictions of samples with its name as ``group``."""
        table = prepared.table
        unit, names = self.units(prepared.samples, split, table["group"].to_numpy(str))
        of_sample = pd.Series(names, index=table["sample_id"].to_numpy(str))
        return unit, predictions.assign(group=of_sample[predictions["sample_id"].to_numpy(str)].to_numpy())

    # Every split mode, see `evaluation.generalization`.

    def of_known_parts(self, predictions: pd.DataFrame, samples: Any, split: Split) -> np.ndarray | None:
        """Return which test rows are of a part (drug) of the training rows, bool; None in other modes."""
        raise NotImplementedError


def modality_names() -> list[str]:
    """Return the names of all modalities: the modules of this package."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


@cache
def modality_of(name: str) -> Modality:
    """Return the modality ``name``."""
    modality: Modality = importlib.import_module(f"{__name__}.{name}").MODALITY
    return modality
