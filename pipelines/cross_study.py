"""Training on one study and testing on another: which rows are used, and the guard that they never mix.

Cell lines are in both studies, and a model that is trained on a line has seen its profile. So test rows are those of
the second study whose line is held out, training rows those of the first study whose line is not; all other rows are
left out. Drugs are not held out: their ids differ by study, and features find them by molecule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.errors import UserError
from pipelines.params import Split

if TYPE_CHECKING:
    from pipelines.modalities.pairs import PairsSplit

CROSS_STUDY = "cross_study"

Mask = npt.NDArray[np.bool_]


class StudyError(UserError):
    """Two studies that cannot be compared."""


def across(split: Split | None) -> PairsSplit | None:
    """Return ``split`` if it trains on one study and tests on another, else None."""
    if split is None or split.mode != CROSS_STUDY:
        return None
    return cast("PairsSplit", split)


def of_either(study: pd.Series, split: PairsSplit) -> Mask:
    """Return which rows are of one of the two studies, shape ``(n,)``; refuse a study that is not in the data."""
    known = sorted(set(study.astype(str)))
    for key in ("train_study", "test_study"):
        if (name := getattr(split, key)) not in known:
            fault = f"split.{key} is {name!r}, which is no study of the data"
            raise StudyError(f"{fault}; the studies are {', '.join(known)}")
    return study.astype(str).isin((split.train_study, split.test_study)).to_numpy()


def refuse_small(study: pd.Series, groups: pd.Series, split: PairsSplit, needed: int) -> None:
    """Refuse a study of fewer than ``needed`` groups of cell lines."""
    for name in (split.train_study, split.test_study):
        found = groups[(study.astype(str) == name).to_numpy()].nunique()
        if found < needed:
            raise StudyError(
                f"split mode {CROSS_STUDY}: study {name} has {found} groups of cell lines, at least {needed} are "
                "needed; bring more data, lower split.folds, or name other studies"
            )


def asked(study: pd.Series, side: pd.Series, split: PairsSplit) -> Mask:
    """Return which rows are used, ``(n,)``: the test study's on the side ``test``, else the training study's."""
    expected = np.where(side == "test", split.test_study, split.train_study)
    return study.astype(str).to_numpy() == expected


def refuse_mixed(table: pd.DataFrame, split: PairsSplit) -> None:
    """Refuse a split table in which a row of a study is where rows of another belong."""
    mixed = ~asked(table["study"], table["split"], split)
    if mixed.any():
        row = table.loc[mixed].iloc[0]
        raise StudyError(
            f"the split leaks: sample {row['sample_id']} of study {row['study']} is on side {row['split']}; "
            f"{split.train_study} is trained on and {split.test_study} tested: make the split again with "
            "`dvc repro prepare`"
        )
