"""The samples of a task with group, split and fold: split, written, and read again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.files import read_json, write_json, written_whole
from pipelines.params import PILOT, Task
from pipelines.paths import DATA, PREPARED
from pipelines.samples import Kept
from pipelines.samples.label_decisions import DROPPED, counted, decide, read_decisions
from pipelines.split import PART, guard, rotation_parts, sample_identities, split_samples, split_sha256, without_part

OFF_QUESTION = "off_question"  # rows that cross_study neither trains on nor tests
_OF_THE_SPLIT = ("mode", "seed", "sha256", "samples", "groups", "folds", "parts", PILOT)


@dataclass(frozen=True)
class Prepared:
    """The samples of a task in the order of their split table."""

    samples: Any  # all, of the task's modality
    table: pd.DataFrame  # `sample_id, group, split, fold, ...`; a row a sample, in the same order
    sha256: str  # of the split
    counts: dict[str, Any]  # of samples that the rules of the task dropped and kept

    def rows(self, *sides: str) -> np.ndarray:
        """Return the positions of the samples on ``sides``; pilot measurements are on none."""
        there = self.table["split"].isin(sides).to_numpy()
        return np.flatnonzero(there & ~self.table[PILOT].to_numpy(bool) if PILOT in self.table else there)

    def side(self, *sides: str) -> Any:
        """Return the samples on ``sides``."""
        return self.samples.take(self.rows(*sides))

    @property
    def parts(self) -> list[int]:
        """Return the parts of a rotation, which are tested in turn; none of a single split."""
        return sorted(set(self.table[PART].tolist())) if PART in self.table else []

    @property
    def tested(self) -> np.ndarray:
        """Return the positions of the samples that evidence is of: the side ``test``, or all of a rotation."""
        return np.arange(len(self.table)) if self.parts else self.rows("test")

    def without(self, part: int) -> "Prepared":
        """Return the samples of an outer fit: those of ``part`` are on the side ``test``, the others as they were."""
        table = without_part(self.table, part)
        return replace(self, table=table, sha256=split_sha256(table))


def prepare(kept: Kept, task: Task, seed: int, decisions: pd.DataFrame | None = None) -> Prepared:
    """Split what was read of a raw folder; raise `UserError` where it has no sample left, or cannot be split.

    ``decisions`` on labels, of `pipelines.samples.label_decisions.read_decisions`, hold after the split, which is the
    same without them.
    """
    counts, rows = kept.counts, kept.counts["rows"]
    if len(kept.samples) == 0:
        raise UserError(f"no sample is left after the rules of `data` in params.yaml: {rows}")
    table = split_samples(kept.samples, task.split, seed)
    if left_out := len(kept.samples) - len(table):
        dropped = {**rows["dropped"], OFF_QUESTION: left_out}
        counts = {**counts, "rows": {**rows, "kept": rows["kept"] - left_out, "dropped": dropped}}
    samples = _in_order(kept.samples, table)
    if decisions is not None and len(decisions):
        samples, table, counts = _decided(samples, table, counts, decisions)
    aimed = task.aim(samples, table)
    table = table.assign(**aimed.columns)
    made = Prepared(aimed.samples, table, split_sha256(table), {**counts, **aimed.counts})
    return replace(made, counts=made.counts | {"untested_classes": untested}) if (untested := _untested(made)) else made


def _untested(prepared: Prepared) -> list[str]:
    """Return the classes without a tested row, which no score is of."""
    classes = getattr(prepared.samples, "classes", ())
    tested = set(prepared.table["target"].iloc[prepared.tested]) if classes else set()
    return [name for code, name in enumerate(classes) if code not in tested]


def _decided(
    samples: Any, table: pd.DataFrame, counts: dict[str, Any], decisions: pd.DataFrame
) -> tuple[Any, pd.DataFrame, dict[str, Any]]:
    """Return samples, split table and counts under decisions on labels; those on tested samples are told one by one."""
    tested = table["sample_id"] if PART in table else table.loc[table["split"] == "test", "sample_id"]
    decided = decide(samples, decisions)
    table = table[decided.kept].reset_index(drop=True)
    table["label"] = decided.samples.table["label"]
    table["target"] = decided.samples.table["target"]
    rows = counts["rows"]
    dropped = {**rows["dropped"], DROPPED: int((~decided.kept).sum())}
    rows = {**rows, "kept": rows["kept"] - dropped[DROPPED], "dropped": dropped}
    return decided.samples, table, {**counts, "rows": rows, "label_decisions": counted(decisions, set(tested))}


def _in_order(samples: Any, table: pd.DataFrame) -> Any:
    """Return the samples of a split table, in its order."""
    return samples.take(samples.table.set_index("sample_id").index.get_indexer(pd.Index(table["sample_id"])))


def write_prepared(prepared: Prepared, folder: Path, task: Task, seed: int) -> None:
    """Write ``samples.parquet`` and ``split.json`` into ``folder``."""
    with written_whole(folder / "samples.parquet") as temporary:
        prepared.table.to_parquet(temporary, index=False)
    table = prepared.table
    summary = {
        "mode": task.split.mode,
        "seed": seed,
        "sha256": prepared.sha256,
        "samples": table["split"].value_counts().to_dict(),
        "groups": table.groupby("split")["group"].nunique().to_dict(),
        "folds": table.groupby("fold").size().to_dict(),
        **({"parts": table.groupby(PART).size().to_dict()} if PART in table else {}),
        **({PILOT: int(table[PILOT].sum())} if PILOT in table else {}),
    }
    write_json(folder / "split.json", summary | prepared.counts)


def read_prepared(name: str, task: Task, *, data: Path = DATA, prepared: Path = PREPARED) -> Prepared:
    """Read what `write_prepared` wrote, join it with the raw features, and check the split again.

    `UserError` where the stage has not run, was interrupted, ran on other data, or its table was edited.
    """
    folder = prepared / name
    if not (folder / "samples.parquet").is_file():
        raise UserError(f"{folder / 'samples.parquet'} is not there; run `dvc repro prepare@{name}` first")
    try:
        table = pd.read_parquet(folder / "samples.parquet")
        summary = read_json(folder / "split.json")
        sha256, mode, recorded = split_sha256(table), summary["mode"], summary["sha256"]
        left_out = int(summary["rows"]["dropped"].get(OFF_QUESTION, 0))
    except (OSError, ValueError, KeyError, TypeError) as error:  # files that are missing, cut short or edited
        message = f"{folder}: the split cannot be read ({error}); run `dvc repro -f prepare@{name}`"
        raise UserError(message) from error
    if sha256 != recorded:
        raise UserError(f"{folder}: samples.parquet was edited after the split; run `dvc repro -f prepare@{name}`")
    if mode != task.split.mode:
        asked = f"params.yaml asks for {task.split.mode}"
        raise UserError(f"{folder}: the split is {mode}, {asked}; run `dvc repro prepare@{name}`")
    if (PART in table) != bool(rotation_parts(task.split, table["group"].nunique())):
        message = f"{folder}: split.fewest_groups in params.yaml asks for another split; run `dvc repro prepare@{name}`"
        raise UserError(message)
    samples = decide(task.read(data / name).samples, read_decisions(data / name)).samples
    if not set(table["sample_id"]) <= set(samples.table["sample_id"]) or len(samples) != len(table) + left_out:
        raise UserError(f"{folder}: the split is not of the data in {data / name}; run `dvc repro prepare@{name}`")
    samples = task.aim(_in_order(samples, table), table).samples
    for column, noun in (*((each, "targets") for each in task.target_columns), ("digest", "samples")):
        if column in table and not np.array_equal(samples.table[column], table[column]):
            raise UserError(f"{folder}: the {noun} are not those in {data / name}; run `dvc repro -f prepare@{name}`")
    guard(table, sample_identities(samples, task.split.mode), task.split)
    counts = {key: value for key, value in summary.items() if key not in _OF_THE_SPLIT}
    return Prepared(samples, table, sha256, counts)
