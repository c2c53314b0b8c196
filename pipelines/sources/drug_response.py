"""A drug-response collection from the files that one has of it: GDSC's screens, and DepMap's or the CCLE's omics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.faults import UserError
from pipelines.sources import ccle, depmap, gdsc
from pipelines.sources.cell_line_names import CellLineNames
from pipelines.sources.choices import Choices
from pipelines.sources.drug_annotation import annotate, read_smiles
from pipelines.sources.omics_table import GeneList, Omics, Wanted, read_genes
from pipelines.sources.raw_folder import listed
from pipelines.sources.response_folder import ResponseFolder, agree, describe_lines, place_once
from pipelines.sources.screened_lines import CELL, ScreenedLines, Unmatched

OMICS = ("expression", "mutation", "copy_number", "methylation")
OFFICIAL = {
    "response": ("GDSC[0-9]_fitted_dose_response*",),
    "models": ("Model.csv*", "sample_info*.csv*"),
    "details": ("Cell_Lines_Details*",),
    "compounds": ("screened_compounds*",),
    "expression": (
        "OmicsExpressionTPMLogp1HumanProteinCodingGenes.csv*",
        "OmicsExpressionProteinCodingGenesTPMLogp1.csv*",
        "CCLE_expression.csv*",
        "CCLE_RNAseq_rsem_genes_tpm_*",
        "CCLE_RNAseq_genes_rpkm_*",
    ),
    "mutation": (
        "OmicsSomaticMutationsMatrixHotspot.csv*",
        "OmicsSomaticMutations.csv*",
        "CCLE_mutations.csv*",
    ),
    "copy_number": (
        "OmicsCNGeneWGS.csv*",
        "OmicsCNGene.csv*",
        "PortalOmicsCNGeneLog2.csv*",
        "CCLE_gene_cn.csv*",
        "CCLE_copynumber_byGene_*",
    ),
    "methylation": ("CCLE_RRBS_TSS1kb_*",),
}
"""Official names of the files; of several patterns the first counts that a folder has a file for."""


@dataclass(frozen=True)
class Files:
    """The files that one has; all but the response may be missing.

    Attributes
    ----------
    response
        GDSC fitted dose response, a file a study.
    models
        Tables of DepMap's models; the first that tells tissues has them.
    details, compounds
        GDSC's cell line details and screened compounds.
    smiles
        Table of structures.
    expression, mutation, copy_number, methylation
        Matrices of DepMap or the CCLE.
    genes
        List of the genes to keep.
    """

    response: tuple[Path, ...]
    models: tuple[Path, ...] = ()
    details: Path | None = None
    compounds: Path | None = None
    smiles: Path | None = None
    expression: Path | None = None
    mutation: Path | None = None
    copy_number: Path | None = None
    methylation: Path | None = None
    genes: Path | None = None


def find(origins: Sequence[Path], given: Files) -> Files:
    """Return the files to read: those that are named, and from a folder those with official names.

    Parameters
    ----------
    origins
        Files of the response, or one folder in which they lie, and the others may.
    given
        What is named one by one; goes before what is found.

    Raises
    ------
    UserError
        The folder has no response, or several files for one place.
    """
    folders = [origin for origin in origins if origin.is_dir()]
    if not folders:
        return replace(given, response=tuple(origins))
    if len(origins) > 1:
        raise UserError("--from: takes one folder, or files")
    found: dict[str, Any] = {}
    for role, patterns in OFFICIAL.items():
        several = role in ("response", "models")
        if getattr(given, role):
            continue
        matches = (sorted(path for path in folders[0].rglob(name) if path.is_file()) for name in patterns)
        paths = next((paths for paths in matches if paths), [])
        if len(paths) > 1 and not several:
            option = role.replace("_", "-")
            raise UserError(f"{folders[0]}: holds {listed([path.name for path in paths])}; name one with --{option}")
        if paths:
            found[role] = tuple(paths) if several else paths[0]
    if "response" not in found:
        raise UserError(f"{folders[0]}: holds no file named {OFFICIAL['response'][0]}; name the files of the response")
    return replace(given, **found)


def read(files: Files, choices: Choices) -> ResponseFolder:
    """Read the files and join them by cell line.

    Raises
    ------
    UserError
        A file is not what it should be, measurements stand several times, or nothing is left.
    """
    response = gdsc.read_response(files.response)
    genes = read_genes(files.genes) if files.genes else None
    unmatched = Unmatched()
    names = _names(files, response, unmatched)
    lines = ScreenedLines(names, unmatched)
    response = place_once(lines.place(response), choices.replicates, unmatched)
    drugs, unknown = annotate(
        response,
        gdsc.read_compounds(files.compounds) if files.compounds else None,
        read_smiles(files.smiles) if files.smiles else None,
    )
    for why, ids in unknown.items():
        for drug in ids:
            unmatched.add(drug, "drug", 0, "drugs.csv", why)
    omics = {}
    for name in OMICS:
        if (path := getattr(files, name)) is not None:
            table = _read_omics(name, path, lines.wanted(path.name), genes, choices)
            omics[name] = lines.renamed(table)
            for gene in sorted(genes.genes - set(table.features)) if genes and name != "methylation" else ():
                unmatched.add(gene, "gene", 0, path.name, "on the list of genes and not in the file")
    omics = agree(omics)
    cell_lines = describe_lines(response, names)
    for table in omics.values():
        for why, features in table.dropped.items():
            for feature in features:
                unmatched.add(feature, "feature", 0, table.file, why)
    notes = [f"{name}: {note}" for name, table in omics.items() for note in table.notes]
    without = int((cell_lines["tissue"] == "").sum())
    notes.append(f"tissue: {len(cell_lines) - without} of {len(cell_lines)} cell lines have one")
    return ResponseFolder(response, cell_lines, drugs, omics, unmatched, tuple(notes))


def summary(folder: ResponseFolder) -> str:
    """Return what is in a folder, in a line."""
    response = folder.response
    studies = ", ".join(f"{count} of {study}" for study, count in response["study"].value_counts(sort=False).items())
    omics = ", ".join(f"{name} {len(table.lines)} x {len(table.features)}" for name, table in folder.omics.items())
    return (
        f"{len(response)} responses ({studies}), {response[CELL].nunique()} cell lines, {len(folder.drugs)} drugs"
        + (f"; {omics}" if omics else "; no omics")
    )


def _names(files: Files, response: pd.DataFrame, unmatched: Unmatched) -> CellLineNames:
    names = CellLineNames()
    tables = [(path, depmap.read_models(path)) for path in files.models]
    tables += [(files.details, gdsc.read_details(files.details))] if files.details else []
    for path, table in tables:
        for line, match in names.add(table).items():
            unmatched.add(line, "cell_line", 0, path.name, match.reason, match.candidates)
    if not tables:
        names.add(gdsc.lines_of(response))
    return names


def _read_omics(name: str, path: Path, wanted: Wanted, genes: GeneList | None, choices: Choices) -> Omics:
    if name == "mutation":
        return depmap.read_mutation(path, wanted, genes, choices.variants)
    if name == "methylation" or ccle.is_by_feature(path):
        return ccle.read(path, name, wanted, genes)  # type: ignore[arg-type]
    if name == "expression":
        return depmap.read_expression(path, wanted, genes)
    return depmap.read_copy_number(path, wanted, genes, choices.scale)
