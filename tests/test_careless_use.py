"""A verb that is given a task which is none says so, before it reads, writes or asks for anything under that name."""

import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.errors import UserError
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
