"""Write the raw folder of a set that was downloaded and unpacked.

``python -m pipelines.sources --layout L --from DIR --out DIR [--test]``
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import run_command
from pipelines.faults import UserError
from pipelines.sources import blood_cells, cnmc, pbc
from pipelines.sources.raw_folder import write_raw

LAYOUTS = {"blood_cells": blood_cells.read, "cnmc": cnmc.read, "pbc": pbc.read}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the raw folder; nothing is written where the source is not of the layout."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layout", choices=LAYOUTS, required=True)
    options.add_argument("--from", dest="origin", type=Path, required=True, help="the unpacked download")
    options.add_argument("--out", type=Path, required=True, help="new folder in the raw format")
    options.add_argument("--test", action="store_true", help="with the labeled test images of cnmc")
    given = options.parse_args(argv)
    if given.test and given.layout != "cnmc":
        raise UserError(f"--test: {given.layout} has no official test images")
    images = cnmc.read(given.origin, test=True) if given.test else LAYOUTS[given.layout](given.origin)
    write_raw(images, given.out)
    counted = ", ".join(f"{count} {label}" for label, count in sorted(Counter(i.label for i in images).items()))
    print(f"{given.out}: {len(images)} images ({counted}); next: make data FROM={given.out} TASK=...")


if __name__ == "__main__":
    run_command(main)
