"""The tables of pairs of a cell line and a drug."""

from pathlib import Path

from pipelines.croissant.description import Contents
from pipelines.modalities.pairs import PairsTask
from pipelines.samples.formats import asked_of_response


def contents(folder: Path, task: PairsTask) -> Contents:
    """Return what a raw folder of pairs holds."""
    return Contents(asked_of_response(folder, task, optional=task.data.omics))
