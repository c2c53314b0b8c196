"""`--workers` must reach the study through MLflow's entry point, and the workers must reach the study."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

import pipelines.datasets
from tests.training.tiny import NAME, ROOT
from training import tune
from training.studies import study
from training.studies.study import Tuned

COMMAND = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["tune"]["command"]


@pytest.mark.parametrize(("workers", "cluster"), [("1", ""), ("4", "ray://10.0.0.1:10001")])
def test_mlflows_entry_point_tunes_with_the_workers_that_it_is_given(
    workers: str, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    tuned = Tuned(NAME, "elastic_net", "quick", "rmse", "validation", 1.0, {}, 2, "a study", "a run")
    note = Mock(return_value=tuned)
    monkeypatch.setattr(study, "tune", note)
    monkeypatch.setattr(study, "follow", note)
    monkeypatch.setattr(pipelines.datasets, "read_prepared", lambda name, task: f"samples of {name}")
    given = {"task": NAME, "architecture": "elastic_net", "workers": workers, "cluster": cluster}
    program, *arguments = shlex.split(COMMAND.format(**given))
    assert (program, arguments[:2]) == ("python", ["-m", "training.tune"])
    assert tune.main(arguments[2:]) == 0
    ((name, architecture, prepared, _), named) = note.call_args
    assert (name, architecture.name, prepared) == (NAME, "elastic_net", f"samples of {NAME}")
    assert (named["workers"], named["cluster"]) == (int(workers), cluster)
    found = json.loads((tmp_path / "models" / NAME / "elastic_net" / "tuned.json").read_text())
    assert (found["study"], found["run_id"]) == ("a study", "a run")

    module, *of_worker = named["command"]
    assert tune.main([*of_worker, "--worker-of", "a run", "--number", "2"]) == 0
    (following, named) = note.call_args
    assert (module, following[0]) == ("training.tune", NAME)
    assert (named["parent"], named["number"]) == ("a run", 2)


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_a_number_of_workers_that_is_none_is_refused(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tune.main(["--task", NAME, "--architecture", "elastic_net", f"--workers={workers}"])
    assert "--workers" in capsys.readouterr().err
