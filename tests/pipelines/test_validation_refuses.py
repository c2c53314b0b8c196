"""Faulty raw data must not get past `pipelines.validate`, and the user must learn file, column and rows.

The tables of faults name a batch each: the faults of a batch are planted in one folder, which is validated once.
"""

import functools
import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile

from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.expectations import Suite, between, filled, report_rows
from pipelines.params import read_params
from pipelines.simulate.survival import simulate_breast_survival
from pipelines.validate import Validation, main, run_suites, validate_folder
from tests.empty_store import working_in
from tests.pipelines.damages import Damage, block, cell, change, column, edited, files_below, removed, renamed, rewrite
from tests.pipelines.expression_folder import GENES, gene_task, make_tables, write_expression_folder
from tests.pipelines.image_samples import CLASSES, SIDE, SUBJECTS, picture, png, write_image_folder
from tests.pipelines.response_tables import write_response_folder

ROOT = Path(__file__).parents[2]
REAL_DATA = ROOT.parent / "shared" / "data"
PARAMS = read_params(ROOT / "params.yaml")
PAIR, TUMOR, CELL = "drug_response", "tumor_type", "leukemia_cell"


def task(name: str, part: str = "data", **settings: Any) -> Any:
    shipped: Any = PARAMS.task(name)
    return replace(shipped, **{part: replace(getattr(shipped, part), **settings)}) if settings else shipped


@functools.cache
def clean(kind: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"clean-{kind}-")) / kind
    write: dict[str, Callable[[Path], object]] = {"pairs": write_response_folder, "images": write_image_folder}
    write["survival"] = functools.partial(simulate_breast_survival, patients=120)
    write.get(kind, lambda folder: write_expression_folder(folder, make_tables(kind)))(folder)
    return folder


@dataclass(frozen=True)
class Fault:
    """A damage of a folder and the finding that must name it."""

    batch: str
    damage: Damage
    expectation: str
    file: str
    column: str | None = None
    rows: tuple[int, ...] = ()
    says: str = ""
    severity: str = "error"


def times(row: int, factor: float) -> Damage:
    def change(table: pd.DataFrame) -> None:
        table.iloc[row - 1, 1:] = table.iloc[row - 1, 1:].astype(float) * factor

    return edited("expression.parquet", change)


def cut(file: str, share: float) -> Damage:
    return rewrite(file, lambda content: content[: int(share * len(content))])


def repeated(file: str, row: int) -> Damage:
    return edited(file, lambda table: pd.concat([table, table.iloc[[row - 1]]]))


def kept(file: str, rows: slice = slice(None), columns: slice = slice(None)) -> Damage:
    return edited(file, lambda table: table.iloc[rows, columns])


def nothing(folder: Path) -> None:
    """Leave the folder as another fault made it."""


# Pairs.

R, E, M, C, B = (f"{name}.parquet" for name in ("response", "expression", "mutation", "copy_number", "methylation"))
L, D, K, T = "cell_lines.csv", "drugs.csv", "cell_line_id", "ln_ic50"
PROMOTER = "MYC_1_1000_2000"

