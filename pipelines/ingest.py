"""Bring raw data in: copy, check, and only then put in the place of the old and hand to DVC.

``python -m pipelines.ingest --from DIR [--task T]``
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from pipelines.command import run_command
from pipelines.errors import UserError
from pipelines.params import Params, read_params
from pipelines.paths import DATA
from pipelines.samples.raw_files import is_of_system
from pipelines.special_files import refuse_special
from pipelines.validate import validate_folder

INCOMING = Path(".incoming")


def sources(origin: Path, task: str | None, params: Params) -> dict[str, Path]:
    """Return the folder of each task's data; ``origin`` is that of one task, or has one for each."""
    from pipelines.samples.images import IMAGES_FOLDER  # the command's help needs no NumPy

    if origin.is_file():
        raise UserError(f"{origin}: is a file; name its folder, or unpack it if it is an archive")
    if not origin.is_dir():
        raise UserError(f"{origin}: no such folder")
    if task is not None:
        params.task(task)
    wanted = [task] if task else list(params.tasks)
    found = {name: origin / name for name in wanted if (origin / name).is_dir()}
    # Images of unknown subjects have no table beside them.
    if not found and len(wanted) == 1 and any(p.is_file() or p.name == IMAGES_FOLDER for p in origin.iterdir()):
        found = {wanted[0]: origin}
    if not found:
        raise UserError(
            f"{origin}: has no folder named {' or '.join(wanted)}; name the task with TASK=... if its files are there"
        )
    return found


def bring(found: dict[str, Path], params: Params, *, data: Path = DATA, incoming: Path = INCOMING) -> bool:
    """Copy and check the folder of every task, then put all of them in place, or none; return whether they passed."""
    from pipelines.samples.label_decisions import DECISIONS_FILE

    passed = True
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        for name, folder in found.items():
            waiting = incoming / name
            if left := _copy(folder, waiting):
                listed = ", ".join(map(repr, sorted(set(left))))
                print(f"warning: {name}: files of operating systems are not copied ({listed})", file=sys.stderr)
            decided = data / name / DECISIONS_FILE
            if decided.is_file() and not (waiting / DECISIONS_FILE).exists():  # they are work that no source has
                shutil.copyfile(decided, waiting / DECISIONS_FILE)
                print(f"{name}: {DECISIONS_FILE} is kept", file=sys.stderr)
            validation = validate_folder(waiting, name, params.task(name))
            for finding in validation.findings:
                kind = "warning" if finding.severity == "warning" else "refused"
                print(f"{kind}: {name}/{finding}", file=sys.stderr)
            passed &= validation.passed
        if passed:
            _swap_in(list(found), data, incoming)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return passed


def _copy(folder: Path, waiting: Path) -> list[str]:
    """Copy a folder without files of operating systems, and return their names, without hidden ones.

    Links are followed, for large files lie elsewhere; `UserError` where one leads back, or to what is no file.
    """
    left: list[str] = []
    entered = set(folder.resolve().parents)

    def of_systems(here: str, names: list[str]) -> list[str]:
        place = Path(here).resolve()
        if place in entered:
            raise UserError(f"{here} leads back to {place}; copy what is meant in its place")
        entered.add(place)
        found = [name for name in names if is_of_system(name)]
        paths = [Path(here, name) for name in names if name not in found]
        if links := sorted(path for path in paths if path.is_symlink() and path.exists()):
            more = f" and {len(links) - 1} more" if len(links) > 1 else ""
            print(f"warning: {links[0]}{more}: a link; {links[0].resolve()} is copied", file=sys.stderr)
        refuse_special(paths)  # what a broken link names is told below
        left.extend(name for name in found if not name.startswith("."))
        return found

    try:
        # Contents only: a file that is read-only there is not so here.
        shutil.copytree(folder, waiting, copy_function=shutil.copyfile, ignore=of_systems)
    except OSError as error:
        what = error.args[0] if isinstance(error, shutil.Error) else [(error.filename, None, error.strerror)]
        raise UserError("\n".join(f"{file} cannot be copied: {reason}" for file, _, reason in what)) from error
    finally:
        for path in [waiting, *waiting.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
    return left


def _swap_in(names: list[str], data: Path, incoming: Path) -> None:
    """Put the waiting folders in place and record them in DVC; put the old ones back if it fails."""
    data.mkdir(exist_ok=True)
    new = [name for name in names if not (data / name).exists()]
    try:
        for name in names:
            if name not in new:
                (data / name).rename(incoming / f"{name}.old")
            (incoming / name).rename(data / name)
        dvc_add(data)
    except BaseException:
        for name in names:
            old = incoming / f"{name}.old"
            if name in new or old.exists():
                shutil.rmtree(data / name, ignore_errors=True)
            if old.exists():
                old.rename(data / name)
        raise


def dvc_add(data: Path) -> None:
    """Record ``data`` in DVC, or refuse with DVC's message."""
    done = subprocess.run([sys.executable, "-m", "dvc", "add", str(data)], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc add {data} failed, the old data stays: {' '.join(done.stderr.split())}")


def main() -> int:
    """Bring data in; 1 if it is refused, and then the old data is as it was."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--from", dest="origin", type=Path, required=True, help="folder to copy from")
    arguments.add_argument("--task", help="one task; without it every task that the folder has data for")
    given = arguments.parse_args()
    params = read_params()
    found = sources(given.origin, given.task or None, params)
    if not bring(found, params):
        print("error: the data was refused and nothing was changed", file=sys.stderr)
        return 1
    print(
        f"data of {', '.join(found)} is in {DATA}/ and recorded in data.dvc; next: make train TASK={next(iter(found))}"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
