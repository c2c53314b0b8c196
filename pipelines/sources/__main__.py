"""Write the raw folder of a set that was downloaded and unpacked.

``python -m pipelines.sources --layout L --from DIR --out DIR``; what is asked for besides:

blood_cells, pbc  nothing
cnmc              [--test]
pancan            nothing; both official files lie in DIR, or: --from MATRIX --samples CLINICAL
xena              --from MATRIX --samples PHENOTYPE [--label COLUMN] [--patient COLUMN]
geo               --from SERIES_MATRIX --label KEY [--patient KEY] [--probes CSV]
uci               nothing
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipelines.command import run_command
from pipelines.faults import UserError
from pipelines.sources import blood_cells, cnmc, geo, pancan, pbc, uci, xena
from pipelines.sources.expression_folder import Expression, write_expression
from pipelines.sources.raw_folder import refuse_existing, write_raw

IMAGES = {"blood_cells": blood_cells.read, "cnmc": cnmc.read, "pbc": pbc.read}
EXPRESSION = {
    "pancan": ("samples",),
    "xena": ("samples", "label", "patient"),
    "geo": ("label", "patient", "probes"),
    "uci": (),
}
"""Which options a layout takes."""
NEEDED = {"xena": "samples", "geo": "label"}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the raw folder; nothing is written where the source is not of the layout."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layout", choices=[*IMAGES, *EXPRESSION], required=True)
    options.add_argument("--from", dest="origin", type=Path, required=True, help="the unpacked download")
    options.add_argument("--out", type=Path, required=True, help="new folder in the raw format")
    options.add_argument("--test", action="store_true", help="with the labeled test images of cnmc")
    options.add_argument("--samples", type=Path, help="clinical or phenotype table of the samples")
    options.add_argument("--label", help="column or characteristic that is the class")
    options.add_argument("--patient", help="column or characteristic that is the patient")
    options.add_argument("--probes", type=Path, help="csv table probe,gene")
    given = options.parse_args(argv)
    if given.test and given.layout != "cnmc":
        raise UserError(f"--test: {given.layout} has no official test images")
    for option in ("samples", "label", "patient", "probes"):
        if getattr(given, option) is not None and option not in EXPRESSION.get(given.layout, ()):
            raise UserError(f"--{option}: {given.layout} takes none")
        if getattr(given, option) is None and NEEDED.get(given.layout) == option:
            raise UserError(f"--{option}: {given.layout} needs it")
    if given.layout in IMAGES:
        images = cnmc.read(given.origin, test=True) if given.test else IMAGES[given.layout](given.origin)
        write_raw(images, given.out)
        said = f"{len(images)} images ({_counted(image.label for image in images)})"
    else:
        refuse_existing(given.out)  # before minutes of reading
        expression = _expression(given)
        write_expression(expression, given.out)
        for line in expression.report():
            print(line)
        samples, genes = expression.values.shape
        said = f"{samples} samples ({_counted(expression.samples['label'])}) of {genes} genes"
    print(f"{given.out}: {said}; next: make data FROM={given.out} TASK=...")


def _expression(given: argparse.Namespace) -> Expression:
    if given.layout == "uci":
        return uci.read(given.origin)
    if given.layout == "xena":
        return xena.read(given.origin, given.samples, label=given.label, patient=given.patient)
    if given.layout == "geo":
        return geo.read(given.origin, label=given.label, patient=given.patient, probes=given.probes)
    matrix, clinical = (given.origin, given.samples) if given.samples else pancan.find(given.origin)
    return pancan.read(matrix, clinical)


def _counted(labels: Iterable[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in sorted(Counter(labels).items()))


if __name__ == "__main__":
    run_command(main)
