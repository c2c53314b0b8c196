"""What people bring as they have it: a table that is read otherwise than it is meant, without a word, is the danger."""

import gzip
import io
import random
import zipfile
from collections.abc import Callable

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from serving import table_files
from serving.dashboard.data import uploads
from serving.dashboard.data.uploads import Profiles, omics_of, read_profiles, unit_note
from serving.modalities import images, pairs
from serving.table_files import read_numbers

KNOWN = ["TP53|7157", "EGFR|1956", "KRAS|3845", "MARCH1|55016"]
PLAIN = "sample,TP53,EGFR\n0012,1.5,2.25\n1E5,3.5,12.5\n"
VALUES = {"0012": {"TP53": 1.5, "EGFR": 2.25}, "1E5": {"TP53": 3.5, "EGFR": 12.5}}


def _read(text: str | bytes, name: str = "a.csv") -> Profiles:
    return read_profiles(name, text.encode() if isinstance(text, str) else text, KNOWN)


def _workbook(**sheets: list[list[object]]) -> bytes:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(buffer)
    return buffer.getvalue()


def _zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


ROWS: list[list[object]] = [["sample", "TP53", "EGFR"], ["0012", 1.5, 2.25], ["1E5", 3.5, 12.5]]
SAME: dict[str, tuple[str, str | bytes]] = {
    "quoted decimal commas": ("a.csv", 'sample,TP53,EGFR\n0012,"1,5","2,25"\n1E5,"3,5","12,5"\n'),
    "UTF-16": ("a.txt", PLAIN.replace(",", "\t").encode("utf-16")),
    "line ends of a Mac": ("a.csv", PLAIN.replace("\n", "\r")),
    "zipped by a Mac": ("a.zip", _zipped(**{"__MACOSX/._a.csv": "x", ".DS_Store": "x", "in/a.csv": PLAIN})),
    "a workbook with notes": ("a.xlsx", _workbook(about=[["made by", "me"]], data=ROWS)),
    "Excel's empty columns and rows": ("a.csv", "sample,TP53,EGFR,,\n0012,1.5,2.25,,\n,,,,\n1E5,3.5,12.5,,\n,,,,\n"),
    "a separator at each end": ("a.csv", "sample,TP53,EGFR\n0012,1.5,2.25,\n1E5,3.5,12.5,\n"),
    "R's head": ("a.tsv", "TP53\tEGFR\n0012\t1.5\t2.25\n1E5\t3.5\t12.5\n"),
    "blanks": ("a.csv", "sample, TP53\u00a0,EGFR\n0012 , 1.5,2.25 \n1E5,3.5\u00a0,12.5\n"),
    "columns about genes": ("a.csv", "gene_id,gene_name,length,0012,1E5\nE1,TP53,9,1.5,3.5\nE2,EGFR,8,2.25,12.5\n"),
    "columns of no gene": ("a.csv", "sample,TP53,---,EGFR,n/a\n0012,1.5,1,2.25,2\n1E5,3.5,1,12.5,2\n"),
    "rows of no gene": ("a.csv", "gene,0012,1E5\nTP53,1.5,3.5\n---,1,1\nEGFR,2.25,12.5\nY_RNA,1,2\nY_RNA,2,2\n"),
}


@pytest.mark.parametrize(("name", "content"), SAME.values(), ids=SAME)
def test_a_table_is_read_the_same_whatever_wrote_it(name: str, content: str | bytes) -> None:
    assert _read(content, name).values.to_dict("index") == VALUES


