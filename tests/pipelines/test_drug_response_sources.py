"""Official drug-response files must become a valid raw folder: every row under its certain cell line, or listed."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, UserError
from pipelines.sources import matrices, tables
from pipelines.sources.__main__ import main
from pipelines.sources.cell_line_names import (
    AMBIGUOUS,
    CONTRADICTED,
    UNKNOWN,
    CellLine,
    CellLineNames,
    identifiers_of,
    ids_of,
)
from pipelines.sources.depmap import read_matrix, read_models
from pipelines.sources.gdsc import read_response
from pipelines.validate import validate_folder
from tests.pipelines import drug_response_files as files
from tests.pipelines.damages import Damage, again, cell, change, put, rewrite
from tests.pipelines.drug_response_files import (
    CERTAIN,
    COPY_NUMBER,
    DRUGS,
    EXPRESSION,
    GENES,
    HOTSPOT,
    LINES,
    METHYLATION,
    RESPONSE_COLUMNS,
    SCREENED,
)
from tests.pipelines.response_tables import NAME, shipped_task

GDSC1, GDSC2 = "GDSC1_fitted_dose_response_27Oct23.xlsx", "GDSC2_fitted_dose_response_27Oct23.csv"
NEW_EXPRESSION = "OmicsExpressionTPMLogp1HumanProteinCodingGenes.csv"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold GDSC's files in ``gdsc``, DepMap's newer and older ones in ``new`` and ``old``, the CCLE's in ``ccle``."""
    folder = tmp_path_factory.mktemp("downloads")
    files.write_gdsc(folder / "gdsc")
    files.write_new(folder / "new")
    files.write_old(folder / "old")
    (folder / "ccle").mkdir()
    files.write_methylation(folder / "ccle" / "CCLE_RRBS_TSS1kb_20181022.txt.gz")
    (folder / "smiles.csv").write_text(files.SMILES)
    return folder


@pytest.fixture
def origin(downloads: Path, tmp_path: Path) -> Path:
    return shutil.copytree(downloads, tmp_path / "origin")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "set"


def run(out: Path, origin: Path | list[Path], *more: object) -> None:
    paths = origin if isinstance(origin, list) else [origin]
    main(["--layout", "gdsc", "--out", str(out), "--from", *map(str, paths), *map(str, more)])


def unmatched(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "unmatched.csv", keep_default_na=False)


def findings(out: Path, *omics: Literal["expression", "mutation", "copy_number", "methylation"]) -> list[str]:
    task = shipped_task()
    validation = validate_folder(out, NAME, replace(task, data=replace(task.data, omics=omics)))
    assert validation.counts["rows"]["response.parquet"] > 0
    return [str(finding) for finding in validation.findings]


def table(out: Path, omics: str) -> pd.DataFrame:
    return pd.read_parquet(out / f"{omics}.parquet").set_index("cell_line_id")


def assert_values(out: Path, omics: str, expected: pd.DataFrame) -> None:
    found = table(out, omics)
    assert set(found.index) == set(expected.index)
    np.testing.assert_allclose(found.loc[expected.index, expected.columns], expected, rtol=2e-6, atol=2e-6)


# The whole way.


