"""The split of our rows for drevalpy, which runs a copy of this file, beside ``split.csv``, in its own environment.

Nothing of ours can be imported here.
"""

from pathlib import Path
from typing import Any

import pandas as pd


def create_splits(response_data: Any, params: Any) -> list[dict[str, Any]]:
    """Return one fold of ``train``, ``validation`` and ``test``; drevalpy checks that the sides share no group."""
    sides = pd.read_csv(Path(__file__).with_name("split.csv"), dtype=str).set_index(["cell_line_name", "pubchem_id"])
    rows = pd.MultiIndex.from_arrays([response_data.cell_line_ids, response_data.drug_ids])
    side = sides["split"].reindex(rows).to_numpy()
    fold = {name: response_data.copy() for name in ("train", "validation", "test")}
    for name, part in fold.items():
        part.mask(side == name)
    return [fold]
