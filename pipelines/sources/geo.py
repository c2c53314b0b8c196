"""Series matrices of GEO (https://www.ncbi.nlm.nih.gov/geo/info/soft.html): ``*_series_matrix.txt``, often gzipped."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.gene_names import genes_of, spreadsheet_names
from pipelines.sources.archives import LATIN, opened, text_lines
from pipelines.sources.expression_folder import Expression, gene_table, stand_alone
from pipelines.sources.matrices import BLOCK_BYTES, read_header, read_rows, without_missing
from pipelines.sources.tables import annotation_rows, column_of, unknown_words, whole
from pipelines.text_values import clean, folded, known, quoted

BEGIN, END = b"!series_matrix_table_begin", b"!series_matrix_table_end"
ACCESSION = "geo_accession"
CHARACTERISTICS = "characteristics_ch"
PLAIN = {"title": "title", "platform_id": "platform"}
PROBE = ("probe", "ID", "ID_REF", "PROBE_ID", "probeset_id", "Probe Set ID", "transcript_cluster_id")
GENE = ("gene", "Gene Symbol", "GENE_SYMBOL", "Symbol", "gene_name", "hgnc_symbol", "ILMN_Gene", "gene_assignment",
        "ENTREZ_GENE_ID", "Entrez_Gene", "entrez")  # fmt: skip
"""What tables of platforms (GPL) call these columns, the first that is there counts."""
_PERSON = re.compile(
    r"(?:patient|subject|individual|donor|participant|case)[\W_]*(?:id|identifier|code|no\.?|number|name)?"
)
_SHOWN = 3  # values of a key


def read(
    matrix: Path, *, label: str, patient: str | None = None, probes: Path | None = None, block: int = BLOCK_BYTES
) -> Expression:
    """Read a series matrix; label and patient are characteristics of the samples, or other lines about them.

    Values stay as they are, on whatever scale the submitter gave them. Samples without the label, and rows without a
    value in any sample, are dropped and listed.

    Parameters
    ----------
    matrix
        The file, also gzipped.
    label
        Key of the characteristics (``key: value``) whose value is the class, of the second channel as ``key:ch2``; or
        the name of a line: ``title``, ``source_name_ch1``, ``description``, ``characteristics_ch1.1`` (the second).
    patient
        Such a name whose value is the patient. A sample without one is taken for its own patient: give it where a
        patient gave several samples, which a split must not separate.
    probes
        Table of probes and genes, with columns as in `PROBE` and `GENE`, such as the table of a platform. A gene gets
        the mean of its probes. Probes that it does not list, or lists without a gene, with several genes or with a date
        that a spreadsheet made of one, are dropped and listed. Without it the probes are the genes.
    block
        Bytes of text that are parsed at once.

    Returns
    -------
    Expression
        Values of shape (samples, genes); the sample table has ``title`` and ``platform`` where the file has them.

    Raises
    ------
    UserError
        The file is not of the layout, is cut short, holds no table, or has no such key, or two values of it for a
        sample.
    """
    file = matrix.name
    mapping, notes = _read_probes(probes) if probes else (None, [])
    with opened(matrix) as stream:
        lines = text_lines(stream, matrix)
        facts = _sample_facts(lines, file)
        labels = facts.values_of(label, notes)
        patients = facts.values_of(patient, notes) if patient else facts.accessions
        if not patient:
            notes += facts.people()
        patients, alone = stand_alone(patients, facts.accessions)
        table = _table(lines, file)
        separator = _check_columns(table, facts, file)
        keep = np.array([found != "" for found in labels])
        if not keep.any():
            raise UserError(f"{file}: no sample has a known value of {label!r}; {facts.described()}")
        unnamed: list[str] = []
        names, values = read_rows(
            table,
            facts.accessions,
            file,
            separator=separator,
            keep=keep,
            block=block,
            unit="probe",
            no_genes=unnamed,
        )
    names, values, missing = without_missing(names, values)
    dropped = {
        f"samples without a known {label!r}": [
            name for name, kept in zip(facts.accessions, keep, strict=True) if not kept
        ],
        "rows that are no probes": unnamed,
        "probes without a value in any sample": missing,
    }
    genes = None
    if mapping is not None:
        listed = f"{probes} lists {quoted(mapping, 3)}"
        names, values, unmapped = _means(names, values, mapping, f"{file}, {listed}")
        dropped |= unmapped
        genes = gene_table(names)
    columns = {name: facts.lines[key] for key, name in PLAIN.items() if key in facts.lines}
    samples = pd.DataFrame({"sample_id": facts.accessions, "patient_id": patients, "label": labels, **columns})[keep]
    if "platform" in samples and samples["platform"].nunique() > 1:
        found = quoted(sorted(samples["platform"].unique()))
        notes.append(f"warning: the samples are of several platforms, {found}: their values may not compare")
    dropped = {why: left for why, left in dropped.items() if left}
    return Expression(values.T, names, samples, genes, dropped, (*notes, *alone))


def _check_columns(table: Iterator[bytes], facts: _Facts, file: str) -> bytes:
    """Take the header off the table and refuse other samples than the accessions; return its separator."""
    columns, separator = read_header(table, file, ("ID_REF",))
    if columns != facts.accessions:
        differing = sorted(set(columns) ^ set(facts.accessions))
        what = f"{quoted(differing)} is in one alone" if differing else "they are in another order"
        message = f"the table's columns are not the samples of !Sample_{ACCESSION}: {what}; download the file again"
        raise DataError([Finding("file_layout", file, message)])
    return separator


@dataclass
class _Facts:
    """What a series matrix says of its samples."""

    file: str
    accessions: list[str] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)  # a cell a sample, named as GEOquery names them
    keys: dict[str, dict[str, list[dict[str, None]]]] = field(default_factory=dict)  # by channel, key and sample

    def add(self, name: str, cells: list[str]) -> None:
        """Add a line."""
        more = sum(held == name or held.startswith(f"{name}.") for held in self.lines)
        self.lines[f"{name}.{more}" if more else name] = [clean(cell) for cell in cells]
        if name.startswith(CHARACTERISTICS):
            # Cells of a line may have different keys: where a sample lacks one, GEO moves the next up.
            keys = self.keys.setdefault(name.removeprefix(CHARACTERISTICS), {})
            for place, cell in enumerate(cells):
                key, colon, value = cell.partition(":")
                if colon:
                    held = keys.setdefault(folded(key), [{} for _ in cells])
                    held[place][clean(value)] = None

    def values_of(self, name: str, notes: list[str]) -> list[str]:
        """Return each sample's only value of a characteristic, or of a line; ``""`` where unknown."""
        found = self._characteristic(name, notes)
        if found is None:
            line = re.sub("^!?sample_", "", folded(name))
            held = column_of(self.lines, (line, f"{line}_ch1", f"{line}_ch2"))
            if held is None:
                raise UserError(f"{self.file}: its samples have no characteristic {name!r}; {self.described()}")
            found = [{cell: None} for cell in self.lines[held]]
        values, unknown = [], Counter[str]()
        for place, (accession, given) in enumerate(zip(self.accessions, found, strict=True)):
            found_values = list(dict.fromkeys(filter(None, map(known, given))))
            if len(found_values) > 1:
                lines = [
                    line for line, cells in self.lines.items() if any(value in cells[place] for value in found_values)
                ]
                message = f"{accession} has two values of {name!r}: {quoted(found_values)}; name another key"
                message += f", or one of the lines that hold them: {', '.join(lines)}"
                raise DataError([Finding("key_unique", self.file, f"{message}; {self.described()}")])
            values += found_values or [""]
            unknown.update([] if found_values else list(given))
        notes += unknown_words(f"{self.file}, {name!r}", unknown)
        return values

    def _characteristic(self, name: str, notes: list[str]) -> list[dict[str, None]] | None:
        asked = re.fullmatch(r"(.*?)[:.]ch([0-9])", folded(name))
        key, channels = (asked[1], [asked[2]]) if asked else (folded(name), sorted(self.keys))
        found = {
            channel: self.keys[channel][held]
            for channel in channels
            if channel in self.keys and (held := column_of(self.keys[channel], [key])) is not None
        }
        if not found:
            return None
        chosen, *others = found
        if any(found[other] != found[chosen] for other in others):
            notes.append(f"warning: {name!r} is that of channel {chosen}; channel {others[0]} has other values: name "
                         f"'{key}:ch{others[0]}' if those are meant")  # fmt: skip
        return found[chosen]

    def people(self) -> list[str]:
        """Return a warning where a characteristic that is not used may name who gave several samples."""
        for keys in self.keys.values():
            for key, cells in keys.items():
                values = [known(value) for held in cells for value in held]
                if _PERSON.fullmatch(key) and len(set(values) - {None}) < sum(value is not None for value in values):
                    message = (
                        f"warning: each sample is taken for its own patient, yet {key!r} has values of several samples"
                    )
                    return [f"{message}; give --patient {key!r} if it is the person: a split must not separate them"]
        return []

    def described(self) -> str:
        """Return which keys and lines there are, with the first values of each."""
        keys = {
            key if channel == "1" else f"{key}:ch{channel}": [value for held in cells for value in held]
            for channel, of in self.keys.items()
            for key, cells in sorted(of.items())
        }
        free = {
            name: cells
            for name, cells in self.lines.items()
            if re.match("title|source_name|description", name)
            or (name.startswith(CHARACTERISTICS) and not all(":" in cell for cell in cells if cell))
        }
        return f"they have {_examples(keys) or 'none'}, and the lines {_examples(free) or 'none'}"


