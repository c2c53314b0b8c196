"""Official drug-response files, also as people have them, become a valid raw folder, or are refused."""

import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, UserError
from pipelines.sources import drug_response, omics_table, tables
from pipelines.sources.__main__ import main
from pipelines.sources.cell_line_names import (
    AMBIGUOUS,
    CONTRADICTED,
    UNKNOWN,
    CellLine,
    CellLineNames,
    identifier,
    identifiers_of,
    ids_of,
)
from pipelines.sources.depmap import read_matrix, read_models
from pipelines.sources.drug_annotation import annotate, drug_keys, read_smiles
from pipelines.sources.gdsc import GIVEN, lines_of, read_response
from pipelines.sources.response_folder import ResponseFolder
from pipelines.text_values import folded
from pipelines.units import CopyNumberScale
from pipelines.validate import validate_folder
from tests.pipelines import drug_response_files as files
from tests.pipelines.damages import Damage, cell, change, edited, put, rewrite
from tests.pipelines.drug_response_files import CERTAIN, COPY_NUMBER, DRUGS, EXPRESSION, GENES, HOTSPOT, SCREENED
from tests.pipelines.response_tables import NAME, shipped_task

R1, R2 = "GDSC1_fitted_dose_response_27Oct23.xlsx", "GDSC2_fitted_dose_response_27Oct23.csv"
X, CN = "OmicsExpressionTPMLogp1HumanProteinCodingGenes.csv", "OmicsCNGeneWGS.csv"
MUT, BETA, MODEL = "OmicsSomaticMutationsMatrixHotspot.csv", "Methylation_subsetted.csv", "Model.csv"
ALL = (R2, MODEL, X, CN, MUT)
RRBS, COMPOUNDS = "CCLE_RRBS_TSS1kb_20181022.txt.gz", "screened_compounds_rel_8.5.csv"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold GDSC's files in ``gdsc``, DepMap's newer and older ones in ``new`` and ``old``, the CCLE's in ``ccle``.

    Beside it, ``release`` holds the responses of GDSC2 and DepMap's newer files.
    """
    folder = tmp_path_factory.mktemp("drugs") / "downloads"
    for name in ("gdsc", "new", "old", "ccle"):
        (folder / name).mkdir(parents=True)
        getattr(files, f"write_{name}")(folder / name)
    (folder / "smiles.csv").write_text(files.SMILES)
    release = shutil.copytree(folder / "new", folder.with_name("release"))
    for path in (folder / "gdsc" / R2, folder / "smiles.csv"):
        shutil.copy(path, release)
    return folder


@pytest.fixture
def origin(downloads: Path, tmp_path: Path) -> Path:
    return shutil.copytree(downloads, tmp_path / "origin")


@pytest.fixture
def release(downloads: Path, tmp_path: Path) -> Path:
    return shutil.copytree(downloads.with_name("release"), tmp_path / "release")


@pytest.fixture(scope="module")
def expected(downloads: Path) -> ResponseFolder:
    return read(downloads.with_name("release"))


def run(out: Path, origin: Path | list[Path], *more: object) -> None:
    paths = origin if isinstance(origin, list) else [origin]
    main(["--layout", "gdsc", "--out", str(out), "--from", *map(str, paths), *map(str, more)])


def unmatched(out: Path, columns: str, **where: object) -> Any:
    """Return columns of the rows of ``unmatched.csv`` that have certain cells; ``lost`` is whether they lost rows."""
    left = pd.read_csv(out / "unmatched.csv", keep_default_na=False).assign(lost=lambda table: table["rows_lost"] > 0)
    for column, value in where.items():
        left = left[left[column] == value]
    return left[columns.split()].to_numpy().tolist()


def findings(out: Path, *omics: Literal["expression", "mutation", "copy_number", "methylation"]) -> list[str]:
    task = shipped_task()
    validation = validate_folder(out, NAME, replace(task, data=replace(task.data, omics=omics)))
    assert validation.counts["rows"]["response.parquet"] > 0
    return [str(finding) for finding in validation.findings]


def table(out: Path, omics: str) -> pd.DataFrame:
    return pd.read_parquet(out / f"{omics}.parquet").set_index("cell_line_id")


def assert_values(out: Path, lines: list[str], **expected: pd.DataFrame) -> None:
    for omics, values in expected.items():
        found = table(out, omics)
        assert set(found.index) == set(lines)
        np.testing.assert_allclose(found.loc[lines, values.columns], values.loc[lines], rtol=2e-6, atol=2e-6)


# The whole way.


def test_newer_files_become_a_valid_raw_folder(origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(origin / "old")
    run(out, origin, "--smiles", origin / "smiles.csv")
    assert findings(out, "expression", "mutation", "copy_number", "methylation") == []
    kept = shipped_task().read(out)
    assert len(kept.samples) == 6 * 8 and kept.counts["rows"]["dropped"]["without_expression"] == 6

    response = pd.read_parquet(out / "response.parquet")
    measured = [model for model in CERTAIN if model != "ACH-000105"]
    lines = [*measured, "COSMIC-900105"]  # by GDSC's own details: its name is an alias that the newer table lacks
    assert set(response["cell_line_id"]) == set(lines)
    assert response.groupby("study").size().to_dict() == {study: 3 * len(lines) for study in DRUGS}
    assert set(response["drug_id"]) == {f"{study}:{drug[0]}" for study, drugs in DRUGS.items() for drug in drugs}
    sites = files.METHYLATION.copy()
    for model, site in (("ACH-000101", 1), ("ACH-000101", 2), ("ACH-000102", 3)):
        sites.loc[model, sites.columns[site]] = np.nan
    assert_values(out, measured, methylation=sites, expression=EXPRESSION, copy_number=COPY_NUMBER, mutation=HOTSPOT)
    for omics, kind in (("mutation", "int8"), ("expression", "float32")):
        assert {str(each) for each in table(out, omics).dtypes} == {kind}

    assert unmatched(out, "identifier kind rows_lost reason candidates", file=R2, lost=True) == [
        ["SIDM00106 (Zeta)", "sanger_model_id", 3, AMBIGUOUS, "ACH-000106;ACH-000107"],
        ["SIDM00108 (Theta)", "sanger_model_id", 3, CONTRADICTED, "ACH-000108"],
        ["SIDM00999 (Omega)", "sanger_model_id", 3, UNKNOWN, ""],
    ]
    assert sum(row for (row,) in unmatched(out, "rows_lost")) == 2 * 3 * 3 == 2 * len(SCREENED) * 3 - len(response)
    said = capsys.readouterr().out
    assert f"{R1}: {UNKNOWN}: 1 ('SIDM00999 (Omega)'); 3 rows lost" in said
    assert f"{X}: without a certain response: 5 ('ACH-0001" in said
    assert "54 responses (27 of GDSC1, 27 of GDSC2), 9 cell lines, 6 drugs; expression 8 x 6, mutation 8 x 6" in said
    assert "copy_number: relative copy numbers; the file's scale is relative" in said


def test_older_files_give_the_same_omics_and_synonyms_find_their_line(origin: Path, out: Path) -> None:
    shutil.rmtree(origin / "new")
    run(out, origin)
    assert findings(out, "expression", "mutation", "copy_number") == []
    assert set(pd.read_parquet(out / "response.parquet")["cell_line_id"]) == set(CERTAIN)
    assert_values(out, CERTAIN, expression=EXPRESSION, copy_number=COPY_NUMBER, mutation=HOTSPOT)
    lines = pd.read_csv(out / "cell_lines.csv", dtype=str, keep_default_na=False).set_index("cell_line_id")
    assert list(lines.loc["ACH-000105", ["name", "tissue", "cosmic_id", "tcga_code"]]) == [
        *("Delta:5", "Skin", "900105", "LUAD")  # the COSMIC id is of GDSC's details, the tissue is DepMap's
    ]
    assert list(lines.loc["ACH-000101"]) == [
        *("Alpha-1", "Lung", "Cancer of Lung", "LUAD", "ACH-000101", "SIDM00101", "900101", "ALPHA1_LUNG")
    ]


def test_files_of_the_ccle_give_the_same_omics(origin: Path, out: Path) -> None:
    rest = pd.DataFrame(np.random.default_rng(5).uniform(0, 99, (len(files.LINES), 10_000)), EXPRESSION.index)
    linear = pd.concat([2**EXPRESSION - 1, rest.add_prefix("OTHER")], axis=1)
    tpm = linear.mul(1e6 / linear.sum(axis=1), axis=0)
    ids = [f"ENSG{number:011d}.4" for number in range(linear.shape[1])]
    rows = [f"{gene},{ensembl[:-2]}\n" for gene, ensembl in zip(GENES, ids, strict=False)]
    (origin / "genes.csv").write_text("gene,ensembl\n" + "".join(rows))
    lead: dict[str, object] = {"EGID": list(GENES.values()), "SYMBOL": list(GENES), "CHR": "1", "CHRLOC": 1}
    copies = files.by_feature(COPY_NUMBER.apply(np.log2), lead | {"CHRLOCEND": 9})
    copies.to_csv(origin / "copies.txt", sep="\t", index=False)
    told = ["--models", origin / "old" / "sample_info.csv", "--genes", origin / "genes.csv"]
    told += ["--copy-number", origin / "copies.txt", "--expression", origin / "rsem.txt"]
    for count in (len(ids), 6):  # TPM of some genes are not scaled to a million
        lead = {"gene_id": ids[:count], "transcript_ids": ["ENST1,ENST2"] * count}
        files.by_feature(tpm.iloc[:, :count], lead).to_csv(origin / "rsem.txt", sep="\t", index=False)
        run(found := out.with_name(str(count)), [origin / "gdsc" / R1, origin / "gdsc" / R2], *told)
        assert findings(found, "expression", "copy_number") == []
        expected = (tpm[list(GENES)] + 1).apply(np.log2)
        assert_values(found, CERTAIN, expression=expected, copy_number=COPY_NUMBER)


def test_gdsc_alone_makes_a_raw_folder_whose_tissues_are_its_own(origin: Path, out: Path) -> None:
    run(out, [origin / "gdsc" / R2])
    lines = pd.read_csv(out / "cell_lines.csv", keep_default_na=False).set_index("cell_line_id")
    assert set(lines.index) == {sanger for sanger, *_ in SCREENED}
    assert lines["tissue"].to_dict() == {each: "" if each == "SIDM00999" else "LUAD" for each in lines.index}
    assert len(pd.read_parquet(out / "response.parquet")) == 3 * len(SCREENED)


# The response.


def test_a_table_read_in_blocks_is_whole_and_counts_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    files.response_rows("GDSC2").to_csv(path, index=False)
    whole = read_response([path])
    monkeypatch.setattr(tables, "BLOCK_ROWS", 7)
    pd.testing.assert_frame_equal(read_response([path]), whole)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:20], f"{lines[20]},more", *lines[21:]]))
    with pytest.raises(DataError, match=r"a\.csv, row 20: has 20 fields, the header 19"):
        read_response([path])


# Drugs.


def test_drugs_have_what_compounds_and_structures_tell(origin: Path, out: Path) -> None:
    gdsc = origin / "gdsc"
    run(out, [gdsc / R1, gdsc / R2], "--compounds", gdsc / COMPOUNDS, "--smiles", origin / "smiles.csv")
    drugs = pd.read_csv(out / "drugs.csv", keep_default_na=False).set_index("drug_id")
    assert list(drugs.loc["GDSC1:7", ["name", "synonyms", "target"]]) == ["Inventib", "INV-7, Inventinib", "GENE1"]
    assert list(drugs.loc["GDSC1:8", ["target", "pathway"]]) == ["GENE2", "Signals"]  # of the compounds alone
    assert drugs["smiles"].to_dict() == {
        "GDSC1:7": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",  # by name, but for case and spaces
        "GDSC1:8": "CC(=O)Oc1ccccc1C(=O)O",  # by its whole id
        "GDSC1:9": "",
        "GDSC2:7": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
        "GDSC2:1011": "C1CCCCC1",  # by its number
        "GDSC2:1012": "",
    }
    assert unmatched(out, "identifier reason", kind="drug") == [
        ["GDSC1:9", "not among the screened compounds"],
        ["GDSC1:9", "no SMILES"],
        ["GDSC2:1012", "no SMILES"],
    ]


# Cell lines.


OF_BETA = ("ACH-000102", "SIDM00102", "900102", "BETA2_BREAST", "BETA2_BREAST (ACH-000102)", "beta-2")
MATCHES: list[tuple[dict[str, str], str, str]] = [  # the last are the ends of models' identifiers
    *((identifiers_of(text), "", "102") for text in OF_BETA),
    *(({"name": "d5"}, "", "105"), ({"name": "GG"}, "", "104")),  # a synonym; as it is written, before what is stripped
    *((identifiers_of("GG_OESOPHAGUS"), "", "103"), ({"name": "g g"}, AMBIGUOUS, "103 104")),
    *(({"name": "GG", "cosmic_id": "900103"}, "", "103"), ({"name": "GG", "cosmic_id": "1"}, CONTRADICTED, "104")),
    ({"name": "GG", "depmap_id": "ACH-000104", "cosmic_id": "900103"}, CONTRADICTED, "103 104"),
    *(({"cosmic_id": "900106"}, AMBIGUOUS, "106 107"), ({"cosmic_id": "900106", "name": "zeta b"}, "", "107")),
    ({"cosmic_id": "900106", "name": "Theta"}, AMBIGUOUS, "106 107"),
    *(({"name": "Kappa", "cosmic_id": "1"}, "", "110"), (identifiers_of("BETA2_SKIN"), CONTRADICTED, "102")),
    *(({"name": "Sigma"}, UNKNOWN, ""), ({"name": "-"}, UNKNOWN, ""), ({}, UNKNOWN, "")),
]


def test_a_cell_line_is_found_by_any_identifier_and_taken_for_no_other(tmp_path: Path) -> None:
    files.models(old=True).to_csv(tmp_path / "models.csv", index=False)
    names = CellLineNames()
    assert names.add(read_models(tmp_path / "models.csv")) == {}
    for identifiers, reason, models in MATCHES:
        match, candidates = names.match(identifiers), tuple(f"ACH-000{model}" for model in models.split())
        assert match.reason == reason, identifiers
        assert (match.candidates if reason else (match.line_id,)) == candidates, identifiers


def test_two_columns_of_a_matrix_that_fit_one_line_are_both_left_out(origin: Path, out: Path) -> None:
    frame = files.by_model(EXPRESSION, old=True)
    twin = frame.iloc[[0]].assign(**{"": "ALPHA1_LUNG"})
    pd.concat([frame, twin]).to_csv(origin / "twice.csv", index=False)
    gdsc = origin / "gdsc" / R2
    run(out, [gdsc], "--models", origin / "old" / "sample_info.csv", "--expression", origin / "twice.csv")
    assert set(table(out, "expression").index) == set(CERTAIN) - {"ACH-000101"}
    assert unmatched(out, "identifier candidates", file="twice.csv", lost=True) == [
        ["ACH-000101", "ACH-000101"],
        ["ALPHA1_LUNG", "ACH-000101"],
    ]


few = st.sampled_from(["", "1", "2", "3"])
given_ids = st.fixed_dictionaries(
    {"sanger_model_id": few, "cosmic_id": few, "name": st.sampled_from(["", "A-1", "A1", "B"])}
)


@settings(deadline=None)
@given(st.lists(given_ids, max_size=6), given_ids, st.randoms())
def test_a_match_is_the_same_in_any_order_and_never_contradicts(
    rows: list[dict[str, str]], wanted: dict[str, str], random: object
) -> None:
    kinds = ("sanger_model_id", "cosmic_id")
    lines = [CellLine(f"L{n}", (row["name"],), ids_of({k: row[k] for k in kinds})) for n, row in enumerate(rows)]
    names, again = CellLineNames(), CellLineNames()
    names.add(lines)
    match = names.match(wanted)
    random.shuffle(lines)  # type: ignore[attr-defined]
    again.add(lines)
    assert again.match(wanted) == match
    fits = [line for line in lines if not line.contradicts(wanted)]
    by_id = [line.line_id for line in fits if any(wanted[kind] in line.ids.get(kind, ()) for kind in kinds)]
    if match.line_id is not None:
        assert match.line_id in {line.line_id for line in fits}
        assert match.by != "identifier" or match.line_id in by_id
    else:
        assert len(by_id) != 1


# Matrices.


def test_genes_are_chosen_and_those_that_the_file_lacks_are_listed(origin: Path, out: Path) -> None:
    (origin / "genes.csv").write_text("gene\nGENE2\nGENE-6,kinase\n")
    with pytest.raises(DataError, match="row 2: has 2 fields, the header 1"):
        run(out, origin / "gdsc", *named(origin), "--genes", origin / "genes.csv")
    (origin / "genes.csv").write_text("gene;\nGENE2;\nGENE-6;\nGENE9;\n")
    run(out, origin / "gdsc", *named(origin), "--genes", origin / "genes.csv")
    assert list(table(out, "expression").columns) == ["GENE2", "GENE-6"]
    assert unmatched(out, "identifier file", kind="gene") == [["GENE9", X], ["GENE9", MUT], ["GENE9", CN]]


def named(origin: Path) -> list[object]:
    options = {"models": MODEL, "expression": X, "copy-number": CN, "mutation": MUT}
    return [part for option, file in options.items() for part in (f"--{option}", origin / "new" / file)]


def test_expression_and_copy_number_get_the_same_genes_that_were_measured(origin: Path, out: Path) -> None:
    expression = files.by_model(EXPRESSION, old=False)
    expression["GENE1 (11)"] = 0.0
    expression.drop(columns="GENE2 (22)").to_csv(origin / "new" / X, index=False)
    run(out, origin / "gdsc", *named(origin))
    assert findings(out, "expression", "mutation", "copy_number") == []
    kept = ["GENE3", "GENE4", "GENE5", "GENE-6"]
    assert list(table(out, "expression").columns) == list(table(out, "copy_number").columns) == kept
    assert list(table(out, "mutation").columns) == list(GENES)
    assert unmatched(out, "identifier file reason", kind="feature") == [
        ["GENE1", X, "0 in all cell lines, or no value"],
        ["GENE1", CN, "not in the table of expression"],
        ["GENE2", CN, "not in the table of expression"],
    ]


def test_a_row_that_is_left_out_may_still_be_where_the_file_is_cut(tmp_path: Path) -> None:
    text = files.by_model(EXPRESSION, old=False).to_csv(index=False).rstrip()
    (tmp_path / "m.csv").write_text(text.rpartition(",")[0])
    with pytest.raises(DataError, match=r"m\.csv, row 14: has 5 values, the header names 6; the file may be"):
        read_matrix(tmp_path / "m.csv", ["ACH-000101"].__contains__, omics_table.GeneList())


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("variants", ["hotspot", "damaging", "any"])
def test_what_counts_as_a_mutation_is_chosen(old: bool, variants: str, origin: Path, out: Path) -> None:
    calls = files.calls(old=old)
    if not old:  # with those of a run that is not the model's default
        calls = pd.concat([calls, calls.assign(IsDefaultEntryForModel="No", Hotspot=True, HugoSymbol="GENE2")])
    calls.to_csv(origin / "calls.csv", index=False)
    where = ["--models", origin / "old" / "sample_info.csv", "--mutation", origin / "calls.csv"]
    run(out, [origin / "gdsc" / R2], *where, "--variants", variants)
    wanted = HOTSPOT * (variants != "damaging")
    if variants != "hotspot":
        wanted.loc["ACH-000101"] = 1
    assert_values(out, CERTAIN, mutation=wanted)


# What is refused.


def taken_from(file: str, other: str) -> Damage:
    return lambda origin: shutil.copyfile(next(origin.rglob(other)), next(origin.rglob(file)))


def archive_of_two(origin: Path) -> None:
    with zipfile.ZipFile(next(origin.rglob(R1)), "w") as archive:
        for name in ("a.csv", "b/c.csv"):
            archive.writestr(name, "a,b")


def unclosed(text: bytes) -> bytes:
    """Return a table with a last column more, and a quotation mark there in the last two rows."""
    return text.replace(b"\n", b",x\n")[::-1].replace(b"\nx", b'\nx"', 2)[::-1]


HTML = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
FAULTS: dict[str, tuple[Damage, str]] = {
    "no response": (lambda o: shutil.rmtree(o / "gdsc"), "holds no file named GDSC"),
    "a page, not a response": (put(R2, HTML), rf"{R2}: is a web page, XML or an error message; download"),
    "cut gzip": (rewrite(RRBS, lambda text: text[: len(text) // 2]), "RRBS.*: the compressed file is broken or cut"),
    "an archive of two": (archive_of_two, r"holds 2 tables \('a\.csv', 'b/c\.csv'\).*unpack"),
    "a workbook as matrix": (taken_from(X, R1), "is a workbook, .*; save its sheet as csv"),
    "no text": (put(MODEL, b"Mo\x00\x01\x02"), r"Model\.csv: is no text"),
    "no drug of SMILES": (put("smiles.csv", b"smiles\nCCO\n"), "column drug_id: one of drug_id, pubchem_id, name must"),
    "another kind of the CCLE": (taken_from(X, RRBS), "holds methylation of the CCLE, and is given as expression"),
    "mutations as expression": (taken_from(X, MUT), "all values are whole, .* give the file of log2"),
    "no layout of the CCLE": (put(RRBS, b"a\tb\tc\nx\t1\t2\n"), "a methylation file of the CCLE begins with locus_id"),
    "no column": (change(R2, "LN_IC50", "IC50"), "column ln_ic50: .* the natural logarithm of the IC50"),
    "not a number": (cell(R2, 2, "LN_IC50", "low"), rf"{R2}, column LN_IC50, row 2: is no finite .*\(found 'low'\)"),
    "no drug": (cell(R2, 1, "DRUG_ID", ""), "column DRUG_ID, row 1: is empty"),
    "quotes that nothing closes": (rewrite(R2, unclosed), "not a readable table"),
    "measured twice": (edited(R2, lambda t: pd.concat([t, t.iloc[[0]].assign(LN_IC50="-1.5")])),
                       rf"{R2}, rows 1, 37: 1 pairs of a cell line and a drug .* GDSC2\|ACH-000101\|GDSC2:7;"),
    "two names of a drug": (cell(R2, 1, "DRUG_NAME", "Other"), r"rows 1, 2: has several names \('Other', 'Inventib'\)"),
    "a model twice": (edited(MODEL, lambda t: pd.concat([t, t.iloc[[1]].assign(COSMICID="")])),
                      "column ModelID, rows 2, 14: has several rows, which differ"),
    "a model's table as matrix": (taken_from(X, MODEL), "must have a column ModelID.*is it DepMap's matrix by model"),
    "column in two cases": (edited(R2, lambda table: table.assign(ln_ic50="3.3")), "column ln_ic50: duplicate column"),
    "RPKM": (lambda o: next(o.rglob(X)).rename(o / "CCLE_RNAseq_genes_rpkm_20180929.gct"), "gct: holds RPKM by its"),
    "no value": (cell(X, 4, "GENE2 (22)", "high"), rf"{X}, column GENE2 \(22\), row 4: 'high' is no finite number"),
    "expression as mutations": (taken_from(MUT, X), "a mutation matrix holds 0, 1 and 2, .* is it the right file"),
    "other genes": (lambda o: (o / "genes.csv").write_text("gene\nX\n"), r"has no feature to keep \(it has 'GENE-6', "),
    "no SMILES": (change("smiles.csv", "C1CCCCC1", "C1CCC("), r"smiles\.csv, column SMILES, row 3: RDKit cannot parse"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_told_and_nothing_is_written(damage: Damage, says: str, origin: Path, out: Path) -> None:
    shutil.rmtree(origin / "old")
    damage(origin)
    genes = ["--genes", origin / "genes.csv"] if (origin / "genes.csv").exists() else []
    with pytest.raises(UserError, match=says):
        run(out, origin, "--smiles", origin / "smiles.csv", *genes)
    assert not out.parent.exists()


LINEAR = 2**EXPRESSION - 1
CCLE_FAULTS: dict[str, tuple[str, pd.DataFrame, str]] = {
    "counts": ("x.txt", LINEAR.round(), "all values are whole, so it"),
    "logarithms": ("x.txt", EXPRESSION, "they seem to be logarithms"),
    "RPKM": ("x_rpkm.txt", LINEAR, "holds RPKM by its name"),
    "too much": ("x.txt", 10_000 * LINEAR, r"TPM add up to about a million .* those of (\d+) of \1 lines"),
    "other lines": ("x.txt", LINEAR.iloc[[12]], "no screened cell line .*'NEVER_OVARY'"),
}


@pytest.mark.parametrize(("file", "values", "says"), CCLE_FAULTS.values(), ids=CCLE_FAULTS.keys())
def test_what_is_wrong_with_a_file_of_the_ccle_is_told(
    file: str, values: pd.DataFrame, says: str, origin: Path, out: Path
) -> None:
    lead = {"gene_id": [f"ENSG{number}" for number in range(6)], "transcript_ids": "ENST1"}
    files.by_feature(values, lead).to_csv(origin / file, sep="\t", index=False)
    models = ["--models", origin / "old" / "sample_info.csv"]
    with pytest.raises(UserError, match=says):
        run(out, [origin / "gdsc" / R2], *models, "--expression", origin / file)
    assert not out.parent.exists()


def read(release: Path, scale: CopyNumberScale | None = None, **named: Path) -> ResponseFolder:
    found = drug_response.find([release], {role: [path] for role, path in named.items()}, [])
    return drug_response.read(found, scale=scale)


def assert_same(found: ResponseFolder, expected: ResponseFolder) -> None:
    places = ["_file", "_row"]
    pd.testing.assert_frame_equal(found.response.drop(columns=places), expected.response.drop(columns=places))
    for kind in ("cell_lines", "drugs"):
        pd.testing.assert_frame_equal(getattr(found, kind), getattr(expected, kind))
    assert list(found.omics) == list(expected.omics)
    for name, table in found.omics.items():
        pd.testing.assert_frame_equal(table.values, expected.omics[name].values, rtol=1e-6)


def to_bytes(change: Callable[[bytes], bytes], *names: str) -> Damage:
    return lambda release: [rewrite(name, change)(release) for name in names or ALL]


def with_commas(text: bytes) -> bytes:
    """Return a csv table as a spreadsheet of central Europe writes it."""
    return re.sub(rb"(?<=[0-9])\.(?=[0-9])", b"\xff", text).replace(b",", b";").replace(b"\xff", b",")


def as_workbook(release: Path) -> None:
    for name in (R2, MODEL):
        files.write_workbook(release / "book.xlsx", {"Sheet1": pd.read_csv(release / name)}).replace(release / name)


def packed(release: Path) -> None:
    for name in ALL:
        with zipfile.ZipFile(release / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(release / name, f"download/{name}")
            for left in (f"__MACOSX/download/._{name}", "download/.DS_Store", "README.txt"):
                archive.writestr(left, "x")
        (release / name).unlink()


WRITTEN: dict[str, Damage] = {
    "decimal commas": to_bytes(with_commas, R2),
    "UTF-16": to_bytes(lambda text: text.decode().encode("utf-16")),
    "UTF-16 without a mark": to_bytes(lambda text: text.decode().encode("utf-16-le")),
    "a byte order mark": to_bytes(lambda text: b"\xef\xbb\xbf" + text),
    "the separator told": to_bytes(lambda text: b"sep=;\n" + text.replace(b",", b";"), R2, X, CN, MUT),
    "a title and semicolons": to_bytes(lambda text: b"Table S1, ours\n\n" + text.replace(b",", b";"), R2),
    "separators at the ends": to_bytes(lambda text: text.replace(b"\n", b",,\n")),
    "quotes": to_bytes(lambda text: re.sub(rb"([^,\n]*)(,|\n)", rb'"\1"\2', text)),
    "zip": packed,
    "semicolons within cells": rewrite(MODEL, lambda text: re.sub(rb"(?m)^(ACH.*)$", rb"\1," + b"TP53;" * 30, text)
                                       .replace(b"\n", b",Genes\n", 1)),
    "a workbook, whatever its name": as_workbook,
    "truth values": lambda release: files.by_model(HOTSPOT == 1, old=False).to_csv(release / MUT, index=False),
    "R's names": to_bytes(lambda text: re.sub(rb" \(([0-9]+)\)", rb"..\1.", text), X, CN, MUT),
    "COSMIC ids of a calculator": to_bytes(lambda text: re.sub(rb",9(0010[0-9]),", rb",9.\1E5,", text), R2),
    "models listed twice": rewrite(MODEL, lambda text: text + text.partition(b"\n")[2]),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_table_means_the_same_however_it_is_written(damage: Damage, release: Path, expected: ResponseFolder) -> None:
    damage(release)
    assert_same(read(release), expected)


def test_sheets_that_hold_curves_are_all_read_and_others_told(tmp_path: Path) -> None:
    one, two = files.response_rows("GDSC1"), files.response_rows("GDSC2")
    note = pd.DataFrame({"About": ["made by hand"]})
    book = files.write_workbook(tmp_path / "GDSC.xlsx", {"about": note, "first": one, "second": two.iloc[:, ::-1]})
    notes: list[str] = []
    found = read_response([book], notes)
    assert found.groupby("study").size().to_dict() == {"GDSC1": len(one), "GDSC2": len(two)}
    assert found["ln_ic50"].tolist() == [*one["LN_IC50"], *two["LN_IC50"]]
    assert len(notes) == 1 and "'about'" in notes[0]
    files.write_workbook(book, {"first": one, "a copy": one})
    with pytest.raises(UserError, match=r"GDSC1 is in .*first and in .*a copy; give each study once"):
        read_response([book])
    files.write_workbook(tmp_path / "Model.xlsx", {"one": files.models(), "two": files.models()})
    with pytest.raises(UserError, match=r"sheet one', '.*sheet two' may be the DepMap table of models"):
        read_models(tmp_path / "Model.xlsx")
    hidden = openpyxl.load_workbook(book)
    hidden["a copy"].sheet_state = "hidden"
    hidden.save(book)
    with pytest.raises(UserError, match="'a copy' is hidden"):
        read_response([book])


COMMAS: dict[str, Callable[[bytes], bytes]] = {
    "tabs": lambda text: with_commas(text).replace(b";", b"\t"),
    "quotes": lambda text: re.sub(rb"(?<=,)(-?[0-9]+)\.([0-9]+)", rb'"\1,\2"', text),
    "points too": lambda text: with_commas(text).replace(b";0,", b";0."),
}


REFUSED_COMMAS = [(name, change) for name in (R2, X) for change in COMMAS.values()]


@pytest.mark.parametrize(("name", "change"), [*REFUSED_COMMAS, (X, with_commas)])
def test_an_ambiguous_comma_and_any_in_a_matrix_is_refused(
    name: str, change: Callable[[bytes], bytes], release: Path
) -> None:
    to_bytes(change, name)(release)
    with pytest.raises(UserError, match=rf"{name}.*decimal comma"):
        read(release)


# Units.


def portal(values: pd.DataFrame) -> pd.DataFrame:
    lead = {"depmap_id": values.index, "cell_line_display_name": "X", "lineage_1": "Lung", "lineage_2": ""}
    return pd.concat([pd.DataFrame(lead, index=values.index), values], axis=1)


ANY_INDEX: Any = {"check_index_type": False, "check_column_type": False, "check_names": False}
RELATIVE = COPY_NUMBER.loc[CERTAIN].drop(index="ACH-000105")  # which the newer table of models does not find
LOG2 = (COPY_NUMBER + 1).apply(np.log2)
PLOIDY = np.linspace(1.6, 4.4, len(COPY_NUMBER))
ABSOLUTE = COPY_NUMBER.mul(PLOIDY / COPY_NUMBER.mean(axis=1).to_numpy(), axis=0)
MATRICES: dict[str, tuple[str, pd.DataFrame, CopyNumberScale | None]] = {
    "the portal's tool": ("Copy_Number_Public_24Q4_subsetted.csv", portal(LOG2), None),
    "until 24Q4": ("OmicsCNGene.csv", files.by_model(LOG2, old=True), None),
    "from 25Q2": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=False), None),
    "cut to models": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=True).rename(columns={"": "ModelID"}), None),
    "told otherwise": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=True), "relative"),
    "log2 ratios, told": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER.apply(np.log2), old=False), "log2_ratio"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "frame", "scale"), MATRICES.values(), ids=MATRICES.keys())
def test_copy_numbers_by_layout(file: str, frame: pd.DataFrame, scale: CopyNumberScale | None, release: Path) -> None:
    (release / CN).unlink()
    frame.to_csv(release / file, index=False)
    found = read(release, scale).omics["copy_number"]
    pd.testing.assert_frame_equal(found.values, RELATIVE.astype(np.float32), rtol=1e-3, atol=1e-3, **ANY_INDEX)


@pytest.mark.parametrize("file", ["Omics_Absolute_CN_Gene_Public_24Q4_subsetted.csv", "OmicsCNGene.csv"])
def test_absolute_copies_become_relative_to_the_mean_of_the_line_in_the_whole_file(file: str, release: Path) -> None:
    (release / CN).unlink()
    files.by_model(ABSOLUTE, old=True).to_csv(release / file, index=False)
    (release / "genes.csv").write_text("gene\nGENE2\nGENE3\n")
    told: CopyNumberScale | None = None if "Absolute" in file else "absolute"
    found = read(release, told, genes=release / "genes.csv").omics["copy_number"]
    relative = ABSOLUTE.div(ABSOLUTE.mean(axis=1), axis=0).loc[RELATIVE.index, ["GENE2", "GENE3"]]
    pd.testing.assert_frame_equal(found.values, relative.astype(np.float32), rtol=1e-6, **ANY_INDEX)
    assert any("mean in the 6 genes of the file" in note for note in found.notes)


def many(values: Callable[[np.random.Generator, int], np.ndarray], genes: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    rows = np.stack([values(rng, genes) for _ in CERTAIN])
    return pd.DataFrame(rows, pd.Index(CERTAIN), [f"G{number}A" for number in range(genes)])


def one_line(values: pd.DataFrame, change: Callable[[pd.Series], pd.Series]) -> pd.DataFrame:
    values = values.copy()
    values.iloc[2] = change(values.iloc[2])
    return values


COPIES = many(lambda rng, n: np.exp(rng.normal(0, 0.35, n)))
LOG_TPM = many(lambda rng, n: np.maximum(rng.normal(4, 3, n), 0))
SHARES = many(lambda rng, n: rng.uniform(0, 1, n))
WRONG: dict[str, tuple[str, pd.DataFrame, str]] = {
    "log2 ratios": (CN, COPIES.apply(np.log2), "never below 0"),
    "log2 ratios of a line": (CN, one_line(COPIES, np.log2), "of 1 lines, 'ACH-000103'.*--copy-number-scale"),
    "TPM": (X, 2**LOG_TPM - 1, "below 20"),
    "counts": (X, (2**LOG_TPM).round(), "counts"),
    "percent": (BETA, 100 * SHARES, "divide by 100"),
    "scores of mutations": (MUT, many(lambda rng, n: rng.integers(0, 9, n)), "0, 1 and 2"),
}
DOUBTFUL: dict[str, tuple[str, pd.DataFrame, str]] = {
    "absolute copies": (CN, 2 * COPIES, "median 2"),
    "log2 of a line": (CN, one_line(COPIES, lambda row: row * 3), "lines that differ from the others, 'ACH-000103'"),
    "decimal logarithms": (X, many(lambda rng, n: np.maximum(rng.normal(1, 1, n), 0), 120), "decimal logarithm"),
    "copies": (CN, COPIES, ""),
    "expression": (X, LOG_TPM, ""),
    "methylation": (BETA, SHARES, ""),
}


def place(frame: pd.DataFrame, file: str, release: Path) -> None:
    by_model = frame.set_axis([f"{gene} ({number})" for number, gene in enumerate(frame, 1)], axis=1)
    table = portal(frame) if file == BETA else by_model.rename_axis("ModelID").reset_index()
    table.to_csv(release / file, index=False)


@pytest.mark.parametrize(("file", "frame", "says"), WRONG.values(), ids=WRONG.keys())
def test_values_of_another_unit_are_refused(file: str, frame: pd.DataFrame, says: str, release: Path) -> None:
    place(frame, file, release)
    few = patch.object(omics_table, "SAMPLED_VALUES", 60)  # of all lines, though a part of the table is looked at
    with few, pytest.raises(UserError, match=rf"{file}.*{says}"):
        read(release)


@pytest.mark.parametrize(("file", "frame", "says"), DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_values_maybe_of_another_unit_alone_are_noted(file: str, frame: pd.DataFrame, says: str, release: Path) -> None:
    place(frame, file, release)
    notes = [note for note in read(release).notes if file in note and re.search(says or "if so|differ", note)]
    assert bool(notes) is bool(says)


def test_a_matrix_whose_layout_tells_no_scale_is_refused(release: Path) -> None:
    for key, says in (("", "must have a column ModelID"), ("depmap_id", r"'depmap_id', .*--copy-number-scale")):
        LOG2.rename_axis(key).reset_index().to_csv(release / CN, index=False)
        with pytest.raises(UserError, match=says):
            read(release)


def test_the_logarithm_of_the_response_is_looked_at(tmp_path: Path) -> None:
    frame = files.response_rows("GDSC2")
    path = tmp_path / "a.csv"
    linear = np.exp(frame["LN_IC50"])
    frame.assign(LN_IC50=linear * 1000).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"a\.csv, column LN_IC50: .*natural logarithm"):
        read_response([path])
    notes: list[str] = []
    frame.assign(LN_IC50=linear.clip(upper=19)).to_csv(path, index=False)
    read_response([path], notes)
    assert any("none is below 0" in note for note in notes)
    for wrong in (9999, -999, 412.5):  # marks for missing, and one linear value among logarithms
        frame.assign(LN_IC50=[-1.5, wrong, *frame["LN_IC50"][2:]]).to_csv(path, index=False)
        with pytest.raises(UserError, match=r"column LN_IC50, row 2: is no logarithm"):
            read_response([path])
    for factor, told in ((1, False), (100, True), (-1, True)):
        notes = []
        frame.assign(AUC=frame["AUC"] * factor).to_csv(path, index=False)
        read_response([path], notes)
        assert any("column AUC" in note for note in notes) == told
    frame.assign(LN_IC50=linear).rename(columns={"LN_IC50": "IC50 (uM)"}).to_csv(path, index=False)
    with pytest.raises(UserError, match="with the natural logarithm of the IC50 in micromolar"):
        read_response([path])


def response(*keys: str) -> pd.DataFrame:
    """Return rows of a response table of the given "Sanger id|COSMIC id|name", each with a drug of its own."""
    frame = pd.DataFrame([key.split("|") for key in keys], columns=[*GIVEN.values()])
    frame.insert(0, "DATASET", "GDSC2")
    return frame.assign(DRUG_ID=range(len(keys)), DRUG_NAME=[f"D{n}" for n in range(len(keys))], LN_IC50=1.5)


TT, KM = "||TT", "||KM-H2"
A, B = "ACH-000001", "ACH-000002"
Rows = list[tuple[str, str, str, str]]
LINES_OF: dict[str, tuple[Rows, list[str], list[str]]] = {
    # rows of the table of models, those of the response, and the line of each
    "punctuation": ([], [TT, "||T.T", KM, "||KMH-2", "||Alpha-1"], ["TT", "T.T", "KM-H2", "KMH-2", "alpha1"]),
    "case and blanks": ([], [TT, "||tt ", "|| T\u00a0T", "||t t"], ["TT", "TT", "T T", "T T"]),
    "COSMIC joins": ([], ["S1|1|A", "|1|A"], ["S1", "S1"]),
    "a name joins no two ids": ([], ["|1|A", "|1|B", "S1||A", "S2||b"], ["COSMIC-1", "COSMIC-1", "S1", "S2"]),
    "a name of two lines": ([], ["S1|1|A", "S2|2|A", "||A"], ["S1", "S2", ""]),
    "a COSMIC id of two lines, and a name": ([], ["S1|1|A", "S2|1|B", "|1|b"], ["S1", "S2", "S2"]),
    "no names": ([], ["S1||n/a", "||n/a", "||Unknown", "||--", "||NA", "S2|0|NA"], ["S1", "", "", "", "", "S2"]),
    "rounded ids": ([], ["|9.06E+05|A", "|9.06E+05|B"], ["a", "b"]),
    "neither as it is written": ([(A, "KMH2", "", ""), (B, "X", "", "")], [KM, "||KMH-2", "||X"], ["", "", B]),
    "an identifier goes before": ([(A, "TT", "S1", "")], ["S1||TT", "||T.T"], [A, ""]),
    "identifiers in other names": ([(A, "TT", "S1", "1;2")], ["S1||MCF-7", "|2|MCF7"], [A, A]),
    "a line called NA": ([(A, "NA", "", ""), (B, "697", "", "")], ["||NA", "||n/a", "||697"], [A, "", B]),
}


@pytest.mark.parametrize(("models", "keys", "lines"), LINES_OF.values(), ids=LINES_OF.keys())
def test_lines_are_told_apart_without_models(models: Rows, keys: list[str], lines: list[str], release: Path) -> None:
    shutil.rmtree(release)
    release.mkdir()
    response(*keys).rename(columns=str.upper).to_csv(release / R2, index=False)
    if models:
        columns = ["ModelID", "CellLineName", "SangerModelID", "COSMICID"]
        pd.DataFrame(models, columns=columns).to_csv(release / MODEL, index=False)
    folder = read(release)
    found = folder.response.set_index("gdsc_drug_id")["cell_line_id"]
    assert any("give --models" in note for note in folder.notes) is (lines == ["COSMIC-1", "COSMIC-1", "S1", "S2"])
    assert [found.get(str(number), "") for number in range(len(keys))] == lines


def test_names_that_differ_in_punctuation_do_not_make_one_of_two_lines() -> None:
    names = CellLineNames()
    names.add([CellLine(A, ("TT",))])
    names.add([CellLine(f"C{n}", (name,), ids_of({"cosmic_id": n})) for n, name in (("1", "TT"), ("2", "T.T"))])
    assert [names.match({"cosmic_id": number}).line_id for number in "12"] == [A, "C2"]
    assert names.match_text("TT").line_id == A
    assert names.match_text("TT_OESOPHAGUS").candidates == (A, "C2")  # a name of the CCLE says no punctuation


written = st.text(st.sampled_from("aAbB1-. /"), min_size=1, max_size=5).filter(lambda name: any(map(str.isalnum, name)))
row_keys = st.tuples(st.sampled_from(["", "S1", "S2"]), st.sampled_from(["", "1", "2"]), written)


@settings(deadline=None)
@given(st.lists(row_keys, min_size=1))
def test_no_row_is_of_two_lines_and_no_line_of_names_that_nothing_joins(keys: list[tuple[str, str, str]]) -> None:
    frame = pd.DataFrame(keys, columns=[*GIVEN.values()]).assign(tcga_desc="")
    lines = lines_of(frame)
    assert len({line.line_id for line in lines}) == len(lines)
    for line in lines:
        sangers, cosmics = (line.ids.get(kind, ()) for kind in ("sanger_model_id", "cosmic_id"))
        assert any(key[0] in sangers or key[1] in cosmics or key[2] in line.names for key in keys)
        assert line.ids or len({folded(name) for name in line.names}) == 1
        assert len(sangers) < 2
    names = CellLineNames()
    names.add(lines)
    for sanger, cosmic, name in keys:
        match = names.match({"sanger_model_id": sanger, "cosmic_id": cosmic, "name": name})
        if sanger and match.line_id:
            assert sanger in names.lines[match.line_id].ids["sanger_model_id"]
        if not sanger and not cosmic and match.line_id:
            assert folded(name) in map(folded, names.lines[match.line_id].names)


def test_an_identifier_is_what_its_place_writes() -> None:
    for kind, meant, *texts in (
        ("cosmic_id", "905940", "905940", "905940.0", " 905940", "0905940", "905,940", "9.0594E5", "9.0594e+05"),
        ("cosmic_id", "", "0", "9.06E+05", "1.24E+06", "9.05944E3"),
        *(("cosmic_id", "905940;1", "905940;1"), ("sanger_model_id", "0012", "0012")),
        ("cosmic_id", "10000000000", "1.0E10", "1E+10", "10000000000"),
        ("cosmic_id", "", "1.0E11", "1E999"),
        ("cosmic_id", "1E99999999999999999999", "1E99999999999999999999"),
        ("sanger_model_id", "SIDM00148", "SIDM00148", "sidm00148", "SIDM00148\u00a0"),
        ("depmap_id", "ACH-000019", "ACH-000019", "ach-000019", "ACH.000019", "ACH_000019"),
    ):
        assert {identifier(kind, text) for text in texts} == {meant}


def test_each_byte_that_is_no_utf_8_is_latin_1_and_the_others_stay(tmp_path: Path) -> None:
    text = "ModelID,CellLineName,OncotreeLineage\nACH-000001,Café,".encode() + b"Pe\xf1a\n"
    (tmp_path / "m.csv").write_bytes(text)
    (line,) = read_models(tmp_path / "m.csv")
    assert (line.names, line.tissue) == (("Café",), "Peña")


# Drugs and genes.


def test_a_drug_never_gets_the_structure_of_its_mirror_image(tmp_path: Path) -> None:
    assert drug_keys("X (+)")[0] == drug_keys("(+)-x")[0] == drug_keys("X ( + )")[0]
    assert len({drug_keys(name)[0] for name in ("X", "X (+)", "X (-)", "X (±)", "(R)-X", "(S)-X")}) == 6
    rows = ["X (+),,C[C@H](O)N", "Y,2.31E3,CCO", "Z,,CC(=O)O", "z,,CC(=O)[O-].[Na+]", "W,,CCO", "W,,CCN", "V,,CC(O)N"]
    (tmp_path / "s.csv").write_text("\n".join(["name,pubchem,smiles", *rows, "V,,C[C@H](O)N", ""]))
    frame = response(*["||A"] * 6).rename(columns=str.lower).rename(columns={"drug_id": "gdsc_drug_id"})
    frame["drug_name"] = ["X (-)", "(+)-X", "Other", "Z", "W", "V"]
    frame = frame.assign(drug_id=frame["gdsc_drug_id"].map("D{}".format), putative_target="", pathway_name="")
    frame["gdsc_drug_id"] = frame["gdsc_drug_id"].astype(str)
    about = {"name": "Other", "synonyms": "", "target": "", "pathway": "", "pubchem_id": "2310.0"}
    compounds = pd.DataFrame(about, index=["2"])
    drugs, unknown = annotate(frame, compounds, read_smiles(tmp_path / "s.csv"))
    assert drugs["smiles"].tolist() == ["", "C[C@H](O)N", "CCO", "CC(=O)O", "", "C[C@H](O)N"]
    assert unknown["several structures in the table of SMILES"] == ["D4"]


def test_genes_that_are_none_or_several_or_changed_are_left_out_and_listed(release: Path) -> None:
    names = dict(zip(GENES, ["1-Mar", "GENE2;GENE7", "---", "GENE4.1", "GENE4", "gene4"], strict=True))
    portal(EXPRESSION.rename(columns=names)).to_csv(release / X, index=False)
    (release / CN).unlink()
    found = read(release).omics["expression"]
    assert found.values.columns.tolist() == ["GENE4.1", "GENE4", "gene4"]
    assert found.dropped == {
        "a spreadsheet made a date or a number of the gene": ["1-Mar"],
        "names several genes": ["GENE2;GENE7"],
        "has no name of its own": ["---"],
    }
