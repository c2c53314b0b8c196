"""What would let data, weights, a large file or a subject that no log shows whole into the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_hooks_refuse_data_large_files_and_long_subjects(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".pre-commit-config.yaml", tmp_path)

    def hook(*arguments: str) -> str:
        command = [sys.executable, "-m", "pre_commit", "run", *arguments]
        env = {**os.environ, "SKIP": "lint"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout

    def subject(text: str) -> str:
        (tmp_path / "message").write_text(text, encoding="utf-8")
        return hook("--hook-stage", "commit-msg", "--commit-msg-filename", "message")

    (tmp_path / "infra/dvc-remote").mkdir(parents=True)
    for name, size in (
        ("-x.bin", 1),
        ("a.csv", 1),
        ("b c.bin", 5_000_001),
        ("fine.py", 5_000_000),
        ("infra/dvc-remote/x.csv", 9),
    ):
        (tmp_path / name).write_bytes(b"0" * size)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    found = hook("--all-files")
    assert "a.csv" in found and "b c.bin" in found and "fine.py" not in found and "x.csv" not in found, found
    assert hook("--files", "fine.py", "infra/dvc-remote/x.csv") == ""
    assert subject("A" * 72 + "\n\n" + "body " * 40 + "\n") == subject("R²" + "A" * 70 + "\n") == ""
    assert "a subject of at most 72 characters" in subject("A" * 73 + "\n")