def test_row_names_are_none_and_numbers_are_no_names_whatever_their_decimal_sign() -> None:
    for head in ("", ",", "row,"):  # before the names of samples
        table = _read(f'{head}"sample","TP53","EGFR"\n"1","0012",1.5,2.25\n"2","1E5",3.5,12.5\n')
        assert table.values[["TP53", "EGFR"]].T.to_dict() == VALUES
    found = _read("TP53;EGFR;KRAS\n5,12;6,3;7,1\n1,5;2,5;3,5\n")
    assert [*found.values] == ["TP53", "EGFR", "KRAS"]
    assert found.values.to_numpy().tolist() == [[5.12, 6.3, 7.1], [1.5, 2.5, 3.5]]
    assert "names no samples" in " ".join(found.notes)


TOLD: dict[str, tuple[str | bytes, str]] = {
    "decimal commas": (PLAIN.replace(",", "\t").replace(".", ","), "Decimal commas"),
    "Windows-1252": ("sample,TP53\nMüller,1.5\n".encode("cp1252"), "Windows-1252"),
    "blanks in names of genes": ("sample,TP53 \nS1,1.5\n", "'TP53 '"),
    "another case": ("sample,tp53,EGFR\nS1,1.5,2\n", "'tp53' as TP53"),
    "samples that look alike": ("sample,TP53\nS1,1.5\ns1,2\n", "'S1', 's1'"),
    "words for unknown": ("sample,TP53,EGFR\nS1,--,1\nS2,2,not reported\n", "'--', 'not reported'"),
    "a gene beside itself in another case": ("sample,TP53,tp53\nS1,1.5,2\n", "'tp53' look like 'TP53'"),
    "short rows": ("sample,TP53,EGFR\nS1,1.5\nS2,1,2\n", "fewer values.*'1'"),
    "dates": ("sample,TP53,1-Mar,2-Sep\nS1,1.5,1,2\n", "spreadsheet.*'1-Mar', '2-Sep'"),
    "genes twice that nobody knows": ("gene,S1\nTP53,1.5\nY_RNA,1\nY_RNA,2\n", "'Y_RNA'"),
    "names by a guess": ("patient,TP53\n12,1.5\n13,1\n", "'patient'"),
}


@pytest.mark.parametrize(("content", "told"), TOLD.values(), ids=TOLD)
def test_what_is_read_otherwise_than_it_stands_there_is_told(content: str | bytes, told: str) -> None:
    notes = " ".join(_read(content).notes)
    assert pd.Series([notes]).str.contains(told).all(), notes


ENDED = "".join(f"{row};{row + 100};{row};\n" for row in range(25))
REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "decimal commas and points": ("a.csv", 'sample,TP53,EGFR\nS1,"1,5",2.25\n', "'1,5', '2.25'.*decimal sign"),
    "either": ("a.csv", 'sample,TP53\nS1,"1,234"\n', "1.234 or 1234"),
    "blanks for separators": ("a.txt", "sample TP53 EGFR\nS1 1 2\n", "not separated by commas"),
    "cut off": ("a.csv", "sample,TP53,EGFR\nS1,1,2\nS2,1,2\nS3,1", "cut off"),
    "no name": ("a.csv", "sample,TP53\nS1,1\nNA,2\n", "row 2: 'NA' is no name"),
    "a gene twice in other cases": ("a.csv", "sample,tp53,Tp53\nS1,1,2\n", "'tp53', 'Tp53' are both the gene TP53"),
    "a sample twice": ("a.csv", "sample,TP53\nS1,1\nS1 ,2\n", "'S1' and 'S1 '"),
    "a first line that is short": ("a.csv", "sample,TP53,EGFR\nS1,1,2,3\nS2,4,5,6\n", "4 values.*names 3 columns"),
    "a stray cell after ended rows": ("a.csv", f"id;TP53;MYC\n{ENDED}30;1;2;9\n", "column 4 has values and no name"),
    "a minus of typesetters": ("a.csv", "id;TP53;EGFR\na;\u22121.234;5,12\nb;3,5;1,1\n", "decimal sign"),
    "numbered samples under it": ("a.csv", "sample,TP53,EGFR\n12,1.5,2,3\n13,4,5,6\n", "'sample' are numbers"),
    "zero bytes": ("a.csv", PLAIN + "\n" * 600 + "S3,1\0,2\n", "zero bytes"),
    "a quotation mark without its end": ("a.csv", 'sample,TP53\nS1,"1\nS2,2\n', "cannot be read as a table"),
    "a sample without a name": ("a.csv", "sample_id,TP53\n,1\n", "column sample_id, row 1: is empty"),
    "a gene twice": ("a.csv", "sample_id,TP53,TP53\nS1,1,2\n", "column TP53 is a duplicate"),
    "a word for a number": ("a.csv", "sample,TP53,EGFR\nS1,1,2\nS2,high,3\n", "TP53, sample S2: “high” is not a num"),
    "an infinite number": ("a.csv", "sample_id,TP53\nS1,inf\n", "column TP53, sample S1: is infinite"),
    "no known gene": ("a.csv", "sample_id,FOO,BAR\nS1,1,2\n", "none of its 2 columns is a gene that the model knows"),
    "no number": ("a.csv", "sample_id,remark\nS1,fine\n", "no column holds numbers"),
    "nothing": ("a.csv", b"", "a.csv: the file is empty"),
    "no text": ("a.csv", b"S\x81,\xff\n1,2", "UTF-8"),
    "another kind of file": ("a.docx", b"PK", "CSV, TSV, Excel .* or Parquet"),
    "an old workbook": ("a.xlsx", b"\xd0\xcf\x11\xe0" + b"x" * 500, "none of a xlsx file"),
    "a broken workbook": ("a.xlsx", _workbook(data=ROWS)[:-200], "a.xlsx: the compressed file is broken"),
}


