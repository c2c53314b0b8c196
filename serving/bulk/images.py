"""Questions about images: the image files below a folder."""

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.samples.raw_files import ENDINGS, is_of_system
from serving.bulk import Part, tell
from training.modalities.images import MAX_BYTES

_ROWS = 64
_ENDINGS = {ending for endings in ENDINGS.values() for ending in endings}


def parts(data: Path, contract: Any) -> Iterator[Callable[[], Part]]:
    """Return parts of the files, below ``images`` where there is such a folder, by their names with class folders."""
    root = data / "images" if (data / "images").is_dir() else data
    there = sorted(path for path in root.rglob("*") if path.is_file() and not is_of_system(path.name))
    files = [path for path in there if path.suffix.lower() in _ENDINGS]
    if len(there) > len(files):
        tell(f"{len(there) - len(files)} files without the ending of an image were left out")
    for start in range(0, len(files), _ROWS):
        yield partial(_part, root, files[start : start + _ROWS], start + 1)


def _part(root: Path, files: Sequence[Path], first: int) -> Part:
    names = [os.fsencode(path.relative_to(root)).decode(errors="backslashreplace") for path in files]
    about = pd.DataFrame({"row": range(first, first + len(files)), "sample_id": names})
    return Part(about, pd.DataFrame({"image": [_base64(path) for path in files]}))


def _base64(path: Path) -> str:
    with path.open("rb") as file:  # the model refuses what is larger
        return base64.b64encode(file.read(MAX_BYTES + 1)).decode("ascii")