PAIRS = [
    Fault("files", removed(C), "file_exists", C),
    Fault("files", cut(D, 0.0), "file_readable", D),
    Fault("files", cut(R, 0.6), "file_readable", R),
    Fault("files", change(L, "breast", "s\xe9in", "latin-1"), "file_encoding", L, None, (2,)),
    Fault("files", cell(E, 7, "KRAS", -0.5), "values_not_below", E, "KRAS", (7,)),  # hidden by no other file
    Fault("headers", cut(D, 0.96), "row_width", D, None, (6,)),
    Fault("headers", renamed(R, T, "auc"), "column_exists", R, T),
    Fault("headers", change(L, "tissue", K), "column_unique", L, K),
    Fault("headers", edited(E, lambda t: t.astype({"MYC": str})), "column_type", E, "MYC"),
    Fault("headers", column(C, K, 7), "column_type", C, K, tuple(range(1, 11))),
    Fault("columns", renamed(M, "MYC", " "), "column_named", M, "number 5"),
    Fault("columns", kept(B, columns=slice(0, 1)), "has_features", B),
    Fault("columns", renamed(C, "EGFR", "ERBB1"), "genes_agree", C, "EGFR"),
    Fault("columns", nothing, "genes_agree", E, "ERBB1"),
    Fault("columns", cell(R, 9, "study", ""), "key_filled", R, "study", (9,)),
    Fault("columns", change(D, "DRUG-2", "  "), "key_filled", D, "drug_id", (2,)),
    Fault("columns", nothing, "drugs_known", R, "drug_id", tuple(range(13, 25))),
    Fault("few rows", kept(R, slice(0, 49)), "minimum_rows", R),
    Fault("empty", kept(R, slice(0, 0)), "minimum_rows", R),
    Fault("empty", kept(E, slice(0, 0)), "minimum_rows", E),
    Fault("empty", kept(L, slice(0, 0)), "minimum_rows", L),
    *(Fault("empty", nothing, "cell_lines_known", file, K, tuple(range(1, 11))) for file in (M, C, B)),
    Fault("no target", column(R, T, np.nan), "target_measured", R, T),
    Fault("scale", column(R, T, 1.5), "target_varies", R, T),
    Fault("scale", edited(E, lambda t: t.set_index(K).rpow(2.0).sub(1.0).reset_index()), "scale_fits", E),
    Fault("cells", cell(R, 3, T, np.inf), "target_finite", R, T, (3,)),
    Fault("cells", cell(R, 4, T, 1e6), "target_in_range", R, T, (4,), "(found 1e+06)"),
    Fault("cells", cell(R, 8, K, "LINE-99"), "cell_lines_known", R, K, (8,), "1 of 13 cell lines are not in"),
    Fault("cells", cell(R, 10, "drug_id", "DRUG-99"), "drugs_known", R, "drug_id", (10,), "('DRUG-99')"),
    Fault("cells", repeated(R, 5), "measurement_unique", R, "study, cell_line_id, drug_id", (5, 73)),
    Fault("cells", repeated(L, 3), "key_unique", L, K, (3, 13), "(found 'LINE-03')"),
    Fault("cells", change(D, "C1CCCCC1", "C1CCCCC("), "smiles_parses", D, "smiles", (4,), "(found 'C1CCCCC(')"),
    Fault("cells", cell(E, 3, "MYC", -np.inf), "values_finite", E, "MYC", (3,)),
    Fault("cells", column(E, "TP53", 3.0), "column_varies", E, "TP53"),
    Fault("cells", cell(E, 6, K, "LINE-99"), "cell_lines_known", E, K, (6,)),
    Fault("cells", cell(C, 2, "BRAF", 1e4), "values_not_above", C, "BRAF", (2,)),
    Fault("cells", column(C, "TP53", np.nan), "column_varies", C, "TP53"),
    Fault("cells", cell(M, 10, "PTEN", 2), "values_binary", M, "PTEN", (10,)),
    Fault("cells", cell(B, 1, PROMOTER, 40.0), "values_not_above", B, PROMOTER, (1,)),
    Fault("cells", cell(B, 4, K, None), "key_filled", B, K, (4,)),
]  # fmt: skip

# Profiles.

S, G, FIRST = "samples.csv", "genes.csv", GENES[0]
LOGGED = edited(E, lambda t: t.set_index("sample_id").apply(np.log2).clip(0).reset_index())
RAISED = edited(E, lambda t: t.set_index("sample_id").apply(np.exp2).clip(upper=1e9).reset_index())
RARE = column(S, "label", lambda t: t["label"].where(~t["patient_id"].isin(["P000", "P010"]), "RARE"))
GONE = column(S, "label", lambda t: t["label"].where(t["sample_type"] != "11", "GBM"))
ALIEN = column(S, "sample_id", lambda t: "x" + t["sample_id"])
FEW = column(S, "sample_id", lambda t: t["sample_id"].where(np.arange(len(t)) < 30, "x" + t["sample_id"]))
MORE = edited(G, lambda t: pd.concat([t, pd.DataFrame({"gene": ["MORE|1000"], "is_l1000_landmark": ["False"]})]))

