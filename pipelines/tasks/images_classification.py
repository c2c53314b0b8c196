"""Images in classes."""

from __future__ import annotations

from pipelines.modalities.images import ImagesTask

TASK = ImagesTask  # the folders of the raw format are the classes