def _examples(held: dict[str, list[str]]) -> str:
    shown = []
    for name, values in held.items():
        of = list(dict.fromkeys(value[:30] for value in values if value))
        shown.append(f"{name} ({', '.join(map(repr, of[:_SHOWN]))}{', ...' if len(of) > _SHOWN else ''})")
    return ", ".join(shown)


def _sample_facts(lines: Iterable[bytes], file: str) -> _Facts:
    facts = _Facts(file)
    for number, line in enumerate(_logical(lines)):
        text = line.decode("utf-8", LATIN).rstrip("\r\n")
        lower = text.lower()
        if lower.strip('"').startswith((f"!sample_{ACCESSION},", f'!sample_{ACCESSION}",')):
            message = "a table program separated its cells by commas; download it again, or save it with tabs"
            raise DataError([Finding("file_layout", file, message)])
        if number == 0 and text.startswith("^"):
            message = "is a SOFT file of GEO; download the series matrix instead, *_series_matrix.txt.gz"
            raise DataError([Finding("file_layout", file, message)])
        if lower.startswith(BEGIN.decode()):
            break
        if not lower.startswith("!sample_"):
            continue
        name, *cells = next(csv.reader([text], delimiter="\t"))
        name = name.strip().casefold().removeprefix("!sample_")
        if name == ACCESSION:
            facts.accessions = [clean(cell) for cell in cells]
        else:
            facts.add(name, cells)
    else:
        message = f"has no {BEGIN.decode()}; it must be a series matrix, or is cut short"
        raise DataError([Finding("file_layout", file, message)])
    if not facts.accessions:
        raise DataError([Finding("file_layout", file, f"has no line !Sample_{ACCESSION}; is it a series matrix?")])
    count = len(facts.accessions)
    for name, cells in facts.lines.items():
        if len(cells) != count:
            message = f"the line !Sample_{name} has {len(cells)} values for {count} samples; download the file again"
            raise DataError([Finding("row_width", file, message)])
    return facts


