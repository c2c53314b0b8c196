"""The page of doubtful labels: a decision that is not written as it was made, without a name, or over another."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pipelines.samples.label_decisions import DECISIONS_FILE, read_decisions
from tests.training.tiny import ROOT

TASK = "blood_cell"
SAMPLES = ["basophil/a.png", "monocyte/b.png", "monocyte/c.png"]


def draw() -> None:
    from serving.dashboard.pages import frame, labels

    frame.choose_task()
    labels.page()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    for folder in (Path("reports", TASK), Path("prepared", TASK), Path("data", TASK)):
        folder.mkdir(parents=True)
    given = [name.partition("/")[0] for name in SAMPLES]
    table = pd.DataFrame({"sample_id": SAMPLES, "group": SAMPLES, "split": "train", "tested": [True, False, False]})
    table = table.assign(given=given, suggested="myeloblast", probability_given=0.01, probability_suggested=0.98)
    table.assign(score=-0.97, because="", decision="").to_csv(f"reports/{TASK}/labels.csv", index=False)
    pd.DataFrame({"label": [*given, "myeloblast"]}).to_parquet(f"prepared/{TASK}/samples.parquet")
    return Path("data", TASK)


def test_decisions_are_written_with_name_and_reason_one_after_the_other(data: Path) -> None:
    at = AppTest.from_function(draw, default_timeout=60).run()
    at.sidebar.selectbox(key="task").select(TASK).run()
    assert not at.exception and [one.value for one in at.subheader] == SAMPLES[:1] and len(at.warning) == 1
    at.button(key="label drop").click().run()
    assert "column by, row 1" in at.error[0].value and not (data / DECISIONS_FILE).exists()
    at.text_input(key="label by").input("A. Reader")
    at.text_input(key=f"label why {SAMPLES[0]}").input("blurred")
    at.button(key="label drop").click().run()
    assert not at.exception and [one.value for one in at.subheader] == SAMPLES[1:2]
    at.text_input(key=f"label why {SAMPLES[1]}").input("granules")
    at.button(key="label change").click().run()
    table = read_decisions(data)
    assert table[["sample_id", "given", "decision", "by", "why"]].to_numpy().tolist() == [
        [SAMPLES[0], "basophil", "drop", "A. Reader", "blurred"],
        [SAMPLES[1], "monocyte", "change", "A. Reader", "granules"],
    ]
    assert table["new_label"].tolist() == [None, "myeloblast"]
    assert [one.value for one in at.subheader] == SAMPLES[2:]