@pytest.mark.parametrize(("name", "content", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_certain_is_refused_with_what_to_do(name: str, content: str | bytes, told: str) -> None:
    with pytest.raises(UserError, match=told):
        _read(content, name)


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "UNPACKED_BYTES", 1000)
    for name, content in (("a.csv.gz", gzip.compress(b"0" * 5000)), ("a.zip", _zipped(**{"a.csv": "0" * 5000}))):
        with pytest.raises(UserError, match="unpacks to more"):
            _read(content, name)
    monkeypatch.setattr(uploads, "MOST_VALUES", 100)
    with pytest.raises(UserError, match="more than 100 values"):
        _read("sample,TP53\n" + "1,2\n" * 50)


_NAMES = st.text("0123456789E.+-", min_size=1, max_size=8).filter(lambda name: any(each.isdigit() for each in name))


_GENES = st.lists(st.sampled_from([*KNOWN, "A1BG|1", "MDM2|4193"]), min_size=2, unique=True)
_HOW = st.sampled_from(["parquet", "xlsx", ",", ";", "\t"])


@settings(max_examples=80, deadline=None, database=None)
@given(
    st.lists(_NAMES, min_size=1, max_size=5, unique=True),
    _GENES.filter(lambda genes: bool({*genes} & {*KNOWN})),
    *(_HOW, st.booleans(), st.booleans(), st.booleans()),
)
def test_a_table_is_read_the_same_however_it_is_written(
    names: list[str], genes: list[str], how: str, turned: bool, bom: bool, symbols: bool
) -> None:
    """Names of samples are text, whatever they look like; genes may be a laboratory's symbols."""
    values = np.random.default_rng(len(genes)).normal(5, 2, (len(names), len(genes))).round(3)
    columns = [gene.split("|")[0] if symbols else gene for gene in genes]
    table = pd.DataFrame(values, columns=columns, index=pd.Index(names, name="sample"))
    written, file = (table.T.rename_axis("gene") if turned else table).reset_index(), io.BytesIO()
    if how == "parquet":
        written.to_parquet(file, index=False)
    elif how == "xlsx":
        file.write(_workbook(data=[list(written), *written.to_numpy().tolist()]))
    else:
        text = written.to_csv(index=False, sep=how, decimal="," if how == ";" else ".")
        file.write(text.encode("utf-8-sig" if bom else "utf-8"))
    found = _read(file.getvalue(), f"a.{how}" if how.isalpha() else "a.csv")
    pd.testing.assert_frame_equal(found.values, table, check_names=False, check_column_type=False)
    assert any("was turned round" in note for note in found.notes) == turned


WRITTEN: dict[str, Callable[[float], str]] = {
    "points": lambda value: f"{value:.3f}",
    "scientific": lambda value: f"{value:.6e}",
    "thousands": lambda value: f"{value:,.3f}",
    "decimal commas": lambda value: f"{value:.3f}".replace(".", ","),
    "German": lambda value: f"{value:,.3f}".translate(str.maketrans(",.", ".,")),
    "French": lambda value: f"{value:,.3f}".replace(",", "\u202f").replace(".", ","),
    "blanks": lambda value: f" {value:.3f}\u00a0",
}


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(st.integers(-99_999_999, 99_999_999), min_size=2, max_size=12), st.sampled_from(sorted(WRITTEN)))
def test_numbers_are_those_that_were_written_or_refused(thousandths: list[int], how: str) -> None:
    true = np.array([each / 1000 for each in thousandths])
    table = pd.DataFrame({"a": [WRITTEN[how](value) for value in true]}, dtype=object)
    try:
        found = read_numbers(table, "a.csv", decimal_comma=how in ("decimal commas", "German", "French"))
    except UserError:
        assert how in ("thousands", "German", "French"), "a refusal of what is certain"
        return
    wrong = found.wrong[:, 0]
    assert found.values[~wrong, 0].tolist() == pytest.approx(true[~wrong].tolist())
    assert not wrong[np.abs(true) < 1000].any() and (how in ("thousands", "German", "French") or not wrong.any())


