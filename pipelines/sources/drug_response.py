"""A drug-response collection from the files that one has of it: GDSC's screens, and DepMap's or the CCLE's omics."""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from pipelines.errors import UserError
from pipelines.sources import Variants, ccle, depmap, gdsc
from pipelines.sources.cell_line_names import CellLineNames
from pipelines.sources.drug_annotation import annotate, read_smiles
from pipelines.sources.omics_table import GeneList, read_genes
from pipelines.sources.raw_folder import visible
from pipelines.sources.response_folder import (
    ResponseFolder,
    ScreenedLines,
    Unmatched,
    agree,
    describe_lines,
    refuse_replicates,
)
from pipelines.text_values import quoted
from pipelines.units import CopyNumberScale

OMICS = ("expression", "mutation", "copy_number", "methylation")
OFFICIAL = {
    "response": ("GDSC[0-9]_fitted_dose_response*",),
    "models": ("Model", "sample_info*"),
    "details": ("Cell_Lines_Details*",),
    "compounds": ("screened_compounds*",),
    "expression": (
        *("OmicsExpressionTPMLogp1HumanProteinCodingGenes", "OmicsExpressionProteinCodingGenesTPMLogp1"),
        *("Expression_Public_*", "CCLE_expression", "CCLE_RNAseq_rsem_genes_tpm_*", "CCLE_RNAseq_genes_rpkm_*"),
    ),
    "mutation": (
        *("OmicsSomaticMutationsMatrixHotspot", "OmicsSomaticMutations", "Hotspot_Mutations*_subsetted"),
        *("Damaging_Mutations*_subsetted", "OmicsSomaticMutationsMatrixDamaging", "CCLE_mutations"),
    ),
    "copy_number": (
        *("OmicsCNGeneWGS", "OmicsCNGene", "PortalOmicsCNGeneLog2", "Copy_Number_Public_*", "CCLE_gene_cn"),
        *("CCLE_copynumber_byGene_*", "Omics_Absolute_CN_Gene*"),
    ),
    "methylation": ("CCLE_RRBS_TSS1kb_*", "Methylation*_subsetted"),
}
"""Official names of the files, without endings; of several the first counts that a folder has a file for."""
_ENDINGS = re.compile(r"(?: ?\([0-9]+\))?(?:\.(?:csv|tsv|txt|gct|xlsx))?(?:\.(?:gz|zip))?", re.IGNORECASE)
Files = Mapping[str, Sequence[Path]]
"""The files of each role: those of `OFFICIAL`, ``smiles`` and ``genes``. Only the response must be there.

``models`` may be several tables of DepMap, tissues are of the first that has any; the response has a file a study.
"""


def find(origins: Sequence[Path], given: Files, notes: list[str]) -> Files:
    """Return the files that are given, else from the folder ``origins`` those with official names."""
    folders = [origin for origin in origins if origin.is_dir()]
    if not folders:
        return {**given, "response": origins}
    if len(origins) > 1:
        raise UserError("--from: takes one folder, or files")
    found: dict[str, Sequence[Path]] = {}
    files = [path for path in visible(folders[0], "*") if not path.name.startswith("~$")]
    for role, patterns in OFFICIAL.items():
        if given.get(role):
            continue
        matches = [of for pattern in patterns if (of := [path for path in files if _is_named(path.name, pattern)])]
        if not matches:
            continue
        found[role], *others = matches
        if len(found[role]) > 1 and role not in ("response", "models"):
            several, option = quoted(path.name for path in found[role]), role.replace("_", "-")
            raise UserError(f"{folders[0]}: holds {several}; name one with --{option}")
        unread = dict.fromkeys(path.name for paths in others for path in paths if path not in found[role])
        notes += [f"{role}: {name!r} is not read, as another file of it is" for name in unread]
    if "response" not in found:
        raise UserError(f"{folders[0]}: holds no file named {OFFICIAL['response'][0]}; name the files of the response")
    return {**given, **found}


def _is_named(name: str, pattern: str) -> bool:
    """Whether a file has an official name, with any ending of tables and archives, and in any case."""
    ends = [found.start() for found in _ENDINGS.finditer(name) if found.end() == len(name)]
    return any(fnmatch.fnmatchcase(name[:end].casefold(), pattern.casefold()) for end in ends)


def read(
    files: Files,
    *,
    variants: Variants = "hotspot",
    scale: CopyNumberScale | None = None,
    notes: Sequence[str] = (),
) -> ResponseFolder:
    """Read the files and join them by cell line; ``notes`` are those of `find`."""
    all_notes = [*notes]
    one = {role: paths[0] for role, paths in files.items() if paths}
    response = gdsc.read_response(files["response"], all_notes)
    genes = read_genes(one["genes"]) if "genes" in one else GeneList()
    unmatched = Unmatched()
    names = _names(files, response, unmatched, all_notes)
    lines = ScreenedLines(names, unmatched)
    response = lines.place(response)
    refuse_replicates(response)
    drugs, unknown = annotate(
        response,
        gdsc.read_compounds(one["compounds"], all_notes) if "compounds" in one else None,
        read_smiles(one["smiles"], all_notes) if "smiles" in one else None,
    )
    for why, drug in ((why, drug) for why, ids in unknown.items() for drug in ids):
        unmatched.add(drug, "drug", 0, "drugs.csv", why)
    omics = {}
    for name in filter(one.__contains__, OMICS):
        path, listed = one[name], replace(genes, sites=name == "methylation")
        wanted = partial(lines.is_wanted, file=path.name)
        by_feature = name != "mutation" and ccle.is_by_feature(path)
        if by_feature or (name == "methylation" and not depmap.is_by_model(path)):
            table = ccle.read(path, name, wanted, listed, scale)
        else:
            table = depmap.read_omics(name, path, wanted, listed, scale=scale, variants=variants)
        omics[name] = lines.renamed(table)
        for gene in () if listed.sites else sorted((genes.genes or set()) - set(table.values.columns)):
            unmatched.add(gene, "gene", 0, path.name, "on the list of genes and not in the file")
    omics = agree(omics)
    cell_lines = describe_lines(response, names)
    for table, why, feature in ((t, why, each) for t in omics.values() for why, of in t.dropped.items() for each in of):
        unmatched.add(feature, "feature", 0, table.file, why)
    all_notes += [f"{name}: {note}" for name, table in omics.items() for note in table.notes]
    if names.loose:
        shown = ", ".join(f"{name!r} as {other!r}" for name, other in list(names.loose.items())[:5])
        all_notes.append(f"cell lines: {len(names.loose)} names were found but for punctuation, such as {shown}")
    all_notes.append(f"tissue: {(cell_lines['tissue'] != '').sum()} of {len(cell_lines)} cell lines have one")
    return ResponseFolder(response, cell_lines, drugs, omics, unmatched, tuple(all_notes))


def _names(files: Files, response: pd.DataFrame, unmatched: Unmatched, notes: list[str]) -> CellLineNames:
    names = CellLineNames()
    tables = [(path, depmap.read_models(path, notes)) for path in files.get("models", ())]
    tables += [(path, gdsc.read_details(path, notes)) for path in files.get("details", ())]
    for path, table in tables:
        for line, match in names.add(table).items():
            unmatched.add(line, "cell_line", 0, path.name, match.reason, candidates=match.candidates)
    lines = [] if tables else gdsc.lines_of(response)
    names.add(lines)
    notes += gdsc.doubtful_lines(response, lines)
    return names
