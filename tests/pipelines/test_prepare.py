"""A split that is stale, edited or half written must not be trained on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from pipelines import prepare as stage
from pipelines.datasets import Prepared, prepare, read_prepared, write_prepared
from pipelines.errors import UserError
from pipelines.files import jsonable, read_json, write_json, written_whole
from pipelines.split import SplitError, split_sha256
from tests.pipelines.damages import edited, files_below
from tests.pipelines.response_tables import NAME, ROOT, shipped_task, split_of, write_response_folder

SEED = 3
TASK = replace(shipped_task(), split=split_of("cell_blind"))
PREPARED = Path("prepared") / NAME


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_response_folder(tmp_path / "data" / NAME)
    return tmp_path


@pytest.fixture
def written(place: Path) -> Prepared:
    prepared = prepare(TASK.read(place / "data" / NAME), TASK, SEED)
    write_prepared(prepared, PREPARED, TASK, SEED)
    return prepared


def edit_table(edit: Callable[[pd.DataFrame], pd.DataFrame], *, rehash: bool = False) -> None:
    """Pass ``samples.parquet`` through ``edit``; write the hash that fits it into ``split.json`` if asked."""
    table = edit(pd.read_parquet(PREPARED / "samples.parquet"))
    table.to_parquet(PREPARED / "samples.parquet", index=False)
    if rehash:
        edit_summary(lambda summary: summary | {"sha256": split_sha256(table)})


def edit_summary(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    (PREPARED / "split.json").write_text(json.dumps(edit(read_json(PREPARED / "split.json"))))


def edit_response(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    edited("response.parquet", edit)(Path("data"))


def test_what_is_read_is_what_was_written_and_sides_are_disjoint_and_whole(written: Prepared) -> None:
    read = read_prepared(NAME, TASK)
    pd.testing.assert_frame_equal(read.table, written.table, check_dtype=False)
    assert (read.sha256, read.counts) == (written.sha256, written.counts)
    pd.testing.assert_frame_equal(read.samples.pairs, written.samples.pairs)
    for omics, table in written.samples.omics.items():
        pd.testing.assert_frame_equal(read.samples.omics[omics], table)
    for table, samples in ((written.table, written.samples), (read.table, read.samples)):
        assert samples.pairs["sample_id"].tolist() == table["sample_id"].tolist()
        np.testing.assert_array_equal(samples.pairs["target"], table["target"])
        assert samples.cell_lines.index[samples.cell].tolist() == table["cell_line_id"].tolist()
        assert samples.drugs.index[samples.drug].tolist() == table["drug_id"].tolist()
    rows = [written.rows(side) for side in ("train", "validation", "test")]
    assert sorted(np.concatenate(rows)) == list(range(len(written.samples)))
    np.testing.assert_array_equal(written.rows("train", "validation"), np.sort(np.concatenate(rows[:2])))
    assert written.side("test").pairs["sample_id"].tolist() == written.table["sample_id"].iloc[rows[2]].tolist()
    summary = read_json(PREPARED / "split.json")
    assert (summary["mode"], summary["seed"], summary["sha256"]) == ("cell_blind", SEED, written.sha256)
    assert sum(summary["samples"].values()) == sum(summary["folds"].values()) == summary["rows"]["kept"] == 60
    assert sum(summary["groups"].values()) == 10
    assert summary["rows"]["dropped"]["without_expression"] == 12


def swapped(table: pd.DataFrame) -> pd.DataFrame:
    """Exchange the places of a test row and a training row, so that all counts stay as they are."""
    test, train = table.index[table["split"] == "test"][0], table.index[table["split"] == "train"][0]
    order = table.index.tolist()
    order[test], order[train] = train, test
    places = table[["split", "fold"]].iloc[order].reset_index(drop=True)
    return table.assign(split=places["split"], fold=places["fold"])


def cut_short(file: str) -> None:
    (PREPARED / file).write_bytes((PREPARED / file).read_bytes()[: (PREPARED / file).stat().st_size // 2])


AGAIN = f"run `dvc repro -f prepare@{NAME}`"
EDITED = f"samples.parquet was edited after the split; {AGAIN}"
OTHER_DATA = f"not of the data in data/{NAME}; run `dvc repro prepare@{NAME}`"
OTHER_TARGETS = f"the targets are not those in data/{NAME}; {AGAIN}"
DAMAGES: dict[str, tuple[Callable[[], None], str]] = {
    "row moved": (lambda: edit_table(swapped), EDITED),
    "row gone": (lambda: edit_table(lambda t: t.iloc[1:]), EDITED),
    "order": (lambda: edit_table(lambda t: t.iloc[::-1]), EDITED),
    "a leak whose hash fits": (lambda: edit_table(swapped, rehash=True), "leaks: 2 group.s. on two sides"),
    "target": (lambda: edit_table(lambda t: t.assign(target=t["target"].where(t.index != 7, 0.0))), OTHER_TARGETS),
    "measured anew": (lambda: edit_response(lambda t: t.assign(ln_ic50=t["ln_ic50"] + 1)), OTHER_TARGETS),
    "fewer rows": (lambda: edit_response(lambda t: t.iloc[6:]), OTHER_DATA),
    "more rows": (lambda: edit_response(lambda t: pd.concat([t, t.iloc[:6].assign(study="GDSC2")])), OTHER_DATA),
    "doubled rows": (lambda: edit_response(lambda t: pd.concat([t, t.iloc[:6]])), OTHER_DATA),
    "half a table": (lambda: cut_short("samples.parquet"), AGAIN),
    "half a summary": (lambda: cut_short("split.json"), AGAIN),
    "no summary": (lambda: (PREPARED / "split.json").unlink(), AGAIN),
    "no hash": (lambda: edit_summary(lambda summary: {"mode": summary["mode"]}), AGAIN),
    "no fold": (lambda: edit_table(lambda t: t.drop(columns="fold")), AGAIN),
    "null side": (lambda: edit_table(lambda t: t.assign(split=t["split"].where(t.index > 0, None))), AGAIN),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_split_that_is_not_what_was_written_is_refused(damage: str, written: Prepared) -> None:
    done, message = DAMAGES[damage]
    done()
    with pytest.raises(UserError, match=message):
        read_prepared(NAME, TASK)


def test_features_that_became_one_after_the_split_are_refused(written: Prepared) -> None:
    """The split table is sound and that of the data; the guard looks at the profiles themselves."""
    path = Path("data") / NAME / "expression.parquet"
    side = dict(zip(written.table["cell_line_id"], written.table["split"], strict=True))
    expression = pd.read_parquet(path).set_index("cell_line_id")
    train, test = (next(line for line in expression.index if side[line] == which) for which in ("train", "test"))
    expression.loc[test] = expression.loc[train]
    expression.reset_index().to_parquet(path, index=False)
    with pytest.raises(SplitError, match=r"1 expression profile\(s\) on two sides"):
        read_prepared(NAME, TASK)


def test_a_split_of_other_rules_or_of_a_stage_that_has_not_run_is_refused(written: Prepared) -> None:
    stricter = replace(TASK, data=replace(TASK.data, missing=replace(TASK.data.missing, smiles="drop")))
    with pytest.raises(UserError, match="the split is not of the data"):
        read_prepared(NAME, stricter)
    other = replace(TASK, split=replace(TASK.split, mode="drug_blind"))
    with pytest.raises(UserError, match=f"the split is cell_blind, params.yaml asks for drug_blind; .*prepare@{NAME}`"):
        read_prepared(NAME, other)
    (PREPARED / "samples.parquet").unlink()
    with pytest.raises(UserError, match=rf"samples.parquet is not there; run `dvc repro prepare@{NAME}` first"):
        read_prepared(NAME, TASK)


def test_a_file_is_written_whole_or_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "report.json"
    for content in ("old", "new"):
        with written_whole(path) as temporary:
            temporary.write_text(content)
            assert temporary.parent == path.parent  # on one file system, so that it moves in one step
            assert temporary.suffix == ".json"
            assert not path.exists() or path.read_text() == "old"
        assert files_below(tmp_path) == {"reports/report.json": content.encode()}
    assert path.stat().st_mode & 0o777 == 0o644  # not the 0600 of temporary files: others read reports too
    for error in (KeyboardInterrupt, OSError):
        with pytest.raises(error), written_whole(path) as temporary:
            temporary.write_text("half of the n")
            raise error
        assert files_below(tmp_path) == {"reports/report.json": b"new"}


def test_a_split_whose_writing_fails_leaves_the_old_one(written: Prepared) -> None:
    before = files_below(Path("prepared"))

    def full(self: pd.DataFrame, path: Path, **_: Any) -> None:
        path.write_bytes(b"PAR1")
        raise OSError("No space left on device")

    with patch.object(pd.DataFrame, "to_parquet", full), pytest.raises(OSError, match="No space left"):
        write_prepared(written, PREPARED, TASK, SEED + 1)
    assert files_below(Path("prepared")) == before
    read_prepared(NAME, TASK)


def test_json_has_no_nan_and_no_numpy(tmp_path: Path) -> None:
    numbers: dict[Any, Any] = {"a": np.float32(0.5), "b": [np.nan, np.inf, -np.inf]}
    content = {**numbers, 3: np.arange(2), "c": (np.int64(1), np.bool_(True))}
    write_json(tmp_path / "x.json", content)
    read = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert read == {"a": 0.5, "b": [None, None, None], "3": [0, 1], "c": [1, True]} == jsonable(content)


def test_command_writes_the_split_and_tells_what_was_dropped(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with patch("sys.argv", ["prepare", "--task", NAME]):
        assert stage.main() == 0
    told = capsys.readouterr().out
    assert "60 of 72 samples kept (dropped: 12 without_expression)" in told
    sides = {side: int(told.split(f" {side}")[0].split()[-1]) for side in ("train", "validation", "test")}
    assert read_prepared(NAME, shipped_task()).table["split"].value_counts().to_dict() == sides