def test_other_columns_of_a_file_are_kept_apart_and_files_and_molecules_taken_by_their_names() -> None:
    found = _read("sample_id,tissue,TP53,remark,EGFR\nS1,lung,1,fine,2\nS2,,3,bad,\n")
    assert list(found.values.columns) == ["TP53", "EGFR"] and found.values["EGFR"].isna().tolist() == [False, True]
    assert found.tissue == {"S1": "lung"}
    assert found.notes == ["Columns without numbers were left out: remark."]
    omics = ["expression", "mutation", "copy_number"]
    named = {"x.csv": "expression", "my-copy-number.csv": "copy_number", "Mutation 2.parquet": "mutation"}
    assert {name: omics_of(name, omics) for name in named} == named
    linear = pd.DataFrame({"TP53": [1500.0, 2.0], "EGFR": [1.0, 30.0]}, index=["a", "b"])
    assert "TPM" in (unit_note("expression", linear, KNOWN) or "")
    assert unit_note("expression", linear.clip(upper=9.5), KNOWN) is unit_note("mutation", linear, KNOWN) is None
    given = [("C:\\cells\\a.BMP", b"1"), ("b/a.BMP", b"2"), ("Thumbs.db", b"x"), ("in/._a.BMP", b"x"), (" c.png", b"3")]
    assert images.named_images(given) == {"a.BMP": b"1", "a.BMP (2)": b"2", "c.png": b"3"}
    for around in ('"{}"', "'{}'", " {}\n", "\u00a0{}\u200b", "“{}”", "{}"):
        assert pairs.molecule(around.format("CC(=O)Nc1ccc(O)cc1")) == "CC(=O)Nc1ccc(O)cc1"


def test_no_bytes_make_anything_but_a_refusal() -> None:
    rng = random.Random(0)
    for start in (b"", b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"\xff\xfe", b"sample,TP53\n"):
        for name in ("a.csv", "a.xlsx", "a.zip", "a.parquet", "a.gz"):
            with pytest.raises(UserError):
                _read(start + rng.randbytes(300) + b"\x00", name)
