"""Tables as people have them lead to the same samples, or to a finding that names the file: never to others unsaid."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import text_values
from pipelines.errors import DataError, Finding
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Task, read_params
from pipelines.samples.expression import is_one_of, keep_profiles
from pipelines.samples.formats import read_table
from pipelines.text_values import UNKNOWN_WORDS
from pipelines.validate import Validation, validate_folder
from tests.pipelines.damages import Damage, cell, change, edited, renamed, rewrite
from tests.pipelines.expression_folder import label_task, make_tables, write_expression_folder
from tests.pipelines.image_samples import write_image_folder
from tests.pipelines.response_tables import GENES, ROOT, SMILES, shipped_task, write_response_folder
from tests.pipelines.test_expression_samples import with_rules

R, L, D = "response.parquet", "cell_lines.csv", "drugs.csv"
E, S, IMAGES = "expression.parquet", "samples.csv", "images.csv"
C, B, M = "copy_number.parquet", "methylation.parquet", "mutation.parquet"


@cache
def task_of(kind: str) -> Task:
    images = read_params(ROOT / "params.yaml").task("leukemia_cell")
    return {"response": shipped_task(), "expression": label_task(), "images": images}[kind]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Return sound folders and what a model would see of them."""
    root = tmp_path_factory.mktemp("clean")
    write_response_folder(root / "response")
    write_expression_folder(root / "expression")
    write_image_folder(root / "images")
    for path in [root / "response" / L, root / "expression" / S]:  # all text, as the damages below write it
        pd.read_csv(path, dtype=str).to_csv(path, index=False)
    return {kind: (root / kind, content(root / kind, kind)) for kind in ("response", "expression", "images")}


Check = Callable[..., Validation]


