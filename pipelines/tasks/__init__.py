"""Which problems are asked of which modality: ``<modality>_<problem>.py`` each, found by its name."""

import importlib
from pathlib import Path

from pipelines.params import Task


def task_types() -> dict[tuple[str, ...], type[Task]]:
    """Return the class of tasks of each modality and problem."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return {tuple(stem.split("_", 1)): importlib.import_module(f"{__name__}.{stem}").TASK for stem in stems}
