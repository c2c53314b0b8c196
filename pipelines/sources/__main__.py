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
                  [--methylation M] [--genes CSV]
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from pipelines.command import run_command
from pipelines.errors import UserError
from pipelines.sources import Variants

ONE_FILE = ("details", "compounds", "smiles", "expression", "mutation", "copy_number", "methylation", "genes")
OPTIONS = {
    "blood_cells": (),
    "cnmc": ("test",),
    "pbc": (),
    "pancan": ("samples",),
    "xena": ("samples", "label", "patient"),
    "geo": ("label", "patient", "probes"),
    "uci": (),
    "gdsc": ("models", *ONE_FILE, "variants", "copy_number_scale"),
}
"""Which options a layout takes."""
NEEDED = {"xena": "samples", "geo": "label"}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the raw folder; nothing is written where the source is not of the layout."""
    given = _options().parse_args(argv)
    from pipelines.sources.raw_folder import refuse_existing

    layout = given.layout
    for option in dict.fromkeys(option for taken in OPTIONS.values() for option in taken):
        if getattr(given, option) and option not in OPTIONS[layout]:
            raise UserError(f"--{option.replace('_', '-')}: {layout} takes none")
    if layout in NEEDED and not getattr(given, NEEDED[layout]):
        raise UserError(f"--{NEEDED[layout]}: {layout} needs it")
    if layout != "gdsc" and len(given.origin) > 1:
        raise UserError(f"--from: {layout} takes one")
    refuse_existing(given.out)  # before minutes of reading
    images = layout in ("blood_cells", "cnmc", "pbc")
    write = _write_images if images else _write_response if layout == "gdsc" else _write_expression
    print(f"{given.out}: {write(given, given.origin[0])}; next: make data FROM={given.out} TASK=...")


def _options() -> argparse.ArgumentParser:
    from pipelines.units import CopyNumberScale

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layout", choices=list(OPTIONS), required=True)
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
    responses.add_argument("--expression", type=Path, help="OmicsExpression...TPMLogp1.csv, CCLE_RNAseq_rsem_genes_...")
    responses.add_argument("--mutation", type=Path, help="OmicsSomaticMutations...csv, CCLE_mutations.csv")
    responses.add_argument("--variants", choices=get_args(Variants), help="that count in a table of calls (hotspot)")
    responses.add_argument("--copy-number", type=Path, help="OmicsCNGene...csv, CCLE_gene_cn.csv")
    scales = get_args(CopyNumberScale)
    responses.add_argument("--copy-number-scale", choices=scales, help="where it does not follow from the layout")
    responses.add_argument("--methylation", type=Path, help="CCLE_RRBS_TSS1kb_20181022.txt.gz")
    responses.add_argument("--genes", type=Path, help="table with gene, and ensembl where files name genes so")
    return options


def _write_images(given: argparse.Namespace, origin: Path) -> str:
    from pipelines.sources import cnmc
    from pipelines.sources.raw_folder import misnamed, read_class_folders, write_raw

    cnmc_set = given.layout == "cnmc"
    images = cnmc.read(origin, test=given.test) if cnmc_set else read_class_folders(origin, given.layout)
    write_raw(images, given.out)
    for line in [] if cnmc_set else misnamed(images):
        print(line)
    return f"{len(images)} images ({_counted(image.label for image in images)})"


def _write_expression(given: argparse.Namespace, origin: Path) -> str:
    from pipelines.sources import geo, pancan, xena
    from pipelines.sources.expression_folder import write_expression

    expression = {
        "uci": lambda: pancan.read_uci(origin),
        "xena": lambda: xena.read(origin, given.samples, label=given.label, patient=given.patient),
        "geo": lambda: geo.read(origin, label=given.label, patient=given.patient, probes=given.probes),
        "pancan": lambda: pancan.read(*((origin, given.samples) if given.samples else pancan.find(origin))),
    }[given.layout]()
    write_expression(expression, given.out)
    for line in expression.report():
        print(line)
    samples, genes = expression.values.shape
    return f"{samples} samples ({_counted(expression.samples['label'])}) of {genes} genes"


def _write_response(given: argparse.Namespace, _: Path) -> str:
    from pipelines.sources import drug_response
    from pipelines.sources.response_folder import write_response

    notes: list[str] = []
    named = {name: [getattr(given, name)] for name in ONE_FILE if getattr(given, name)}
    folder = drug_response.read(
        drug_response.find(given.origin, {**named, "models": given.models or []}, notes),
        variants=given.variants or "hotspot",
        scale=given.copy_number_scale,
        notes=notes,
    )
    write_response(folder, given.out)
    for line in (*folder.notes, *folder.unmatched.report()):
        print(line)
    if set(folder.omics) < set(drug_response.OMICS):
        print(f"write data.omics: [{', '.join(folder.omics)}] for the task in params.yaml: the others have no file")
    return folder.summary()


def _counted(labels: Iterable[str]) -> str:
    return ", ".join(f"{count} {label}" for label, count in sorted(Counter(labels).items()))


if __name__ == "__main__":
    run_command(main)