LINEAR = [
    Fault("values", cell(E, 5, FIRST, np.inf), "values_finite", E, FIRST, (5,), "must be finite"),
    Fault("values", cell(E, 5, 2, -0.5), "values_not_below", E, GENES[1], (5,), "below 0 (found -0.5)"),
    Fault("values", block(E, slice(0, 20), 3, np.nan), "gene_measured", E, GENES[2], (), "more than 20%"),
    Fault("values", block(E, slice(30, 31), slice(11, 19), np.nan), "sample_measured", E, None, (31,), "(found 27%)"),
    Fault("values", block(E, slice(60, 62), slice(25, 28), np.nan), "values_complete", E, ", ".join(GENES[24:27]), (),
          "6 values are missing, of 2 samples and 3 genes", "warning"),
    Fault("values", times(8, 1000), "library_size", E, None, (8, 41), "more than 50 times above or below"),
    Fault("values", times(41, 1e-3), "library_size", E, None, (8, 41)),
    Fault("values", block(E, slice(50, 51), slice(1, None), 0.0), "sample_expressed", E, None, (51,), "values are 0"),
    Fault("keys", cell(E, 5, "sample_id", None), "key_filled", E, "sample_id", (5,)),
    Fault("keys", cell(E, 2, "sample_id", "P000-01"), "key_unique", E, "sample_id", (1, 2), "(found 'P000-01')"),
    Fault("keys", block(E, slice(None), slice(1, 7), 3.5), "column_varies", E, ", ".join(GENES[:6]), (),
          "6 of 30 columns: has one value"),
    Fault("keys", renamed(E, GENES[7], " "), "column_named", E, "number 9"),
    Fault("keys", renamed(E, GENES[8], "SIM02|99"), "symbol_alone", E, "SIM02|2, SIM02|99", (), "(SIM02)", "warning"),
    Fault("keys", renamed(E, GENES[9], "1-Mar"), "gene_name_kept", E, "1-Mar", (), "spreadsheet", "warning"),
    Fault("keys", renamed(E, GENES[10], "A /// B"), "gene_name_single", E, "A /// B", (), "several", "warning"),
    Fault("small", kept(E, slice(0, 48), slice(0, 12)), "minimum_genes", E, None, (), "11 genes, 20 are needed"),
    Fault("small", nothing, "minimum_samples", E, None, (), "48 samples, 50 are needed"),
    Fault("logged", LOGGED, "scale_fits", E, None, (), "set data.scale: log2", "warning"),
    Fault("one value", block(E, slice(None), 1, 0.0), "column_varies", E, FIRST, (), "one value", "warning"),
    Fault("samples", cell(S, 5, "sample_id", None), "key_filled", S, "sample_id", (5,)),
    Fault("samples", nothing, "samples_known", E, "sample_id", (5,), "they are dropped", "warning"),
    Fault("samples", kept(E, slice(0, 65)), "samples_known", S, "sample_id", (66,), "they are not used", "warning"),
    Fault("samples", cell(S, 8, "patient_id", "  "), "patient_known", S, "patient_id", (8,), severity="warning"),
    Fault("samples", cell(S, 9, "label", None), "label_known", S, "label", (9,), "dropped", "warning"),
    Fault("samples", cell(S, 10, "sample_type", "?"), "exclude_unknown", S, "sample_type", (10,), "kept", "warning"),
    Fault("labels", cell(S, 3, "label", "RED"), "patient_one_label", S, "label", (2, 3), "('GREEN' and 'RED')",
          "warning"),
    Fault("labels", RARE, "class_large_enough", S, "label", (), "'RARE' (2); they are dropped", "warning"),
    Fault("labels", GONE, "labels_left", S, "label", (), "no sample is left of 'GBM'", "warning"),
    Fault("one label", column(S, "label", "RED"), "classes_enough", S, "label", (), "1 classes have at least 10"),
    Fault("one label", column(S, "sample_type", "01"), "exclude_value", S, "sample_type", (), "'11'", "warning"),
    Fault("alike", cell(S, 4, "sample_type", "11A"), "exclude_alike", S, "sample_type"),
    Fault("no rule", edited(S, lambda t: t.drop(columns="sample_type")), "exclude_column", S, "sample_type"),
    Fault("strangers", ALIEN, "samples_common", S, "sample_id", (), "not one sample is in"),
    Fault("few common", FEW, "samples_left", S, None, (), "of 30 samples are left"),
    Fault("few common", nothing, "classes_enough", S, "label"),
    Fault("no samples", kept(S, slice(0, 0)), "minimum_rows", S),
    Fault("no samples", nothing, "samples_common", S, "sample_id"),
    Fault("no file", removed(E), "file_exists", E),
    Fault("no words", removed(S), "file_exists", S),
    Fault("no words", column(E, FIRST, lambda t: ["low", *t[FIRST].astype(str)[1:]]), "column_type", E, FIRST, (1,)),
]  # fmt: skip

