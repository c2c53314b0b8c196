"""A drug-response collection from the files that one has of it: GDSC's screens, and DepMap's or the CCLE's omics."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.sources import ccle, depmap, gdsc
from pipelines.sources.cell_line_names import CellLineNames
from pipelines.sources.choices import Replicates
from pipelines.sources.drug_annotation import annotate, read_smiles
from pipelines.sources.omics_table import GeneList, Omics, Wanted, read_genes
from pipelines.sources.response_folder import ResponseFolder, agree, describe_lines, place_once
from pipelines.sources.screened_lines import CELL, ScreenedLines, Unmatched
from pipelines.text_values import quoted
from pipelines.units import CopyNumberScale

OMICS = ("expression", "mutation", "copy_number", "methylation")
OFFICIAL = {
    "response": ("GDSC[0-9]_fitted_dose_response*",),
    "models": ("Model", "sample_info*"),
    "details": ("Cell_Lines_Details*",),
    "compounds": ("screened_compounds*",),
    "expression": (
        "OmicsExpressionTPMLogp1HumanProteinCodingGenes",
        "OmicsExpressionProteinCodingGenesTPMLogp1",
        "Expression_Public_*",
        "CCLE_expression",
        "CCLE_RNAseq_rsem_genes_tpm_*",
        "CCLE_RNAseq_genes_rpkm_*",
    ),
    "mutation": (
        "OmicsSomaticMutationsMatrixHotspot",
        "OmicsSomaticMutations",
        "Hotspot_Mutations*_subsetted",
        "Damaging_Mutations*_subsetted",
        "OmicsSomaticMutationsMatrixDamaging",
        "CCLE_mutations",
    ),
    "copy_number": (
        "OmicsCNGeneWGS",
        "OmicsCNGene",
        "PortalOmicsCNGeneLog2",
        "Copy_Number_Public_*",
        "CCLE_gene_cn",
        "CCLE_copynumber_byGene_*",
        "Omics_Absolute_CN_Gene*",
    ),
    "methylation": ("CCLE_RRBS_TSS1kb_*", "Methylation*_subsetted"),
}
"""Official names of the files, without endings; of several the first counts that a folder has a file for."""
_ENDINGS = re.compile(r"(?: ?\([0-9]+\))?(?:\.(?:csv|tsv|txt|gct|xlsx))?(?:\.(?:gz|zip))?", re.IGNORECASE)


@dataclass(frozen=True)
class Choices:
    """What does not follow from the files: `depmap.Variants`, the scale of copy numbers, and `Replicates`."""

    variants: depmap.Variants = "hotspot"
    scale: CopyNumberScale | None = None
    replicates: Replicates = "refuse"


@dataclass(frozen=True)
class Files:
    """The files that one has; all but the response may be missing."""

    response: tuple[Path, ...]  # GDSC fitted dose response, a file a study
    models: tuple[Path, ...] = ()  # of DepMap; tissues are of the first that has any
    details: Path | None = None  # GDSC's cell line details
    compounds: Path | None = None  # GDSC's screened compounds
    smiles: Path | None = None
    expression: Path | None = None  # this and the next three are matrices of DepMap or the CCLE
    mutation: Path | None = None
    copy_number: Path | None = None
    methylation: Path | None = None
    genes: Path | None = None  # list of the genes to keep
    left_out: tuple[tuple[str, str], ...] = ()  # kind and official name of files that are not read, as another is


def find(origins: Sequence[Path], given: Files) -> Files:
    """Return the files that are given, else from the folder ``origins`` those with official names.

    Raises
    ------
    UserError
        The folder has no response, or several files of one kind.
    """
    folders = [origin for origin in origins if origin.is_dir()]
    if not folders:
        return replace(given, response=tuple(origins))
    if len(origins) > 1:
        raise UserError("--from: takes one folder, or files")
    found: dict[str, Any] = {}
    files = sorted(path for path in folders[0].rglob("*") if path.is_file() and not _is_left_behind(path))
    left_out = []
    for role, patterns in OFFICIAL.items():
        several = role in ("response", "models")
        if getattr(given, role):
            continue
        matches = [[path for path in files if _is_named(path.name, pattern)] for pattern in patterns]
        paths = next((paths for paths in matches if paths), [])
        if len(paths) > 1 and not several:
            option = role.replace("_", "-")
            raise UserError(f"{folders[0]}: holds {quoted(path.name for path in paths)}; name one with --{option}")
        if paths:
            found[role] = tuple(paths) if several else paths[0]
            left_out += [(role, path.name) for others in matches for path in others if path not in paths]
    if "response" not in found:
        raise UserError(f"{folders[0]}: holds no file named {OFFICIAL['response'][0]}; name the files of the response")
    return replace(given, **found, left_out=tuple(dict.fromkeys(left_out)))


def _is_named(name: str, pattern: str) -> bool:
    """Whether a file has an official name, with any ending of tables and archives, and in any case."""
    ends = [found.start() for found in _ENDINGS.finditer(name) if found.end() == len(name)]
    return any(fnmatch.fnmatchcase(name[:end].casefold(), pattern.casefold()) for end in ends)


def _is_left_behind(path: Path) -> bool:
    return "__MACOSX" in path.parts or path.name.startswith((".", "~$"))


def read(files: Files, choices: Choices) -> ResponseFolder:
    """Read the files and join them by cell line.

    Raises
    ------
    UserError
        A file is not of its layout, measurements are repeated, or nothing is left.
    """
    notes = [f"{role}: {name!r} is not read, as another file of it is" for role, name in files.left_out]
    response = gdsc.read_response(files.response, notes)
    genes = read_genes(files.genes) if files.genes else None
    unmatched = Unmatched()
    names = _names(files, response, unmatched, notes)
    lines = ScreenedLines(names, unmatched)
    response = place_once(lines.place(response), choices.replicates, unmatched)
    drugs, unknown = annotate(
        response,
        gdsc.read_compounds(files.compounds, notes) if files.compounds else None,
        read_smiles(files.smiles, notes) if files.smiles else None,
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
    notes += [f"{name}: {note}" for name, table in omics.items() for note in table.notes]
    if names.loose:
        shown = ", ".join(f"{name!r} as {other!r}" for name, other in list(names.loose.items())[:5])
        notes.append(f"cell lines: {len(names.loose)} names were found but for punctuation, such as {shown}")
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


def _names(files: Files, response: pd.DataFrame, unmatched: Unmatched, notes: list[str]) -> CellLineNames:
    names = CellLineNames()
    tables = [(path, depmap.read_models(path, notes)) for path in files.models]
    tables += [(files.details, gdsc.read_details(files.details, notes))] if files.details else []
    for path, table in tables:
        for line, match in names.add(table).items():
            unmatched.add(line, "cell_line", 0, path.name, match.reason, candidates=match.candidates)
    notes += gdsc.doubtful_lines(response)
    if not tables:
        names.add(gdsc.lines_of(response))
    return names


def _read_omics(name: str, path: Path, wanted: Wanted, genes: GeneList | None, choices: Choices) -> Omics:
    by_feature = name != "mutation" and ccle.is_by_feature(path)
    if by_feature or (name == "methylation" and not depmap.is_by_model(path)):
        return ccle.read(path, name, wanted, genes, choices.scale)  # type: ignore[arg-type]
    return depmap.read_omics(name, path, wanted, genes, scale=choices.scale, variants=choices.variants)
