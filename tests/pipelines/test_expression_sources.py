"""Official expression files must become raw folders with the very values of the file; anything else must be refused."""

import csv
import gzip
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, UserError
from pipelines.sources import geo, matrices, pancan, raw_folder, xena
from pipelines.sources.__main__ import main
from pipelines.sources.expression_folder import Expression, gene_table, tcga, write_expression
from pipelines.sources.matrices import MISSING, Matrix
from pipelines.units import expression_scale
from tests.bench.reading import write_pancan
from tests.pipelines.damages import Damage, change, put, rewrite

BARCODES = [
    *("TCGA-OR-A5J1-01A-11R-A29S-07", "TCGA-OR-A5J1-11A-11R-A29S-07", "TCGA-BH-A0B3-06B-11R-A056-07"),
    *("TCGA-ZZ-A0B4-01A-11R-A056-07", "TCGA-BH-A0B5-01A-11R-A056-07"),
]
GENES = ["?|100130426", "TP53|7157", "SLC35E2|728661", "SLC35E2|9906"]
PANCAN = f"""gene_id\t{chr(9).join(BARCODES)}
?|100130426\tNA\tNA\tNA\t5\tNA
TP53|7157\t0.5\t-0.25\t1e3\t-7\t12.125
SLC35E2|728661\t1\tNA\t3\t4\t-5
SLC35E2|9906\t0\t0\t0\t0\t0.0001
"""
CDR = """,bcr_patient_barcode,type,age
1,TCGA-OR-A5J1,ACC,58
2,TCGA-BH-A0B3,BRCA,40
3,TCGA-BH-A0B5,BRCA,61
4,TCGA-XX-0000,BRCA,61
"""
XENA = """sample\tTCGA-OR-A5J1-01\tTCGA-OR-A5J1-11\tTCGA-BH-A0B3-01\tTCGA-BH-A0B4-01
TP53\t1.5\t2.5\tNA\t9
100130426\t0\t-0.5\t3\t9
ENSG00000141510.11\t1\t1\t1\t9
VACANT\t\t\t\t9
"""
PHENOTYPE = """sample\tsample_type\t_primary_disease
TCGA-OR-A5J1-01\tPrimary Tumor\tadrenocortical cancer
TCGA-OR-A5J1-11\tSolid Tissue Normal\tadrenocortical cancer
TCGA-BH-A0B3-01\tPrimary Tumor\tbreast invasive carcinoma
TCGA-BH-A0B4-01\tPrimary Tumor\t[Not Available]
"""
GEO = """!Series_title\t"A series"
!Sample_title\t"one"\t"two"\t"three"\t"four"
!Sample_geo_accession\t"GSM1"\t"GSM2"\t"GSM3"\t"GSM4"
!Sample_platform_id\t"GPL96"\t"GPL96"\t"GPL96"\t"GPL96"
!Sample_characteristics_ch1\t"tissue: lung"\t"tissue: lung"\t"tissue: liver"\t"patient: P9"
!Sample_characteristics_ch1\t"patient: P1"\t"patient: P1"\t"patient: Not Available"\t"age: 50"
!Sample_characteristics_ch1\t"Stage: II: late"\t""\t"stage: I"\t"free text"
!series_matrix_table_begin
"ID_REF"\t"GSM1"\t"GSM2"\t"GSM3"\t"GSM4"
"1007_s_at"\t1\t2\tnull\t9
"1053_at"\t3\t\tNA\t9
"117_at"\t5\t"6.5"\t7\t9
"AFFX_1"\t-1\t-2\t-3\t9
!series_matrix_table_end
"""
SERIES = "GSE1_series_matrix.txt"
PROBES = "probe,gene\n1007_s_at,DDR1\n1053_at,DDR1\n117_at,HSPA6|3310\nAFFX_1,A /// B\nother_at,TP53\n"
UCI_DATA = ",gene_0,gene_1,gene_2\nsample_0,0.0,2.017209,3.265527\nsample_1,0.0,0.592732,\nsample_2,1,2,3\n"
UCI_LABELS = ",Class\nsample_1,LUAD\nsample_0,PRAD\nsample_2,KIRC\n"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Hold stand-ins of all four layouts."""
    uci = "uci/TCGA-PANCAN-HiSeq-801x20531"
    for name, text in {
        "pancan/EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv": PANCAN,
        "pancan/TCGA-CDR-SupplementalTableS1.csv": CDR,
        "xena/matrix.tsv": XENA,
        "xena/phenotype.tsv": PHENOTYPE,
        f"geo/{SERIES}": GEO,
        "geo/probes.csv": PROBES,
        f"{uci}/data.csv": UCI_DATA,
        f"{uci}/labels.csv": UCI_LABELS,
    }.items():
        put_new(tmp_path / "origin" / name, text)
    return tmp_path / "origin"


def put_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(layout: str, origin: Path, out: Path, *more: str) -> None:
    arguments: dict[str, tuple[Path | str, ...]] = {
        "xena": (origin / "xena" / "matrix.tsv", "--samples", origin / "xena" / "phenotype.tsv"),
        "geo": (origin / "geo" / SERIES, "--label", "tissue"),
    }
    source = map(str, arguments.get(layout, (origin / layout,)))
    main(["--layout", layout, "--out", str(out), "--from", *source, *more])


def rows_of(out: Path, file: str) -> Any:
    return pd.read_csv(out / file, dtype=str, keep_default_na=False).to_numpy().tolist()


def assert_expression(found: pd.DataFrame, genes: list[str], values: object) -> None:
    assert list(found) == genes
    np.testing.assert_array_equal(found, np.array(values, np.float32))


def written(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    expression = pd.read_parquet(out / "expression.parquet").set_index("sample_id")
    assert {str(kind) for kind in expression.dtypes} == {"float32"}
    samples = pd.read_csv(out / "samples.csv", keep_default_na=False).set_index("sample_id")
    assert list(samples.index) == list(expression.index)
    return expression, samples


# PanCanAtlas.


def test_pancan_has_patients_and_no_value_below_0(origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("pancan", origin, out)
    expression, samples = written(out)
    assert_expression(expression, GENES[1:], [[0.5, 1, 0], [0, np.nan, 0], [1e3, 3, 0], [12.125, 0, 0.0001]])
    assert samples[["patient_id", "label", "sample_type"]].reset_index().to_numpy().tolist() == [
        [BARCODES[0], "TCGA-OR-A5J1", "ACC", 1],
        [BARCODES[1], "TCGA-OR-A5J1", "ACC", 11],
        [BARCODES[2], "TCGA-BH-A0B3", "BRCA", 6],
        [BARCODES[4], "TCGA-BH-A0B5", "BRCA", 1],
    ]
    assert rows_of(out, "genes.csv") == [[gene, *gene.split("|")] for gene in GENES[1:]]
    assert rows_of(out, "dropped.csv") == [
        ["samples without a label", BARCODES[3]],
        ["genes without a value in any sample", "?|100130426"],  # its only value is of a dropped sample
    ]
    said = capsys.readouterr().out
    assert f"dropped 1 samples without a label: {BARCODES[3]!r}" in said
    assert "2 values below 0, of 2 genes, were set to 0" in said  # the dropped sample's is not counted
    assert "4 samples (2 ACC, 2 BRCA) of 3 genes" in said


def test_log_ratios_are_no_pancan(tmp_path: Path) -> None:
    write_pancan(tmp_path, genes=60, samples=37, blocks=20)
    matrix, clinical = tmp_path / "matrix.tsv", tmp_path / "clinical.csv"
    table = pd.read_csv(matrix, sep="\t", index_col="gene_id")
    (table - table.median()).to_csv(matrix, sep="\t")
    with pytest.raises(DataError, match="values are below 0; the matrix of PanCanAtlas is linear"):
        pancan.read(matrix, clinical)


PANCAN_FILE, CDR_FILE = "EBPlus*", "TCGA-CDR*"
PANCAN_FAULTS: dict[str, tuple[Damage, str]] = {
    "two matrices": (lambda o: next(o.rglob(PANCAN_FILE)).with_suffix(".tsv.gz").touch(), "must hold one EB.*tsv.gz"),
    "gene twice": (change(PANCAN_FILE, "SLC35E2|9906", "TP53|7157"), r"rows 2, 4: duplicate name 'TP53\|7157'"),
    "barcode twice": (change(PANCAN_FILE, BARCODES[1], BARCODES[0]), f"column {BARCODES[0]}: duplicate column"),
    "no barcode": (change(PANCAN_FILE, BARCODES[1], "TCGA.OR.A5J1"), "'TCGA.OR.A5J1' is no TCGA barcode"),
    "column without a name": (change(PANCAN_FILE, BARCODES[1], ""), "column 3 of the header has no name"),
    "another first column": (change(PANCAN_FILE, "gene_id", "sample"), "must be gene_id, it is 'sample'"),
    "short row": (change(PANCAN_FILE, "\t12.125", ""), "row 2: has 4 values, the header names 5"),
    "gene without a name": (change(PANCAN_FILE, "TP53|7157", ""), "row 2: has no name"),
    "no UTF-8": (put(PANCAN_FILE, PANCAN.replace("TP53", "T\u00e9").encode("latin-1")), "row 2 is not UTF-8"),
    "short clinical row": (change(CDR_FILE, ",58", ""), "TableS1.csv, row 1: has 3 fields, the header 4"),
    "cohort column twice": (change(CDR_FILE, "age", "type"), "column acronym: duplicate column .*'type', 'type'"),
    "two cohorts": (change(CDR_FILE, "4,TCGA-XX-0000", "4,TCGA-OR-A5J1"), "barcode, rows 1, 4: has several rows"),
    "line ends of an old Mac": (rewrite(PANCAN_FILE, lambda text: text.replace(b"\n", b"\r")), "not a readable table"),
    "a gene's quote": (change(PANCAN_FILE, "TP53|7157", '"' + "x" * 200_000 + '"'), "not a readable table"),
    "other patients": (put(CDR_FILE, b"bcr_patient_barcode,type\nTCGA-XX-0000,ACC\n"), "no sample has a label"),
}  # fmt: skip


def as_workbook(origin: Path) -> None:
    path = next(origin.rglob(CDR_FILE))
    pd.read_csv(path).to_excel(path.with_suffix(".xlsx"), index=False)
    path.unlink()


PANCAN_SAME: dict[str, Damage] = {
    "barcodes as R writes them": change(PANCAN_FILE, chr(9).join(BARCODES), chr(9).join(BARCODES).replace("-", ".")),
    "patients in small letters": change(CDR_FILE, "TCGA-BH-A0B3", "tcga.bh.a0b3"),
    "blanks": change(CDR_FILE, "TCGA-BH-A0B3,BRCA", "TCGA-BH-A0B3 ,BRCA\N{NO-BREAK SPACE}"),
    "column names": change(CDR_FILE, "bcr_patient_barcode,type", "BCR Patient Barcode, Type"),
    "a workbook": as_workbook,
    "a workbook beside its sheet": lambda o: pd.read_csv(p := next(o.rglob(CDR_FILE))).to_excel(p.with_suffix(".xlsx")),
    "utf-16": lambda o: (p := next(o.rglob(CDR_FILE))).write_text(p.read_text(), encoding="utf-16"),
    "a true minus": change(PANCAN_FILE, "-0.25", "\N{MINUS SIGN}0.25"),
    "what a Mac leaves": lambda o: put_new(o / "pancan/__MACOSX" / next(o.rglob(PANCAN_FILE)).name, "\0"),
}


def test_ids_that_lost_their_zeros_and_missing_values_are_named() -> None:
    samples = pd.DataFrame({"sample_id": ["s", "t", "u"], "patient_id": ["04", "4", "P1"], "label": ["a", "a", "b"]})
    values = np.ones((3, 1), np.float32)
    assert len(Expression(values, ["X|1"], samples.assign(patient_id=["P10", "P1", "P100"])).report()) == 1
    values[0, 0] = np.nan
    alike, missing, _ = Expression(values, ["X"], samples).report()
    assert re.search("patients .* apart: '04', '4'", alike) and missing == "1 of 3 values are missing"


# Xena.


@pytest.mark.parametrize("zipped", [False, True])
def test_xena_keeps_its_logarithms(zipped: bool, origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if zipped:
        rewrite("matrix.tsv", gzip.compress)(origin)  # whatever its name
    run("xena", origin, out)
    expression, samples = written(out)
    genes = ["TP53", "100130426", "ENSG00000141510.11"]
    assert_expression(expression, genes, [[1.5, 0, 1], [2.5, -0.5, 1], [np.nan, 3, 1]])
    assert samples[["patient_id", "label", "sample_type"]].to_numpy().tolist() == [
        ["TCGA-OR-A5J1", "adrenocortical cancer", 1],
        ["TCGA-OR-A5J1", "adrenocortical cancer", 11],
        ["TCGA-BH-A0B3", "breast invasive carcinoma", 1],
    ]
    assert rows_of(out, "genes.csv") == [[genes[0], "TP53", ""], [genes[1], "", "100130426"], [genes[2], "", ""]]
    said = capsys.readouterr().out
    assert "1 samples without a label: 'TCGA-BH-A0B4-01'" in said
    assert "1 genes without a value in any sample: 'VACANT'" in said
    assert "1 values are below 0" in said


def test_xena_takes_the_columns_that_are_named(origin: Path, out: Path) -> None:
    path = origin / "xena" / "phenotype.tsv"
    path.write_text(
        "kind,who,sample\nA,P1,TCGA-OR-A5J1-01\nB,P1,TCGA-OR-A5J1-11\nA,[Not Available],TCGA-BH-A0B3-01\nB,--,GTEX-1\n"
    )
    change("matrix.tsv", "TCGA-BH-A0B4-01", "GTEX-1")(origin)
    run("xena", origin, out, "--label", "kind", "--patient", "who")
    samples = written(out)[1]
    assert samples["label"].tolist() == ["A", "B", "A", "B"]
    assert samples["patient_id"].tolist() == ["P1", "P1", "TCGA-BH-A0B3", "GTEX-1"]
    assert "sample_type" not in samples


def named(corner: str, key: str) -> Damage:
    return lambda o: [change("matrix.tsv", "sample", corner)(o), change("phenotype.tsv", "sample", key)(o)]


def read_xena(folder: Path, name: str, rows: str) -> Expression:
    put_new(folder / "m.tsv", f"sample\t{name}\tother\nTP53\t1\t2\n")
    put_new(folder / "p.tsv", f"sample\tkind\n{rows}other\tB\n")
    return xena.read(folder / "m.tsv", folder / "p.tsv", label="kind")


XENA_SAME: dict[str, Damage] = {
    "of the GDC hub": named("Ensembl_ID", "submitter_id.samples"),
    "in another case": named("Gene", "Sample"),
    "without a name": named("", "sample"),
}


@pytest.mark.parametrize(
    ("in_matrix", "in_table", "joined"),
    [
        ("TCGA-OR-A5J1-01", "TCGA-OR-A5J1-01A", True),
        ("TCGA-OR-A5J1-01A-11R-A29S-07", "TCGA-OR-A5J1-01A", True),
        ("TCGA.OR.A5J1.01", "TCGA-OR-A5J1-01A", True),
        ("tcga-or-a5j1-01", "TCGA-OR-A5J1-01", True),
        ("TCGA-OR-A5J1-01", "TCGA-OR-A5J1", True),
        ("GTEX.1117F.0226", "GTEX-1117F-0226", True),
        ("TCGA-OR-A5J1-01B", "TCGA-OR-A5J1-01A", False),
        ("TCGA-OR-A5J1-11", "TCGA-OR-A5J1-01A", False),
        ("GTEX-1117F", "GTEX-1117F-0226", False),
    ],
)
def test_xena_joins_two_names_and_no_two_samples(in_matrix: str, in_table: str, joined: bool, tmp_path: Path) -> None:
    read = read_xena(tmp_path, in_matrix, f"{in_table}\tA\n")
    assert read.samples["label"].tolist() == (["A", "B"] if joined else ["B"])
    as_read = in_matrix if in_matrix.startswith("GTEX") else in_matrix.replace(".", "-").upper()
    assert read.samples["sample_id"].tolist()[0] == (as_read if joined else "other")
    assert any("is read as" in note or "in the row" in note for note in read.notes) is joined


def test_xena_does_not_choose_between_two_vials(tmp_path: Path) -> None:
    read = read_xena(tmp_path, "TCGA-OR-A5J1-01", "TCGA-OR-A5J1-01A\tA\nTCGA-OR-A5J1-01B\tB\n")
    assert read.samples["sample_id"].tolist() == ["other"]
    assert read.dropped == {"samples that the phenotype table describes in several ways": ["TCGA-OR-A5J1-01"]}


@pytest.mark.parametrize("row", ["__no_feature", "N_unmapped", "---", "ENSG01.2_PAR_Y"])
def test_rows_that_are_no_genes_are_dropped_and_listed(row: str, origin: Path, out: Path) -> None:
    change("matrix.tsv", "100130426", row)(origin)
    run("xena", origin, out)
    assert list(written(out)[0]) == ["TP53", "ENSG00000141510.11"]
    assert ["rows that are no genes", row] in rows_of(out, "dropped.csv")


XENA_FAULTS: dict[str, tuple[Damage, str]] = {
    "no phenotype": (lambda o: (o / "xena" / "phenotype.tsv").unlink(), "phenotype.tsv: no such file"),
    "no label": (change("phenotype.tsv", "_primary_disease", "disease"), "column _primary_disease: .* missing"),
    "two labels": (change("phenotype.tsv", "TCGA-BH-A0B3-01", "TCGA-OR-A5J1-01"), "rows 1, 3: has several rows, which"),
}  # fmt: skip


# GEO.


def test_geo_reads_characteristics_anywhere(origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("geo", origin, out, "--patient", "Patient")
    expression, samples = written(out)
    values = [[1, 3, 5, -1], [2, np.nan, 6.5, -2], [np.nan, np.nan, 7, -3]]
    assert_expression(expression, ["1007_s_at", "1053_at", "117_at", "AFFX_1"], values)
    assert samples.to_numpy().tolist() == [
        ["P1", "lung", "one", "GPL96"],
        ["P1", "lung", "two", "GPL96"],
        ["GSM3", "liver", "three", "GPL96"],
    ]
    assert not (out / "genes.csv").exists()
    assert "dropped 1 samples without a label: 'GSM4'" in capsys.readouterr().out


MEANS = [[2, 5], [2, 6.5], [np.nan, 7]]


def test_geo_gene_is_the_mean_of_its_probes(origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("geo", origin, out, "--probes", str(origin / "geo" / "probes.csv"))
    assert_expression(written(out)[0], ["DDR1", "HSPA6|3310"], MEANS)
    assert rows_of(out, "genes.csv") == [["DDR1", "DDR1", ""], ["HSPA6|3310", "HSPA6", "3310"]]
    said = capsys.readouterr().out
    assert "dropped 1 probes of several genes: 'AFFX_1'" in said and "give --patient 'patient'" in said


GEO_SAME: dict[str, Damage] = {
    "a line end in a quoted field": change(SERIES, '"one"', '"on\ne"'),
    "a stray quote": change(SERIES, '"A series"', '"A 5\' " series"'),
    "blanks": change(SERIES, "tissue: lung", "tissue : \N{NO-BREAK SPACE}lung  "),
    "another key twice": change(SERIES, '"Stage: II: late"\t""', '"Stage: II: late"\t"patient: P2"'),
    "a key of the other channel": change(SERIES, "!series_m", '!Sample_characteristics_ch2\t"sex: f"' + '\t"sex: m"' * 3
                                         + "\n!series_m"),
}  # fmt: skip


LINES = {
    "source_name_ch1": ["tumor", "normal"] * 2,
    "description": ["x"] * 4,
    "description ": ["a", "b"] * 2,
    "characteristics_ch1": ["smoker", "never"] * 2,
    "characteristics_ch1 ": ["cell type: B", "cell type: T"] * 2,
    "characteristics_ch1  ": ["data row count: 5", "data row count: 6"] * 2,
    "characteristics_ch1   ": ["source name: X", "source name: Y"] * 2,
    "data_row_count": ["4"] * 4,
    "characteristics_ch2": ["cell type: pool"] * 4,
}


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("source_name", "X Y X Y"),
        ("source_name_ch1", "tumor normal tumor normal"),
        ("!Sample_Source_Name_ch1", "tumor normal tumor normal"),
        ("title", "one two three four"),
        ("description.1", "a b a b"),
        ("characteristics_ch1.3", "smoker never smoker never"),
        ("cell-type", "B T B T"),
        ("cell type:ch1", "B T B T"),
        ("data_row_count", "5 6 5 6"),
        ("cell_type:ch2", "pool pool pool pool"),
    ],
)
def test_geo_takes_lines_and_channels_by_name(name: str, labels: str, origin: Path) -> None:
    lines = ["\t".join([f"!Sample_{line.strip()}", *(f'"{cell}"' for cell in cells)]) for line, cells in LINES.items()]
    begin = "!series_matrix_table_begin"
    change(SERIES, begin, "\n".join([*lines, begin]))(origin)
    read = geo.read(origin / "geo" / SERIES, label=name)
    assert read.samples["label"].tolist() == labels.split()
    assert any("channel 2 has others" in note for note in read.notes) is (name == "cell-type")


PROBE_TABLES = {
    "of a platform": '#ID = the probe\n#Gene Symbol = x\nID\tSpecies\tGene Symbol\n1007_s_at\t5"\tDDR1\n'
    "1053_at\t\tDDR1\n117_at\t\tHSPA6\nAFFX_1\t\tA /// B\n",
    "annotation": "^Annotation\n!platform = GPL96\n!platform_table_begin\nID\tGene symbol\n1007_s_at\tDDR1\n"
    "1053_at\tDDR1\n117_at\tHSPA6\nAFFX_1\tA;B\n!platform_table_end\n",
    "several rows": "probe,gene\n1007_s_at,DDR1\n1007_s_at,DDR1\n1053_at,DDR1\n117_at,HSPA6\nAFFX_1,A\nAFFX_1,B\n",
    "gene assignment": "ID,gene_assignment\n1007_s_at,NM_1 // DDR1 // a // 6p21 // 780 /// NM_2 // DDR1 // a\n"
    "1053_at,NM_1 // DDR1 // a // 6p21 // 780\n117_at,NM_3 // HSPA6 // b // 1q // 3310\n"
    "AFFX_1,NM_4 // A // b // 1q // 1 /// NM_5 // B // b // 1q // 2\n",
    "a spreadsheet's date": "probe,gene\n1007_s_at,DDR1\n1053_at,DDR1\n117_at,HSPA6\nAFFX_1,1-Mar\n",
}


@pytest.mark.parametrize("table", PROBE_TABLES.values(), ids=PROBE_TABLES.keys())
def test_geo_reads_tables_of_probes_as_platforms_have_them(table: str, origin: Path) -> None:
    path = origin / "geo" / "probes.txt"
    path.write_text(table)
    read = geo.read(origin / "geo" / SERIES, label="tissue", probes=path)
    assert_expression(pd.DataFrame(read.values, columns=list(read.names)), ["DDR1", "HSPA6"], MEANS)
    (why,) = (why for why, names in read.dropped.items() if names == ["AFFX_1"])
    assert ("spreadsheet" in why) is ("Mar" in table)


NO_VALUES = GEO[: GEO.index('"1007')] + "!series_matrix_table_end\n"
GEO_FAULTS: dict[str, tuple[Damage, str]] = {
    "a sample twice": (put(SERIES, GEO.replace('"GSM2"', '"GSM1"').encode()), "column GSM1: duplicate column"),
    "no accessions": (change(SERIES, "!Sample_geo_accession", "!Sample_other"), "has no line !Sample_geo_accession"),
    "cut short": (change(SERIES, "!series_matrix_table_end", ""), "has no !series_matrix_table_end; it is cut short"),
    "a title's quote": (change(SERIES, '"one"', '"' + "x" * 200_000 + '"'), "not a readable table"),
    "no values": (put(SERIES, NO_VALUES.encode()), "has no values; RNA"),
    "other samples": (change(SERIES, '"ID_REF"\t"GSM1"', '"ID_REF"\t"GSM7"'), "not the samples .*: 'GSM1', 'GSM7'"),
    "another order": (change(SERIES, '"ID_REF"\t"GSM1"\t"GSM2"', '"ID_REF"\t"GSM2"\t"GSM1"'), "in another order"),
    "key missing": (lambda o: [change(SERIES, "tissue", "organ")(o) for _ in range(3)],
                    "no characteristic 'tissue'; they have age .*, organ .'lung', 'liver'., patient"),
    "key twice": (change(SERIES, "patient: P1", "tissue: skin"), "GSM1 has two values of 'tissue': 'lung', 'skin'"),
    "short line": (change(SERIES, '\t"four"', ""), "the line !Sample_title has 3 values for 4 samples"),
    "SOFT": (put(SERIES, b"^DATABASE = GeoMiame\n!Sample_x"), "has no !series_matrix_table_begin; it must be a series"),
    "saved as csv": (put(SERIES, GEO.replace("\t", ",").encode()), "has no line .*accession, separated by tabs"),
    "decimal comma": (change(SERIES, "6.5", "6,5"), "'6,5' is no finite number: it has a decimal comma"),
    "no label": (lambda o: [change(SERIES, f"tissue: {value}", "tissue: NA")(o) for value in ("lung", "lung", "liver")],
                 "no sample has a label .*'tissue' is unknown in all"),
}  # fmt: skip


def test_geo_with_probes_of_something_else_is_refused(origin: Path, out: Path) -> None:
    for table, says in (
        ("probe,gene\nx,TP53\n", "GSE1_series_matrix.txt, .*maps no probe"),
        ("name,gene\nx,TP53\n", "column probe: .* is missing"),
        ("probe,gene\n117_at,TP53\n117_at,EGFR\n", "1 probes of several genes"),
    ):
        (origin / "geo" / "probes.csv").write_text(table)
        with pytest.raises(UserError, match=says):
            run("geo", origin, out, "--probes", str(origin / "geo" / "probes.csv"))
        assert not out.parent.exists()


# UCI.


def test_uci_joins_labels_by_name_and_a_sample_is_its_patient(origin: Path, out: Path) -> None:
    run("uci", origin, out)
    expression, samples = written(out)
    values = [[0, 2.017209, 3.265527], [0, 0.592732, np.nan], [1, 2, 3]]
    assert_expression(expression, ["gene_0", "gene_1", "gene_2"], values)
    assert samples["label"].tolist() == ["PRAD", "LUAD", "KIRC"]
    assert samples["patient_id"].tolist() == samples.index.tolist() == ["sample_0", "sample_1", "sample_2"]
    assert sorted(path.name for path in out.iterdir()) == ["expression.parquet", "samples.csv"]


UCI_SAME: dict[str, Damage] = {
    "labels in small letters": change("labels.csv", "LUAD", "luad "),
    "semicolons": lambda o: [p.write_text(p.read_text().replace(",", ";")) for p in o.rglob("uci/*/*.csv")],
}


UCI_FAULTS: dict[str, tuple[Damage, str]] = {
    "unknown class": (change("labels.csv", "LUAD", "LUSC"), "labels.csv, column Class: 'LUSC' is none of BRCA"),
    "sample without a label": (change("labels.csv", "sample_1,LUAD\n", ""), "'sample_1': is in one of data.csv and"),
    "no labels": (lambda o: next(o.rglob("labels.csv")).unlink(), "no folder in it holds data.csv and labels.csv"),
}  # fmt: skip


FAULTS = {"pancan": PANCAN_FAULTS, "xena": XENA_FAULTS, "geo": GEO_FAULTS, "uci": UCI_FAULTS}


@pytest.mark.parametrize(
    ("layout", "damage", "says"),
    [pytest.param(at, *fault, id=f"{at}, {name}") for at, faults in FAULTS.items() for name, fault in faults.items()],
)
def test_what_is_not_the_layout_leaves_nothing(layout: str, damage: Damage, says: str, origin: Path, out: Path) -> None:
    csv.field_size_limit(10**9)  # as SciPy's reader of ARFF leaves it
    damage(origin)
    with pytest.raises(UserError, match=says):
        run(layout, origin, out)
    assert not out.parent.exists()


SAME = {"pancan": PANCAN_SAME, "xena": XENA_SAME, "geo": GEO_SAME, "uci": UCI_SAME}


@pytest.mark.parametrize(
    ("layout", "mutation"),
    [pytest.param(at, change, id=f"{at}, {name}") for at, same in SAME.items() for name, change in same.items()],
)
def test_a_table_in_another_writing_is_the_same(layout: str, mutation: Damage, origin: Path, out: Path) -> None:
    run(layout, origin, out)
    whole, samples = written(out)
    shutil.rmtree(out)
    mutation(origin)
    run(layout, origin, out)
    expression, described = written(out)
    pd.testing.assert_frame_equal(expression, whole)
    described, samples = (frame.drop(columns="title", errors="ignore") for frame in (described, samples))
    pd.testing.assert_frame_equal(described, samples)


# Matrices and folders in general.


RNG = np.random.default_rng(5)
LOGS = RNG.normal(7, 2, (30, 40)).clip(0)


def test_the_apparent_scale_is_told() -> None:
    cases: list[tuple[np.ndarray, str, str]] = [
        (LOGS, "log2", "log2"),
        (np.exp2(LOGS), "linear", "TPM"),
        (RNG.poisson(np.exp2(LOGS)), "linear", "counts"),
        (RNG.poisson(2, (30, 40)), "linear", "counts"),
        (LOGS - LOGS.mean(axis=0), "as_is", "log ratios"),
        (np.exp2(LOGS) - 20, "linear", "background"),
        (RNG.uniform(0, 1, (30, 40)), "as_is", "shares"),
        (LOGS / np.log2(10), "log2", "decimal logarithm"),
        (np.full((2, 2), np.nan), "as_is", "no values"),
    ]
    for values, scale, says in cases:
        found, why = expression_scale(np.asarray(values, np.float32))
        assert (found, says in why) == (scale, True), says


cells = st.one_of(
    st.sampled_from(MISSING),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-1000, 1000, places=4).map(str),
)


@settings(deadline=None)
@given(st.data())
def test_every_matrix_reads_as_python_reads_its_cells(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    table = [[data.draw(cells) for _ in range(columns)] for _ in range(rows)]
    separator, end = data.draw(st.sampled_from(["\t", ","])), data.draw(st.sampled_from(["\n", "\r\n"]))
    keep = np.array([data.draw(st.booleans()) for _ in range(columns)])
    names = [f"s{number}" for number in range(columns)]
    named = [("", names), *((f"g{number}", row) for number, row in enumerate(table))]
    lines = [f"{name}{separator}{separator.join(row)}{end}".encode() for name, row in named]
    with patch.object(matrices, "BLOCK_BYTES", data.draw(st.integers(1, 200))):
        genes, values = Matrix(iter(lines), "m").read(keep=keep)
    expected = [[np.float32("nan" if cell in MISSING else cell) for cell in row] for row in table]
    assert genes == [f"g{number}" for number in range(rows)] and values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array(expected, np.float32)[:, keep])


@given(st.data())
@settings(deadline=None)
def test_a_wrong_cell_is_found_wherever_it_stands(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 5))
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    table = [["1.5"] * columns for _ in range(rows)]
    table[row][column] = data.draw(st.sampled_from(["x", "inf", "-inf", "1e99", "1 2", "1_0", "0x1", "1,5", "#"]))
    named = [("", [f"s{number}" for number in range(columns)]), *((f"g{n}", row) for n, row in enumerate(table))]
    lines = [f"{name}\t{chr(9).join(cells)}\n".encode() for name, cells in named]
    with patch.object(matrices, "BLOCK_BYTES", data.draw(st.integers(1, 60))), pytest.raises(DataError) as error:
        Matrix(iter(lines), "m").read()
    (finding,) = error.value.findings
    assert (finding.column, finding.rows) == (f"s{column}", (row + 1,))


def test_names_of_genes_and_barcodes_are_split() -> None:
    table = gene_table(["TP53|7157", "?|10", "EGFR", "1956", "ENSG00000146648"]).to_numpy().tolist()
    assert [row[1:] for row in table] == [["TP53", "7157"], ["", "10"], ["EGFR", ""], ["", "1956"], ["", ""]]
    assert tcga("TCGA-02-0001-11") == ("TCGA-02-0001", 11)
    assert not any(map(tcga, ("TCGA-OR-A5J1", "TCGA-OR-A5J1-01A-", "TCGA-OR-A5J1-1", "TARGET-10-PAPPZS-09")))


def expression(ids: list[str], genes: list[str]) -> Expression:
    samples = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": "A"})
    return Expression(np.ones((len(ids), len(genes)), np.float32), genes, samples)


def test_names_that_are_alike_are_not_written(out: Path) -> None:
    for ids, genes, says in (
        (["a"], ["sample_id"], "the gene 'sample_id' is a duplicate"),
        (["a", ""], ["g"], "the sample '' is a duplicate or has no name"),
        (["a"], list[str](), "there is nothing to write"),
    ):
        with pytest.raises(UserError, match=says):
            write_expression(expression(ids, genes), out)
        assert not out.parent.exists()


def test_a_disk_that_is_full_leaves_nothing(out: Path) -> None:
    def full(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"half")
        raise OSError("No space left on device")  # as pyarrow does, without a name of the file

    disk = patch.object(raw_folder.pyarrow.parquet, "write_table", full)
    with disk, pytest.raises(UserError, match=r"No space left on device; nothing was written to .*set"):
        write_expression(expression(["a"], ["g"]), out)
    assert list(out.parent.iterdir()) == []


def test_options_of_other_layouts_are_refused(tmp_path: Path, out: Path) -> None:
    for arguments, says in (
        ("geo --samples x --label x", "--samples: geo takes none"),
        ("xena", "--samples: xena needs it"),
        ("uci --from a b", "--from: uci takes one"),
        ("gdsc --from a", "a: no such file"),
        ("gdsc --from . .", "--from: takes one folder, or files"),
    ):
        with pytest.raises(UserError, match=says):
            main(["--from", str(tmp_path), "--out", str(out), "--layout", *arguments.split()])