LOG2 = [
    Fault("values", cell(E, 5, FIRST, -0.5), "values_not_below", E, FIRST, (5,), "which log2(x + 1) never is"),
    Fault("values", cell(E, 6, 2, 4000.0), "values_not_above", E, GENES[1], (6,), "above 30 (found 4000)"),
    Fault("values", times(8, 2), "library_size", E, None, (8,), "more than 50 times"),
    Fault("linear", RAISED, "values_not_above", E, ", ".join(GENES[:20]) + " and 10 more", tuple(range(1, 21)),
          "the table looks linear"),
]  # fmt: skip

AS_IS = [
    Fault("values", block(E, slice(3, 4), slice(1, None), 0.0), "sample_expressed", E, None, (4,)),
    Fault("values", cell(E, 5, FIRST, -np.inf), "values_finite", E, FIRST, (5,)),
]

TARGET_GENES = [
    Fault("genes", cell(G, 2, "gene", FIRST), "key_unique", G, "gene", (1, 2)),
    Fault("genes", cell(G, 4, "gene", None), "key_filled", G, "gene", (4,)),
    Fault("genes", MORE, "genes_known", G, "gene", (31,), "('MORE|1000'); the rows are not used", "warning"),
    Fault("genes", cell(G, 6, "is_l1000_landmark", "yes"), "landmark_says", G, "is_l1000_landmark", (6,), "'yes'"),
    Fault("strangers", column(G, "gene", lambda t: "x" + t["gene"]), "genes_common", G, "gene"),
    Fault("none", column(G, "is_l1000_landmark", "False"), "landmarks_present", G, "is_l1000_landmark"),
    Fault("all", column(G, "is_l1000_landmark", "1"), "targets_left", G, "is_l1000_landmark"),
    Fault("header", kept(G, columns=slice(0, 1)), "column_exists", G, "is_l1000_landmark"),
]  # fmt: skip

TIME, EVENT = "relapse_days", "relapse"


def days(change: Callable[[pd.Series], pd.Series]) -> Damage:
    return column(S, TIME, lambda t: change(t[TIME].astype(int)))


SURVIVAL = [
    Fault("cells", cell(S, 4, TIME, "soon"), "time_number", S, TIME, (4, 5), "'soon'"),
    Fault("cells", cell(S, 5, TIME, "inf"), "time_number", S, TIME, (4, 5)),
    Fault("cells", cell(S, 6, TIME, "0"), "time_positive", S, TIME, (6,)),
    Fault("cells", cell(S, 9, EVENT, "deceased"), "event_truth", S, EVENT, (9,), "'deceased'"),
    Fault("cells", cell(S, 10, EVENT, ""), "follow_up_known", S, None, (10, 11), "dropped", "warning"),
    Fault("cells", cell(S, 11, TIME, "NA"), "follow_up_known", S, None, (10, 11), "", "warning"),
    Fault("no event", column(S, EVENT, "0"), "events_enough", S, EVENT),
    Fault("no event", nothing, "events_before_horizon", S, TIME),
    Fault("short", days(lambda t: t.clip(upper=2000)), "followed_long_enough", S, TIME),
    Fault("century", days(lambda t: t * 100), "time_unit_long", S, TIME),
    Fault("century", nothing, "events_before_horizon", S, TIME),
    Fault("years", days(lambda t: t / 365.25), "time_unit_short", S, TIME),
    Fault("years", nothing, "followed_long_enough", S, TIME),
    Fault("all events", column(S, EVENT, "1"), "some_censored", S, EVENT, severity="warning"),
    Fault("no time", edited(S, lambda t: t.drop(columns=TIME)), "column_exists", S, TIME),
]

# Images: each fault is one file.

DEEP_COLOR = png(SIDE, SIDE, zlib.compress(b"".join(b"\0" + os.urandom(6 * SIDE) for _ in range(SIDE))), depth=16)
BOMB = png(50_000, 50_000, zlib.compress(bytes(1000)), color=0)


def image(name: str, content: Any, expectation: str, says: str, keep: float = 1.0, **options: Any) -> Fault:
    """Return the fault of a file that takes the place of the image with the same number."""
    label, file = name.split("/")
    old = f"{label}/cell_{Path(file).stem[-2:]}.png"

    def damage(folder: Path) -> None:
        path = (folder / "images" / old).rename(folder / "images" / name)
        change("images.csv", old, name)(folder)
        given = {"format": None if path.suffix else "PNG"} | options
        path.write_bytes(content) if isinstance(content, bytes) else content.save(path, **given)
        path.write_bytes(path.read_bytes()[: int(np.ceil(keep * path.stat().st_size))])

    return Fault("files", damage, expectation, f"images/{name}", says=says)


