"""Official expression files must become raw folders with the very values of the file; anything else must be refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.faults import DataError, UserError
from pipelines.sources import expression_folder, geo, pancan, uci, xena
from pipelines.sources.__main__ import main
from pipelines.sources.expression_folder import (
    MISSING,
    Expression,
    gene_table,
    read_header,
    read_rows,
    tcga,
    write_expression,
)
from tests import bench

ROOT = Path(__file__).parents[2]
BARCODES = [
    "TCGA-OR-A5J1-01A-11R-A29S-07",
    "TCGA-OR-A5J1-11A-11R-A29S-07",
    "TCGA-BH-A0B3-06B-11R-A056-07",
    "TCGA-ZZ-A0B4-01A-11R-A056-07",
    "TCGA-BH-A0B5-01A-11R-A056-07",
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
FOLLOWUP = "bcr_patient_uuid\tbcr_patient_barcode\tacronym\tnote\n" + "".join(
    f"u\t{patient}\t{cohort}\tna\u00efve\n"
    for patient, cohort in (("TCGA-OR-A5J1", "ACC"), ("TCGA-BH-A0B3", "BRCA"), ("TCGA-BH-A0B5", "BRCA"))
)
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
TCGA-BH-A0B4-01\tPrimary Tumor\t
"""
GEO = """!Series_title\t"A series"
!Sample_title\t"one"\t"two"\t"three"\t"four"
!Sample_geo_accession\t"GSM1"\t"GSM2"\t"GSM3"\t"GSM4"
!Sample_platform_id\t"GPL96"\t"GPL96"\t"GPL96"\t"GPL96"
!Sample_characteristics_ch1\t"tissue: lung"\t"tissue: lung"\t"tissue: liver"\t"patient: P9"
!Sample_characteristics_ch1\t"patient: P1"\t"patient: P1"\t""\t"age: 50"
!Sample_characteristics_ch1\t"Stage: II: late"\t""\t"stage: I"\t"free text"
!series_matrix_table_begin
"ID_REF"\t"GSM1"\t"GSM2"\t"GSM3"\t"GSM4"
"1007_s_at"\t1\t2\tnull\t9
"1053_at"\t3\t\tNA\t9
"117_at"\t5\t"6.5"\t7\t9
"AFFX_1"\t-1\t-2\t-3\t9
!series_matrix_table_end
"""
PROBES = "probe,gene\n1007_s_at,DDR1\n1053_at,DDR1\n117_at,HSPA6|3310\nAFFX_1,A /// B\nother_at,TP53\n"
UCI_DATA = ",gene_0,gene_1,gene_2\nsample_0,0.0,2.017209,3.265527\nsample_1,0.0,0.592732,\nsample_2,1,2,3\n"
UCI_LABELS = ",Class\nsample_1,LUAD\nsample_0,PRAD\nsample_2,KIRC\n"

