"""Images in classes."""

from pipelines.modalities.images import ImagesTask

TASK = ImagesTask  # the folders of the raw format are the classes
