"""Save databases and artifacts into a new folder: ``python -m serving.backup --to DIR``.

They are registry, history, runs, accounts, studies and every artifact. `serving.restore` brings them back.
"""

import argparse
import hashlib
from pathlib import Path

from pipelines.command import run_command


def main() -> int:
    """Make a backup; print its content and the hash of its manifest."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--to", required=True, type=Path, help="a new folder")
    to = arguments.parse_args().to
    from serving.stores import MANIFEST, backup

    manifest = backup(to)
    sha256 = hashlib.sha256((to / MANIFEST).read_bytes()).hexdigest()
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    names = ", ".join(f"{name} ({each['kind']})" for name, each in manifest["databases"].items())
    if not manifest["artifacts"]:
        print("it holds no runs and artifacts: make another with the tracking server's database as MLFLOW_TRACKING_URI")
    print(f"saved {names} and {len(manifest['files'])} files, {size / 1e6:.1f} MB, to {to}")
    print(f"its manifest's SHA-256, to be kept elsewhere: {sha256}")
    return 0


if __name__ == "__main__":
    run_command(main)
