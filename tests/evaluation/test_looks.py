"""Every look at the test rows counts, whoever took it and whatever became of the run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from evaluation.evidence.looks import LOOKS, TEST_SHA256, ledger, record, sha256_of_tested, told
from pipelines import tracking
from pipelines.datasets import Prepared
from tests.empty_store import working_in


def prepared(tested: str) -> Prepared:
    table = pd.DataFrame(
        {"sample_id": list("abcdef"), "split": ["test" if each in tested else "train" for each in "abcdef"]}
    )
    return Prepared(None, table.assign(group=table["sample_id"], fold=0), "0" * 64, {})


def test_looks_are_counted_by_rows_models_and_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = prepared("ab"), prepared("bc")
    with working_in(tmp_path):
        runs = []
        for name in ("one", "two"):
            with tracking.run("task", "fit", name, tags={"architecture": name}) as run:
                runs.append(run.info.run_id)
        for run_id, by, rows in ((runs[0], "ada", first), (runs[0], "bo", first), (runs[1], "ada", first)):
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", by)
            record(run_id, rows)
        looks = ledger("task", sha256_of_tested(first))
        assert sorted(looks["architecture"]) == ["one", "one", "two"] and set(looks["by"]) == {"ada", "bo"}
        assert told(looks) == "scored 3 times, for 2 models, by ada, bo"
        MlflowClient().delete_run(runs[0])
        assert len(ledger("task", sha256_of_tested(first))) == 3, "a deleted run has looked all the same"
        assert ledger("task", sha256_of_tested(other)).empty and ledger("no_task", "0" * 64).empty
        record(runs[1], other)  # fitted on another split since
        assert len(ledger("task", sha256_of_tested(other))) == 1
        tags = MlflowClient().get_run(runs[1]).data.tags
        assert tags[TEST_SHA256] == sha256_of_tested(other) and len(tags[LOOKS].splitlines()) == 1


def test_the_hash_is_of_the_tested_rows_alone() -> None:
    same = prepared("ab")
    shuffled = Prepared(None, same.table.iloc[np.array([5, 4, 3, 2, 1, 0])].reset_index(drop=True), "1" * 64, {})
    assert sha256_of_tested(shuffled) == sha256_of_tested(same) != sha256_of_tested(prepared("abc"))
