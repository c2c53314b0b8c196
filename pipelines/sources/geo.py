"""Series matrices of GEO (https://www.ncbi.nlm.nih.gov/geo/info/soft.html): ``*_series_matrix.txt``, often gzipped."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.gene_names import genes_of, spreadsheet_names
from pipelines.samples.table_text import letters_of
from pipelines.sources.archives import decoded, opened, text_lines
from pipelines.sources.expression_folder import Expression, read_labeled, stand_alone
from pipelines.sources.matrices import Matrix
from pipelines.sources.tables import Layout, line_cells, read_official, whole
from pipelines.text_values import clean, folded, known, quoted

BEGIN, END = b"!series_matrix_table_begin", b"!series_matrix_table_end"
ACCESSION = "geo_accession"
CHARACTERISTICS = "characteristics_ch"
_PROBES = Layout(
    "table of probes and genes, such as the table of a platform (GPL)",
    {
        "probe": ("probe", "ID", "ID_REF", "PROBE_ID", "probeset_id", "Probe Set ID", "transcript_cluster_id"),
        "gene": ("gene", "Gene Symbol", "GENE_SYMBOL", "Symbol", "gene_name", "hgnc_symbol", "ILMN_Gene",
                 "gene_assignment", "ENTREZ_GENE_ID", "Entrez_Gene", "entrez"),
    },
    needed=("probe", "gene"),
    only=True,
    comments="#^!",
)  # fmt: skip
_PERSON = re.compile(
    r"(?:patient|subject|individual|donor|participant|case)[\W_]*(?:id|identifier|code|no\.?|number|name)?"
)


def read(matrix: Path, *, label: str, patient: str | None = None, probes: Path | None = None) -> Expression:
    """Read a series matrix, whose values stay on whatever scale the submitter gave them.

    ``label`` and ``patient`` are keys of the characteristics (of the second channel ``key:ch2``), or lines such as
    ``source_name_ch1``. With the table of ``probes`` a gene gets the mean of its probes, else the probes are the genes.
    """
    file = matrix.name
    notes: list[str] = []
    genes = _read_probes(probes, notes) if probes else None
    with opened(matrix) as stream:
        lines = text_lines(stream, matrix)
        facts = _sample_facts(lines, file)
        names = facts.accessions
        samples = pd.DataFrame({"sample_id": names, "patient_id": names, "label": facts.values_of(label, notes)})
        if patient:
            samples["patient_id"] = stand_alone(facts.values_of(patient, notes), names, notes)
        else:
            notes += facts.people()
        for name, column in (("title", "title"), ("platform_id", "platform")):
            if name in facts.cells:
                samples[column] = ["".join(of) for of in facts.cells[name]]
        table = Matrix(_table(lines, file), file, ("ID_REF",))
        if (columns := table.columns) != names:
            shown = quoted(sorted(set(columns) ^ set(names)) or columns)
            message = f"the table's columns are not the samples of !Sample_{ACCESSION}, or in another order: {shown}"
            raise DataError([Finding("file_layout", file, f"{message}; download the file again")])
        read = read_labeled(table, samples, hint=f"{label!r} is unknown in all; {facts.described()}", unit="probe")
    if "platform" in samples and read.samples["platform"].nunique() > 1:
        found = quoted(sorted(read.samples["platform"].unique()))
        notes.append(f"warning: the samples are of several platforms, {found}: their values may not compare")
    read = replace(read, genes=False, notes=tuple(notes))
    return read if genes is None else _means(read, genes, f"{file}, {probes} lists {quoted(genes, 3)}")


@dataclass
class _Facts:
    """What a file says of its samples: values by line, named as in GEOquery, or characteristic (``age:ch1``)."""

    file: str
    accessions: list[str] = field(default_factory=list)
    cells: dict[str, list[dict[str, None]]] = field(default_factory=dict)

    def add(self, name: str, cells: list[str]) -> None:
        if len(cells) != len(self.accessions or cells):
            message = f"the line !Sample_{name} has {len(cells)} values for {len(self.accessions)} samples"
            raise DataError([Finding("row_width", self.file, f"{message}; download the file again")])
        more = sum(held == name or held.startswith(f"{name}.") for held in self.cells)
        self.cells[f"{name}.{more}" if more else name] = [{clean(cell): None} for cell in cells]
        if name.startswith(CHARACTERISTICS):
            # Cells of a line may have different keys: where a sample lacks one, GEO moves the next up.
            for place, (key, colon, value) in enumerate(cell.partition(":") for cell in cells):
                if colon:
                    key = f"{folded(key)}:ch{name.removeprefix(CHARACTERISTICS)}"
                    self.cells.setdefault(key, [{} for _ in cells])[place][clean(value)] = None

    def values_of(self, name: str, notes: list[str]) -> list[str]:
        """Return each sample's only value of a characteristic, or of a line; ``""`` where unknown."""
        key, line = folded(name), re.sub("^!?sample_", "", folded(name))
        own = [key] if ":" in key else []  # a characteristic's key, with its channel; any other is a line's name
        chosen = self._find((*own, f"{key}:ch1", f"{key}:ch2"), characteristics=True)
        chosen = chosen or self._find((key, line, f"{line}_ch1", f"{line}_ch2"), characteristics=False)
        if chosen is None:
            raise UserError(f"{self.file}: its samples have no characteristic {name!r}; {self.described()}")
        other = chosen.replace(":ch1", ":ch2") if key != chosen else chosen
        if self.cells.get(other, self.cells[chosen]) != self.cells[chosen]:
            notes.append(f"warning: {name!r} is that of channel 1; channel 2 has others: name {other!r} for those")
        values = []
        for place, accession in enumerate(self.accessions):
            found = list(dict.fromkeys(filter(None, map(known, self.cells[chosen][place]))))
            if len(found) > 1:
                message = f"{accession} has two values of {name!r}: {quoted(found)}; name another key"
                raise DataError([Finding("key_unique", self.file, f"{message}; {self.described()}")])
            values.append(found[0] if found else "")
        return values

    def _find(self, names: Iterable[str], *, characteristics: bool) -> str | None:
        """Return the first characteristic, or line, of a name, else the first that differs in case or punctuation."""
        held = [each for each in self.cells if (":ch" in each) is characteristics]
        letters = {letters_of(each): each for each in held}
        exact = (each for each in names if each in held)
        return next(exact, None) or next((letters[of] for of in map(letters_of, names) if of in letters), None)

    def people(self) -> list[str]:
        """Return a warning where a characteristic that is not used may name who gave several samples."""
        for name, cells in self.cells.items():
            key, channel, _ = name.rpartition(":ch")
            people = list(filter(None, (known(value) for of in cells for value in of)))
            if channel and _PERSON.fullmatch(key) and len(set(people)) < len(people):
                warning = f"each sample is taken for its own patient, yet {key!r} has values of several samples; give "
                warning += f"--patient {key!r} if it is the person: a split must not separate them"
                return [f"warning: {warning}"]
        return []

    def described(self) -> str:
        """Return which characteristics and lines there are, with the first values of each."""
        shown = []
        for name, cells in sorted(self.cells.items()):
            values = list(dict.fromkeys(value[:30] for of in cells for value in of if value))
            free = re.match(f"title|source_name|description|{CHARACTERISTICS}", name)
            if ":ch" in name or (free and not all(":" in value for value in values)):
                shown.append(f"{name.removesuffix(':ch1')} ({quoted(values, 3)})")
        return f"they have {', '.join(shown) or 'none'}"


