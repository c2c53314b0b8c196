"""Tables as people have them lead to the same samples, or to a finding that names the file: never to others unsaid."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError, Finding
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Task, read_params
from pipelines.samples.expression import is_one_of, keep_profiles
from pipelines.samples.formats import read_table
from pipelines.samples.images import list_images
from pipelines.text_values import UNKNOWN_WORDS
from pipelines.validate import Validation, validate_folder
from tests.pipelines.expression_folder import label_task, make_tables, with_cells, write_expression_folder
from tests.pipelines.image_folder import write_image_folder
from tests.pipelines.response_folder import GENES, SMILES, write_response_folder
from tests.pipelines.response_tables import ROOT, shipped_task
from tests.pipelines.test_expression_samples import with_rules

Damage = Callable[[Path], Any]

R, L, D = "response.parquet", "cell_lines.csv", "drugs.csv"
E, S, G = "expression.parquet", "samples.csv", "genes.csv"
C, B, M = "copy_number.parquet", "methylation.parquet", "mutation.parquet"
IMAGES = "images.csv"


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("clean")
    written = {
        "response": write_response_folder(root / "response"),
        "expression": write_expression_folder(root / "expression"),
        "images": write_image_folder(root / "images"),
    }
    for path in [written["response"] / L, written["expression"] / S]:  # all text, as the damages below write it
        pd.read_csv(path, dtype=str).to_csv(path, index=False)
    return written


@pytest.fixture
def tasks() -> dict[str, Task]:
    images = read_params(ROOT / "params.yaml").task("leukemia_cell")
    return {"response": shipped_task(), "expression": label_task(), "images": images}


def edited(file: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    """Return a damage of one table, all of whose cells of a CSV file are text."""

    def damage(folder: Path) -> None:
        path = folder / file
        if path.suffix == ".csv":
            edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
        else:
            edit(pd.read_parquet(path)).to_parquet(path, index=False)

    return damage


def column(file: str, name: str, change: Callable[[Any], Any], every: int = 1) -> Damage:
    """Return a damage that changes every so-manieth cell of a column."""

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(**{name: [v if at % every else change(v) for at, v in enumerate(table[name])]})

    return edited(file, edit)


def one(file: str, name: str, value: Any, row: int = 0) -> Damage:
    return edited(file, lambda t: t.assign(**{name: [value if at == row else old for at, old in enumerate(t[name])]}))


def numbers(file: str, change: Callable[[np.ndarray], np.ndarray], rows: slice = slice(None)) -> Damage:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(dict.fromkeys(table.columns[1:], float))
        table.iloc[rows, 1:] = change(table.iloc[rows, 1:].to_numpy())
        return table

    return edited(file, edit)


def raw(file: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes()))


def every_table(change: Callable[[str], str]) -> Damage:
    """Return a damage that renames cell lines in all tables of a folder alike."""
    files = (R, L, E, C, B, "mutation.parquet")
    return lambda folder: [column(file, "cell_line_id", change)(folder) for file in files]


def checked(kind: str, damage: Damage, clean: dict[str, Path], tasks: dict[str, Task], to: Path) -> Validation:
    folder = shutil.copytree(clean[kind], to / kind)
    damage(folder)
    return validate_folder(folder, kind, tasks[kind])


def content(folder: Path, task: Task) -> Any:
    """Return what a model would see of a folder."""
    samples = task.read(folder).samples
    table = samples.table.drop(columns="sample_id").astype(str)
    if isinstance(task, PairsTask):
        about = samples.cell_lines["tissue"].to_numpy()[samples.cell], samples.drugs["smiles"].to_numpy()[samples.drug]
        return table.to_csv(), [list(map(str, each)) for each in about], samples.omics["expression"].to_numpy().tolist()
    return table.drop(columns=["sample_type", "platform"], errors="ignore").to_csv(), getattr(samples, "classes", None)


_UNCHANGED: dict[str, Any] = {}


def unchanged(kind: str, clean: dict[str, Path], tasks: dict[str, Task]) -> Any:
    """Return the content of an undamaged folder, which is read once."""
    if kind not in _UNCHANGED:
        _UNCHANGED[kind] = content(clean[kind], tasks[kind])
    return _UNCHANGED[kind]


def named(findings: tuple[Finding, ...]) -> list[tuple[str, str | None]]:
    return [(finding.file, finding.column) for finding in findings]


SPACE, ZERO_WIDTH = "\u00a0", "\u200b"

# What is certain: the same samples, and a warning that names file and column.
SAME: dict[str, tuple[str, Damage, str, str | None]] = {
    "blank after a label": ("expression", one(S, "label", "BLUE "), S, "label"),
    "blank after a patient": ("expression", column(S, "patient_id", lambda v: f"{v} ", 3), S, "patient_id"),
    "blank in parquet": ("expression", column(E, "sample_id", lambda v: f"{v}\t", 2), E, "sample_id"),
    "blank in a header": ("expression", raw(S, lambda b: b.replace(b"patient_id", b" patient_id ")), S, None),
    "blank in a gene": ("expression", edited(E, lambda t: t.rename(columns={"SIM03|3": "SIM03|3 "})), E, None),
    "semicolons": ("expression", raw(S, lambda b: b.replace(b",", b";")), S, None),
    "blank after a drug": ("response", one(R, "drug_id", f"DRUG-1{SPACE}"), R, "drug_id"),
    "backslashes": ("images", column(IMAGES, "file", lambda v: v.replace("/", "\\")), IMAGES, "file"),
    "a drive": ("images", column(IMAGES, "file", lambda v: f"C:\\x\\images\\{v}"), IMAGES, "file"),
    "names alone": ("images", column(IMAGES, "file", lambda v: v.split("/")[1]), IMAGES, "file"),
    "quoted for the web": ("images", column(IMAGES, "file", lambda v: v.replace("_", "%5F")), IMAGES, "file"),
    "files of systems": ("images", lambda f: (f / "images/all/Thumbs.db").write_bytes(b"x"), "images", None),
}  # fmt: skip

SILENT: dict[str, tuple[str, Damage]] = {
    "UTF-16": ("expression", raw(S, lambda b: b.decode().encode("utf-16"))),
    "a mark of UTF-8": ("expression", raw(S, lambda b: b"\xef\xbb\xbf" + b)),
    "keys as an index": ("response", lambda f: pd.read_parquet(f / E).set_index("cell_line_id").to_parquet(f / E)),
    "labels in another case": ("images", column(IMAGES, "label", str.upper)),
}


@pytest.mark.parametrize(("kind", "damage", "file", "name"), SAME.values(), ids=SAME.keys())
def test_what_is_certain_gives_the_same_samples_and_is_told(
    kind: str, damage: Damage, file: str, name: str | None, clean: dict[str, Path], tasks: dict[str, Task],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    validation = checked(kind, damage, clean, tasks, tmp_path)
    assert validation.passed, list(map(str, validation.findings))
    assert named(validation.warnings) == [(file, name)]
    assert content(tmp_path / kind, tasks[kind]) == unchanged(kind, clean, tasks)


@pytest.mark.parametrize(("kind", "damage"), SILENT.values(), ids=SILENT.keys())
def test_what_changes_nothing_is_read_alike(
    kind: str, damage: Damage, clean: dict[str, Path], tasks: dict[str, Task], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    validation = checked(kind, damage, clean, tasks, tmp_path)
    assert validation.findings == ()
    assert content(tmp_path / kind, tasks[kind]) == unchanged(kind, clean, tasks)


def log2(values: np.ndarray) -> np.ndarray:
    return np.log2(values + 1)


def responses(change: Callable[[np.ndarray], np.ndarray], studies: int = 1) -> Damage:
    """Return a damage that makes a large table of responses, and changes the unit of the last study."""

    def damage(folder: Path) -> None:
        lines = pd.DataFrame({"cell_line_id": [f"M{number}" for number in range(60)], "tissue": "lung"})
        drugs = pd.DataFrame({"drug_id": [f"N{number}" for number in range(12)], "smiles": "CO"})
        pd.concat([pd.read_csv(folder / L), lines]).to_csv(folder / L, index=False)
        pd.concat([pd.read_csv(folder / D), drugs]).to_csv(folder / D, index=False)
        pairs = lines[["cell_line_id"]].merge(drugs[["drug_id"]], how="cross")
        rng, tables = np.random.default_rng(0), [pd.read_parquet(folder / R)]
        for number in range(studies):
            values = rng.normal(2.5, 2.2, len(pairs))
            values = change(values) if number == studies - 1 else values
            tables.append(pairs.assign(study=f"STUDY{number}", ln_ic50=values))
        pd.concat(tables).to_parquet(folder / R, index=False)

    return damage


# What is not certain, or certainly not what it should be: told of file and column, and refused where it says so.
TOLD: dict[str, tuple[str, Damage, str, str, str | None, str]] = {
    # kind, damage, severity, file, column, a key word
    "label in another case": ("expression", column(S, "label", str.lower, 2), "warning", S, "label", "'blue'"),
    "patient with zeros": ("expression", edited(S, lambda t: t.assign(
        patient_id=["7" if at == 0 else "007" if at == 1 else v for at, v in enumerate(t["patient_id"])])),
        "warning", S, "patient_id", "'007' and '7'"),
    "tissue in another case": ("response", one(L, "tissue", "Lung"), "warning", L, "tissue", "'Lung' and 'lung'"),
    "sample in another case": ("expression", one(S, "sample_id", "p000-01"), "warning", S, "sample_id", "looks like"),
    "drugs in another case": ("response", column(D, "drug_id", str.lower), "error", R, "drug_id", "looks like"),
    "whole copies": ("response", numbers(C, lambda v: np.rint(2 * v)), "error", C, None, "whole"),
    "M values": ("response", numbers(B, lambda v: np.log2((v + 0.01) / (1.01 - v))), "error", B, None, "M values"),
    "truth values": ("response", edited(M, lambda t: t.assign(TP53=t["TP53"] > 0)), "error", M, "TP53", "1 for true"),
    "two samples in one": ("expression", one(S, "sample_id", "P001-01 "), "error", S, "sample_id", "more than once"),
    "a rule's column that says nothing": ("expression", one(S, "sample_type", "[Not Available]"), "warning", S,
        "sample_type", "kept"),
    "a gene that is a date": ("expression", edited(E, lambda t: t.rename(columns={"SIM01|1": "1-Mar"})), "warning", E,
        "1-Mar", "spreadsheet"),
    "several genes": ("expression", edited(E, lambda t: t.rename(columns={"SIM01|1": "A /// B"})), "warning", E,
        "A /// B", "several"),
    "class in another case": ("images", lambda f: (f / "images/all").rename(f / "images/ALL"), "error", "images/all",
        None, "'ALL'"),
    "header in another case": ("expression", raw(S, lambda b: b.replace(b"patient_id", b"Patient ID")), "error", S,
        "patient_id", "'Patient ID'"),
    "csv for parquet": ("expression", lambda f: (f / E).rename(f / "expression.csv"), "error", E, None,
        "'expression.csv' is there: save it as expression.parquet"),
    "decimal commas": ("response", edited(E, lambda t: t.assign(MYC=[
        str(v).replace(".", ",") for v in t["MYC"]])), "error", E, "MYC", "decimal points"),
    "a table that is logged": ("expression", numbers(E, log2), "warning", E, None, "data.scale: log2"),
    "linear expression": ("response", numbers(E, lambda v: 2.0**v - 1), "error", E, None, "linear"),
    "micromolar in one study": ("response", responses(np.exp, 3), "error", R, "ln_ic50", "'STUDY2'"),
    "decimal logarithms": ("response", responses(lambda v: v / np.log(10), 2), "warning", R, "ln_ic50", "'STUDY1'"),
    "copies in log2": ("response", numbers(C, np.log2), "error", C, None, "log2"),
    "absolute copies": ("response", numbers(C, lambda v: 2 * v), "warning", C, None, "absolute"),
    "percent": ("response", numbers(B, lambda v: 100 * v), "error", B, None, "percent"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "damage", "severity", "file", "name", "says"), TOLD.values(), ids=TOLD.keys())
def test_what_is_not_certain_is_told_by_name(
    kind: str, damage: Damage, severity: str, file: str, name: str | None, says: str, clean: dict[str, Path],
    tasks: dict[str, Task], tmp_path: Path,
) -> None:  # fmt: skip
    validation = checked(kind, damage, clean, tasks, tmp_path)
    of_it = [found for found in validation.findings if (found.file, found.column) == (file, name)]
    assert any(says in str(found) for found in of_it), list(map(str, validation.findings))
    assert validation.passed == (severity == "warning")
    assert all(len(str(found).splitlines()) == 1 for found in validation.findings)


def test_responses_in_their_unit_are_not_doubted(
    clean: dict[str, Path], tasks: dict[str, Task], tmp_path: Path
) -> None:
    validation = checked("response", responses(lambda values: values, 2), clean, tasks, tmp_path)
    assert validation.findings == ()


def test_columns_of_one_wrong_type_are_one_finding(tmp_path: Path) -> None:
    table = pd.DataFrame({"sample_id": ["a"], **{f"G{number}": ["1,5"] for number in range(40)}})
    table.to_parquet(tmp_path / E)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / E, text=("sample_id",), all_other_numbers=True)
    (found,) = caught.value.findings
    assert "40 of 40" in found.message and "'1,5'" in found.message and "G0" in str(found.column)


def test_a_word_for_unknown_is_no_value_in_any_table(
    clean: dict[str, Path], tasks: dict[str, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = "[Discrepancy]"  # of all words, see the property below
    monkeypatch.chdir(tmp_path)
    for kind, file, name in [
        ("expression", S, "label"),
        ("expression", S, "patient_id"),
        ("images", IMAGES, "subject_id"),
    ]:
        of_word = checked(kind, one(file, name, word), clean, tasks, tmp_path / name / "word")
        empty = checked(kind, one(file, name, ""), clean, tasks, tmp_path / name / "empty")
        assert of_word.passed and (file, name) in named(of_word.warnings)
        assert of_word.counts == empty.counts
        assert content(tmp_path / name / "word" / kind, tasks[kind]) == content(
            tmp_path / name / "empty" / kind, tasks[kind]
        )
    assert not checked("expression", one(S, "sample_id", word), clean, tasks, tmp_path / "key").passed


def test_a_cell_line_that_is_called_na_is_a_line(
    clean: dict[str, Path], tasks: dict[str, Task], tmp_path: Path
) -> None:
    renamed = every_table(lambda name: "NA" if name == "LINE-03" else name)
    assert checked("response", renamed, clean, tasks, tmp_path).findings == ()
    samples = tasks["response"].read(tmp_path / "response").samples
    assert "NA" in samples.cell_lines.index
    assert (samples.pairs["cell_line_id"] == "NA").sum() == len(SMILES)


def test_unknown_patients_stand_alone_even_if_one_word_says_it_of_all() -> None:
    tables = make_tables()
    unknown = with_cells(tables.samples, "patient_id", dict.fromkeys(range(6), "Not Reported"))
    kept = keep_profiles(replace(tables, samples=unknown), label_task()).samples
    assert kept.table["patient_id"][:5].tolist() == kept.table["sample_id"][:5].tolist()


def test_a_rule_is_not_half_obeyed_where_nobody_validates() -> None:
    tables = make_tables()
    vials = tables.samples.assign(sample_type=[f"{kind}A" if at % 2 else str(kind) for at, kind in
                                               enumerate(tables.samples["sample_type"])])  # fmt: skip
    broken = replace(tables, samples=vials)
    with pytest.raises(DataError, match="'11A'"):
        keep_profiles(broken, label_task())
    both = with_rules(exclude={"sample_type": ("11", "11A")})
    assert len(keep_profiles(broken, both).samples) == int((tables.samples["sample_type"] != 11).sum())


def test_what_validation_passes_is_what_samples_see(
    clean: dict[str, Path], tasks: dict[str, Any], tmp_path: Path
) -> None:
    """Files of an operating system are no images to either, and an ambiguous name is refused by both."""
    folder = shutil.copytree(clean["images"], tmp_path / "images")
    (folder / "images/all/desktop.ini").write_bytes(b"x")
    (folder / "images/__MACOSX").mkdir()
    assert validate_folder(folder, "t", tasks["images"]).counts["rows"]["images/all"] == 12
    assert len(list_images(folder, tasks["images"])) == 24
    column(IMAGES, "file", lambda name: name.replace("all/", "hem/"))(folder)
    assert not validate_folder(folder, "t", tasks["images"]).passed
    with pytest.raises(DataError, match=r"images\.csv, column"):
        list_images(folder, tasks["images"])


# Properties of reading.

BLANKS = st.text(st.sampled_from([" ", "\t", SPACE, ZERO_WIDTH, "\u2009", "\ufeff"]), max_size=3)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=["L", "N"]), min_size=1, max_size=8)


def in_any_case(word: str) -> st.SearchStrategy[str]:
    return st.sampled_from([word, word.upper(), word.title(), f"[{word}]"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=5), before=BLANKS, after=BLANKS, parquet=st.booleans())
def test_blanks_around_text_change_nothing(
    names: list[str], before: str, after: str, parquet: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("t.parquet" if parquet else "t.csv")
    write = (lambda t: t.to_parquet(path, index=False)) if parquet else (lambda t: t.to_csv(path, index=False))
    notes: list[Finding] = []
    write(pd.DataFrame({"key": names, "x": 1.0}))
    plain = read_table(path, text=("key",))
    write(pd.DataFrame({"key": [f"{before}{name}{after}" for name in names], "x": 1.0}))
    read = read_table(path, text=("key",), notes=notes)
    pd.testing.assert_frame_equal(read, plain)
    known = plain["key"].notna().any()
    assert any(note.column == "key" for note in notes) or not known or not (before + after)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.sampled_from(sorted(UNKNOWN_WORDS - {""})).flatmap(in_any_case), blank=BLANKS, parquet=st.booleans())
def test_every_word_for_unknown_is_read_as_empty_and_told(word: str, blank: str, parquet: bool, tmp_path: Path) -> None:
    path = tmp_path / ("t.parquet" if parquet else "t.csv")
    table = pd.DataFrame({"key": ["A", f"{word}{blank}"], "x": [1.0, 2.0]})
    table.to_parquet(path, index=False) if parquet else table.to_csv(path, index=False)
    notes: list[Finding] = []
    assert read_table(path, text=("key",), notes=notes)["key"].tolist() == ["A", None]
    assert [(note.file, note.column, note.rows) for note in notes] == [(path.name, "key", (2,))]


@given(
    code=st.integers(0, 999),
    write=st.sampled_from(["{}", "0{}", "{}.0", " {}", "{} ", f"{{}}{SPACE}"]),
    other=st.integers(0, 999),
)
def test_a_rule_finds_its_code_however_it_is_written_and_no_other(code: int, write: str, other: int) -> None:
    held = pd.Series([write.format(code), str(other), None], dtype=object)
    assert is_one_of(held, [str(code)]).tolist() == [True, code == other, False]


def test_ids_of_digits_keep_their_zeros_and_exponents(tmp_path: Path) -> None:
    ids = ["0012", "12", "1E5", "1.2e+1", "12.0", "1_000"]
    pd.DataFrame({"key": ids, GENES[0]: "1,5"}).to_csv(tmp_path / "t.csv", index=False, sep=";")
    notes: list[Finding] = []
    read = read_table(tmp_path / "t.csv", text=("key",), notes=notes)
    assert read["key"].tolist() == ids
    assert read[GENES[0]].tolist() == [1.5] * len(ids)
    assert [note.expectation for note in notes] == ["file_separator", "text_alike"]
