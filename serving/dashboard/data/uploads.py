"""Profiles that people bring as tables: which way round they are, and the names of samples and genes in them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.samples.gene_names import match_genes, parts_of, respelled, spreadsheet_names
from pipelines.text_values import clean, folded, is_unknown, known, look_alikes, quoted
from pipelines.units import DOUBTS
from serving.dashboard.data.words import listed
from serving.table_files import (
    ENDINGS,
    TableFile,
    cell_text,
    read_numbers,
    read_table_file,
    refuse_repeated,
    refuse_shifted,
)

TABLES = ENDINGS
MOST_SAMPLES = 200
MOST_VALUES = 50_000_000  # of a table, whichever way round: 200 samples of 250,000 genes
SAMPLE_IDS = {"sample_id", "cell_line_id", "sample", "samples", "sample name", "sample_name", "sampleid", "cell line"}
SAMPLE_IDS |= {"cell_line", "cell_line_name", "modelid", "model_id", "depmap_id", "cosmic_id", "barcode", "id", "name"}
_GENE_IDS = {"gene", "genes", "gene_id", "gene_name", "symbol", "gene_symbol", "hugo_symbol", "entrez", "entrez_id"}
_GENE_IDS |= {"entrezgene", "ensembl", "ensembl_id", "gene symbol", "geneid"}
ABOUT = {"tissue", "label", "patient_id", "sample_type", "simulated", "study", "platform", "library_size"}
_ABOUT_GENES = {"length", "gene_length", "chromosome", "chr", "start", "end", "strand", "description", "gene_type"}
_NUMBERED = re.compile(r"\.[1-9]$")  # ``TP53.1``, as pandas and R write a duplicate name
_WITH_NUMBER = re.compile(r"^(\S+) \((\d+)\)$")  # ``TP53 (7157)``, as DepMap writes genes


@dataclass(frozen=True)
class Profiles:
    """Samples and their measurements."""

    values: pd.DataFrame  # float64, a row a sample and a column a feature, by their names
    tissue: dict[str, str] = field(default_factory=dict)  # by sample, as far as the file has it
    notes: list[str] = field(default_factory=list)  # on what was changed or left out, in sentences
    rows: list[int] = field(default_factory=list)  # of the file, counted from 1


def read_profiles(name: str, content: bytes, known: Sequence[str] = ()) -> Profiles:
    """Read profiles, a row a sample or a gene: features ``known`` to a model decide; errors name column and row."""
    return profiles_of(read_named(name, content, known), known)


def read_named(name: str, content: bytes, known: Sequence[str]) -> TableFile:
    """Read a table file; of several sheets the one with names of ``known`` features."""
    if PurePath(name).suffix.lower().lstrip(".") not in TABLES:
        raise UserError(f"{name}: tables are CSV, TSV, Excel (.xlsx) or Parquet files; save it as one of them.")
    return read_table_file(name, content, most=MOST_VALUES, fits=fitting(known) if known else None)


def fitting(known: Sequence[str]) -> Callable[[Iterable[str]], int]:
    """Return a function that counts the names of ``known`` features among names."""
    sought = {folded(part) for gene in known for part in parts_of(gene)}
    return lambda names: sum(any(folded(part) in sought for part in parts_of(each)) for each in names)


def profiles_of(table: TableFile, known: Sequence[str], *, strict: bool = True) -> Profiles:
    """Return the profiles of a table; if not ``strict``, any number, with names and cells that the model may refuse."""
    fits, name, notes = fitting(known), table.name, list(table.notes)
    named = _naming_column(table, fits)
    if named is not None:
        refuse_shifted(table, named)
    rest = [place for place in range(len(table.written)) if place != named]
    numbered = [f"sample {row}" for row in range(1, len(table.cells) + 1)]
    samples = numbered if named is None else table.column(named)
    body, features = table.cells[rest], [table.written[place] for place in rest]
    turned = bool(known) and fits(samples) > fits(features)
    head = table.names[named] if named is not None else ""
    if turned:
        samples, features, body, more = _turned(table, samples, rest)
        notes += [f"{name} has a row a gene; it was turned round.", *more]
    elif named is None and known:
        notes.append("The file names no samples; they are called by their rows.")
    elif named == 0 and folded(head) not in {"", *SAMPLE_IDS, *_GENE_IDS} and table.numbers(0) is not None:
        notes.append(f"The samples are called by the column {table.written[0]!r}.")
    index = _sample_names(name, head, samples, notes) if strict else list(map(clean, samples))
    if strict and len(body) > MOST_SAMPLES:
        raise UserError(f"{name}: {len(body):,} samples; bring at most {MOST_SAMPLES} at a time.")
    rows = list(range(1, len(body) + 1)) if turned else [row + 1 for row in body.index]
    places, columns = _gene_names(name, "gene" if turned else "column", features, known, notes)
    body = body.iloc[:, places].set_axis(columns, axis=1).set_axis(index, axis=0)
    about = [column for column in columns if folded(column) in ABOUT]
    tissue = tissues_of(body)
    values, left_out = _numbers(
        name, body.drop(columns=about), known, notes, decimal_comma=table.decimal_comma, strict=strict
    )
    if left_out:
        notes.append(f"Columns without numbers were left out: {listed(left_out)}.")
    if values.shape[1] == 0:
        raise UserError(f"{name}: no column holds numbers. It needs a column a gene, or a row a gene.")
    if known and not match_genes(map(str, values.columns), known).found:
        raise UserError(
            f"{name}: none of its {values.shape[1]:,} columns is a gene that the model knows. It knows "
            f"{listed(list(known), 4)}."
        )
    return Profiles(values, tissue, notes, rows)


def _naming_column(table: TableFile, fits: Callable[[Iterable[str]], int]) -> int | None:
    """Return which column names the rows; None where there is none."""
    heads = [folded(each) for each in table.names]
    candidates = [place for place, head in enumerate(heads) if head in SAMPLE_IDS | _GENE_IDS]
    first = table.numbers(0)
    if first is None or not heads[0] or heads[0].startswith("unnamed:"):
        candidates.append(0)
    elif not candidates and not fits([heads[0]]) and len(first) == len(table.cells):  # whole numbers may be names
        candidates += [0] if (first % 1 == 0).all() and first.is_unique else []
    # Of several, symbols beside other ids of genes: the one whose names the model knows.
    return max(candidates, key=lambda place: (fits(table.column(place)), -candidates.index(place)), default=None)


def _turned(
    table: TableFile, genes: list[str], places: list[int]
) -> tuple[list[str], list[str], pd.DataFrame, list[str]]:
    """Return samples, genes and values of a table with a row a gene, and notes."""
    notes = []
    about = [place for place in places if folded(table.names[place]) in _ABOUT_GENES | _GENE_IDS]
    if about and len(about) < len(places):
        notes.append(f"Columns about genes were left out: {listed([table.names[place] for place in about])}.")
        places = [place for place in places if place not in about]
    named = np.array([not is_unknown(gene) for gene in genes])
    if not named.all():
        notes.append(f"Rows without a gene's name were left out: {int((~named).sum()):,}.")
    kept = [gene for gene in genes if not is_unknown(gene)]
    return [table.written[place] for place in places], kept, table.cells.loc[named, places].T, notes


def _sample_names(name: str, head: str, written: list[str], notes: list[str]) -> list[str]:
    if unknown := [row for row, each in enumerate(written, start=1) if is_unknown(each)]:
        shown = written[unknown[0] - 1]
        what = f"{shown!r} is no name" if clean(shown) else "is empty"
        raise UserError(f"{name}, column {head or 1}, row {unknown[0]}: {what}; every row needs a name.")
    refuse_repeated(name, "sample", written)
    cleaned = [clean(each) for each in written]
    if changed := [each for each, now in zip(written, cleaned, strict=True) if each != now]:
        notes.append(f"Blanks were taken from names of samples: {quoted(changed)}.")
    for group in look_alikes(cleaned):
        notes.append(f"The samples {quoted(group)} differ in case or width only; they are taken as {len(group)}.")
    return cleaned


def _gene_names(
    name: str, what: str, written: list[str], known: Sequence[str], notes: list[str]
) -> tuple[list[int], list[str]]:
    """Return which columns are kept and what they are called: as the model does, where only case or blanks differ."""
    cleaned = [_WITH_NUMBER.sub(r"\1|\2", clean(each)) for each in written]
    matched = match_genes(cleaned, known)
    wanted = set(matched.found.values())
    wanted |= {each for names in respelled(cleaned, known).values() for each in names}
    places = list(range(len(written)))
    twice: list[str] = []
    if known and what == "gene":  # genes that the model does not use may be duplicates: Y_RNA, SNORA70
        counts = pd.Series(cleaned, dtype=object).value_counts()
        twice = [str(each) for each, count in counts.items() if count > 1 and each not in wanted]
        places = [place for place in places if cleaned[place] not in set(twice)]
    if twice:
        notes.append(f"Duplicate genes that the model does not know were left out: {quoted(sorted(twice))}.")
    refuse_repeated(name, what, [written[place] for place in places])
    if changed := [written[place] for place in places if written[place] != clean(written[place])]:
        notes.append(f"Blanks were taken from names of genes: {quoted(changed)}.")
    names = [cleaned[place] for place in places]
    renamed: dict[str, str] = {}
    for gene, spelled in respelled(names, known).items():
        if len(spelled) > 1:
            raise UserError(f"{name}: {quoted(spelled)} are both the gene {gene}, but for case; keep one.")
        renamed[spelled[0]] = gene
    if renamed:
        shown = ", ".join(f"{one!r} as {gene}" for one, gene in list(renamed.items())[:4])
        more = f" and {len(renamed) - 4:,} more" if len(renamed) > 4 else ""
        notes.append(f"Genes in another case were matched: {shown}{more}.")
    called = [renamed.get(each, each) for each in names]
    unknown = match_genes(called, known).unknown if known else names
    if nameless := [each for each in unknown if is_unknown(each)]:
        notes.append(f"Columns whose name says that nothing is known were left out: {quoted(nameless)}.")
        places = [place for place in places if cleaned[place] not in nameless]
    found = {folded(each): each for each in match_genes(called, known).found.values()}
    if beside := {each: found[bare] for each in unknown if (bare := folded(_NUMBERED.sub("", each))) in found}:
        notes.append(f"Columns {quoted(beside)} look like {quoted(beside.values())} and were not read.")
    if dates := [each for each in spreadsheet_names(called) if each in set(unknown)]:
        notes.append(
            f"A spreadsheet has made dates or numbers of names of genes: {quoted(dates)}. They are not measured; "
            "export the table again, with names as text."
        )
    return places, [renamed.get(cleaned[place], cleaned[place]) for place in places]


def tissues_of(body: pd.DataFrame) -> dict[str, str]:
    """Return the tissue of samples, as far as a column has it."""
    column = next((str(each) for each in body if folded(str(each)) == "tissue"), None)
    if column is None:
        return {}
    given = {str(sample): known(cell_text(value)) for sample, value in body[column].items()}
    return {sample: tissue for sample, tissue in given.items() if tissue is not None}


def _numbers(
    name: str, body: pd.DataFrame, known: Sequence[str], notes: list[str], *, decimal_comma: bool, strict: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that hold numbers, and the names of those that do not."""
    found = read_numbers(body, name, decimal_comma=decimal_comma)
    wanted = set(match_genes(map(str, body.columns), known).found.values()) if known else set()
    missing = np.isnan(found.values) & ~found.wrong
    no_numbers = (found.wrong | missing).all(axis=0) & found.wrong.any(axis=0)
    left_out = [place for place, column in enumerate(body) if no_numbers[place] and column not in wanted]
    for what, faults in (("is not a number", found.wrong), ("is infinite", np.isinf(found.values))):
        faults = faults.copy()
        faults[:, left_out] = False
        if strict and faults.any():
            row, place = (int(at) for at in np.argwhere(faults)[0])
            shown = "" if what == "is infinite" else f"“{str(body.iat[row, place])[:30]}” "
            raise UserError(f"{name}, column {body.columns[place]}, sample {body.index[row]}: {shown}{what}.")
    notes += found.notes
    cells = np.where(found.wrong, body.to_numpy(dtype=object), found.values) if found.wrong.any() else found.values
    values = pd.DataFrame(cells, index=body.index, columns=body.columns)
    return values.drop(columns=body.columns[left_out]), [str(body.columns[place]) for place in left_out]


def unit_note(omics: str, values: pd.DataFrame, known: Sequence[str]) -> str | None:
    """Return a doubt that the features ``known`` are in the units of the raw format; None without one."""
    genes = list(match_genes(map(str, values.columns), known).found.values())
    doubt = DOUBTS[omics](values[genes].to_numpy()) if omics in DOUBTS else None
    return None if doubt is None else f"Look at the units: {doubt.message}."


def omics_of(name: str, omics: Sequence[str]) -> str:
    """Return which table a file is, by its name: ``mutation.csv`` is the mutations; what names none is the first."""
    stem = PurePath(name).name.lower().replace("-", "_").replace(" ", "_")
    return next((each for each in omics if each in stem), omics[0])
