"""Bring back a backup of `serving.backup`: ``python -m serving.restore --from DIR [--sha256 HASH]``.

Nothing is overwritten. Stop the tracking server first: it creates tables as it starts.
"""

import argparse
from pathlib import Path

from pipelines.command import run_command


def main() -> int:
    """Restore; print what was restored and what to do next."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--from", dest="folder", required=True, type=Path, help="folder of the backup")
    arguments.add_argument("--sha256", default="", help="of the manifest, as printed when the backup was made")
    arguments.add_argument("--artifacts-only", action="store_true", help="leave the databases as they are")
    given = arguments.parse_args()
    from serving.stores import restore

    manifest = restore(given.folder, sha256=given.sha256, artifacts_only=given.artifacts_only)
    what = "the artifacts" if given.artifacts_only else f"artifacts, {' and '.join(manifest['databases'])}"
    print(f"restored {what} of {manifest['time']}; now `make verify TASK=...`")
    return 0


if __name__ == "__main__":
    run_command(main)
