"""The tables of expression profiles."""

from pathlib import Path

from pipelines.croissant.description import Contents
from pipelines.modalities.profiles import ProfilesTask
from pipelines.samples.expression import asked_of_profiles


def contents(folder: Path, task: ProfilesTask) -> Contents:
    """Return what a raw folder of profiles holds."""
    return Contents(asked_of_profiles(folder, task))