FLOAT = Image.fromarray(np.random.default_rng(3).random((SIDE, SIDE)).astype(np.float32))
IMAGES = [
    image("all/cell_00.png", b"", "image_not_empty", "0 bytes"),
    image("all/cell_03.png", picture(9), "image_readable", "cannot be decoded", keep=0.6),
    image("all/cell_04.jpg", picture(9), "image_readable", "cannot be decoded", keep=0.6),
    image("all/cell_06.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_readable", "is no image"),
    image("all/cell_08.png", picture(9).resize((SIDE, 15)), "image_not_too_small", "24 x 15 pixels"),
    image("all/cell_10.gif", picture(20).convert("P"), "image_not_animated", "several frames",
          save_all=True, append_images=[picture(21)]),
    image("hem/cell_02.jpg", picture(9).convert("CMYK"), "image_mode", "mode CMYK"),
    image("hem/cell_07.png", DEEP_COLOR, "image_eight_bits", "16 bits"),
    image("hem/cell_08.tif", FLOAT, "image_eight_bits", "32 bits"),
    image("hem/cell_10.png", picture(9), "file_ending", "is JPEG by its content", format="JPEG"),
    image("hem/cell_11", picture(9), "file_ending", "is PNG by its content"),
    Fault("strays", lambda f: shutil.copytree(f / "images/all", f / "images/blast"), "folder_known", "images/blast"),
    Fault("strays", lambda f: shutil.copy(f / "images/all/cell_03.png", f / "images"), "folder_known",
          "images/cell_03.png"),
    Fault("strays", lambda f: (f / "images/all/more").mkdir(), "folder_known", "images/all/more"),
    Fault("strays", lambda f: (f / "images/all/x.png").symlink_to(f / "nowhere"), "folder_known", "images/all/x.png"),
    Fault("more", change("images.csv", "file,label,subject_id\n", "file,label,subject_id\nhem/cell_99.png,hem,hem-1\n"),
          "table_matches_folders", "images.csv", "file", (1,)),
    Fault("no table", lambda f: (f / "images.csv").write_bytes(b""), "file_readable", "images.csv"),
    Fault("no class", lambda f: shutil.rmtree(f / "images/hem"), "class_has_images", "images/hem"),
    Fault("no class", removed("images.csv"), "class_has_images", "images/hem"),
    Fault("no class", removed("images/all/cell_11.png"), "class_large_enough", "images/all",
          says="11 images, 12 are needed"),
]  # fmt: skip

KINDS = {
    "pairs": ("pairs", task(PAIR), PAIRS),
    "linear": ("linear", task(TUMOR), LINEAR),
    "log2": ("log2", task(TUMOR, scale="log2"), LOG2),
    "as_is": ("as_is", task(TUMOR, scale="as_is"), AS_IS),
    "target_genes": ("log2", gene_task(), TARGET_GENES),
    "survival": ("survival", task("breast_survival"), SURVIVAL),
    "images": ("images", task(CELL), IMAGES),
}
BATCHES = [(kind, batch) for kind, (_, _, faults) in KINDS.items() for batch in dict.fromkeys(f.batch for f in faults)]


def located(finding: Finding | Fault) -> tuple[Any, ...]:
    return finding.expectation, finding.file, finding.column, finding.rows, finding.severity


def validated(source: str, of_task: Any, tmp_path: Path, *damages: Damage) -> Validation:
    folder = shutil.copytree(clean(source), tmp_path / source)
    for damage in damages:
        damage(folder)
    return validate_folder(folder, source, of_task)


@pytest.mark.parametrize(("kind", "batch"), BATCHES, ids=["-".join(names) for names in BATCHES])
def test_faults_are_refused_by_file_column_and_rows(kind: str, batch: str, tmp_path: Path) -> None:
    source, of_kind, faults = KINDS[kind]
    planted = [fault for fault in faults if fault.batch == batch]
    validation = validated(source, of_kind, tmp_path, *(fault.damage for fault in planted))
    expected = {located(fault) for fault in planted}
    found = {located(finding): finding for finding in validation.findings}
    assert expected <= set(found), "\n".join(map(str, validation.findings))
    assert {each for each in found if each[-1] == "error"} <= expected  # what follows from a fault is a warning
    assert validation.passed == all(fault.severity == "warning" for fault in planted)
    for fault in planted:
        assert fault.says in found[located(fault)].message
    assert all(len(str(finding).splitlines()) == 1 for finding in validation.findings)


