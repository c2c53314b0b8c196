"""Drug-response files as people have them: read as they are meant, or refused; never wrong without a word."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.sources import drug_response, omics_table
from pipelines.sources.cell_line_names import BARE, NAME, CellLine, CellLineNames, identifier, identifiers_of, ids_of
from pipelines.sources.depmap import read_models
from pipelines.sources.drug_annotation import annotate, drug_keys, read_smiles
from pipelines.sources.gdsc import GIVEN, lines_of, read_response
from pipelines.sources.response_folder import ResponseFolder
from pipelines.text_values import folded
from pipelines.units import CopyNumberScale
from tests.pipelines import drug_response_files as files
from tests.pipelines.damages import Damage
from tests.pipelines.drug_response_files import CERTAIN, COPY_NUMBER, EXPRESSION, GENES, HOTSPOT

R2, MODEL = "GDSC2_fitted_dose_response_27Oct23.csv", "Model.csv"
X, CN, MUT = (
    "OmicsExpressionTPMLogp1HumanProteinCodingGenes.csv",
    "OmicsCNGeneWGS.csv",
    "OmicsSomaticMutationsMatrixHotspot.csv",
)
ALL = (R2, MODEL, X, CN, MUT)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    files.response_rows("GDSC2").to_csv(folder / R2, index=False)
    files.write_new(folder)
    (folder / "smiles.csv").write_text(files.SMILES)
    return folder


@pytest.fixture
def origin(downloads: Path, tmp_path: Path) -> Path:
    return shutil.copytree(downloads, tmp_path / "origin")


def read(origin: Path, scale: CopyNumberScale | None = None, **named: Path) -> ResponseFolder:
    found = drug_response.find([origin], {role: [path] for role, path in named.items()}, [])
    return drug_response.read(found, scale=scale)


@pytest.fixture(scope="module")
def expected(downloads: Path) -> ResponseFolder:
    return read(downloads)


def assert_same(found: ResponseFolder, expected: ResponseFolder) -> None:
    places = ["_file", "_row"]
    pd.testing.assert_frame_equal(found.response.drop(columns=places), expected.response.drop(columns=places))
    pd.testing.assert_frame_equal(found.cell_lines, expected.cell_lines)
    pd.testing.assert_frame_equal(found.drugs, expected.drugs)
    assert list(found.omics) == list(expected.omics)
    for name, table in found.omics.items():
        pd.testing.assert_frame_equal(table.values, expected.omics[name].values, rtol=1e-6)


# How a file is written.


def to_bytes(change: Callable[[bytes], bytes], *names: str) -> Damage:
    def damage(origin: Path) -> None:
        for name in names or ALL:
            (origin / name).write_bytes(change((origin / name).read_bytes()))

    return damage


def with_commas(text: bytes) -> bytes:
    """Return a csv table as a spreadsheet of central Europe writes it."""
    return re.sub(rb"(?<=[0-9])\.(?=[0-9])", b"\xff", text).replace(b",", b";").replace(b"\xff", b",")


def as_workbook(origin: Path) -> Any:
    for name in (R2, MODEL):
        files.write_workbook(origin / "book.xlsx", {"Sheet1": pd.read_csv(origin / name)})
        (origin / "book.xlsx").replace(origin / name)


def packed(origin: Path) -> None:
    for name in ALL:
        with zipfile.ZipFile(origin / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(origin / name, f"download/{name}")
            archive.writestr(f"__MACOSX/download/._{name}", "x")
            archive.writestr("download/.DS_Store", "x")
            archive.writestr("README.txt", "what it is")
        (origin / name).unlink()


WRITTEN: dict[str, Damage] = {
    "semicolons": to_bytes(lambda text: text.replace(b",", b";"), R2, X, CN, MUT),
    "decimal commas": to_bytes(with_commas, R2, X, CN, MUT),
    "UTF-16": to_bytes(lambda text: text.decode().encode("utf-16")),
    "UTF-16 without a mark": to_bytes(lambda text: text.decode().encode("utf-16-le")),
    "a byte order mark": to_bytes(lambda text: b"\xef\xbb\xbf" + text),
    "a title and semicolons": to_bytes(lambda text: b"Table S1, ours\n\n" + text.replace(b",", b";"), R2),
    "the separator told": to_bytes(lambda text: b"sep=;\n" + text.replace(b",", b";"), R2, X, CN, MUT),
    "separators at the ends": to_bytes(lambda text: text.replace(b"\n", b",,\n")),
    "quotes": to_bytes(lambda text: re.sub(rb"([^,\n]*)(,|\n)", rb'"\1"\2', text)),
    "zip": packed,
    "a workbook, whatever its name": as_workbook,
    "truth values": lambda origin: files.by_model(HOTSPOT == 1, old=False).to_csv(origin / MUT, index=False),
    "R's names": to_bytes(lambda text: re.sub(rb" \(([0-9]+)\)", rb"..\1.", text), X, CN, MUT),
    "ids of R": to_bytes(lambda text: text.replace(b"ACH-", b"ACH."), X, CN, MUT),
    "COSMIC ids of a calculator": to_bytes(lambda text: re.sub(rb",9(0010[0-9]),", rb",9.\1E5,", text), R2),
    "models listed twice": lambda origin: pd.concat([pd.read_csv(origin / MODEL, dtype=str)] * 2).to_csv(
        origin / MODEL, index=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_table_means_the_same_however_it_is_written(damage: Damage, origin: Path, expected: ResponseFolder) -> None:
    damage(origin)
    assert_same(read(origin), expected)


def test_sheets_that_hold_curves_are_all_read_and_others_told(origin: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("name", [R2, X])
@pytest.mark.parametrize("change", COMMAS.values(), ids=COMMAS.keys())
def test_a_comma_that_may_be_another_thing_is_refused(
    name: str, change: Callable[[bytes], bytes], origin: Path
) -> None:
    to_bytes(change, name)(origin)
    with pytest.raises(UserError, match=rf"{name}.*decimal comma"):
        read(origin)


# Units.


def portal(values: pd.DataFrame) -> pd.DataFrame:
    lead = {"depmap_id": values.index, "cell_line_display_name": "X", "lineage_1": "Lung", "lineage_2": ""}
    return pd.concat([pd.DataFrame(lead, index=values.index), values], axis=1)


ANY_INDEX: Any = {"check_index_type": False, "check_column_type": False, "check_names": False}
RELATIVE = COPY_NUMBER.loc[CERTAIN].drop(index="ACH-000105")  # which the newer table of models does not find
LOG2 = (COPY_NUMBER + 1).apply(np.log2)
PLOIDY = np.linspace(1.6, 4.4, len(COPY_NUMBER))
ABSOLUTE = COPY_NUMBER.mul(PLOIDY / COPY_NUMBER.mean(axis=1).to_numpy(), axis=0)
UNNAMED = LOG2.rename_axis("").reset_index()
MATRICES: dict[str, tuple[str, pd.DataFrame, CopyNumberScale | None]] = {
    "the portal's tool": ("Copy_Number_Public_24Q4_subsetted.csv", portal(LOG2), None),
    "until 24Q4": ("OmicsCNGene.csv", files.by_model(LOG2, old=True), None),
    "from 25Q2": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=False), None),
    "cut to models": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=True).rename(columns={"": "ModelID"}), None),
    "told otherwise": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=True), "relative"),
    "log2 ratios, told": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER.apply(np.log2), old=False), "log2_ratio"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "frame", "scale"), MATRICES.values(), ids=MATRICES.keys())
def test_copy_numbers_become_relative_by_their_layout(
    file: str, frame: pd.DataFrame, scale: CopyNumberScale | None, origin: Path
) -> None:
    (origin / CN).unlink()
    frame.to_csv(origin / file, index=False)
    found = read(origin, scale).omics["copy_number"]
    pd.testing.assert_frame_equal(found.values, RELATIVE.astype(np.float32), rtol=1e-3, atol=1e-3, **ANY_INDEX)


@pytest.mark.parametrize("file", ["Omics_Absolute_CN_Gene_Public_24Q4_subsetted.csv", "OmicsCNGene.csv"])
def test_absolute_copies_become_relative_to_the_mean_of_the_line_in_the_whole_file(file: str, origin: Path) -> None:
    (origin / CN).unlink()
    files.by_model(ABSOLUTE, old=True).to_csv(origin / file, index=False)
    (origin / "genes.csv").write_text("gene\nGENE2\nGENE3\n")
    told: CopyNumberScale | None = None if "Absolute" in file else "absolute"
    found = read(origin, told, genes=origin / "genes.csv").omics["copy_number"]
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
    "percent": ("Methylation_subsetted.csv", 100 * SHARES, "divide by 100"),
    "scores of mutations": (MUT, many(lambda rng, n: rng.integers(0, 9, n)), "0, 1 and 2"),
}
DOUBTFUL: dict[str, tuple[str, pd.DataFrame, str]] = {
    "absolute copies": (CN, 2 * COPIES, "median 2"),
    "log2 of a line": (CN, one_line(COPIES, lambda row: row * 3), "lines that differ from the others, 'ACH-000103'"),
    "decimal logarithms": (X, many(lambda rng, n: np.maximum(rng.normal(1, 1, n), 0), 120), "decimal logarithm"),
}


def put(frame: pd.DataFrame, file: str, origin: Path) -> None:
    if "Methylation" in file:
        portal(frame).to_csv(origin / file, index=False)
    else:
        files.by_model(frame, old=True).rename(columns={"": "ModelID"}).to_csv(origin / file, index=False)


@pytest.fixture
def matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "GENES", {name: number for number, name in enumerate(COPIES.columns, 1)})


@pytest.mark.usefixtures("matrices")
@pytest.mark.parametrize(("file", "frame", "says"), WRONG.values(), ids=WRONG.keys())
def test_values_of_another_unit_are_refused(file: str, frame: pd.DataFrame, says: str, origin: Path) -> None:
    put(frame, file, origin)
    with pytest.raises(UserError, match=rf"{file}.*{says}"):
        read(origin)


@pytest.mark.usefixtures("matrices")
def test_a_line_of_another_unit_is_found_where_a_part_of_the_table_is_looked_at(
    origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(omics_table, "SAMPLED_VALUES", 60)
    put(one_line(COPIES, np.log2), CN, origin)
    with pytest.raises(UserError, match=r"of 1 lines, 'ACH-000103'"):
        read(origin)


@pytest.mark.usefixtures("matrices")
@pytest.mark.parametrize(("file", "frame", "says"), DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_values_that_may_be_of_another_unit_are_noted(file: str, frame: pd.DataFrame, says: str, origin: Path) -> None:
    put(frame, file, origin)
    assert any(file in note and re.search(says, note) for note in read(origin).notes)


@pytest.mark.usefixtures("matrices")
@pytest.mark.parametrize(("file", "frame"), [(CN, COPIES), (X, LOG_TPM), ("Methylation_subsetted.csv", SHARES)])
def test_values_of_the_right_unit_raise_no_doubt(file: str, frame: pd.DataFrame, origin: Path) -> None:
    put(frame, file, origin)
    assert [note for note in read(origin).notes if file in note and ("if so" in note or "differ" in note)] == []


def test_a_matrix_whose_layout_tells_no_scale_is_refused(origin: Path) -> None:
    UNNAMED.to_csv(origin / CN, index=False)
    with pytest.raises(UserError, match="must have a column ModelID"):
        read(origin)
    UNNAMED.rename(columns={"": "depmap_id"}).to_csv(origin / CN, index=False)
    with pytest.raises(UserError, match=r"'depmap_id', .*--copy-number-scale"):
        read(origin)


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


# Cell lines.

COLUMNS = [*GIVEN.values()]


def response(*keys: str) -> pd.DataFrame:
    """Return rows of a response table of the given "Sanger id|COSMIC id|name", each with a drug of its own."""
    frame = pd.DataFrame([key.split("|") for key in keys], columns=COLUMNS)
    frame.insert(0, "DATASET", "GDSC2")
    return frame.assign(DRUG_ID=range(len(keys)), DRUG_NAME=[f"D{n}" for n in range(len(keys))], LN_IC50=1.5)


def placed(origin: Path, *keys: str, models: pd.DataFrame | None = None) -> list[str]:
    """Return the line of each row, "" for those that have none."""
    response(*keys).rename(columns=str.upper).to_csv(origin / R2, index=False)
    for path in origin.iterdir():
        if path.name != R2:
            path.unlink()
    if models is not None:
        models.to_csv(origin / MODEL, index=False)
    found = read(origin).response.set_index("gdsc_drug_id")["cell_line_id"]
    return [found.get(str(number), "") for number in range(len(keys))]


def model_table(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["ModelID", "CellLineName", "SangerModelID", "COSMICID"])


TT, KM = "||TT", "||KM-H2"
LINES: dict[str, tuple[list[str], list[str]]] = {
    "punctuation": ([TT, "||T.T", KM, "||KMH-2", "||Alpha-1"], ["TT", "T.T", "KM-H2", "KMH-2", "alpha1"]),
    "case and blanks": ([TT, "||tt ", "|| T\u00a0T", "||t t"], ["TT", "TT", "T T", "T T"]),
    "COSMIC joins": (["S1|1|A", "|1|A"], ["S1", "S1"]),
    "a name joins no two ids": (["|1|A", "|1|B", "S1||A", "S2||b"], ["COSMIC-1", "COSMIC-1", "S1", "S2"]),
    "ids before names": (["S1|1|A", "S2|2|A"], ["S1", "S2"]),
    "a name of two lines": (["S1|1|A", "S2|2|A", "||A"], ["S1", "S2", ""]),
    "a COSMIC id of two lines, and a name": (["S1|1|A", "S2|1|B", "|1|b"], ["S1", "S2", "S2"]),
    "no names": (["S1||n/a", "||n/a", "||Unknown", "||--", "||NA", "S2|0|NA"], ["S1", "", "", "", "", "S2"]),
    "rounded ids": (["|9.06E+05|A", "|9.06E+05|B"], ["a", "b"]),
}


@pytest.mark.parametrize(("keys", "lines"), LINES.values(), ids=LINES.keys())
def test_without_a_table_of_models_lines_are_told_apart(keys: list[str], lines: list[str], origin: Path) -> None:
    assert placed(origin, *keys) == lines


A, B = "ACH-000001", "ACH-000002"
IN_A_TABLE: dict[str, tuple[list[tuple[str, str, str, str]], list[str], list[str]]] = {
    "neither as it is written": ([(A, "KMH2", "", ""), (B, "X", "", "")], [KM, "||KMH-2", "||X"], ["", "", B]),
    "an identifier goes before": ([(A, "TT", "S1", "")], ["S1||TT", "||T.T"], [A, ""]),
    "identifiers in other names": ([(A, "TT", "S1", "1")], ["S1||MCF-7", "|1|MCF7"], [A, A]),
    "a line called NA": ([(A, "NA", "", ""), (B, "X", "", "")], ["||NA", "||n/a", "||x"], [A, "", B]),
    "a number as a name": ([(A, "697", "", "")], ["||697"], [A]),
    "several COSMIC ids": ([(A, "TT", "", "1;2")], ["|2|other"], [A]),
}


@pytest.mark.parametrize(("rows", "keys", "lines"), IN_A_TABLE.values(), ids=IN_A_TABLE.keys())
def test_a_table_of_models_takes_nobody_for_another(
    rows: list[tuple[str, str, str, str]], keys: list[str], lines: list[str], origin: Path
) -> None:
    assert placed(origin, *keys, models=model_table(*rows)) == lines


def test_details_do_not_make_one_of_two_lines(tmp_path: Path) -> None:
    names = CellLineNames()
    names.add([CellLine(A, ("TT",))])
    names.add(
        [
            CellLine("COSMIC-1", ("TT",), ids_of({"cosmic_id": "1"})),
            CellLine("COSMIC-2", ("T.T",), ids_of({"cosmic_id": "2"})),
        ]
    )
    assert names.match({"cosmic_id": "1"}).line_id == A and names.match({"cosmic_id": "2"}).line_id == "COSMIC-2"


def test_a_name_of_the_ccle_says_nothing_of_punctuation() -> None:
    names = CellLineNames()
    names.add([CellLine(A, ("TT",)), CellLine(B, ("T.T",))])
    assert names.match_text("TT").line_id == A
    assert names.match_text("TT_OESOPHAGUS").candidates == (A, B)


written_names = st.text(st.sampled_from("aAbB1-. /"), min_size=1, max_size=5).filter(
    lambda name: any(map(str.isalnum, name))
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "S1", "S2"]), st.sampled_from(["", "1", "2"]), written_names), min_size=1)
)
def test_no_row_is_of_two_lines_and_no_line_of_names_that_nothing_joins(keys: list[tuple[str, str, str]]) -> None:
    frame = pd.DataFrame(keys, columns=COLUMNS).assign(tcga_desc="")
    lines = lines_of(frame)
    ids = [line.line_id for line in lines]
    assert len(set(ids)) == len(ids)
    for line in lines:
        members = [
            key
            for key in keys
            if key[0] in line.ids.get("sanger_model_id", ())
            or key[1] in line.ids.get("cosmic_id", ())
            or key[2] in line.names
        ]
        assert members
        if not line.ids:
            assert len({folded(name) for name in line.names}) == 1
        assert len(line.ids.get("sanger_model_id", ())) < 2
    names = CellLineNames()
    names.add(lines)
    for sanger, cosmic, name in keys:
        match = names.match({"sanger_model_id": sanger, "cosmic_id": cosmic, NAME: name})
        if sanger and match.line_id:
            assert sanger in names.lines[match.line_id].ids["sanger_model_id"]
        if not sanger and not cosmic and match.line_id:
            assert folded(name) in map(folded, names.lines[match.line_id].names)


@pytest.mark.parametrize(
    ("kind", "text", "meant"),
    [
        *(("cosmic_id", text, "905940") for text in ("905940", "905940.0", " 905940", "0905940", "905,940")),
        *(("cosmic_id", text, "905940") for text in ("9.0594E5", "9.0594e+05")),
        *(("cosmic_id", text, "") for text in ("0", "9.06E+05", "1.24E+06", "9.05944E3")),
        *(("cosmic_id", text, text) for text in ("905940;1", "x12")),
        *(("sanger_model_id", text, "SIDM00148") for text in ("SIDM00148", "sidm00148", "SIDM00148\u00a0")),
        *(("depmap_id", text, "ACH-000019") for text in ("ACH-000019", "ach-000019", "ACH.000019", "ACH_000019")),
        ("sanger_model_id", "0012", "0012"),
    ],
)
def test_an_identifier_is_what_its_place_writes(kind: str, text: str, meant: str) -> None:
    assert identifier(kind, text) == meant
    assert identifiers_of("TT_THYROID")[BARE] == "TT"


# Drugs and genes.


def test_a_drug_never_gets_the_structure_of_its_mirror_image(tmp_path: Path) -> None:
    assert drug_keys("X (+)")[0] == drug_keys("(+)-x")[0] == drug_keys("X ( + )")[0]
    assert len({drug_keys(name)[0] for name in ("X", "X (+)", "X (-)", "X (±)", "(R)-X", "(S)-X")}) == 6
    (tmp_path / "s.csv").write_text(
        "name,pubchem,smiles\nX (+),,C[C@H](O)N\nY,2.31E3,CCO\nZ,,CC(=O)O\nz,,CC(=O)[O-].[Na+]\n"
        "W,,CCO\nW,,CCN\nV,,CC(O)N\nV,,C[C@H](O)N\n"
    )
    frame = response(*["||A"] * 6).rename(columns=str.lower).rename(columns={"drug_id": "gdsc_drug_id"})
    frame["drug_name"] = ["X (-)", "(+)-X", "Other", "Z", "W", "V"]
    frame = frame.assign(drug_id=frame["gdsc_drug_id"].map("D{}".format), putative_target="", pathway_name="")
    frame["gdsc_drug_id"] = frame["gdsc_drug_id"].astype(str)
    compounds = pd.DataFrame(
        {"name": "Other", "synonyms": "", "target": "", "pathway": "", "pubchem_id": "2310.0"}, index=["2"]
    )
    drugs, unknown = annotate(frame, compounds, read_smiles(tmp_path / "s.csv"))
    assert drugs["smiles"].tolist() == ["", "C[C@H](O)N", "CCO", "CC(=O)O", "", "C[C@H](O)N"]
    assert unknown["several structures in the table of SMILES"] == ["D4"]


def test_genes_that_are_none_or_several_or_changed_are_left_out_and_listed(origin: Path) -> None:
    names = dict(zip(GENES, ["1-Mar", "GENE2;GENE7", "---", "GENE4.1", "GENE4", "gene4"], strict=True))
    portal(EXPRESSION.rename(columns=names)).to_csv(origin / X, index=False)
    (origin / CN).unlink()
    found = read(origin).omics["expression"]
    assert found.values.columns.tolist() == ["GENE4.1", "GENE4", "gene4"]
    assert found.dropped == {
        "a spreadsheet made a date or a number of the gene": ["1-Mar"],
        "names several genes": ["GENE2;GENE7"],
        "has no name of its own": ["---"],
    }
