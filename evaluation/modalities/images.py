"""How images are read for scoring, and explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.modalities import Modality
from pipelines.samples.images import ImageSamples, read_images
from pipelines.samples.response import Kept

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.explain.cells import CellExplanation
    from evaluation.problems import Measures

PANELS = 16  # images of the Grad-CAM panel


class Images(Modality):
    """Images of cells."""

    def read_cohort(self, folder: Path, task: Any, contract: Any) -> tuple[Kept, list[str]]:
        """See `Modality.read_cohort`; a cohort may lack a class."""
        return read_images(folder, task, every_class=False), []

    def evidence(self, run: Evaluation, measures: Measures) -> Evidence:
        """Explain by maps of where the model looks (Grad-CAM)."""
        from evaluation.evidence.parts import Evidence
        from evaluation.explain import checks
        from evaluation.explain.cells import deletion, explain_cells

        explained, estimator = measures.explained(run), run.model.estimator
        every = np.zeros(len(run.predictions), dtype=np.int64)
        rows = explained.rows(run.explained_samples, run.seed, every, explained.right)
        explanation = explain_cells(estimator, run.test, rows, run.seed)
        if explanation is None:
            return checks.not_explained()
        told = explanation.as_dict()
        fell = deletion(estimator, run.test.take(rows), explanation.maps, run.groups[rows], **run.bootstrap)
        warnings = []
        if not fell.passed:
            warnings.append("masking where the Grad-CAM maps are hot takes no more confidence than masking elsewhere")
        if not told["maps_depend_on_the_weights"]:
            warnings.append("the Grad-CAM maps hardly change with random weights: they show the image, not the model")
        section = {
            **told,
            "deletion": {"fields": fell.genes, "drop_top": fell.drop_top, "drop_random": fell.drop_random},
            "checks": [
                checks.check("random_weights", explanation.random_correlation),
                checks.check("deletion", fell.difference),
            ],
        }
        return Evidence(
            sections={"explanation": section},
            figures={"grad_cam": _panel(explanation, run.test, explained, run.title)},
            logged={
                "explanation_on_the_cell": explanation.foreground_share,
                "explanation_random_correlation": explanation.random_correlation,
                "explanation_deletion_drop": fell.drop_top,
                "explanation_deletion_drop_random": fell.drop_random,
            },
            warnings=warnings,
        )


def _panel(explanation: CellExplanation, test: ImageSamples, explained: Explained, title: str) -> Any:
    from evaluation.figures import plots

    rows = explanation.rows
    every = np.ones(len(test), dtype=bool)
    right, of_row = (every if explained.right is None else explained.right)[rows], explained.of_row[rows]
    # Of each class right and wrong ones in turn; wrong ones first: readers look for these.
    turn = pd.Series(right).groupby([of_row, right]).cumcount().to_numpy()
    chosen = np.lexsort((right, turn))[:PANELS]
    shown = chosen[np.lexsort((of_row[chosen], right[chosen]))]
    captions = [explained.caption(row) for row in rows[shown].tolist()]
    images = test.pixels[test.index[rows[shown]]]
    return plots.attribution_panel(images, explanation.maps[shown], captions, title=title, right=right[shown])


MODALITY = Images()
