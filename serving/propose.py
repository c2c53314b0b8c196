"""Open a pull request with the files that a loop changed: ``python -m serving.propose --task T``.

A loop writes ``dvc.lock``, metrics and plots in ``results/``, and ``data.dvc`` where the data was imported. They are
committed on a branch of their own without a change to the checkout; the text of the pull request is the report of the
loop and what ``dvc metrics diff --md`` says.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.paths import REPORTS, RESULTS
from serving.continuous_training.loop import FOLDER, read_state

CHANGED = ("dvc.lock", "data.dvc")


def propose(name: str) -> str:
    """Commit, push and open the pull request, as far as that is not done; return what was done, in a sentence."""
    state = read_state(FOLDER / f"{name}.json")
    text = REPORTS / name / "retraining.md"
    if not state.finished or not text.is_file():
        raise UserError(f"no loop of {name} has ended in this checkout; run `make retrain TASK={name}` first")
    paths = [path for path in CHANGED if Path(path).is_file()]
    paths += [str(path) for path in sorted([*RESULTS.glob(f"*/{name}"), *RESULTS.glob(f"*/{name}.csv")])]
    if not _run("git", "status", "--porcelain", "--", *paths):
        return f"nothing to propose: {' and '.join(paths)} are as they were committed"
    branch = f"retrain/{name}-{state.content['fingerprint'][:12]}"
    title = f"Retrain {name}: {state.content['finished']['outcome']}"[:200]
    if not _run("git", "ls-remote", "--heads", "origin", branch):
        _run("git", "push", "--quiet", "origin", f"{_commit(paths, title)}:refs/heads/{branch}")
    if _run("gh", "pr", "list", "--head", branch, "--state", "all", "--json", "number", "--jq", ".[].number"):
        return f"{branch} was proposed already"
    body = text.read_text(encoding="utf-8")
    if (metrics := RESULTS / "metrics" / name).is_dir():
        changed = _run(sys.executable, "-m", "dvc", "metrics", "diff", "--md", "HEAD", "--targets", str(metrics))
        head, rows = changed.splitlines()[:2], [line for line in changed.splitlines()[2:] if "| test." in line]
        body += "\n".join(
            ["\n## Test metrics against the last commit\n", *head, *rows, ""]
        )  # GitHub takes 65,536 characters
    _run("gh", "pr", "create", "--head", branch, "--title", title, "--body", body)
    return f"proposed as {branch}"


def _commit(paths: list[str], title: str) -> str:
    """Return a commit of ``paths`` on top of HEAD, made with an index of its own."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        _run("git", "read-tree", "HEAD", more=index)
        _run("git", "add", "--", *paths, more=index)
        tree = _run("git", "write-tree", more=index)
    by = os.environ.get("BY") or "retraining"
    author = {"NAME": by, "EMAIL": f"{by}@users.noreply.github.com"}
    if subprocess.run(["git", "config", "user.email"], capture_output=True).stdout.strip():
        author = {}
    names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in author.items()}
    return _run("git", "commit-tree", tree, "-p", "HEAD", "-m", title, more=names)


def _run(*command: str, more: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(more or {})})
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not installed; it opens the pull request") from error
    if done.returncode:
        raise UserError(f"`{' '.join(command[:3])}` failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def main() -> int:
    """Propose, and print what was done."""
    print(propose(parser(__doc__ or "").parse_args().task))
    return 0


if __name__ == "__main__":
    run_command(main)
