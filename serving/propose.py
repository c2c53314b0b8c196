"""Open a pull request with the files that a loop changed: ``python -m serving.propose --task T``.

A loop writes ``dvc.lock``, and ``data.dvc`` where the data was imported. They are committed on a branch of their own
without a change to the checkout; the report of the loop is the text of the pull request.
"""

import os
import shutil
from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.paths import REPORTS
from serving.continuous_training.loop import FOLDER, read_state

CHANGED = ("dvc.lock", "data.dvc")


def propose(name: str) -> str:
    """Commit, push and open the pull request, as far as that is not done; return what was done, in a sentence."""
    from serving.reproduction import Worktree, worktree

    state, here = read_state(FOLDER / f"{name}.json"), Worktree(Path.cwd(), Path.cwd())
    text = REPORTS / name / "retraining.md"
    if not state.finished or not text.is_file():
        raise UserError(f"no loop of {name} has ended in this checkout; run `make retrain TASK={name}` first")
    paths = [path for path in CHANGED if Path(path).is_file()]
    if not here.run("git status", "git", "status", "--porcelain", "--", *paths):
        return f"nothing to propose: {' and '.join(paths)} are as they were committed"
    if shutil.which("gh") is None:
        raise UserError("gh is not installed; it opens the pull request")
    branch = f"retrain/{name}-{state.content['fingerprint'][:12]}"
    title = f"Retrain {name}: {state.content['finished']['outcome']}"[:200]
    if not here.run("git ls-remote", "git", "ls-remote", "--heads", "origin", branch):
        by = os.environ.get("BY") or "retraining"
        who = ("-c", f"user.name={by}", "-c", f"user.email={by}@users.noreply.github.com")
        with worktree(here.root, "HEAD") as tree:
            for path in paths:
                shutil.copy(path, tree.root / path)
            tree.run("git add", "git", "add", "--", *paths)
            tree.run("git commit", "git", *who, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", title)
            tree.run("git push", "git", "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    asked = ("--head", branch, "--state", "all", "--json", "number", "--jq", ".[].number")
    if here.run("gh pr list", "gh", "pr", "list", *asked).strip():
        return f"{branch} was proposed already"
    told = ("--head", branch, "--title", title, "--body-file", str(text))
    here.run("gh pr create", "gh", "pr", "create", *told)
    return f"proposed as {branch}"


def main() -> int:
    """Propose, and print what was done."""
    print(propose(parser(__doc__ or "").parse_args().task))
    return 0


if __name__ == "__main__":
    run_command(main)