@pytest.fixture
def check(clean: dict[str, tuple[Path, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Return a function that validates a damaged copy of a folder, in the working directory."""
    monkeypatch.chdir(tmp_path)

    def checked(kind: str, damage: Damage, to: str = ".") -> Validation:
        folder = shutil.copytree(clean[kind][0], tmp_path / to / kind)
        damage(folder)
        return validate_folder(folder, kind, task_of(kind))

    return checked


def column(file: str, name: str, change: Callable[[Any], Any], every: int = 1) -> Damage:
    """Return a damage that changes every so-manieth cell of a column."""
    return edited(file, lambda t: t.assign(**{name: [v if at % every else change(v) for at, v in enumerate(t[name])]}))


def numbers(file: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        values = change(table.iloc[:, 1:].to_numpy(float))
        return pd.concat([table.iloc[:, :1], pd.DataFrame(values, columns=table.columns[1:])], axis=1)

    return edited(file, edit)


def content(folder: Path, kind: str) -> Any:
    task = task_of(kind)
    samples = task.read(folder).samples
    table = samples.table.drop(columns="sample_id").astype(str)
    if isinstance(task, PairsTask):
        about = samples.cell_lines["tissue"].to_numpy()[samples.cell], samples.drugs["smiles"].to_numpy()[samples.drug]
        return table.to_csv(), [list(map(str, each)) for each in about], samples.omics["expression"].to_numpy().tolist()
    return table.drop(columns=["sample_type", "platform"], errors="ignore").to_csv(), getattr(samples, "classes", None)


SPACE, ZERO_WIDTH = "\u00a0", "\u200b"

# What is certain: the same samples, and a warning that names file and column, or none.
SAME: dict[str, tuple[str, Damage, str | None, str | None]] = {
    "blank after a label": ("expression", cell(S, 1, "label", "BLUE "), S, "label"),
    "blank after a patient": ("expression", column(S, "patient_id", lambda v: f"{v} ", 3), S, "patient_id"),
    "blank in parquet": ("expression", column(E, "sample_id", lambda v: f"{v}\t", 2), E, "sample_id"),
    "blank in a header": ("expression", rewrite(S, lambda b: b.replace(b"patient_id", b" patient_id ")), S, None),
    "blank in a gene": ("expression", renamed(E, "SIM03|3", "SIM03|3 "), E, None),
    "semicolons": ("expression", rewrite(S, lambda b: b.replace(b",", b";")), S, None),
    "blank after a drug": ("response", cell(R, 1, "drug_id", f"DRUG-1{SPACE}"), R, "drug_id"),
    "backslashes": ("images", column(IMAGES, "file", lambda v: v.replace("/", "\\")), IMAGES, "file"),
    "a drive": ("images", column(IMAGES, "file", lambda v: f"C:\\x\\images\\{v}"), IMAGES, "file"),
    "names alone": ("images", column(IMAGES, "file", lambda v: v.split("/")[1]), IMAGES, "file"),
    "quoted for the web": ("images", column(IMAGES, "file", lambda v: v.replace("_", "%5F")), IMAGES, "file"),
    "UTF-16": ("expression", rewrite(S, lambda b: b.decode().encode("utf-16")), None, None),
    "a mark of UTF-8": ("expression", rewrite(S, lambda b: b"\xef\xbb\xbf" + b), None, None),
    "keys as an index": ("response", lambda f: pd.read_parquet(f / E).set_index("cell_line_id").to_parquet(f / E),
        None, None),
    "labels in another case": ("images", column(IMAGES, "label", str.upper), None, None),
    "files of systems": ("images", lambda f: (f / "images/all/Thumbs.db").write_bytes(b"x"), "images", None),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
def test_what_is_certain_gives_the_same_samples_and_is_told(case: str, check: Check, clean: dict[str, Any]) -> None:
    kind, damage, file, name = SAME[case]
    validation = check(kind, damage)
    assert validation.passed, list(map(str, validation.findings))
    assert [(each.file, each.column) for each in validation.warnings] == ([(file, name)] if file else [])
    assert content(Path(kind), kind) == clean[kind][1]


def responses(change: Callable[[np.ndarray], np.ndarray], studies: int = 1) -> Damage:
    """Return a damage that makes a large table of responses, and changes the unit of the last study."""

    def damage(folder: Path) -> None:
        lines = pd.DataFrame({"cell_line_id": [f"M{number}" for number in range(60)], "tissue": "lung"})
        drugs = pd.DataFrame({"drug_id": [f"N{number}" for number in range(12)], "smiles": "CO"})
        for file, more in ((L, lines), (D, drugs)):
            pd.concat([pd.read_csv(folder / file), more]).to_csv(folder / file, index=False)
        pairs = lines[["cell_line_id"]].merge(drugs[["drug_id"]], how="cross")
        rng, tables = np.random.default_rng(0), [pd.read_parquet(folder / R)]
        for number in range(studies):
            values = rng.normal(2.5, 2.2, len(pairs))
            values = change(values) if number == studies - 1 else values
            tables.append(pairs.assign(study=f"STUDY{number}", ln_ic50=values))
        pd.concat(tables).to_parquet(folder / R, index=False)

    return damage


# Kind, damage, file, column and a key word of what is not certain, and of what is certainly not what it should be.
WARNED: dict[str, tuple[str, Damage, str, str | None, str]] = {
    "label in another case": ("expression", column(S, "label", str.lower, 2), S, "label", "'blue'"),
    "patient's zeros": ("expression", lambda f: [cell(S, 1, "patient_id", "7")(f), cell(S, 2, "patient_id", "007")(f)],
        S, "patient_id", "'007' and '7'"),
    "tissue in another case": ("response", cell(L, 1, "tissue", "Lung"), L, "tissue", "'Lung' and 'lung'"),
    "sample in another case": ("expression", cell(S, 1, "sample_id", "p000-01"), S, "sample_id", "looks like"),
    "decimal logarithms": ("response", responses(lambda v: v / np.log(10), 2), R, "ln_ic50", "'STUDY1'"),
    "absolute copies": ("response", numbers(C, lambda v: 2 * v), C, None, "absolute"),
}  # fmt: skip
REFUSED: dict[str, tuple[str, Damage, str, str | None, str]] = {
    "drugs in another case": ("response", column(D, "drug_id", str.lower), R, "drug_id", "looks like"),
    "whole copies": ("response", numbers(C, lambda v: np.rint(2 * v)), C, None, "whole"),
    "M values": ("response", numbers(B, lambda v: np.log2((v + 0.01) / (1.01 - v))), B, None, "M values"),
    "truth values": ("response", edited(M, lambda t: t.assign(TP53=t["TP53"] > 0)), M, "TP53", "1 for true"),
    "two samples in one": ("expression", cell(S, 1, "sample_id", "P001-01 "), S, "sample_id", "more than once"),
    "class in another case": ("images", lambda f: (f / "images/all").rename(f / "images/ALL"), "images/all", None,
        "'ALL'"),
    "header in another case": ("expression", change(S, "patient_id", "Patient ID"), S, "patient_id", "'Patient ID'"),
    "csv for parquet": ("expression", lambda f: (f / E).rename(f / "expression.csv"), E, None,
        "which has 'expression.csv'"),
    "decimal commas": ("response", column(E, "MYC", lambda v: str(v).replace(".", ",")), E, "MYC", "decimal points"),
    "micromolar in one study": ("response", responses(np.exp, 3), R, "ln_ic50", "'STUDY2'"),
    "copies in log2": ("response", numbers(C, np.log2), C, None, "log2"),
    "percent": ("response", numbers(B, lambda v: 100 * v), B, None, "percent"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*WARNED, *REFUSED])
def test_what_is_not_certain_is_told_by_name(case: str, check: Check) -> None:
    kind, damage, file, name, says = (WARNED | REFUSED)[case]
    validation = check(kind, damage)
    of_it = [found for found in validation.findings if (found.file, found.column) == (file, name)]
    assert any(says in str(found) for found in of_it), list(map(str, validation.findings))
    assert validation.passed == (case in WARNED)
    assert all(len(str(found).splitlines()) == 1 for found in validation.findings)


def test_columns_of_one_wrong_type_are_one_finding(tmp_path: Path) -> None:
    table = pd.DataFrame({"sample_id": ["a"], **{f"G{number}": ["1,5"] for number in range(40)}})
    table.to_parquet(tmp_path / E)
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / E, text=("sample_id",), all_other_numbers=True)
    (found,) = caught.value.findings
    assert "40 of 40" in found.message and "'1,5'" in found.message and "G0" in str(found.column)


def test_a_cell_line_that_is_called_na_is_a_line_and_responses_in_their_unit_are_not_doubted(check: Check) -> None:
    to_na = [column(file, "cell_line_id", lambda n: {"LINE-03": "NA"}.get(n, n)) for file in (R, L, E, C, B, M)]
    assert check("response", lambda folder: [rename(folder) for rename in to_na]).findings == ()
    samples = task_of("response").read(Path("response")).samples
    assert "NA" in samples.cell_lines.index
    assert (samples.pairs["cell_line_id"] == "NA").sum() == len(SMILES)
    assert check("response", responses(lambda values: values, 2), "in_unit").findings == ()


def test_a_rule_is_not_half_obeyed_where_nobody_validates() -> None:
    tables = make_tables()
    kinds = tables.samples["sample_type"]
    vials = tables.samples.assign(sample_type=[f"{kind}A" if at % 2 else str(kind) for at, kind in enumerate(kinds)])
    broken = replace(tables, samples=vials)
    with pytest.raises(DataError, match="'11A'"):
        keep_profiles(broken, label_task())
    both = with_rules(exclude={"sample_type": ("11", "11A")})
    assert len(keep_profiles(broken, both).samples) == int((kinds != 11).sum())


# Properties of reading.

BLANKS = st.text(st.sampled_from([" ", "\t", SPACE, ZERO_WIDTH, "\u2009", "\ufeff"]), max_size=3)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=["L", "N"]), min_size=1, max_size=8)
FILES = st.sampled_from(["t.csv", "t.parquet"])
UNKNOWN = sorted(UNKNOWN_WORDS - {""})
IN_ANY_CASE = st.sampled_from([w for word in UNKNOWN for w in (word, word.upper(), word.title(), f"[{word}]")])


def save(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=5), before=BLANKS, after=BLANKS, file=FILES)
def test_blanks_around_text_are_nothing(names: list[str], before: str, after: str, file: str, tmp_path: Path) -> None:
    notes: list[Finding] = []
    plain = read_table(save(pd.DataFrame({"key": names, "x": 1.0}), tmp_path / file), text=("key",))
    padded = pd.DataFrame({"key": [f"{before}{name}{after}" for name in names], "x": 1.0})
    pd.testing.assert_frame_equal(read_table(save(padded, tmp_path / file), text=("key",), notes=notes), plain)
    known = plain["key"].notna().any()
    assert any(note.column == "key" for note in notes) or not known or not (before + after)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=IN_ANY_CASE, blank=BLANKS, file=FILES)
def test_every_word_for_unknown_is_read_as_empty_and_told(word: str, blank: str, file: str, tmp_path: Path) -> None:
    path = save(pd.DataFrame({"key": ["A", f"{word}{blank}"], "x": [1.0, 2.0]}), tmp_path / file)
    notes: list[Finding] = []
    assert read_table(path, text=("key",), notes=notes)["key"].tolist() == ["A", None]
    assert [(note.file, note.column, note.rows) for note in notes] == [(file, "key", (2,))]


@given(
    code=st.integers(0, 999),
    write=st.sampled_from(["{}", "0{}", "{}.0", " {}", "{} ", f"{{}}{SPACE}"]),
    other=st.integers(0, 999),
)
def test_a_rule_finds_its_code_however_it_is_written_and_no_other(code: int, write: str, other: int) -> None:
    held = pd.Series([write.format(code), str(other), None], dtype=object)
    assert is_one_of(held, [str(code)]).tolist() == [True, code == other, False]
    assert not is_one_of(held, ["None", "nan", ""]).any()


@given(st.text(st.characters(max_codepoint=127), max_size=9))
def test_ascii_is_cleaned_as_other_text_is(text: str) -> None:
    for way in (text_values.clean, text_values.folded):
        assert way(f"{text} é") == f"{way(text)} é".strip()


TYPES = {"1 2": "i", "1 NA": "f", "1 x": "O", "x 1": "O", "true FALSE": "b", "true 1": "O", "true NA": "O"}


@pytest.mark.parametrize(("cells", "kind"), TYPES.items())
def test_a_column_has_numbers_or_truth_values_only_if_all_known_cells_have(
    cells: str, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("\n".join(["key,value", *(f"k{cell},{cell}" for cell in cells.split())]))
    assert read_table(tmp_path / "t.csv", text=("key",))["value"].dtype.kind == kind


def test_ids_of_digits_keep_their_zeros_and_exponents(tmp_path: Path) -> None:
    ids = ["0012", "12", "1E5", "1.2e+1", "12.0", "1_000"]
    pd.DataFrame({"key": ids, GENES[0]: "1,5"}).to_csv(tmp_path / "t.csv", index=False, sep=";")
    notes: list[Finding] = []
    read = read_table(tmp_path / "t.csv", text=("key",), notes=notes)
    assert read["key"].tolist() == ids
    assert read[GENES[0]].tolist() == [1.5] * len(ids)
    assert [note.expectation for note in notes] == ["file_separator", "text_alike"]