Damage = Callable[[Path], Any]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "set"


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Hold stand-ins of all four layouts."""
    folder = tmp_path / "origin"
    for name, text in {
        "pancan/EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2.geneExp.tsv": PANCAN,
        "pancan/TCGA-CDR-SupplementalTableS1.csv": CDR,
        "xena/matrix.tsv": XENA,
        "xena/phenotype.tsv": PHENOTYPE,
        "geo/GSE1_series_matrix.txt": GEO,
        "geo/probes.csv": PROBES,
        "uci/TCGA-PANCAN-HiSeq-801x20531/data.csv": UCI_DATA,
        "uci/TCGA-PANCAN-HiSeq-801x20531/labels.csv": UCI_LABELS,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def run(layout: str, origin: Path, out: Path, *more: str) -> None:
    arguments: dict[str, list[Path | str]] = {
        "pancan": [origin / "pancan"],
        "xena": [origin / "xena" / "matrix.tsv", "--samples", origin / "xena" / "phenotype.tsv"],
        "geo": [origin / "geo" / "GSE1_series_matrix.txt", "--label", "tissue"],
        "uci": [origin / "uci"],
    }
    main(["--layout", layout, "--out", str(out), "--from", *map(str, arguments[layout]), *more])


def written(out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    expression = pd.read_parquet(out / "expression.parquet").set_index("sample_id")
    assert {str(kind) for kind in expression.dtypes} == {"float32"}
    samples = pd.read_csv(out / "samples.csv", keep_default_na=False).set_index("sample_id")
    assert list(samples.index) == list(expression.index)
    return expression, samples


def change(file: str, old: str, new: str) -> Damage:
    def damage(origin: Path) -> None:
        (path,) = origin.rglob(file)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def put(file: str, content: bytes) -> Damage:
    return lambda origin: next(origin.rglob(file)).write_bytes(content)


def squeeze(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return target


# PanCanAtlas.


def test_pancan_has_patients_cohorts_and_no_value_below_zero(
    origin: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("pancan", origin, out)
    expression, samples = written(out)
    kept = [BARCODES[place] for place in (0, 1, 2, 4)]
    values = [[0.5, 1, 0], [0, np.nan, 0], [1e3, 3, 0], [12.125, 0, 0.0001]]
    pd.testing.assert_frame_equal(
        expression,
        pd.DataFrame(np.array(values, np.float32), kept, GENES[1:]),
        check_names=False,
        check_column_type=False,
    )
    assert samples["patient_id"].tolist() == ["TCGA-OR-A5J1", "TCGA-OR-A5J1", "TCGA-BH-A0B3", "TCGA-BH-A0B5"]
    assert samples["label"].tolist() == ["ACC", "ACC", "BRCA", "BRCA"]
    assert samples["sample_type"].tolist() == [1, 11, 6, 1]
    genes = pd.read_csv(out / "genes.csv", dtype=str)
    assert genes.to_numpy().tolist() == [
        ["TP53|7157", "TP53", "7157"],
        ["SLC35E2|728661", "SLC35E2", "728661"],
        ["SLC35E2|9906", "SLC35E2", "9906"],
    ]
    dropped = pd.read_csv(out / "dropped.csv").to_numpy().tolist()
    assert dropped == [
        ["samples without a cohort in the clinical table", BARCODES[3]],
        ["genes without a value in any sample", "?|100130426"],  # its only value is of a dropped sample
    ]
    said = capsys.readouterr().out
    assert f"dropped 1 samples without a cohort in the clinical table: {BARCODES[3]!r}" in said
    assert "dropped 1 genes without a value in any sample: '?|100130426'" in said
    assert "2 values below 0, of 2 genes, were set to 0" in said  # the dropped sample's is not counted
    assert "4 samples (2 ACC, 2 BRCA) of 3 genes" in said


def test_pancan_takes_the_other_clinical_table_in_its_encoding_and_gzipped_files(origin: Path, out: Path) -> None:
    squeeze(next(origin.rglob("EBPlus*")))
    next(origin.rglob("TCGA-CDR*")).unlink()
    table = origin / "pancan" / "clinical_PANCAN_patient_with_followup.tsv"
    table.write_bytes(FOLLOWUP.encode("latin-1"))
    squeeze(table)
    run("pancan", origin, out)
    assert written(out)[1]["label"].tolist() == ["ACC", "ACC", "BRCA", "BRCA"]


def test_pancan_files_may_be_named_one_by_one(origin: Path, out: Path) -> None:
    matrix = next(origin.rglob("EBPlus*")).rename(origin / "matrix.tsv")
    clinical = next(origin.rglob("TCGA-CDR*")).rename(origin / "cohorts.csv")
    main(["--layout", "pancan", "--from", str(matrix), "--samples", str(clinical), "--out", str(out)])
    assert len(written(out)[0]) == 4


@pytest.mark.parametrize("block", [1, 100, 4_000, 10_000_000])
def test_streamed_pancan_equals_pandas_read_and_transposed(block: int, tmp_path: Path, out: Path) -> None:
    bench.write_pancan(tmp_path, genes=60, samples=37, blocks=20)
    write_expression(pancan.read(tmp_path / "matrix.tsv", tmp_path / "clinical.csv", block=block), out)
    whole = pd.read_csv(tmp_path / "matrix.tsv", sep="\t", index_col="gene_id").T.clip(lower=0).astype(np.float32)
    ours = written(out)[0]
    pd.testing.assert_frame_equal(ours, whole, check_names=False, check_column_type=False, rtol=2e-7, atol=0)
    assert whole.isna().any(axis=None)
    groups = pyarrow.parquet.ParquetFile(out / "expression.parquet").num_row_groups
    assert groups == 1


PANCAN_FILE, CDR_FILE = "EBPlus*", "TCGA-CDR*"
PANCAN_FAULTS: dict[str, tuple[Damage, str]] = {
    "no matrix": (lambda o: next(o.rglob(PANCAN_FILE)).unlink(), "must hold one EBPlusPlus.*, it holds none"),
    "two matrices": (
        lambda o: (o / "pancan" / "EBPlusPlusAdjustPANCAN_IlluminaHiSeq_RNASeqV2-v2.geneExp.tsv").touch(),
        "must hold one EBPlusPlus.*RNASeqV2-v2",
    ),
    "no clinical table": (lambda o: next(o.rglob(CDR_FILE)).unlink(), "must hold one TCGA-CDR.*, it holds none"),
    "gene twice": (
        change(PANCAN_FILE, "SLC35E2|9906", "TP53|7157"),
        r"geneExp.tsv, rows 2, 4: 'TP53\|7157' stands twice",
    ),
    "barcode twice": (
        change(PANCAN_FILE, BARCODES[1], BARCODES[0]),
        f"geneExp.tsv, column {BARCODES[0]}: the column stands twice",
    ),
    "no barcode": (change(PANCAN_FILE, BARCODES[1], "TCGA.OR.A5J1"), "'TCGA.OR.A5J1' is no TCGA barcode"),
    "column without a name": (change(PANCAN_FILE, BARCODES[1], ""), "column 3 of the header has no name"),
    "no columns": (put(PANCAN_FILE, b"gene_id\n"), "has no columns of values"),
    "empty": (put(PANCAN_FILE, b""), "the first column must be gene_id, it is unnamed"),
    "another first column": (change(PANCAN_FILE, "gene_id", "sample"), "must be gene_id, it is 'sample'"),
    "no rows": (put(PANCAN_FILE, PANCAN.split("\n")[0].encode()), "has no rows of values"),
    "no number": (
        change(PANCAN_FILE, "1e3", "1e3x"),
        f"geneExp.tsv, column {BARCODES[2]}, row 2: '1e3x' is no finite number",
    ),
    "number of a dropped sample": (
        change(PANCAN_FILE, "-7", "--7"),
        f"column {BARCODES[3]}, row 2: '--7' is no finite number",
    ),
    "infinite": (change(PANCAN_FILE, "1e3", "1e39"), f"column {BARCODES[2]}, row 2: '1e39' is no finite number"),
    "first value": (change(PANCAN_FILE, "NA", "x"), f"column {BARCODES[0]}, row 1: 'x' is no finite number"),
    "last value": (change(PANCAN_FILE, "0.0001", "0,0001"), f"column {BARCODES[4]}, row 4: '0,0001' is no finite"),
    "line break inside": (change(PANCAN_FILE, "1e3", "1\r3"), f"column {BARCODES[2]}, row 2: .* is no finite"),
    "short row": (change(PANCAN_FILE, "\t12.125", ""), r"row 2: 'TP53\|7157' has 4 values, the header names 5"),
    "long row": (change(PANCAN_FILE, "12.125", "12\t1"), r"row 2: 'TP53\|7157' has 6 values, the header names 5"),
    "a name alone": (change(PANCAN_FILE, "SLC35E2|9906\t0\t0\t0\t0\t0.0001", "SLC"), "row 4: 'SLC' has 0 values"),
    "gene without a name": (change(PANCAN_FILE, "TP53|7157", ""), "row 2: has no name"),
    "no UTF-8": (put(PANCAN_FILE, PANCAN.replace("TP53", "T\u00e9").encode("latin-1")), "row 2 is not UTF-8"),
    "cut gzip": (put(PANCAN_FILE, gzip.compress(PANCAN.encode())[:-20]), "broken or cut short"),
    "broken gzip": (put(PANCAN_FILE, b"\x1f\x8bnothing of the kind"), "broken or cut short"),
    "no cohort column": (change(CDR_FILE, "type", "kind"), "column type: the column is missing; the file has '', 'bcr"),
    "no patient column": (change(CDR_FILE, "bcr_patient", "patient"), "column bcr_patient_barcode: the column is miss"),
    "cohort column twice": (change(CDR_FILE, "age", "type"), "column type: the column stands twice"),
    "two cohorts": (
        change(CDR_FILE, "4,TCGA-XX-0000", "4,TCGA-OR-A5J1"),
        "TableS1.csv, rows 1, 4: 'TCGA-OR-A5J1' stands twice, and differently",
    ),
    "short clinical row": (change(CDR_FILE, ",58", ""), "TableS1.csv, row 1: must hold 4 fields"),
    "clinical quote": (put(CDR_FILE, b'a,"' + b"x" * 200_000), "not a readable table"),
    "other patients": (put(CDR_FILE, b"bcr_patient_barcode,type\nTCGA-XX-0000,ACC\n"), "has no cohort for any sample"),
}


@pytest.mark.parametrize(("damage", "says"), PANCAN_FAULTS.values(), ids=PANCAN_FAULTS.keys())
def test_pancan_that_is_not_the_layout_is_refused_and_nothing_is_written(
    damage: Damage, says: str, origin: Path, out: Path
) -> None:
    damage(origin)
    with pytest.raises(UserError, match=says):
        run("pancan", origin, out)
    assert not out.parent.exists()


@pytest.mark.parametrize("block", [1, 30, 10_000])
def test_a_fault_is_told_by_its_row_in_whichever_block_it_stands(block: int, origin: Path) -> None:
    change(PANCAN_FILE, "\t4\t", "\tfour\t")(origin)
    matrix, clinical = pancan.find(origin / "pancan")
    with pytest.raises(DataError) as error:
        pancan.read(matrix, clinical, block=block)
    (finding,) = error.value.findings
    assert (finding.column, finding.rows) == (BARCODES[3], (3,))


def test_a_clinical_row_that_stands_twice_alike_is_one(origin: Path, out: Path) -> None:
    change(CDR_FILE, "4,TCGA-XX-0000,BRCA,61", "4,TCGA-BH-A0B5,BRCA,61\n5,,,\n6,,ACC,")(origin)
    run("pancan", origin, out)
    assert len(written(out)[0]) == 4


def test_a_missing_cohort_drops_the_sample_and_is_no_class(origin: Path, out: Path) -> None:
    change(CDR_FILE, "TCGA-BH-A0B3,BRCA", "TCGA-BH-A0B3,[Not Available]")(origin)
    run("pancan", origin, out)
    assert written(out)[1]["label"].tolist() == ["ACC", "ACC", "BRCA"]


# Xena.


@pytest.mark.parametrize("zipped", [False, True])
def test_xena_keeps_its_logarithms_and_takes_patients_of_barcodes(
    zipped: bool, origin: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if zipped:
        squeeze(origin / "xena" / "matrix.tsv").rename(origin / "xena" / "matrix.tsv")  # whatever its name
    run("xena", origin, out)
    expression, samples = written(out)
    assert list(expression) == ["TP53", "100130426", "ENSG00000141510.11"]
    np.testing.assert_array_equal(expression, np.array([[1.5, 0, 1], [2.5, -0.5, 1], [np.nan, 3, 1]], np.float32))
    assert samples["patient_id"].tolist() == ["TCGA-OR-A5J1", "TCGA-OR-A5J1", "TCGA-BH-A0B3"]
    assert samples["label"].tolist() == ["adrenocortical cancer"] * 2 + ["breast invasive carcinoma"]
    assert samples["sample_type"].tolist() == [1, 11, 1]
    genes = pd.read_csv(out / "genes.csv", dtype=str, keep_default_na=False)
    assert genes["symbol"].tolist() == ["TP53", "", ""] and genes["entrez"].tolist() == ["", "100130426", ""]
    said = capsys.readouterr().out
    assert "1 samples without a label in the phenotype table: 'TCGA-BH-A0B4-01'" in said
    assert "1 genes without a value in any sample: 'VACANT'" in said
    assert "1 values are below 0" in said


def test_xena_takes_the_columns_that_are_named(origin: Path, out: Path) -> None:
    path = origin / "xena" / "phenotype.tsv"
    path.write_text("kind,who,sample\nA,P1,TCGA-OR-A5J1-01\nB,P1,TCGA-OR-A5J1-11\nA,,TCGA-BH-A0B3-01\nB,,GTEX-1\n")
    change("matrix.tsv", "TCGA-BH-A0B4-01", "GTEX-1")(origin)
    run("xena", origin, out, "--label", "kind", "--patient", "who")
    samples = written(out)[1]
    assert samples["label"].tolist() == ["A", "B", "A", "B"]
    assert samples["patient_id"].tolist() == ["P1", "P1", "TCGA-BH-A0B3", "GTEX-1"]
    assert "sample_type" not in samples


def test_xena_takes_its_own_patient_column_unasked(origin: Path) -> None:
    path = origin / "xena" / "phenotype.tsv"
    path.write_text("sample\t_PATIENT\tcancer type abbreviation\nTCGA-OR-A5J1-01\tP7\tACC\n")
    read = xena.read(origin / "xena" / "matrix.tsv", path)
    assert read.samples[["patient_id", "label"]].to_numpy().tolist() == [["P7", "ACC"]]


XENA_FAULTS: dict[str, tuple[Damage, str]] = {
    "no matrix": (lambda o: (o / "xena" / "matrix.tsv").unlink(), "matrix.tsv: no such file"),
    "no phenotype": (lambda o: (o / "xena" / "phenotype.tsv").unlink(), "phenotype.tsv: no such file"),
    "another first column": (change("matrix.tsv", "sample", "age"), "must be sample or .* it is 'age'"),
    "no label": (change("phenotype.tsv", "_primary_disease", "disease"), "has no column _primary_disease or"),
    "no sample column": (change("phenotype.tsv", "sample\t", "age\t"), "column sample: the column is missing"),
    "other samples": (put("phenotype.tsv", b"sample\t_primary_disease\nX\tY\n"), "has no label for any sample"),
    "gene twice": (change("matrix.tsv", "VACANT", "TP53"), "rows 1, 4: 'TP53' stands twice"),
    "sample twice": (change("matrix.tsv", "A0B3-01", "A0B4-01"), "column TCGA-BH-A0B4-01: the column stands twice"),
    "two labels": (
        change("phenotype.tsv", "TCGA-BH-A0B3-01", "TCGA-OR-A5J1-01"),
        "rows 1, 3: 'TCGA-OR-A5J1-01' stands twice, and differently",
    ),
    "no number": (change("matrix.tsv", "2.5", "high"), "column TCGA-OR-A5J1-11, row 1: 'high' is no finite number"),
}


@pytest.mark.parametrize(("damage", "says"), XENA_FAULTS.values(), ids=XENA_FAULTS.keys())
def test_xena_that_is_not_the_layout_is_refused_and_nothing_is_written(
    damage: Damage, says: str, origin: Path, out: Path
) -> None:
    damage(origin)
    with pytest.raises(UserError, match=says):
        run("xena", origin, out)
    assert not out.parent.exists()


# GEO.


@pytest.mark.parametrize("zipped", [False, True])
def test_geo_reads_characteristics_wherever_they_stand(
    zipped: bool, origin: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if zipped:
        squeeze(origin / "geo" / "GSE1_series_matrix.txt").rename(origin / "geo" / "GSE1_series_matrix.txt")
    run("geo", origin, out, "--patient", "Patient")
    expression, samples = written(out)
    assert list(expression) == ["1007_s_at", "1053_at", "117_at", "AFFX_1"]
    np.testing.assert_array_equal(
        expression, np.array([[1, 3, 5, -1], [2, np.nan, 6.5, -2], [np.nan, np.nan, 7, -3]], np.float32)
    )
    assert samples.to_numpy().tolist() == [
        ["P1", "lung", "one", "GPL96"],
        ["P1", "lung", "two", "GPL96"],
        ["GSM3", "liver", "three", "GPL96"],
    ]
    assert not (out / "genes.csv").exists()
    assert "dropped 1 samples without a known 'tissue': 'GSM4'" in capsys.readouterr().out


def test_geo_sample_stands_for_its_patient_where_none_is_named(origin: Path) -> None:
    read = geo.read(origin / "geo" / "GSE1_series_matrix.txt", label="stage")
    assert read.samples[["patient_id", "label"]].to_numpy().tolist() == [["GSM1", "II: late"], ["GSM3", "I"]]


def test_geo_gene_is_the_mean_of_its_probes(origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("geo", origin, out, "--probes", str(origin / "geo" / "probes.csv"))
    expression, _ = written(out)
    assert list(expression) == ["DDR1", "HSPA6|3310"]
    np.testing.assert_array_equal(expression, np.array([[2, 5], [2, 6.5], [np.nan, 7]], np.float32))
    genes = pd.read_csv(out / "genes.csv", dtype=str, keep_default_na=False)
    assert genes.to_numpy().tolist() == [["DDR1", "DDR1", ""], ["HSPA6|3310", "HSPA6", "3310"]]
    assert "dropped 1 probes of several genes: 'AFFX_1'" in capsys.readouterr().out


SERIES = "GSE1_series_matrix.txt"
GEO_FAULTS: dict[str, tuple[Damage, str]] = {
    "no file": (lambda o: next(o.rglob(SERIES)).unlink(), "no such file"),
    "no table": (change(SERIES, "!series_matrix_table_begin", "!"), "has no !series_matrix_table_begin"),
    "no accessions": (change(SERIES, "!Sample_geo_accession", "!Sample_other"), "has no line !Sample_geo_accession"),
    "cut short": (change(SERIES, "!series_matrix_table_end", ""), "has no !series_matrix_table_end; it is cut short"),
    "no values": (
        put(SERIES, GEO[: GEO.index('"1007')].encode() + b"!series_matrix_table_end\n"),
        "has no values; RNA",
    ),
    "another table": (change(SERIES, "ID_REF", "ID"), "the first column must be ID_REF, it is 'ID'"),
    "other samples": (change(SERIES, '"ID_REF"\t"GSM1"', '"ID_REF"\t"GSM7"'), "'GSM1', 'GSM7' stands in one alone"),
    "another order": (
        change(SERIES, '"ID_REF"\t"GSM1"\t"GSM2"', '"ID_REF"\t"GSM2"\t"GSM1"'),
        "they stand in another order",
    ),
    "key missing": (
        lambda o: [change(SERIES, "tissue", "organ")(o) for _ in range(3)],
        "no characteristic 'tissue'; they have age .*, organ .'lung', 'liver'., patient",
    ),
    "key twice": (change(SERIES, "patient: P1", "tissue: skin"), "GSM1 has two values of 'tissue': 'lung' and 'skin'"),
    "no label at all": (
        lambda o: [change(SERIES, value, "tissue: NA")(o) for value in ("tissue: lung",) * 2 + ("tissue: liver",)],
        "no sample has a known value of 'tissue'",
    ),
    "short line": (change(SERIES, '\t"four"', ""), "the line !Sample_title has 3 values for 4 samples"),
    "probe twice": (change(SERIES, "1053_at", "117_at"), "rows 2, 3: '117_at' stands twice"),
    "no number": (change(SERIES, "6.5", "P"), "column GSM2, row 3: 'P' is no finite number"),
}


@pytest.mark.parametrize(("damage", "says"), GEO_FAULTS.values(), ids=GEO_FAULTS.keys())
def test_geo_that_is_not_the_layout_is_refused_and_nothing_is_written(
    damage: Damage, says: str, origin: Path, out: Path
) -> None:
    damage(origin)
    with pytest.raises(UserError, match=says):
        run("geo", origin, out)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("probe,gene\nx,TP53\n", "maps no probe of GSE1_series_matrix.txt"),
        ("name,gene\nx,TP53\n", "column probe: the column is missing"),
        ("probe,gene\n117_at,TP53\n117_at,EGFR\n", "1 probes of several genes"),
    ],
)
def test_geo_with_probes_of_something_else_is_refused(table: str, says: str, origin: Path, out: Path) -> None:
    (origin / "geo" / "probes.csv").write_text(table)
    with pytest.raises(UserError, match=says):
        run("geo", origin, out, "--probes", str(origin / "geo" / "probes.csv"))
    assert not out.parent.exists()


# UCI.


@pytest.mark.parametrize("block", [1, 10_000])
def test_uci_joins_labels_by_name_and_a_sample_is_its_patient(block: int, origin: Path, out: Path) -> None:
    write_expression(uci.read(origin / "uci", block=block), out)
    expression, samples = written(out)
    values = [[0, 2.017209, 3.265527], [0, 0.592732, np.nan], [1, 2, 3]]
    np.testing.assert_array_equal(expression, np.array(values, np.float32))
    assert list(expression) == ["gene_0", "gene_1", "gene_2"]
    assert samples["label"].tolist() == ["PRAD", "LUAD", "KIRC"]
    assert samples["patient_id"].tolist() == samples.index.tolist() == ["sample_0", "sample_1", "sample_2"]
    assert sorted(path.name for path in out.iterdir()) == ["expression.parquet", "samples.csv"]


UCI_FAULTS: dict[str, tuple[Damage, str]] = {
    "no folder": (lambda o: (o / "uci").rename(o / "other"), "no such folder"),
    "no labels": (lambda o: next(o.rglob("labels.csv")).unlink(), "no folder in it holds data.csv and labels.csv"),
    "unknown class": (change("labels.csv", "LUAD", "LUSC"), "labels.csv, column Class: 'LUSC' is none of BRCA"),
    "no class": (change("labels.csv", "LUAD", ""), "'no label' is none of BRCA"),
    "sample without a label": (
        change("labels.csv", "sample_1,LUAD\n", ""),
        "'sample_1': stands in one of data.csv and",
    ),
    "label without a sample": (change("data.csv", "sample_2,1,2,3\n", ""), "'sample_2': stands in one of data.csv and"),
    "sample twice": (change("data.csv", "sample_2", "sample_1"), "rows 2, 3: 'sample_1' stands twice"),
    "gene twice": (change("data.csv", "gene_1", "gene_0"), "column gene_0: the column stands twice"),
    "another first column": (change("data.csv", ",gene_0", "id,gene_0"), "must be unnamed .* it is 'id'"),
    "no number": (change("data.csv", "0.592732", "x"), "data.csv, column gene_1, row 2: 'x' is no finite number"),
}


@pytest.mark.parametrize(("damage", "says"), UCI_FAULTS.values(), ids=UCI_FAULTS.keys())
def test_uci_that_is_not_the_layout_is_refused_and_nothing_is_written(
    damage: Damage, says: str, origin: Path, out: Path
) -> None:
    damage(origin)
    with pytest.raises(UserError, match=says):
        run("uci", origin, out)
    assert not out.parent.exists()


# Matrices and folders in general.


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
    separator = data.draw(st.sampled_from(["\t", ","]))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    keep = np.array([data.draw(st.booleans()) for _ in range(columns)])
    lines = [f"g{number}{separator}{separator.join(row)}{end}".encode() for number, row in enumerate(table)]
    names = [f"s{number}" for number in range(columns)]
    block = data.draw(st.integers(1, 200))
    genes, values = read_rows(lines, names, "m", separator=separator.encode(), keep=keep, block=block)
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
    lines = [f"g{number}\t{chr(9).join(cells)}\n".encode() for number, cells in enumerate(table)]
    with pytest.raises(DataError) as error:
        read_rows(lines, [f"s{number}" for number in range(columns)], "m", block=data.draw(st.integers(1, 60)))
    (finding,) = error.value.findings
    assert (finding.column, finding.rows) == (f"s{column}", (row + 1,))


def test_a_byte_order_mark_quotes_and_empty_lines_do_not_matter() -> None:
    lines = iter([b'\xef\xbb\xbf"sample"\t"A"\t"B"\r\n', b"\r\n", b'"G1"\t"1"\t2\r\n', b"\n"])
    columns, _ = read_header(lines, "m", ["sample"])
    genes, values = read_rows(lines, columns, "m")
    assert (columns, genes, values.tolist()) == (["A", "B"], ["G1"], [[1, 2]])


def test_names_of_genes_are_split() -> None:
    table = gene_table(["TP53|7157", "?|10", "EGFR", "1956", "ENSG00000146648"]).to_numpy().tolist()
    assert [row[1:] for row in table] == [["TP53", "7157"], ["", "10"], ["EGFR", ""], ["", "1956"], ["", ""]]


@pytest.mark.parametrize(
    ("barcode", "says"),
    [
        ("TCGA-OR-A5J1-01A-11R-A29S-07", ("TCGA-OR-A5J1", 1)),
        ("TCGA-02-0001-11", ("TCGA-02-0001", 11)),
        ("TCGA-OR-A5J1", None),
        ("TCGA-OR-A5J1-01A-", None),
        ("TCGA-OR-A5J1-1", None),
        ("TARGET-10-PAPPZS-09", None),
        ("tcga-or-a5j1-01", None),
    ],
)
def test_barcodes_tell_patient_and_sample_type(barcode: str, says: tuple[str, int] | None) -> None:
    assert tcga(barcode) == says


def expression(ids: list[str], genes: list[str]) -> Expression:
    samples = pd.DataFrame({"sample_id": ids, "patient_id": ids, "label": "A"})
    return Expression(np.ones((len(ids), len(genes)), np.float32), genes, samples)


@pytest.mark.parametrize(
    ("ids", "genes", "says"),
    [
        (["a", "a"], ["g"], "'a': the sample stands twice"),
        (["a", "b"], ["g", "g"], "'g': the gene stands twice"),
        (["a"], ["sample_id"], "'sample_id': the gene stands twice"),
        (["a", ""], ["g"], "a sample has no name"),
        (["a"], [""], "a gene has no name"),
        ([], ["g"], "there is nothing to write"),
        (["a"], [], "there is nothing to write"),
    ],
)
def test_names_that_cannot_be_told_apart_are_not_written(
    ids: list[str], genes: list[str], says: str, out: Path
) -> None:
    with pytest.raises(UserError, match=says):
        write_expression(expression(ids, genes), out)
    assert not out.parent.exists()


def test_values_that_are_not_of_the_tables_are_a_mistake_of_the_program(out: Path) -> None:
    wrong = Expression(np.ones((2, 1), np.float32), ["g"], expression(["a"], ["g"]).samples)
    with pytest.raises(ValueError, match=r"\(2, 1\) values of 1 samples and 1 genes"):
        write_expression(wrong, out)


@pytest.mark.parametrize("known", [True, False])
def test_a_disk_that_is_full_leaves_nothing(known: bool, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(where)) if known else OSError("No space left on device")

    monkeypatch.setattr(expression_folder.pyarrow.parquet, "write_table", full)
    with pytest.raises(UserError, match=r"No space left on device; nothing was written to .*set"):
        write_expression(expression(["a"], ["g"]), out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("layout", ["pancan", "xena", "geo", "uci"])
def test_what_is_there_is_not_written_over(layout: str, origin: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "mine.csv").write_text("mine")
    with pytest.raises(UserError, match="is there already; name a new folder"):
        run(layout, origin, out)
    assert [path.name for path in out.iterdir()] == ["mine.csv"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["uci", "--label", "x"], "--label: uci takes none"),
        (["pancan", "--probes", "x"], "--probes: pancan takes none"),
        (["geo", "--samples", "x", "--label", "x"], "--samples: geo takes none"),
        (["pbc", "--patient", "x"], "--patient: pbc takes none"),
        (["geo"], "--label: geo needs it"),
        (["xena"], "--samples: xena needs it"),
        (["uci", "--test"], "--test: uci has no official test images"),
    ],
)
def test_options_of_other_layouts_are_refused(arguments: list[str], says: str, tmp_path: Path, out: Path) -> None:
    with pytest.raises(UserError, match=says):
        main(["--from", str(tmp_path), "--out", str(out), "--layout", *arguments])


def test_command_writes_and_refuses_with_a_line(origin: Path, out: Path) -> None:
    command = [sys.executable, "-m", "pipelines.sources", "--layout", "uci", "--from", str(origin / "uci")]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 samples (1 KIRC, 1 LUAD, 1 PRAD) of 3 genes; next: make data" in done.stdout
    again = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, cwd=ROOT)
    assert (again.returncode, again.stderr) == (1, f"error: {out}: is there already; name a new folder, or remove it\n")


def test_bench_of_the_reader_runs_small(capsys: pytest.CaptureFixture[str]) -> None:
    bench.pancan_reader(genes=20, samples=15)
    assert "PanCanAtlas matrix of 20 x 15" in capsys.readouterr().out