def _logical(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines up to `BEGIN`, joined where a quoted field holds the line end: the next does not begin with a !."""
    held = b""
    for line in lines:
        if held and held.count(b'"') % 2 and not line.startswith(b"!"):
            held = held.rstrip(b"\r\n") + b" " + line
            continue
        if held.strip():
            yield held
        held = line
        if line.lower().startswith(BEGIN):
            break
    yield held


def _table(lines: Iterator[bytes], file: str) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        if line.lower().startswith(END):
            if number < 2:
                message = "the table has no values; RNA-seq series carry theirs in a supplementary file"
                raise DataError([Finding("file_layout", file, message)])
            return
        yield line
    raise DataError([Finding("file_layout", file, f"has no {END.decode()}; it is cut short, download it again")])


def _read_probes(path: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Return the genes of each probe, and notes."""
    notes: list[str] = []
    taken: list[str] = []

    def columns(header: Collection[str]) -> list[str]:
        probe, gene = column_of(header, PROBE), column_of(header, GENE)
        taken[:] = [probe or PROBE[0], gene or GENE[0]]
        return taken

    genes: dict[str, list[str]] = {}
    for _, (probe, cell) in annotation_rows(path, columns, comments=b"#^!"):
        if probe:
            of_probe = _assigned(cell) if column_of(taken, ["gene_assignment"]) else genes_of(cell)
            held = genes.setdefault(whole(probe), [])
            held += [gene for gene in map(whole, of_probe) if gene not in held]
    if taken != [PROBE[0], GENE[0]]:
        notes.append(f"{path.name}: probes are taken from column {taken[0]!r}, genes from {taken[1]!r}")
    return genes, notes


def _assigned(cell: str) -> list[str]:
    """Return the symbols of ``NM_1 // SYMBOL // name // 1p36 // 123 /// NM_2 // ...``."""
    parts = [[part.strip() for part in one.split("//")] for one in cell.split("///")]
    return list(dict.fromkeys(of[1] for of in parts if len(of) > 1 and known(of[1])))


def _means(
    names: list[str], values: np.ndarray, genes: dict[str, list[str]], where: str
) -> tuple[list[str], np.ndarray, dict[str, list[str]]]:
    """Return genes, their means over probes that have a value, and the probes without one gene, by the reason."""
    rows: dict[str, list[int]] = {}
    dates = frozenset(spreadsheet_names(gene for of in genes.values() for gene in of))
    date = f"probes whose gene a spreadsheet made a date or number of ({quoted(sorted(dates))})"
    date += ": take the platform's own table"
    left: dict[str, list[str]] = {}
    for row, probe in enumerate(names):
        of = genes.get(probe)
        if of is None:
            left.setdefault("probes that the table of probes does not list", []).append(probe)
        elif not of:
            left.setdefault("probes without a gene", []).append(probe)
        elif dates.intersection(of):
            left.setdefault(date, []).append(probe)
        elif len(of) > 1:
            left.setdefault("probes of several genes", []).append(probe)
        else:
            rows.setdefault(of[0], []).append(row)
    if not rows:
        why = "; ".join(f"{len(probes)} {reason}: {quoted(probes, 3)}" for reason, probes in left.items())
        raise UserError(f"{where}: the table maps no probe; is it of the same platform? ({why})")
    means = np.empty((len(rows), values.shape[1]), np.float32)
    for number, places in enumerate(rows.values()):
        held = ~np.isnan(values[places])
        counts = held.sum(axis=0)
        total = np.where(held, values[places], 0).sum(axis=0, dtype=np.float64)
        means[number] = np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return list(rows), means, left
