"""What would put a wrong figure into the documentation: a run of another split, an older one, one without evidence."""

import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

from evaluation import results_table
from pipelines import tracking

ROOT = Path(__file__).parents[2]
COMMON = {"cost/fit_seconds": 12.3, "cost/parameters": 23_508_032.0, "test/macro_f1": 0.5}


def run(architecture: str, accuracy: float, *, features: str = "", **tags: str) -> str:
    """Log an evaluated run; return the eight digits that the table shows."""
    own = {"architecture": architecture, "split.sha256": "a", "budget": "small_images", "evidence.sha256": "e"}
    with tracking.run("blood_cell", "evaluate", architecture, tags={**own, **tags}) as logged:
        low, high = accuracy - 0.1, accuracy + 0.1
        found = {"test/accuracy": accuracy, "interval/accuracy_low": low, "interval/accuracy_high": high, **COMMON}
        mlflow.log_metrics(found)
        if features:
            mlflow.log_param("features", features)
    return str(logged.info.run_id)[:8]


def test_the_table_has_the_newest_run_of_each_architecture_and_kind_of_features_on_one_split(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", place)
    run("vgg16", 0.99, **{"split.sha256": "another"})
    run("resnet50", 0.98)
    run("alexnet", 0.97, **{"evidence.sha256": ""})
    trees = [run("xgboost", value, features=of) for value, of in ((0.6, "descriptors"), (0.9, "embedding"))]
    kept = [run("resnet50", 0.7, pretrained="false"), run("densenet201", 0.8, budget="full", simulated="true")]
    mlflow.MlflowClient().log_metric(_whole(kept[0]), "test/worst_stress_accuracy", 0.4)

    def rows(*arguments: str) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", ["results_table", "--task", "blood_cell", *arguments])
        results_table.main()
        printed = capsys.readouterr().out
        assert ("The data is simulated" in printed) == (not arguments)
        lines = [line for line in printed.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]

    head, *found = rows()
    assert [row[-1] for row in found] == [trees[1], kept[1], kept[0], trees[0]]
    shown = dict(zip(head, found[2], strict=True))
    assert (shown["architecture"], shown["accuracy"]) == ("`resnet50`", "0.700 [0.600, 0.800]")
    assert (shown["worst stress accuracy"], shown["fit, s"], shown["parameters"]) == ("0.400", "12.3", "23,508,032")
    assert [row[1] for row in found] == ["embedding", "", "from scratch", "descriptors"] and head[1] == "from"
    assert [row[-1] for row in rows("--budget", "small_images")[1:]] == [trees[1], kept[0], trees[0]]


def _whole(digits: str) -> str:
    runs: Any = mlflow.search_runs([tracking.experiment("blood_cell")], output_format="list")
    return next(each.info.run_id for each in runs if each.info.run_id.startswith(digits))
