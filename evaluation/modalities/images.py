"""How images of cells are read for scoring."""

from pathlib import Path
from typing import Any

from evaluation.modalities import Modality
from pipelines.samples.images import read_images
from pipelines.samples.response import Kept


class Images(Modality):
    """Images of cells."""

    def read_cohort(self, folder: Path, task: Any, contract: Any) -> tuple[Kept, list[str]]:
        """See `Modality.read_cohort`; a cohort may lack a class."""
        return read_images(folder, task, every_class=False), []


MODALITY = Images()