@pytest.mark.parametrize("kind", KINDS)
def test_clean_folders_pass_without_a_finding_and_are_counted(kind: str) -> None:
    source, of_kind, _ = KINDS[kind]
    validation = validate_folder(clean(source), kind, of_kind)
    assert [str(finding) for finding in validation.findings if finding.expectation != "exclude_value"] == []
    by_kind: dict[str, dict[str, Any]] = {
        "pairs": {"cell_lines": {"in_response": 12, "unknown": 0} | {
            f"without_{each}": 2 for each in ("expression", "mutation", "copy_number", "methylation")}},
        "linear": {"kept": {"samples": 60, "patients": 48}, "labels": {"GREEN": 20, "BLUE": 20, "RED": 20}},
        "target_genes": {"landmarks": 10, "missing_values": 0},
        "images": {"rows": {"images/all": 12, "images/hem": 12}, "formats": {"PNG": 24}, "subjects": 12},
    }  # fmt: skip
    counts = by_kind.get(kind, {})
    assert {name: validation.counts[name] for name in counts} == counts


SOUND_IMAGES = {
    **{f"cell_0{number}.png": picture(9).convert(mode) for number, mode in enumerate(("L", "P", "RGBA"))},
    **{f"cell_0{number}.{end}": picture(9) for number, end in enumerate(("PNG", "tiff", "bmp", "webp", "jpeg"), 3)},
    **{"cell_08.gif": picture(9).convert("P"), "Zelle blaß 09.png": picture(9)},
}


def test_images_of_every_format_hidden_files_and_unknown_subjects_are_sound(tmp_path: Path) -> None:
    damages: list[Damage] = [
        *(image(f"all/{name}", sound, "", "").damage for name, sound in SOUND_IMAGES.items()),
        lambda folder: (folder / "images/all/.DS_Store").write_bytes(b"\0"),
        lambda folder: (folder / "images/.cache").mkdir(),
        column("images.csv", "subject_id", lambda t: t["subject_id"].where(t["label"] == "all")),
    ]
    validation = validated("images", task(CELL), tmp_path, *damages)
    assert [str(finding) for finding in validation.findings] == []
    assert validation.counts["without_subject"] == 2 * SUBJECTS
    assert len(task(CELL).read(tmp_path / "images").samples) == 4 * SUBJECTS


def test_a_missing_folder_is_a_finding_for_each_file(tmp_path: Path) -> None:
    every = {PAIR: {R, L, D, E, M, C, B}, TUMOR: {E, S}, CELL: {"images/all", "images/hem"}}
    for name, expected in every.items():
        assert {each.file for each in validate_folder(tmp_path / "nowhere", name, task(name)).errors} == expected


def test_failing_rows_are_the_frames_index_a_tolerated_one_is_a_warning_and_findings_are_passed_on() -> None:
    frame = pd.DataFrame({"value": [1.0, 7.0, np.nan, 9.0]}, index=[4, 9, 12, 15])
    report = report_rows("in_range", "x.csv", "value", "too high")
    given = Finding("scale_fits", "x.csv", "looks logged", severity="warning")
    strict, tolerant = between("value", report, high=8), between("value", report, high=8, tolerated=1 / 3)
    found = run_suites([Suite("x", frame, [strict, tolerant, filled("value", report, warn=True)]), given])
    expected = [((16,), "error"), ((16,), "warning"), ((13,), "warning"), ((), "warning")]
    assert [(finding.rows, finding.severity) for finding in found] == expected
    many = Finding.at_rows("in_range", "x.csv", "value", range(25), "too high")
    assert (len(many.rows), many.count) == (ROWS_SHOWN, 25)
    with pytest.raises(RuntimeError, match="suite broken"):
        run_suites([Suite("broken", frame, [between("nowhere", report, high=8)])])


def doubled(table: pd.DataFrame) -> pd.DataFrame:
    copies = np.random.default_rng(0).lognormal(0, 0.3, (len(table), 60))
    copies[3] *= 2
    return pd.DataFrame(copies, columns=[f"G{number}" for number in range(60)]).assign(**{K: table[K]})


