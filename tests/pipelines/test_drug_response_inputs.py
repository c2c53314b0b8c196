"""Drug-response files as people have them: read as they are meant, or refused; never wrong without a word."""

from __future__ import annotations

import gzip
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.faults import UserError
from pipelines.sources import drug_response
from pipelines.sources.cell_line_names import BARE, NAME, CellLine, CellLineNames, identifier, identifiers_of, ids_of
from pipelines.sources.choices import Choices
from pipelines.sources.drug_annotation import annotate, drug_keys, read_smiles
from pipelines.sources.gdsc import GIVEN, lines_of, read_response
from pipelines.sources.response_folder import ResponseFolder
from pipelines.text_values import folded
from pipelines.units import CopyNumberScale
from tests.pipelines import drug_response_files as files
from tests.pipelines.drug_response_files import CERTAIN, COPY_NUMBER, EXPRESSION, GENES, HOTSPOT, METHYLATION, Damage

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
    return drug_response.read(drug_response.find([origin], drug_response.Files((), **named)), Choices(scale=scale))  # type: ignore[arg-type]


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
        other = expected.omics[name]
        assert (table.lines, table.features) == (other.lines, other.features)
        np.testing.assert_allclose(table.values[:, table.columns], other.values[:, other.columns], rtol=1e-6)


# How a file is written.


def to_bytes(change: Callable[[bytes], bytes], *names: str) -> Damage:
    def damage(origin: Path) -> None:
        for name in names or ALL:
            (origin / name).write_bytes(change((origin / name).read_bytes()))

    return damage


def with_commas(text: bytes) -> bytes:
    """Return a csv table as a spreadsheet of central Europe writes it."""
    return re.sub(rb"(?<=[0-9])\.(?=[0-9])", b"\xff", text).replace(b",", b";").replace(b"\xff", b",")


def as_workbook(origin: Path) -> None:
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
    "tabs": to_bytes(lambda text: text.replace(b",", b"\t")),
    "UTF-16": to_bytes(lambda text: text.decode().encode("utf-16")),
    "UTF-16 without a mark": to_bytes(lambda text: text.decode().encode("utf-16-le")),
    "a byte order mark": to_bytes(lambda text: b"\xef\xbb\xbf" + text),
    "Windows": to_bytes(lambda text: text.replace(b"\n", b"\r\n")),
    "an old Mac": to_bytes(lambda text: text.replace(b"\n", b"\r")),
    "comments": to_bytes(lambda text: b"# made by hand, at night\n#\n" + text),
    "a title": to_bytes(lambda text: b"Table S1, of a paper\n\n" + text, R2, MODEL),
    "a title and semicolons": to_bytes(lambda text: b"Table S1, ours\n\n" + text.replace(b",", b";"), R2),
    "empty lines": to_bytes(lambda text: b"\n\n" + text + b"\n,,,\n\n"),
    "the separator told": to_bytes(lambda text: b"sep=;\n" + text.replace(b",", b";"), R2, X, CN, MUT),
    "separators at the ends": to_bytes(lambda text: text.replace(b"\n", b",,\n")),
    "quotes": to_bytes(lambda text: b"\n".join(b",".join(b'"%s"' % c for c in row.split(b",")) for row in text.split(b"\n"))),
    "gzip": to_bytes(gzip.compress),
    "zip": packed,
    "a workbook, whatever its name": as_workbook,
    "a gzipped workbook": lambda origin: (as_workbook(origin), to_bytes(gzip.compress, R2, MODEL)(origin)),
    "names in small letters": lambda origin: [(origin / name).rename(origin / name.lower()) for name in ALL],
    "names of a second download": lambda origin: [
        (origin / name).rename(origin / name.replace(".csv", " (1).csv")) for name in ALL
    ],
    "truth values": lambda origin: files.by_model(HOTSPOT == 1, old=False).to_csv(origin / MUT, index=False),
    "R's names": to_bytes(lambda text: re.sub(rb" \(([0-9]+)\)", rb"..\1.", text), X, CN, MUT),
    "ids in small letters": to_bytes(lambda text: text.replace(b"ACH-", b"ach-").replace(b"SIDM", b" sidm")),
    "ids of R": to_bytes(lambda text: text.replace(b"ACH-", b"ACH."), X, CN, MUT),
    "no-break spaces": to_bytes(lambda text: re.sub(rb"(SIDM[0-9]+|ALPHA-1|Inventib)", "\\1\u00a0".encode(), text), R2),
    "COSMIC ids as floats": to_bytes(lambda text: re.sub(rb",(9[0-9]{5}),", rb",\1.0,", text), R2),
    "COSMIC ids of a calculator": to_bytes(lambda text: re.sub(rb",9(0010[0-9]),", rb",9.\1E5,", text), R2),
    "only models": lambda origin: [
        files.by_model(values, old=True).rename(columns={"": "ModelID"}).to_csv(origin / name, index=False)
        for name, values in ((X, EXPRESSION), (CN, COPY_NUMBER), (MUT, HOTSPOT))
    ],
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
    with pytest.raises(UserError, match="GDSC1 stands in .*first and in .*a copy; give each study once"):
        read_response([book])
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
    with pytest.raises(UserError, match=rf"{name}.*decimal commas"):
        read(origin)


