"""Write the raw folder of a set that was downloaded and unpacked.

``python -m pipelines.sources --layout L --from DIR --out DIR``; what is asked for besides:

blood_cells, pbc  nothing
cnmc              [--test]
pancan            nothing; both official files are in DIR, or: --from MATRIX --samples CLINICAL
xena              --from MATRIX --samples PHENOTYPE [--label COLUMN] [--patient COLUMN]
geo               --from SERIES_MATRIX --label KEY [--patient KEY] [--probes TABLE]
uci               nothing
gdsc              nothing; the official files of GDSC, DepMap and the CCLE are in DIR, or:
                  --from RESPONSE [RESPONSE ...] [--models CSV ...] [--details XLSX] [--compounds CSV] [--smiles CSV]
                  [--expression M] [--mutation M [--variants V]] [--copy-number M [--copy-number-scale S]]
                  [--methylation M] [--genes CSV] [--replicates best]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from pipelines.command import run_command
from pipelines.errors import UserError

IMAGES = ("blood_cells", "cnmc", "pbc")
ONE_FILE = ("details", "compounds", "smiles", "expression", "mutation", "copy_number", "methylation", "genes")
OPTIONS = {
    "pancan": ("samples",),
    "xena": ("samples", "label", "patient"),
    "geo": ("label", "patient", "probes"),
    "uci": (),
    "gdsc": ("models", *ONE_FILE, "variants", "copy_number_scale", "replicates"),
}
"""Which options a layout takes."""
NEEDED = {"xena": "samples", "geo": "label"}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the raw folder; nothing is written where the source is not of the layout."""
    given = _options().parse_args(argv)
    from pipelines.sources.raw_folder import refuse_existing

    if given.test and given.layout != "cnmc":
        raise UserError(f"--test: {given.layout} has no official test images")
    for option in dict.fromkeys(option for taken in OPTIONS.values() for option in taken):
        if getattr(given, option) is not None and option not in OPTIONS.get(given.layout, ()):
            raise UserError(f"--{option.replace('_', '-')}: {given.layout} takes none")
        if getattr(given, option) is None and NEEDED.get(given.layout) == option:
            raise UserError(f"--{option}: {given.layout} needs it")
    refuse_existing(given.out)  # before minutes of reading
    if given.layout != "gdsc":
        if len(given.origin) > 1:
            raise UserError(f"--from: {given.layout} takes one")
        (given.origin,) = given.origin
    write = (
        _write_response if given.layout == "gdsc" else _write_images if given.layout in IMAGES else _write_expression
    )
    print(f"{given.out}: {write(given)}; next: make data FROM={given.out} TASK=...")


def _options() -> argparse.ArgumentParser:
    from pipelines.sources.choices import Replicates, Variants
    from pipelines.units import CopyNumberScale

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layout", choices=[*IMAGES, *OPTIONS], required=True)
    options.add_argument("--from", dest="origin", type=Path, nargs="+", required=True, help="the unpacked download")
    options.add_argument("--out", type=Path, required=True, help="new folder in the raw format")
    options.add_argument("--test", action="store_true", help="with the labeled test images of cnmc")
    options.add_argument("--samples", type=Path, help="clinical or phenotype table of the samples")
    options.add_argument("--label", help="column, characteristic or line that is the class")
    options.add_argument("--patient", help="column, characteristic or line of the patient")
    options.add_argument("--probes", type=Path, help="table with probe and gene, or ID and Gene Symbol")
    responses = options.add_argument_group("of gdsc, all tables also gzipped or zipped")
    responses.add_argument("--models", type=Path, nargs="+", help="DepMap's Model.csv, sample_info.csv")
    responses.add_argument("--details", type=Path, help="GDSC's Cell_Lines_Details.xlsx")
    responses.add_argument("--compounds", type=Path, help="GDSC's screened_compounds_rel_8.5.csv")
    responses.add_argument("--smiles", type=Path, help="table with smiles and one of drug_id, pubchem_id, name")
    responses.add_argument("--expression", type=Path, help="OmicsExpression...TPMLogp1.csv, CCLE_RNAseq_...")
    responses.add_argument("--mutation", type=Path, help="OmicsSomaticMutations...csv, CCLE_mutations.csv")
    responses.add_argument("--variants", choices=get_args(Variants), help="that count in a table of calls (hotspot)")
    responses.add_argument("--copy-number", type=Path, help="OmicsCNGene...csv, CCLE_gene_cn.csv")
    scales = get_args(CopyNumberScale)
    responses.add_argument("--copy-number-scale", choices=scales, help="where it does not follow from the layout")
    responses.add_argument("--methylation", type=Path, help="CCLE_RRBS_TSS1kb_20181022.txt.gz")
    responses.add_argument("--genes", type=Path, help="table with gene, and ensembl where files name genes so")
    responses.add_argument("--replicates", choices=get_args(Replicates), help="measurements of one pair (refuse)")
    return options


def _write_images(given: argparse.Namespace) -> str:
    from pipelines.sources import cnmc
    from pipelines.sources.raw_folder import read_class_folders, write_raw

    if given.layout == "cnmc":
        found = cnmc.read(given.origin, test=given.test)
    else:
        found = read_class_folders(given.origin, given.layout)
    write_raw(found.images, given.out)
    for line in found.notes:
        print(line)
    return f"{len(found.images)} images ({_counted(image.label for image in found.images)})"


def _write_expression(given: argparse.Namespace) -> str:
    from pipelines.sources import geo, pancan, uci, xena
    from pipelines.sources.expression_folder import write_expression

    if given.layout == "uci":
        expression = uci.read(given.origin)
    elif given.layout == "xena":
        expression = xena.read(given.origin, given.samples, label=given.label, patient=given.patient)
    elif given.layout == "geo":
        expression = geo.read(given.origin, label=given.label, patient=given.patient, probes=given.probes)
    else:
        expression = pancan.read(*((given.origin, given.samples) if given.samples else pancan.find(given.origin)))
    write_expression(expression, given.out)
    for line in expression.report():
        print(line)
    samples, genes = expression.values.shape
    return f"{samples} samples ({_counted(expression.samples['label'])}) of {genes} genes"


def _write_response(given: argparse.Namespace) -> str:
    from pipelines.sources import drug_response
    from pipelines.sources.response_folder import write_response

    named = {name: getattr(given, name) for name in ONE_FILE}
    files = drug_response.find(given.origin, drug_response.Files((), tuple(given.models or ()), **named))
    choices = drug_response.Choices(given.variants or "hotspot", given.copy_number_scale, given.replicates or "refuse")
    folder = drug_response.read(files, choices)
    write_response(folder, given.out)
    for line in (*folder.notes, *folder.unmatched.report()):
        print(line)
    if set(folder.omics) < set(drug_response.OMICS):
        print(f"write data.omics: [{', '.join(folder.omics)}] for the task in params.yaml: the others have no file")
    return drug_response.summary(folder)


def _counted(labels: Iterable[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in sorted(Counter(labels).items()))


if __name__ == "__main__":
    run_command(main)