def indexed(folder: Path) -> None:
    table = pd.read_parquet(folder / R)
    table.loc[3, T] = 1e6
    table.index = table.index[::-1] * 10
    table.to_parquet(folder / R)


ANY_GENE = replace(gene_task(), data=replace(gene_task().data, predictors="all"))
FEW_SUBJECTS = column("images.csv", "subject_id", lambda t: t["subject_id"].replace("hem-5", "hem-4"))
TWO_GENES = [renamed(E, FIRST, "SIM02|99"), column(G, "gene", lambda t: t["gene"].replace(FIRST, "SIM02|99"))]
SHARED = ("symbol_alone", E, "SIM02|99, SIM02|2", (), "warning")
UNUSED = [column(G, "is_l1000_landmark", "False"), edited(S, lambda t: t.drop(columns="label"))]
GAPS = [
    cell(L, 12, K, "LINE-13"),  # LINE-12 has six measurements and is now unknown
    column(E, "TP53", 3.0),
    cell(R, 5, T, np.nan),
    cell(C, 2, "KRAS", np.nan),  # a gap in a row is nothing to report
    block(M, slice(2, 3), slice(1, None), np.nan),
]
TOLERATED = {
    *(("cell_lines_known", R, K, (12, 24, 36, 48, 60, 72), "warning"), ("column_varies", E, "TP53", (), "warning")),
    *(("target_present", R, T, (5,), "warning"), ("row_measured", M, None, (3,), "warning")),
}
SETTINGS: dict[str, tuple[str, Any, list[Damage], set[tuple[Any, ...]], str]] = {
    "tolerances": ("pairs", task(PAIR, "validate", unknown_cell_line_share=1 / 12, constant_column_share=1 / 6),
                   GAPS, TOLERATED, ""),
    "negative": ("pairs", task(PAIR, "validate", expression_scale="any"), [cell(E, 7, "KRAS", -0.5)], set(), ""),
    "infinite": ("pairs", task(PAIR, "validate", expression_scale="any"), [cell(E, 7, "KRAS", np.inf)],
                 {("values_finite", E, "KRAS", (7,), "error")}, ""),
    "line scale": ("pairs", task(PAIR), [edited(C, doubled)], {("line_scale", C, None, (4,), "warning")}, ""),
    "index": ("pairs", task(PAIR), [indexed], {("target_in_range", R, T, (4,), "error")}, ""),
    "folds": ("images", task(CELL, "split", folds=4), [FEW_SUBJECTS], set(), ""),
    "random": ("images", task(CELL, "split", mode="random"), [FEW_SUBJECTS], set(), ""),
    "subjects": ("images", task(CELL), [FEW_SUBJECTS],
                 {("class_has_groups", "images/hem", None, (), "error")}, "5 folds need 6"),
    "gaps": ("linear", task(TUMOR, "validate", missing_share=0.5), [block(E, slice(0, 20), slice(1, 2), np.nan)],
             {("values_complete", E, FIRST, (), "warning")}, ""),
    "rare": ("linear", task(TUMOR, small_classes="refuse"), [RARE],
             {("class_large_enough", S, "label", (), "error")}, "'RARE' (2); add patients"),
    "no genes": ("linear", task(TUMOR), [removed(G)], set(), ""),
    "unused": ("log2", ANY_GENE, UNUSED, set(), ""),
    "no target": ("log2", gene_task("TP53"), TWO_GENES, {("target_gene", E, None, (), "error"), SHARED},
                  "'TP53' is not among the genes"),
    "two targets": ("log2", gene_task("SIM02"), TWO_GENES, {("target_gene", E, None, (), "error"), SHARED},
                    "'SIM02' is the name of 2 genes: SIM02|99"),
    "one target": ("log2", gene_task("SIM13"), TWO_GENES, {SHARED}, ""),
    "early": ("survival", task("breast_survival", horizons=(1.0, 1825.0), horizon=1.0), [],
              {("events_before_horizon", S, TIME, (), "error")}, ""),
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
def test_tolerances_and_rules_are_the_tasks(settings: str, tmp_path: Path) -> None:
    source, of_task, damages, expected, says = SETTINGS[settings]
    found = validated(source, of_task, tmp_path, *damages)
    assert {located(finding) for finding in found.findings} == expected
    assert found.passed == all(finding[-1] == "warning" for finding in expected)
    assert not says or any(says in finding.message for finding in found.findings)


def test_bomb_is_not_decoded_the_others_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and a half billion pixels in a file of 100 bytes."""
    limit, load, decoded = Image.MAX_IMAGE_PIXELS, ImageFile.ImageFile.load, list[tuple[int, int]]()

    def watched(image: Any) -> Any:
        if image.tile:  # nothing is left of it once it is decoded
            decoded.append(image.size)
        return load(image)

    transparent = picture(9).convert("RGBA")
    transparent.putpixel((3, 3), (10, 20, 30, 0))
    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    damages: list[Damage] = [
        lambda folder: (folder / "images/all/cell_03.png").write_bytes(BOMB),
        lambda folder: transparent.save(folder / "images/all/cell_04.png"),
    ]
    found = validated("images", task(CELL), tmp_path, *damages).findings
    assert [finding.expectation for finding in found] == ["image_not_too_large", "image_opaque"]
    assert "50000 x 50000 pixels are more than 50000000" in found[0].message
    assert decoded == [(SIDE, SIDE)] * (4 * SUBJECTS - 1)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_many_faulty_files_are_twenty_findings_and_the_number_of_the_rest(tmp_path: Path) -> None:
    empty = [cut(f"{label}/cell_{number:02d}.png", 0) for label in CLASSES for number in range(2 * SUBJECTS)]
    findings = validated("images", task(CELL), tmp_path, *empty).findings
    assert len({finding.file for finding in findings}) == len(findings) == ROWS_SHOWN + 1
    rest = findings[-1]
    assert (rest.file, rest.count) == ("images", 4)
    assert "images/hem/cell_11.png" in rest.message


@pytest.mark.parametrize("name", [b"cell\n99.png", b"cell_\xff.png"], ids=["line break", "not UTF-8"])
def test_names_that_cannot_be_printed_are_reported_and_do_not_crash(name: bytes, tmp_path: Path) -> None:
    folder = shutil.copytree(clean("images"), tmp_path / "images")
    try:
        shutil.copy(os.fsencode(folder / "images/all/cell_03.png"), os.fsencode(folder / "images/all") + b"/" + name)
    except OSError:
        pytest.skip("the file system does not take the name")
    (folder / "images.csv").unlink()
    (finding,) = validate_folder(folder, "images", task(CELL)).findings
    assert finding.expectation == "file_name_printable"
    assert str(finding).isprintable()
    json.dumps(asdict(finding)).encode()


def test_command_refuses_faulty_data_and_passes_clean_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It changes nothing else, and logs both."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    folder, reports = shutil.copytree(clean("images"), tmp_path / "data" / CELL), tmp_path / "reports" / CELL
    IMAGES[0].damage(folder)
    before = files_below(folder)
    with working_in(tmp_path):
        assert main(["--task", CELL]) == 1
        assert files_below(folder) == before
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("refused: ")]
        assert any(line.startswith("refused: images/all/cell_00.png") for line in lines)
        report = json.loads((reports / "validation.json").read_text())
        assert (report["task"], report["passed"], len(report["findings"])) == (CELL, False, len(lines))

        assert main(["--task", CELL, "--data", str(clean("images"))]) == 0
        printed = capsys.readouterr()
        assert (printed.err, len(printed.out.splitlines())) == ("", 1)
        assert json.loads((reports / "validation.json").read_text())["passed"] is True
        assert (reports / "data_docs" / "index.html").is_file()
        run, refused = mlflow.search_runs(experiment_names=[CELL], output_format="list")  # the newest first
        assert refused.data.tags["validation.passed"] == "false"
        assert (run.data.tags["validation.passed"], run.data.tags["stage"]) == ("true", "validate")
        assert run.data.metrics == {"data/errors": 0.0, "data/warnings": 0.0}
        logged = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        assert logged == {"validation.json", "data_docs"}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "warnings"), [(PAIR, {"cell_lines_known"}), (TUMOR, {"column_varies", "labels_left"}), (CELL, set())]
)
def test_real_data_passes_in_less_than_two_minutes(name: str, warnings: set[str]) -> None:
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not there")
    before = time.monotonic()
    validation = validate_folder(REAL_DATA / name, name, task(name))
    assert validation.errors == ()
    assert {finding.expectation for finding in validation.warnings} == warnings
    assert time.monotonic() - before < 120
