"""Images in folders of classes, and their table."""

from pathlib import Path
from typing import Any

from pipelines.croissant.description import Contents, encoding, field
from pipelines.modalities.images import ImagesTask
from pipelines.samples.images import IMAGES_FOLDER, IMAGES_TABLE, list_images

FILES = "image_files"


def contents(folder: Path, task: ImagesTask) -> Contents:
    """Return what a raw folder of images holds."""
    files = list_images(folder, task)["sample_id"]
    of_files: dict[str, Any] = {"fileSet": {"@id": FILES}}
    path = of_files | {"extract": {"fileProperty": "fullpath"}}
    fields = [
        field("image", "content", "sc:ImageObject", of_files | {"extract": {"fileProperty": "content"}}),
        field("image", "file", "sc:Text", path | {"transform": {"regex": f"{IMAGES_FOLDER}/(.+)$"}}),
        field("image", "label", "sc:Text", path | {"transform": {"regex": f"{IMAGES_FOLDER}/([^/]+)/"}}),
    ]
    said = f"{len(files)} images; the folder of each is its class."
    return Contents(
        {IMAGES_TABLE: {"text": ("file", "label", "subject_id")}} if (folder / IMAGES_TABLE).is_file() else {},
        (
            {
                **{"@type": "cr:FileSet", "@id": FILES, "name": FILES},
                "encodingFormat": sorted({encoding(Path(name)) for name in files}),
                "includes": [f"{IMAGES_FOLDER}/{label}/*" for label in task.data.classes],
            },
        ),
        ({"@type": "cr:RecordSet", "@id": "image", "name": "image", "description": said, "field": fields},),
    )