# Units.


def portal(values: pd.DataFrame) -> pd.DataFrame:
    lead = {"depmap_id": values.index, "cell_line_display_name": "X", "lineage_1": "Lung", "lineage_2": ""}
    return pd.concat([pd.DataFrame(lead, index=values.index), values], axis=1)


RELATIVE = COPY_NUMBER.loc[CERTAIN].drop(index="ACH-000105")  # which the newer table of models does not find
LOG2 = (COPY_NUMBER + 1).apply(np.log2)
PLOIDY = np.linspace(1.6, 4.4, len(COPY_NUMBER))
ABSOLUTE = COPY_NUMBER.mul(PLOIDY / COPY_NUMBER.mean(axis=1).to_numpy(), axis=0)
UNNAMED = LOG2.rename_axis("").reset_index()
MATRICES: dict[str, tuple[str, pd.DataFrame, CopyNumberScale | None]] = {
    "the portal's tool": ("Copy_Number_Public_24Q4_subsetted.csv", portal(LOG2), None),
    "the portal's tool, renamed": ("OmicsCNGene.csv", portal(LOG2), None),
    "its release of logarithms": ("PortalOmicsCNGeneLog2.csv", files.by_model(LOG2, old=False), None),
    "until 24Q4": ("OmicsCNGene.csv", files.by_model(LOG2, old=True), None),
    "from 25Q2": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=False), None),
    "cut to models": ("OmicsCNGene.csv", files.by_model(COPY_NUMBER, old=True).rename(columns={"": "ModelID"}), None),
    "bare names, told": ("OmicsCNGene.csv", portal(COPY_NUMBER).drop(columns="cell_line_display_name"), "relative"),
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
    assert set(found.lines) == set(RELATIVE.index)
    values = found.values[:, found.columns]
    np.testing.assert_allclose(values, RELATIVE.loc[found.lines, found.features], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("file", ["Omics_Absolute_CN_Gene_Public_24Q4_subsetted.csv", "OmicsCNGene.csv"])
def test_absolute_copies_become_relative_to_the_mean_of_the_line_in_the_whole_file(file: str, origin: Path) -> None:
    (origin / CN).unlink()
    files.by_model(ABSOLUTE, old=True).to_csv(origin / file, index=False)
    (origin / "genes.csv").write_text("gene\nGENE2\nGENE3\n")
    told = None if "Absolute" in file else "absolute"
    found = read(origin, told, genes=origin / "genes.csv").omics["copy_number"]
    relative = ABSOLUTE.div(ABSOLUTE.mean(axis=1), axis=0).loc[found.lines, ["GENE2", "GENE3"]]
    np.testing.assert_allclose(found.values[:, found.columns], relative, rtol=1e-6)
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
    "calls": (CN, COPIES.round().clip(0, 3), "whole"),
    "log2 ratios": (CN, np.log2(COPIES), "never below 0"),
    "log2 ratios of a line": (CN, one_line(COPIES, np.log2), "of 1 lines, 'ACH-000103'.*--copy-number-scale"),
    "TPM": (X, 2**LOG_TPM - 1, "below 20"),
    "TPM of a line": (X, one_line(LOG_TPM, lambda row: 2**row * 10), "of 1 lines, 'ACH-000103'"),
    "counts": (X, (2**LOG_TPM).round(), "counts"),
    "standardized expression": (X, LOG_TPM - 4, "standardized"),
    "percent": ("Methylation_subsetted.csv", 100 * SHARES, "divide by 100"),
    "percent of a line": ("Methylation_subsetted.csv", one_line(SHARES, lambda row: 100 * row), "'ACH-000103'"),
    "M values": ("Methylation_subsetted.csv", np.log2(SHARES / (1 - SHARES)), "M values"),
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
    with pytest.raises(UserError, match="'depmap_id', .*--copy-number-scale"):
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
    frame.assign(LN_IC50=linear).rename(columns={"LN_IC50": "IC50 (uM)"}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"'IC50 \(uM\)': write the natural logarithm"):
        read_response([path])