def test_a_folder_of_newer_files_becomes_a_valid_raw_folder_and_tells_what_is_left_out(
    origin: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(origin / "old")
    run(out, origin, "--smiles", origin / "smiles.csv")
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert findings(out, "expression", "mutation", "copy_number", "methylation") == []
    kept = shipped_task().read(out)
    assert len(kept.samples) == 6 * 8 and kept.counts["rows"]["dropped"]["without_expression"] == 6

    response = pd.read_parquet(out / "response.parquet")
    # The name of one line is an alias that the newer table does not tell: it is known by GDSC's own details.
    lines = ["COSMIC-900105" if model == "ACH-000105" else model for model in CERTAIN]
    assert sorted(response["cell_line_id"].unique()) == sorted(lines)
    assert response.groupby("study").size().to_dict() == {study: 3 * len(lines) for study in DRUGS}
    assert set(response["drug_id"]) == {f"{study}:{drug[0]}" for study, drugs in DRUGS.items() for drug in drugs}

    measured = [model for model in CERTAIN if model != "ACH-000105"]
    for omics, values in (("expression", EXPRESSION), ("copy_number", COPY_NUMBER), ("mutation", HOTSPOT)):
        assert_values(out, omics, values.loc[measured])
    sites = METHYLATION.loc[measured].copy()
    for model, site in (("ACH-000101", 1), ("ACH-000101", 2), ("ACH-000102", 3)):
        sites.loc[model, sites.columns[site]] = np.nan
    assert_values(out, "methylation", sites)
    assert {str(kind) for kind in table(out, "mutation").dtypes} == {"int8"}
    assert {str(kind) for kind in table(out, "expression").dtypes} == {"float32"}

    left = unmatched(out)
    lost = left[left["rows_lost"] > 0]
    assert lost[lost["file"] == GDSC2].drop(columns="file").to_numpy().tolist() == [
        ["SIDM00106 (Zeta)", "sanger_model_id", 3, AMBIGUOUS, "ACH-000106;ACH-000107"],
        ["SIDM00108 (Theta)", "sanger_model_id", 3, CONTRADICTED, "ACH-000108"],
        ["SIDM00999 (Omega)", "sanger_model_id", 3, UNKNOWN, ""],
    ]
    assert lost["rows_lost"].sum() == 2 * 3 * 3 == 2 * len(SCREENED) * 3 - len(response)
    said = capsys.readouterr().out
    assert f"{GDSC1}: {UNKNOWN}: 1 ('SIDM00999 (Omega)'); 3 rows lost" in said
    assert f"{NEW_EXPRESSION}: without a certain response: 5 ('ACH-0001" in said
    assert "54 responses (27 of GDSC1, 27 of GDSC2), 9 cell lines, 6 drugs; expression 8 x 6, mutation 8 x 6" in said
    assert "copy_number: relative copy numbers; the file's scale is relative" in said


def test_older_files_give_the_same_omics_and_synonyms_find_their_line(origin: Path, out: Path) -> None:
    shutil.rmtree(origin / "new")
    run(out, origin)
    assert findings(out, "expression", "mutation", "copy_number") == []
    assert set(pd.read_parquet(out / "response.parquet")["cell_line_id"]) == set(CERTAIN)
    for omics, values in (("expression", EXPRESSION), ("copy_number", COPY_NUMBER), ("mutation", HOTSPOT)):
        assert_values(out, omics, values.loc[CERTAIN])
    lines = pd.read_csv(out / "cell_lines.csv", dtype=str, keep_default_na=False).set_index("cell_line_id")
    assert list(lines.loc["ACH-000105", ["name", "tissue", "cosmic_id", "tcga_code"]]) == [
        *("Delta:5", "Skin", "900105", "LUAD")  # the COSMIC id is of GDSC's details, the tissue is DepMap's
    ]
    assert list(lines.loc["ACH-000101"]) == [
        *("Alpha-1", "Lung", "Cancer of Lung", "LUAD", "ACH-000101", "SIDM00101", "900101", "ALPHA1_LUNG")
    ]


def test_files_of_the_ccle_give_the_same_omics(origin: Path, out: Path) -> None:
    rest = pd.DataFrame(np.random.default_rng(5).uniform(0, 99, (len(LINES), 10_000)), EXPRESSION.index)
    linear = pd.concat([2**EXPRESSION - 1, rest.add_prefix("OTHER")], axis=1)  # RPKM make TPM with all genes alone
    ids = [f"ENSG{number:011d}.4" for number in range(linear.shape[1])]
    gct = files.write_gct(
        origin / "ccle.gct.gz", files.by_feature(linear / 7, {"Name": ids, "Description": linear.columns}, both=True)
    )
    (origin / "genes.csv").write_text(
        "gene,ensembl\n" + "".join(f"{g},{i[:-2]}\n" for g, i in zip(GENES, ids, strict=False))
    )
    genes = ["--genes", origin / "genes.csv"]
    lead = {"EGID": list(GENES.values()), "SYMBOL": list(GENES), "CHR": "1", "CHRLOC": 1, "CHRLOCEND": 9}
    copies = files.by_feature(COPY_NUMBER.apply(np.log2), lead)
    copies.to_csv(origin / "copies.txt", sep="\t", index=False)
    sheet = origin / "old" / "sample_info.csv"
    responses = [origin / "gdsc" / GDSC1, origin / "gdsc" / GDSC2]
    run(out, responses, "--models", sheet, "--expression", gct, "--copy-number", origin / "copies.txt", *genes)
    assert findings(out, "expression", "copy_number") == []
    assert_values(out, "copy_number", COPY_NUMBER.loc[CERTAIN])
    tpm = linear.mul(1e6 / linear.sum(axis=1), axis=0)
    assert_values(out, "expression", (tpm[list(GENES)] + 1).apply(np.log2).loc[CERTAIN])

    for count in (len(ids), 6):  # TPM of some genes are not scaled to a million
        rsem = files.by_feature(
            tpm.iloc[:, :count], {"gene_id": ids[:count], "transcript_ids": ["ENST1,ENST2"] * count}
        )
        rsem.to_csv(origin / "rsem.txt", sep="\t", index=False)
        other = out.with_name(f"other_{count}")
        run(other, responses, "--models", sheet, "--expression", origin / "rsem.txt", *genes)
        pd.testing.assert_frame_equal(table(other, "expression"), table(out, "expression"), rtol=1e-5)


def test_gdsc_alone_makes_a_raw_folder_whose_tissues_are_its_own(origin: Path, out: Path) -> None:
    run(out, [origin / "gdsc" / GDSC2])
    lines = pd.read_csv(out / "cell_lines.csv", keep_default_na=False).set_index("cell_line_id")
    assert set(lines.index) == {sanger for sanger, *_ in SCREENED}
    assert lines["tissue"].to_dict() == {each: "" if each == "SIDM00999" else "LUAD" for each in lines.index}
    assert len(pd.read_parquet(out / "response.parquet")) == 3 * len(SCREENED)


# The response.


def test_every_column_of_the_response_is_kept(tmp_path: Path) -> None:
    frame = files.response_rows("GDSC1")
    frame.loc[3, "PUTATIVE_TARGET"] = None
    frame.to_csv(tmp_path / "c.tsv.gz", sep="\t", index=False)
    ours = read_response([tmp_path / "c.tsv.gz"])
    names = {"DATASET": "study", "DRUG_ID": "gdsc_drug_id"}
    assert set(ours) - {"drug_id", "_file", "_row"} == {names.get(each, each.lower()) for each in RESPONSE_COLUMNS}
    for column in ("LN_IC50", "AUC", "RMSE", "Z_SCORE", "MIN_CONC", "MAX_CONC", "NLME_CURVE_ID", "COMPANY_ID"):
        assert ours[column.lower()].tolist() == frame[column].tolist(), column
    for column in ("CELL_LINE_NAME", "DRUG_NAME", "PUTATIVE_TARGET", "WEBRELEASE", "COSMIC_ID"):
        assert ours[column.lower()].tolist() == frame[column].fillna("").astype(str).tolist(), column


def test_a_table_read_in_blocks_is_the_whole_and_counts_its_rows_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = files.response_rows("GDSC2")
    frame.to_csv(tmp_path / "a.csv", index=False)
    whole = read_response([tmp_path / "a.csv"])
    monkeypatch.setattr(tables, "BLOCK_ROWS", 7)
    pd.testing.assert_frame_equal(read_response([tmp_path / "a.csv"]), whole)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    lines[20] = lines[20] + ",more"
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv, row 20: has 20 fields, the header 19"):
        read_response([tmp_path / "a.csv"])


def test_of_several_measurements_the_best_fitted_is_kept_only_if_asked_for(
    origin: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = origin / "gdsc" / GDSC2
    frame = pd.read_csv(path)
    again = frame.iloc[[0]].assign(LN_IC50=-1.5, RMSE=0.001, NLME_CURVE_ID=1)
    pd.concat([frame, again]).to_csv(path, index=False)
    with pytest.raises(DataError, match=rf"{GDSC2}, rows 1, {len(frame) + 1}: 1 pairs .* GDSC2\|SIDM00101\|GDSC2:7;"):
        run(out, [path])
    run(out, [path], "--replicates", "best")
    response = pd.read_parquet(out / "response.parquet")
    assert len(response) == len(frame)
    kept = response[(response["cell_line_id"] == "SIDM00101") & (response["drug_id"] == "GDSC2:7")]
    assert (kept["ln_ic50"].item(), kept["nlme_curve_id"].item()) == (-1.5, 1)
    left = unmatched(out)
    assert left[left["kind"] == "measurement"][["identifier", "rows_lost"]].to_numpy().tolist() == [
        ["GDSC2|SIDM00101|GDSC2:7", 1]
    ]
    assert "another measurement of the pair has a lower RMSE: 1" in capsys.readouterr().out


# Drugs.


def test_drugs_have_what_compounds_and_structures_tell(origin: Path, out: Path) -> None:
    gdsc = origin / "gdsc"
    compounds = gdsc / "screened_compounds_rel_8.5.csv"
    run(out, [gdsc / GDSC1, gdsc / GDSC2], "--compounds", compounds, "--smiles", origin / "smiles.csv")
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
    left = unmatched(out)
    drugs_left = left[left["kind"] == "drug"]
    assert drugs_left[["identifier", "reason"]].to_numpy().tolist() == [
        ["GDSC1:9", "not among the screened compounds"],
        ["GDSC1:9", "no SMILES"],
        ["GDSC2:1012", "no SMILES"],
    ]


# Cell lines.


@pytest.mark.parametrize(
    ("identifiers", "reason", "candidates"),
    [
        *(
            (identifiers_of(text), "", ("ACH-000102",))
            for text in ("ACH-000102", "SIDM00102", "900102", "BETA2_BREAST", "BETA2_BREAST (ACH-000102)", "beta-2")
        ),
        ({"name": "d5"}, "", ("ACH-000105",)),  # a synonym
        ({"name": "GG"}, "", ("ACH-000104",)),  # as it is written, before all that is stripped alike
        (identifiers_of("GG_OESOPHAGUS"), "", ("ACH-000103",)),
        ({"name": "g g"}, AMBIGUOUS, ("ACH-000103", "ACH-000104")),
        ({"name": "GG", "cosmic_id": "900103"}, "", ("ACH-000103",)),  # the identifier, and not the name
        ({"name": "GG", "cosmic_id": "1"}, CONTRADICTED, ("ACH-000104",)),
        ({"name": "GG", "depmap_id": "ACH-000104", "cosmic_id": "900103"}, CONTRADICTED, ("ACH-000103", "ACH-000104")),
        ({"cosmic_id": "900106"}, AMBIGUOUS, ("ACH-000106", "ACH-000107")),
        ({"cosmic_id": "900106", "name": "zeta b"}, "", ("ACH-000107",)),
        ({"cosmic_id": "900106", "name": "Theta"}, AMBIGUOUS, ("ACH-000106", "ACH-000107")),
        ({"name": "Kappa", "cosmic_id": "1"}, "", ("ACH-000110",)),  # whose COSMIC id nobody knows
        (identifiers_of("BETA2_SKIN"), CONTRADICTED, ("ACH-000102",)),
        ({"name": "Sigma"}, UNKNOWN, ()),
        ({"name": "-"}, UNKNOWN, ()),
        ({}, UNKNOWN, ()),
    ],
)
def test_a_cell_line_is_found_by_any_identifier_and_taken_for_no_other(
    identifiers: dict[str, str], reason: str, candidates: tuple[str, ...], tmp_path: Path
) -> None:
    files.models(old=True).to_csv(tmp_path / "models.csv", index=False)
    names = CellLineNames()
    assert names.add(read_models(tmp_path / "models.csv")) == {}
    match = names.match(identifiers)
    assert match.reason == reason
    assert (match.candidates if reason else (match.line_id,)) == candidates


def test_two_lines_of_a_source_that_fit_one_model_are_left_out_but_for_the_one_with_its_identifier(
    origin: Path, out: Path
) -> None:
    path = origin / "gdsc" / GDSC2
    frame = pd.read_csv(path)
    first = frame[frame["SANGER_MODEL_ID"] == "SIDM00101"]
    kappa = frame[frame["SANGER_MODEL_ID"] == "SIDM00110"]  # DepMap tells no COSMIC id of it
    delta = frame[frame["SANGER_MODEL_ID"] == "SIDM00105"]  # nor any of this
    twins = [
        kappa.assign(SANGER_MODEL_ID="", COSMIC_ID=5, LN_IC50=1.0),
        delta.assign(SANGER_MODEL_ID="SIDM77777", COSMIC_ID=7),
    ]
    pd.concat([first, kappa, delta, *twins]).to_csv(path, index=False)
    run(out, [path], "--models", origin / "old" / "sample_info.csv")
    response = pd.read_parquet(out / "response.parquet")
    assert sorted(response["cell_line_id"].unique()) == ["ACH-000101", "ACH-000110"]
    assert response.loc[response["cell_line_id"] == "ACH-000110", "sanger_model_id"].tolist() == ["SIDM00110"] * 3
    left = unmatched(out)
    left = left[left["reason"] == "fits the same cell line as another"]
    assert left[["identifier", "rows_lost", "candidates"]].to_numpy().tolist() == [
        ["SIDM00105 (old-delta)", 3, "ACH-000105"],
        ["5 (Kappa)", 3, "ACH-000110"],
        ["SIDM77777 (old-delta)", 3, "ACH-000105"],
    ]


def test_two_columns_of_a_matrix_that_fit_one_line_are_both_left_out(origin: Path, out: Path) -> None:
    frame = files.by_model(EXPRESSION, old=True)
    twin = frame.iloc[[0]].assign(**{"": "ALPHA1_LUNG"})
    pd.concat([frame, twin]).to_csv(origin / "twice.csv", index=False)
    gdsc = origin / "gdsc" / GDSC2
    run(out, [gdsc], "--models", origin / "old" / "sample_info.csv", "--expression", origin / "twice.csv")
    assert set(table(out, "expression").index) == set(CERTAIN) - {"ACH-000101"}
    left = unmatched(out)
    left = left[left["file"] == "twice.csv"]
    assert left[left["rows_lost"] > 0][["identifier", "candidates"]].to_numpy().tolist() == [
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
    lines = [
        CellLine(f"L{number}", (row["name"],), ids_of({kind: row[kind] for kind in ("sanger_model_id", "cosmic_id")}))
        for number, row in enumerate(rows)
    ]
    names = CellLineNames()
    names.add(lines)
    match = names.match(wanted)
    random.shuffle(lines)  # type: ignore[attr-defined]
    again = CellLineNames()
    again.add(lines)
    assert again.match(wanted) == match
    fits = [line for line in lines if not line.contradicts(wanted)]
    by_id = [
        line.line_id
        for line in fits
        if any(wanted[kind] in line.ids.get(kind, ()) for kind in ("sanger_model_id", "cosmic_id"))
    ]
    if match.line_id is not None:
        assert match.line_id in {line.line_id for line in fits}
        assert match.by != "identifier" or match.line_id in by_id
    elif len(by_id) == 1:
        pytest.fail(f"{by_id} is the only line with an identifier of {wanted}")


# Matrices.


def test_genes_are_chosen_and_those_that_the_file_lacks_are_listed(origin: Path, out: Path) -> None:
    (origin / "genes.csv").write_text("gene\nGENE2\nGENE-6\nGENE9\n")
    run(out, origin / "gdsc", *named(origin), "--genes", origin / "genes.csv")
    assert list(table(out, "expression").columns) == ["GENE2", "GENE-6"]
    left = unmatched(out)
    assert left[left["kind"] == "gene"][["identifier", "file"]].to_numpy().tolist() == [
        ["GENE9", NEW_EXPRESSION],
        ["GENE9", "OmicsSomaticMutationsMatrixHotspot.csv"],
        ["GENE9", "OmicsCNGeneWGS.csv"],
    ]


def named(origin: Path) -> list[str | Path]:
    new = origin / "new"
    return [
        *("--models", new / "Model.csv", "--expression", new / NEW_EXPRESSION),
        *("--copy-number", new / "OmicsCNGeneWGS.csv"),
        *("--mutation", new / "OmicsSomaticMutationsMatrixHotspot.csv"),
    ]


def test_expression_and_copy_number_get_the_same_genes_that_were_measured(origin: Path, out: Path) -> None:
    expression = files.by_model(EXPRESSION, old=False)
    expression["GENE1 (11)"] = 0.0
    expression.drop(columns="GENE2 (22)").to_csv(origin / "new" / NEW_EXPRESSION, index=False)
    run(out, origin / "gdsc", *named(origin))
    assert findings(out, "expression", "mutation", "copy_number") == []
    kept = ["GENE3", "GENE4", "GENE5", "GENE-6"]
    assert list(table(out, "expression").columns) == list(table(out, "copy_number").columns) == kept
    assert list(table(out, "mutation").columns) == list(GENES)
    left = unmatched(out)
    assert left[left["kind"] == "feature"][["identifier", "file", "reason"]].to_numpy().tolist() == [
        ["GENE1", NEW_EXPRESSION, "0 in all cell lines, or no value"],
        ["GENE1", "OmicsCNGeneWGS.csv", "not in the table of expression"],
        ["GENE2", "OmicsCNGeneWGS.csv", "not in the table of expression"],
    ]


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("block", [1, 300])
def test_a_matrix_read_in_blocks_of_some_of_its_rows_equals_pandas(
    old: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrices, "BLOCK_BYTES", block)
    path = tmp_path / "m.csv.gz"
    files.by_model(EXPRESSION, old=old).to_csv(path, index=False, quoting=2 if old else 0)
    some = ["ACH-000102", "ACH-000107"]
    values = read_matrix(path, some.__contains__).values
    pd.testing.assert_frame_equal(values, EXPRESSION.loc[some].astype(np.float32), check_column_type=False)


def test_a_row_that_is_left_out_may_still_be_where_the_file_is_cut(tmp_path: Path) -> None:
    text = files.by_model(EXPRESSION, old=False).to_csv(index=False).rstrip()
    (tmp_path / "m.csv").write_text(text.rpartition(",")[0])
    with pytest.raises(DataError, match=r"m\.csv, row 14: has 5 values, the header names 6; the file may be"):
        read_matrix(tmp_path / "m.csv", ["ACH-000101"].__contains__)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("variants", ["hotspot", "damaging", "any"])
def test_what_counts_as_a_mutation_is_chosen(old: bool, variants: str, origin: Path, out: Path) -> None:
    calls = files.calls(old=old)
    if not old:  # with those of a run that is not the model's default
        calls = pd.concat([calls, calls.assign(IsDefaultEntryForModel="No", Hotspot=True, HugoSymbol="GENE2")])
    calls.to_csv(origin / "calls.csv", index=False)
    where = ["--models", origin / "old" / "sample_info.csv", "--mutation", origin / "calls.csv"]
    run(out, [origin / "gdsc" / GDSC2], *where, "--variants", variants)
    wanted = HOTSPOT.loc[CERTAIN] * (variants != "damaging")
    if variants != "hotspot":
        wanted.loc["ACH-000101"] = 1
    assert_values(out, "mutation", wanted)


# What is refused.


def taken_from(file: str, other: str) -> Damage:
    return lambda origin: shutil.copyfile(next(origin.rglob(other)), next(origin.rglob(file)))


def archive_of_two(origin: Path) -> None:
    with zipfile.ZipFile(next(origin.rglob(GDSC1)), "w") as archive:
        for name in ("a.csv", "b/c.csv"):
            archive.writestr(name, "a,b\n1,2\n")


HTML = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
R1, R2, X, MODEL = GDSC1, GDSC2, NEW_EXPRESSION, "Model.csv"
MUT, COMPOUNDS = "OmicsSomaticMutationsMatrixHotspot.csv", "screened_compounds_rel_8.5.csv"
RRBS = "CCLE_RRBS_TSS1kb_20181022.txt.gz"
FAULTS: dict[str, tuple[Damage, str]] = {
    "no response": (lambda o: shutil.rmtree(o / "gdsc"), "holds no file named GDSC"),
    "a page, not a response": (put(R2, HTML), rf"{GDSC2}: is a web page, XML or an error message; download"),
    "cut gzip": (rewrite(RRBS, lambda text: text[: len(text) // 2]), "RRBS.*: the compressed file is broken or cut"),
    "an archive of two": (archive_of_two, r"holds 2 tables \('a\.csv', 'b/c\.csv'\).*unpack"),
    "a workbook as matrix": (taken_from(X, R1), "is a workbook, .*; save its sheet as csv"),
    "no text": (put(MODEL, b"Mo\x00\x01\x02"), r"Model\.csv: is no text"),
    "no drug": (cell(R2, "DRUG_ID", 0, ""), "column DRUG_ID, row 1: is empty"),
    "no drug of SMILES": (put("smiles.csv", b"smiles\nCCO\n"), "column drug_id: one of drug_id, pubchem_id, name must"),
    "another kind of the CCLE": (taken_from(X, RRBS), "holds methylation of the CCLE, and is given as expression"),
    "no layout of the CCLE": (put(RRBS, b"a\tb\tc\nx\t1\t2\n"), "a methylation file of the CCLE begins with locus_id"),
    "no column": (change(R2, "LN_IC50", "IC50"), "column ln_ic50: .* the natural logarithm of the IC50"),
    "not a number": (cell(R2, "LN_IC50", 1, "low"), rf"{R2}, column LN_IC50, row 2: is no finite .*\(found 'low'\)"),
    "two names of a drug": (cell(R2, "DRUG_NAME", 0, "Other"), r"rows 1, 2: has several names \('Other', 'Inventib'\)"),
    "a model twice": (again(MODEL, 1, COSMICID=""), "column ModelID, rows 2, 14: has several rows, which differ"),
    "a compound twice": (again(COMPOUNDS, 0, TARGET="GENE4"), "column DRUG_ID, rows 1, 5: has several rows"),
    "a model's table as matrix": (taken_from(X, MODEL), "must have a column ModelID.*is it DepMap's matrix by model"),
    "no value": (cell(X, "GENE2 (22)", 3, "high"), rf"{X}, column GENE2 \(22\), row 4: 'high' is no finite number"),
    "mutations as expression": (taken_from(X, MUT), "all values are whole, .* give the file of log2"),
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


GCT = {"Name": [f"ENSG{number}" for number in range(6)], "Description": list(GENES)}
LINEAR = 2**EXPRESSION - 1
CCLE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (
        lambda p: p.write_text(files.write_gct(p, files.by_feature(LINEAR, GCT)).read_text().replace("6\t13", "7\t13")),
        "says that it has 7 rows and has 6; it is cut short",
    ),
    "counts": (lambda p: files.write_gct(p, files.by_feature(LINEAR.round(), GCT)), "all values are whole, so it"),
    "logarithms": (lambda p: files.write_gct(p, files.by_feature(EXPRESSION, GCT)), "they seem to be logarithms"),
    "no size": (lambda p: p.write_text("#1.2\nName\tDescription\tA_LUNG\n"), "line 2 of a GCT must give its size"),
    "RPKM of some genes": (lambda p: files.write_gct(p, files.by_feature(LINEAR, GCT)), "RPKM of 6 .*the whole file"),
    "other lines": (
        lambda p: files.write_gct(p, files.by_feature(LINEAR, GCT).iloc[:, :3].set_axis([*GCT, "Q_LUNG"], axis=1)),
        r"holds no screened cell line \(it has 'Q_LUNG'\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("write", "says"), CCLE_FAULTS.values(), ids=CCLE_FAULTS.keys())
def test_what_is_wrong_with_a_file_of_the_ccle_is_told(
    write: Callable[[Path], object], says: str, origin: Path, out: Path
) -> None:
    write(origin / "x.gct")
    models = ["--models", origin / "old" / "sample_info.csv"]
    with pytest.raises(UserError, match=says):
        run(out, [origin / "gdsc" / GDSC2], *models, "--expression", origin / "x.gct")
    assert not out.parent.exists()
