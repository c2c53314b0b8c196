"""From a raw folder to samples, whatever the kind of the task."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipelines.params import ExpressionTask, ImageTask, ResponseTask, Task
from pipelines.samples.expression import keep_profiles, read_expression_tables
from pipelines.samples.formats import read_response_tables
from pipelines.samples.images import read_images
from pipelines.samples.response import Kept, keep_samples


def read_samples(folder: Path | str, task: Task, *, labelled: bool = True, optional: Collection[str] = ()) -> Kept:
    """Read a raw folder and apply the task's rules to it.

    Parameters
    ----------
    folder
        Raw folder of the task's kind; validated.
    task
        Its kind says how the folder is read.
    labelled
        Whether samples must have a target.
    optional
        Tables that may be missing.

    Raises
    ------
    DataError
        Names the files that are missing or unreadable.
    """
    if isinstance(task, ImageTask):
        return read_images(folder, task, labelled=labelled)
    if isinstance(task, ExpressionTask):
        return keep_profiles(read_expression_tables(folder, task, labelled=labelled), task, labelled=labelled)
    assert isinstance(task, ResponseTask)
    return keep_samples(
        read_response_tables(folder, task, labelled=labelled, optional=optional), task, labelled=labelled
    )
