"""What would let a commit in whose subject no log shows whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from infra.check_commit_subject import main

ROOT = Path(__file__).parents[1]


def message(folder: Path, text: str) -> Path:
    (folder / "message").write_text(text, encoding="utf-8")
    return folder / "message"


def test_the_hook_of_the_repository_refuses_a_long_subject(tmp_path: Path) -> None:
    """Through pre-commit, so that the hook's stage and entry are those of the repository."""
    (tmp_path / "infra").mkdir()
    for name in (".pre-commit-config.yaml", "infra/check_commit_subject.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    assert main(str(message(tmp_path, "R²" + "A" * 70 + "\n\n" + "body " * 40))) == 0
    message(tmp_path, "A" * 73 + "\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pre_commit", "run", "--hook-stage", "commit-msg", "--commit-msg-filename"]
    done = subprocess.run([*command, "message"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "72 are allowed" in done.stdout and "ruff" not in done.stdout
