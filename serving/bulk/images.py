"""Questions about images: the image files below a folder."""

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.files import cores
from pipelines.samples.raw_files import ENDINGS, is_of_system
from serving.bulk import Part, Questions, read_row

_ENDINGS = {ending for endings in ENDINGS.values() for ending in endings}


class ImageQuestions(Questions):
    """One question a file, below ``images`` where there is such a folder; class folders are part of its name."""

    size = 256

    def __init__(self, data: Path, contract: Any) -> None:
        super().__init__(data, contract)
        self._root = data / "images" if (data / "images").is_dir() else data
        there = sorted(path for path in self._root.rglob("*") if path.is_file() and not is_of_system(path.name))
        self._files = [path for path in there if path.suffix.lower() in _ENDINGS]
        if len(there) > len(self._files):
            self.note([f"{len(there) - len(self._files)} files without the ending of an image were left out"])
        self.total = len(self._files)

    def files(self) -> list[Path]:
        """Return the images."""
        return self._files

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """Return images by their names."""
        with ThreadPoolExecutor(cores()) as pool:
            for number in numbers:
                rows = range(number * self.size, min((number + 1) * self.size, self.total))
                # One by one: a request of many may hold fewer pixels than they have together.
                read = list(pool.map(self._read, (self._files[row] for row in rows)))
                reasons = {place: why for place, (_, why) in enumerate(read) if why is not None}
                names = [(self._files[row].relative_to(self._root).as_posix(),) for row in rows]
                yield self.part(rows, names, _joined([samples for samples, why in read if why is None]), reasons)

    def _read(self, path: Path) -> tuple[Any, str | None]:
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        return read_row(self.contract, pd.DataFrame({"image": [content]}))


def _joined(samples: Sequence[Any]) -> Any:
    """Return the samples of several requests as one; None of none."""
    if not samples:
        return None
    table = pd.concat([each.table for each in samples], ignore_index=True)
    pixels = np.concatenate([each.pixels for each in samples])
    return replace(samples[0], table=table, pixels=pixels, index=np.arange(len(table)))


QUESTIONS = ImageQuestions
