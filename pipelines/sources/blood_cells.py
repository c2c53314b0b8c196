"""Blood Cell Images for Cancer Detection (Kaggle, doi 10.34740/kaggle/dsv/10500753, CC BY 4.0).

A folder a class, files such as ``BA_100102.jpg``; no subjects.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.sources.raw_folder import SourceImages, class_folders

CLASSES = ("basophil", "erythroblast", "monocyte", "myeloblast", "seg_neutrophil")
NAME = "Blood Cell Images for Cancer Detection"


def read(folder: Path) -> SourceImages:
    """Return the images below ``folder``; `UserError` where it is not of this layout."""
    return class_folders(folder, CLASSES, NAME)
