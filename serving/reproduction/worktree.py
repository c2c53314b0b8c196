"""A temporary worktree with a commit's code and a version's data."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.errors import UserError

_DVC_LOCAL = Path(".dvc") / "config.local"
_OUTPUT = 3000  # characters of a failed command that are shown


@dataclass(frozen=True)
class Worktree:
    """A temporary checkout of a commit; ``origin`` is the root of its repository."""

    root: Path
    origin: Path

    def run(self, what: str, *command: str, env: Mapping[str, str] | None = None) -> str:
        """Run a command in the worktree, with ``env`` added, and return its output; `UserError` where it fails."""
        kept = {key: value for key, value in os.environ.items() if key not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")}
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**kept, "PYTHONPATH": str(self.root), **(env or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise UserError(f"{what} failed:\n{(done.stdout + done.stderr)[-_OUTPUT:].strip()}")
        return done.stdout

    def data(self, task: str, md5: str) -> None:
        """Check out ``data/<task>`` of the folder with DVC's hash ``md5``, from the repository's cache or remotes."""
        recorded = self.root / "data.dvc"
        if not recorded.is_file():
            raise UserError("the commit has no data.dvc: its data was never given to DVC")
        content = yaml.safe_load(recorded.read_text(encoding="utf-8"))
        if content["outs"][0].get("md5") != md5:
            content["outs"] = [{"md5": md5, "hash": "md5", "path": content["outs"][0]["path"]}]
            recorded.write_text(yaml.safe_dump(content), encoding="utf-8")
        self._share_cache()
        target = f"data/{task}"
        try:
            self.run("dvc checkout", *_dvc("checkout", "--quiet", target))
        except UserError:
            self.run(f"dvc pull of {target} ({md5})", *_dvc("pull", "--quiet", target))

    def _share_cache(self) -> None:
        """Configure DVC in the worktree to use the repository's cache, remotes and credentials."""
        if (self.origin / _DVC_LOCAL).is_file():
            shutil.copyfile(self.origin / _DVC_LOCAL, self.root / _DVC_LOCAL)
            (self.root / _DVC_LOCAL).chmod(0o600)
        there = Worktree(self.origin, self.origin)
        cache = there.run("dvc cache dir", *_dvc("cache", "dir")).strip()
        self.run("dvc config", *_dvc("config", "--local", "cache.dir", cache))
        for line in there.run("dvc remote list", *_dvc("remote", "list")).splitlines():
            name, _, url = line.replace("\t", " ").removesuffix("(default)").strip().partition(" ")
            if Path(url.strip()).is_dir():  # a relative path would point into the worktree
                self.run("dvc remote modify", *_dvc("remote", "modify", "--local", name, "url", url.strip()))


def _dvc(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "dvc", *arguments)


@contextlib.contextmanager
def worktree(origin: Path, commit: str) -> Iterator[Worktree]:
    """Yield a temporary checkout of ``commit``; raises `UserError` where the repository does not have it."""
    if _git(origin, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(f"the commit {commit} is not in this repository; fetch it: git fetch origin {commit}")
    place = Path(tempfile.mkdtemp(prefix="oncolineage-"))
    root = place / "worktree"
    try:
        # Without hooks: that of `dvc install` would check out all data.
        made = _git(origin, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(root), commit)
        if made.returncode:
            raise UserError(f"git worktree add failed: {made.stderr.strip()}")
        yield Worktree(root, origin)
    finally:
        _git(origin, "worktree", "remove", "--force", str(root))
        shutil.rmtree(place, ignore_errors=True)
        _git(origin, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
