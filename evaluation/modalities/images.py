"""How images of cells are read for scoring, and stressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.modalities import Modality
from pipelines.samples.images import read_images
from pipelines.samples.response import Kept

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence
    from evaluation.problems import Measures


class Images(Modality):
    """Images of cells."""

    stress_tested = True

    def read_cohort(self, folder: Path, task: Any, contract: Any) -> tuple[Kept, list[str]]:
        """See `Modality.read_cohort`; a cohort may lack a class."""
        return read_images(folder, task, every_class=False), []

    def evidence(self, run: Evaluation, measures: Measures) -> Evidence:
        """Return the explanation, and what stress tests find."""
        from evaluation.evidence import stress
        from evaluation.explain.images import stressed_panel

        task: Any = run.task
        count = task.evaluate.stressed_samples.of(run.fitted.budget)
        return super().evidence(run, measures) | stress.evidence(run, measures, count, stressed_panel)


MODALITY = Images()