def _sample_facts(lines: Iterable[bytes], file: str) -> _Facts:
    about: list[tuple[str, list[str]]] = []
    for line in _logical(lines):
        text = decoded(line).rstrip("\r\n")
        if line.lower().startswith(BEGIN):
            break
        if text.lower().startswith("!sample_"):
            name, *cells = line_cells(text, "\t", file)
            about.append((name.strip().casefold().removeprefix("!sample_"), cells))
    else:
        message = f"has no {BEGIN.decode()}; it must be a series matrix (*_series_matrix.txt.gz), or is cut short"
        raise DataError([Finding("file_layout", file, message)])
    accessions = next((cells for name, cells in about if name == ACCESSION), [])
    if not accessions:
        message = f"has no line !Sample_{ACCESSION}, separated by tabs; is it a series matrix as GEO writes it?"
        raise DataError([Finding("file_layout", file, message)])
    facts = _Facts(file, [clean(cell) for cell in accessions])
    for name, cells in about:
        if name != ACCESSION:
            facts.add(name, cells)
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


def _read_probes(path: Path, notes: list[str]) -> dict[str, list[str]]:
    """Return the genes of each probe."""
    table = read_official(path, _PROBES, notes)
    probe, gene = (table.written[name] for name in ("probe", "gene"))
    if (probe, gene) != ("probe", "gene"):
        notes.append(f"{path.name}: probes are taken from column {probe!r}, genes from {gene!r}")
    split = _assigned if letters_of(gene) == "geneassignment" else genes_of
    genes: dict[str, list[str]] = {}
    for name, cell in table.frame[["probe", "gene"]].itertuples(index=False, name=None):
        if name:
            held = genes.setdefault(whole(name), [])
            held += [each for each in map(whole, split(cell)) if each not in held]
    return genes


def _assigned(cell: str) -> list[str]:
    """Return the symbols of ``NM_1 // SYMBOL // name // 1p36 // 123 /// NM_2 // ...``."""
    parts = [[part.strip() for part in one.split("//")] for one in cell.split("///")]
    return list(dict.fromkeys(of[1] for of in parts if len(of) > 1 and known(of[1])))


def _means(probes: Expression, genes: dict[str, list[str]], where: str) -> Expression:
    """Return genes, their means over probes that have a value; without the probes that are not of one gene."""
    rows: dict[str, list[int]] = {}
    dates = frozenset(spreadsheet_names(gene for of in genes.values() for gene in of))
    date = f"probes whose gene a spreadsheet made a date or number of ({quoted(sorted(dates))})"
    left: dict[str, list[str]] = {}
    for row, probe in enumerate(probes.names):
        of = genes.get(probe)
        if of and len(of) == 1 and of[0] not in dates:
            rows.setdefault(of[0], []).append(row)
            continue
        why = "probes of several genes" if of else "probes without a gene"
        if of is None:
            why = "probes that the table of probes does not list"
        elif dates.intersection(of):
            why = f"{date}: take the platform's own table"
        left.setdefault(why, []).append(probe)
    if not rows:
        why = "; ".join(f"{len(names)} {reason}: {quoted(names, 3)}" for reason, names in left.items())
        raise UserError(f"{where}: the table maps no probe; is it of the same platform? ({why})")
    values = probes.values.T
    means = np.empty((len(rows), values.shape[1]), np.float32)
    for number, places in enumerate(rows.values()):
        held = ~np.isnan(values[places])
        counts = held.sum(axis=0)
        total = np.where(held, values[places], 0).sum(axis=0, dtype=np.float64)
        means[number] = np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return replace(probes, values=means.T, names=list(rows), genes=True, dropped=probes.dropped | left)
