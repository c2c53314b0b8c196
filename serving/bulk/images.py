"""Questions about images: the image files below a folder."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.samples.raw_files import ENDINGS, is_of_system
from serving.bulk import Part, Wanted, tell
from training.modalities.images import MAX_BYTES

_ROWS = 64
_ENDINGS = {ending for endings in ENDINGS.values() for ending in endings}


def parts(data: Path, contract: Any, wanted: Wanted) -> Iterator[tuple[int, Part]]:
    """Return the files, below ``images`` where there is such a folder, by their names with class folders."""
    root = data / "images" if (data / "images").is_dir() else data
    there = sorted(path for path in root.rglob("*") if path.is_file() and not is_of_system(path.name))
    files = [path for path in there if path.suffix.lower() in _ENDINGS]
    if len(there) > len(files):
        tell(f"{len(there) - len(files)} files without the ending of an image were left out")
    for number, start in enumerate(range(0, len(files), _ROWS)):
        if wanted(number):
            own = files[start : start + _ROWS]
            names = [os.fsencode(path.relative_to(root)).decode(errors="backslashreplace") for path in own]
            about = pd.DataFrame({"row": range(start + 1, start + 1 + len(own)), "sample_id": names})
            yield number, Part(about, pd.DataFrame({"image": [_base64(path) for path in own]}))


def _base64(path: Path) -> str:
    with path.open("rb") as file:  # the model refuses what is larger
        return base64.b64encode(file.read(MAX_BYTES + 1)).decode("ascii")
