"""A verb that is given a task which is none, or a pipe as data, says so before it does anything else."""

import os
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from unittest.mock import Mock

import pytest

from evaluation.promotion.scoring import score
from pipelines.errors import UserError
from serving.bulk.run import Bulk
from serving.drift.watch import read_labels
from tests.empty_store import working_in
from tests.training.tiny import ROOT

CALLS = re.findall(r"python -m ([a-z]+\.[\w.]+) (--task [^\n&)]*)", (ROOT / "Makefile").read_text())
GIVEN = {"--to": "staging", "--budget": "quick", "--since": "", "--source": ""}


def test_each_verb_refuses_a_task_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "checkout").mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    assert {"serving.promote", "serving.verify", "serving.trial", "training.tune"} < {module for module, _ in CALLS}
    with working_in(folder):
        before = sorted(tmp_path.rglob("*"))
        for name, words in CALLS:
            module = import_module(f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name)
            flags = set(re.findall(r"--[a-z-]+(?= \"?[a-z_]*\$)", words)) - {"--task"}
            others = [word for flag in flags for word in (flag, GIVEN.get(flag, "1"))]
            monkeypatch.setattr("sys.argv", [name, "--task", "../drug_response; touch pwned", *others])
            with pytest.raises(UserError, match=r"no (task|loop of|version '1' of) '?\.\./drug_response; touch pwned"):
                module.main()
            assert sorted(tmp_path.rglob("*")) == before and Path.cwd() == folder, name


def test_a_pipe_is_refused_where_data_or_labels_are_read(tmp_path: Path) -> None:
    data, pipe = tmp_path / "data", tmp_path / "data" / "more" / "samples.csv"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    reads: list[Callable[[], object]] = [
        lambda: score(Mock(), data),
        lambda: Bulk("drug_response", data, tmp_path / "out"),
        lambda: Bulk("drug_response", pipe, tmp_path / "out"),
        lambda: read_labels(pipe, Mock(), str),
    ]
    for read in reads:
        with pytest.raises(UserError, match=r"samples\.csv: is a pipe, a device or a socket"):
            read()
