"""A decision on a label that reaches the wrong sample, moves a group to another side, or goes unsaid."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines import ingest
from pipelines.datasets import prepare, read_prepared, write_prepared
from pipelines.errors import DataError, UserError
from pipelines.params import read_params
from pipelines.samples.label_decisions import COLUMNS, DECISIONS_FILE, decide, read_decisions
from pipelines.split import split_sha256
from tests.pipelines.expression_folder import ROOT, label_task, write_expression_folder
from tests.pipelines.image_samples import cell, samples_of
from tests.pipelines.response_tables import shipped_task, write_response_folder

NAME, SEED = "tumor_type", 3
TASK = label_task()
Row = tuple[str, str, str, str, str, str, str]


def row(
    sample: str, given: str, decision: str, new: str = "", *, by: str = "A. Reader", day: str = "2026-11-30"
) -> Row:
    return (sample, given, decision, new, by, "looked again", day)


def decided(folder: Path, *rows: Row) -> pd.DataFrame:
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / DECISIONS_FILE, index=False)
    return read_decisions(folder)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_expression_folder(tmp_path / "data" / NAME)


def test_decisions_change_and_drop_by_name_after_the_split_and_are_counted(data: Path) -> None:
    plain = prepare(TASK.read(data), TASK, SEED)
    before = plain.table.set_index("sample_id")
    tested, trained = (before.index[before["split"] == side][0] for side in ("test", "train"))
    kept, lost = before.index[before["split"] == "test"][1], before.index[before["split"] == "test"][2]
    new = next(each for each in plain.samples.classes if each != before.loc[tested, "label"])
    table = decided(
        data,
        row(lost, before.loc[lost, "label"], "drop"),
        row(trained, before.loc[trained, "label"], "drop"),
        row(tested, before.loc[tested, "label"], "change", new),
        row(kept, before.loc[kept, "label"], "keep"),
    )
    made = prepare(TASK.read(data), TASK, SEED, table)
    after = made.table.set_index("sample_id")
    assert set(before.index) - set(after.index) == {lost, trained}
    pd.testing.assert_frame_equal(
        after[["group", "split", "fold"]], before.loc[after.index, ["group", "split", "fold"]]
    )
    differ = after.index[(after["label"] != before.loc[after.index, "label"]).to_numpy()]
    assert (list(differ), after.loc[tested, "label"]) == ([tested], new)
    at = made.table["sample_id"].tolist().index(tested)
    assert made.samples.classes[made.samples.target[at]] == new
    told = made.counts["label_decisions"]
    assert (told["keep"], told["change"], told["drop"]) == (1, 1, 2)
    assert [(one["decision"], one["new_label"], one["by"], one["samples"]) for one in told["tested"]] == [
        ("change", new, "A. Reader", 1), ("drop", "", "A. Reader", 1), ("keep", "", "A. Reader", 1)
    ]  # fmt: skip
    assert made.counts["rows"]["dropped"]["label_decision"] == 2
    assert made.counts["rows"]["kept"] == len(made.table) == len(plain.table) - 2

    write_prepared(made, Path("prepared") / NAME, TASK, SEED)
    read = read_prepared(NAME, TASK)
    np.testing.assert_array_equal(read.samples.target, made.samples.target)
    assert (read.sha256, read.counts) == (split_sha256(made.table), made.counts)
    decided(data, row(tested, before.loc[tested, "label"], "keep"))  # and the stage has not run since
    with pytest.raises(UserError, match="run `dvc repro"):
        read_prepared(NAME, TASK)


FAULTS: dict[str, tuple[Row, str]] = {
    "unknown sample": (row("P9", "BLUE", "keep"), "column sample_id, row 1: no sample .* has this id.*P9"),
    "other label": (row("P000-01", "RED", "drop"), "column given, row 1: the label of the data is another now"),
    "no class": (row("P000-01", "BLUE", "change", "PINK"), "the classes are BLUE, GREEN, RED .found 'PINK'"),
    "no decision": (row("P000-01", "BLUE", "delete"), "column decision, row 1: is none; write keep, change, drop"),
    "no new label": (row("P000-01", "BLUE", "change"), "column new_label, row 1: is empty"),
    "the same label": (row("P000-01", "BLUE", "change", "BLUE"), "is the given label"),
    "a label too many": (row("P000-01", "BLUE", "drop", "RED"), "is for change alone"),
    "nobody": (row("P000-01", "BLUE", "keep", by=""), "column by, row 1: is empty; fill it in"),
    "no day": (row("P000-01", "BLUE", "keep", day="yesterday"), "column date, row 1: is no date"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_decision_is_refused_by_file_column_and_row(fault: str, data: Path) -> None:
    faulty, message = FAULTS[fault]
    with pytest.raises(DataError, match=f"{DECISIONS_FILE}.*{message}"):
        decide(TASK.read(data).samples, decided(data, faulty))


def test_images_have_decisions_by_file_and_measured_responses_none(tmp_path: Path) -> None:
    samples = samples_of([cell(number, 24) for number in range(4)], labels=["all", "all", "hem", "hem"])
    names = samples.table["sample_id"].tolist()
    changed, dropped = row(names[0], "all", "change", "hem"), row(names[3], "hem", "drop")
    found = decide(samples, decided(tmp_path, changed, dropped))
    assert found.samples.table["sample_id"].tolist() == names[:3]
    assert found.samples.target.tolist() == [1, 0, 1]
    folder = write_response_folder(tmp_path / "response")
    with pytest.raises(DataError, match="no labels"):
        decide(shipped_task().read(folder).samples, read_decisions(tmp_path))


def test_decisions_stay_where_new_data_comes_in(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided(data, row("P000-01", "BLUE", "keep"))
    monkeypatch.setattr(ingest, "dvc_add", lambda folder: None)
    origin = write_expression_folder(Path("elsewhere") / NAME)
    assert ingest.bring({NAME: origin}, read_params(ROOT / "params.yaml"))
    assert read_decisions(data)["sample_id"].tolist() == ["P000-01"]
