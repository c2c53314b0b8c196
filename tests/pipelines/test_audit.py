"""What neither validation nor a score shows: each planted fault is found, and clean data raises no finding."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines import audit as stage
from pipelines import audits, probes, tracking
from pipelines.audit import Audit, audit_samples
from pipelines.audits.images import image_confounders
from pipelines.audits.pairs import pair_confounders
from pipelines.audits.profiles import profile_confounders
from pipelines.files import read_json
from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import read_params
from pipelines.paths import AUDIT_FILE, SHORTCUTS_FILE
from pipelines.probes import GROUPS, probe_labels, probe_response, thinned
from pipelines.samples.expression import ExpressionTables
from pipelines.samples.formats import ResponseTables
from pipelines.samples.images import ImageSamples
from tests.empty_store import working_in
from tests.pipelines import response_tables
from tests.pipelines.expression_folder import GENES, gene_task, label_task, make_tables, write_expression_folder
from tests.pipelines.expression_folder import samples_of as profiles_of
from tests.pipelines.image_samples import Saver, cell, compressed, saved_as_jpeg, write_files
from tests.pipelines.image_samples import samples_of as images_of
from tests.pipelines.test_expression_samples import with_samples

SEED = 20261120
ROOT = Path(__file__).parents[2]
SUBJECTS, EACH = 24, 4
COUNT = SUBJECTS * EACH
PROBES = ["library_size", "missing", "metadata"]  # of profiles


def names(audit: Audit) -> set[str]:
    return {finding.name for finding in audit.findings}


def shortcuts(audit: Audit) -> dict[str, dict[str, Any]]:
    return {one["probe"]: one for one in audit.shortcuts}


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe with a fifth of the trees: hundreds of forests are what the tests would take long for."""
    monkeypatch.setitem(probes._TREES, "n_estimators", 20)


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the probes out where something else is tested."""
    for name in ("images.image", "pairs.pair", "profiles.profile"):
        monkeypatch.setattr(f"pipelines.audits.{name}_confounders", lambda *given: {})
    monkeypatch.setattr("pipelines.audits.images._pixel_nuisances", lambda *given: {})
    monkeypatch.setattr("pipelines.audits.images.cell_masks", lambda samples: np.ones((len(samples), 1, 1)))


def test_a_probe_says_why_it_cannot_tell_noise_tells_nothing_and_a_missing_value_can_tell_the_label() -> None:
    features = pd.DataFrame({"value": np.arange(12.0)})
    groups = np.array(list("aaaabbbbcccc"))
    one_group = probe_labels("x", features, np.repeat([0, 0, 1], 4), groups, SEED)
    assert (one_group["score"], one_group["finding"]) == (None, False)
    assert "in one group only" in one_group["note"]
    assert probe_labels("x", features, np.zeros(12, int), groups, SEED)["note"] == "there is one label"
    same = probe_labels("x", features * 0, np.tile([0, 1], 6), groups, SEED)
    assert (same["score"], same["finding"]) == (0.5, False)
    for classes in (2, 4):
        rng = np.random.default_rng(classes)
        groups, features = rng.integers(0, 20, 120).astype(str), pd.DataFrame(rng.normal(size=(120, 5)))
        assert not probe_labels("noise", features, rng.integers(0, classes, 120), groups, SEED)["finding"]
    labels = np.tile([0, 1], 40)
    gaps = pd.DataFrame({"value": np.where(labels == 1, np.nan, 3.0)})
    assert probe_labels("x", gaps, labels, np.arange(80).astype(str), SEED)["finding"]


def test_what_tells_only_the_subject_is_no_shortcut() -> None:
    """Subjects that are wholly of one label, each with a value of its own: random folds would tell the label by it."""
    subject = np.arange(96) // 8
    features = pd.DataFrame(np.random.default_rng(5).uniform(-40, 40, (12, 3))[subject])
    apart = probe_labels("x", features, subject % 2, subject.astype(str), SEED)
    mixed = probe_labels("x", features, subject % 2, np.arange(96).astype(str), SEED)
    assert mixed["finding"] and mixed["low"] > 0.7
    assert not apart["finding"] and apart["score"] < mixed["score"] - 0.2
    assert apart["high"] - apart["low"] > 2 * (mixed["high"] - mixed["low"])  # 12 subjects, not 96 samples


def test_large_labels_are_thinned_rare_ones_stay_and_groups_are_kept_whole() -> None:
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1, 2], [4000, 900, 12]))
    rows = thinned(labels, np.arange(len(labels)).astype(str), SEED)
    held = np.bincount(labels[rows])
    assert len(rows) <= GROUPS and rows.tolist() == sorted(rows)
    assert held[2] == 12 and held[1] == 900 and held[0] >= GROUPS - 912 - 1
    groups = rng.integers(0, 300, 900).astype(str)
    rows = thinned(rng.integers(0, 3, 900), groups, SEED, most=100)
    kept = sorted(set(groups[rows]))
    assert len(kept) <= 100
    assert rows.tolist() == np.flatnonzero(np.isin(groups, kept)).tolist()


# Images.


IMAGES: Any = read_params(ROOT / "params.yaml").task("leukemia_cell")
LABELS = [("all", "hem")[number % 2] for number in range(COUNT)]  # of which every subject has two of each


@functools.cache
def cells() -> list[np.ndarray]:
    return [cell(number) for number in range(COUNT)]


def clean(change: Callable[[np.ndarray, str, int], np.ndarray] | None = None, **fields: Any) -> ImageSamples:
    """Return samples of which nothing is amiss, but for what ``change(pixels, label, number)`` does."""
    labels = fields.pop("labels", LABELS)
    numbers = np.random.default_rng(1).permutation(90_000)[:COUNT] + 10_000
    fields.setdefault("subjects", [f"S{number // EACH:02d}" for number in range(COUNT)])
    fields.setdefault("names", [f"{label}/{number}.jpg" for label, number in zip(labels, numbers, strict=True)])
    images = [pixels.copy() for pixels in cells()]
    if change is not None:
        images = [change(image, label, row) for row, (image, label) in enumerate(zip(images, labels, strict=True))]
    return images_of(images, labels=labels, **fields)


def audited(samples: ImageSamples, folder: Path) -> Audit:
    return audit_samples(samples, write_files(samples, folder), "leukemia_cell", IMAGES, SEED)


def test_clean_images_raise_no_finding(tmp_path: Path) -> None:
    audit = audited(clean(), tmp_path)
    assert audit.findings == () and audit.passed
    assert audit.duplicates["counts"]["pairs"] == 0
    of_pixels, of_files = ["border", "corners", "mean_color", "image_size"], ["file_size", "compression", "file_name"]
    assert list(shortcuts(audit)) == [*of_pixels, *of_files, "metadata"]
    assert audit.groups["groups"] == SUBJECTS and audit.groups["effective"] == pytest.approx(SUBJECTS)


def bright_border(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
    for edge in ((slice(None), [0, -1]), ([0, -1], slice(1, -1))) if label == "hem" else ():
        pixels[edge] = np.clip(pixels[edge] * 1.3, 0, 255)
    return pixels


def dark_corner(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
    pixels[:6, :6] //= 2 if label == "hem" else 1
    return pixels


def shifted(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
    return np.clip(pixels + np.array([12, 0, -12]) * (label == "hem"), 0, 255).astype(np.uint8)


def longer_file(image: Image.Image, path: Path, label: str) -> None:
    saved_as_jpeg(image, path, label)
    path.write_bytes(path.read_bytes() + b"\0" * (2000 if label == "hem" else 0))


NUMBERED = [f"{label}/{number + 5000 * (label == 'hem'):05d}.jpg" for number, label in enumerate(LABELS)]
PLANTED: dict[str, tuple[str, Callable[[], ImageSamples], Saver]] = {
    "a border": ("border", lambda: clean(bright_border), saved_as_jpeg),
    "corners": ("corners", lambda: clean(dark_corner), saved_as_jpeg),
    "a color": ("mean_color", lambda: clean(shifted), saved_as_jpeg),
    "a size": ("image_size", clean, lambda image, to, label: image.resize((48 + 12 * (label == "hem"), 48)).save(to)),
    "bytes": ("file_size", clean, longer_file),
    "a quality": ("compression", clean, lambda image, to, label: image.save(to, quality=90 - 20 * (label == "hem"))),
    "numbers of files": ("file_name", lambda: clean(names=NUMBERED), saved_as_jpeg),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_probe_finds_the_label_in(planted: str, tmp_path: Path) -> None:
    name, made, save = PLANTED[planted]
    samples = made()
    features = image_confounders(samples, write_files(samples, tmp_path, save))[name]
    found = probe_labels(name, features, samples.target, samples.table["subject_id"].to_numpy(str), SEED)
    assert found["finding"] and found["metric"] == "roc_auc"
    assert 0.6 < found["low"] <= found["score"] <= found["high"]
    assert found["chance"] == pytest.approx(0.5, abs=0.05)


def test_a_slide_that_tells_the_label_is_a_finding_with_what_isolation_leaves_of_it(tmp_path: Path) -> None:
    """Cells are alike; of two slides one is blue, and one image shows none."""
    row, column = np.mgrid[:48, :48] - 23.5
    rng = np.random.default_rng(3)

    def on_slide(pixels: np.ndarray, label: str, at: int) -> np.ndarray:
        shown = np.full_like(pixels, (200, 205, 235) if label == "hem" else (235, 225, 205))
        radius = np.hypot(row + rng.uniform(-3, 3), column + rng.uniform(-3, 3))
        if at:
            shown[radius < rng.uniform(11, 14)] = (165, 140, 200)
            shown[radius < rng.uniform(6, 9)] = (80, 40, 130)
        return np.clip(shown + rng.normal(0, 2, shown.shape), 0, 255).astype(np.uint8)

    audit = audited(clean(on_slide), tmp_path)
    assert audit.groups["without_cell"] == 1
    found = shortcuts(audit)
    assert {name for name, one in found.items() if "isolated" in one} == {"border", "corners", "mean_color"}
    for name in ("border", "corners"):
        left = found[name]["isolated"]
        assert found[name]["finding"] and found[name]["score"] > 0.99 and not left["finding"] and left["low"] < 0.6
        (message,) = [each.message for each in audit.findings if each.name == f"shortcut_{name}"]
        assert f"of the cell alone on black it reaches {left['score']:.3f}" in message


@pytest.mark.usefixtures("no_probes")
def test_copies_across_subjects_are_listed_and_their_subjects_joined(tmp_path: Path) -> None:
    turned = compressed(np.ascontiguousarray(np.rot90(cell(0))), 80)
    samples = clean(lambda pixels, label, row: turned if row == 14 else pixels)
    audit = audited(samples, tmp_path)
    assert names(audit) == {"copies_across_groups"}
    (pair,) = audit.duplicates["pairs"]
    assert (sorted(pair["groups"]), pair["how"]) == (["S00", "S03"], "turned")
    assert {pair["a"], pair["b"]} == set(samples.table["sample_id"][[0, 14]])
    assert audit.duplicates["merged_groups"] == [{"members": ["S00", "S03"], "samples": 2 * EACH}]
    assert audit.groups["groups"] == SUBJECTS - 1
    assert "are of different subjects: 2 subjects become 1" in audit.findings[0].message


@pytest.mark.usefixtures("no_probes")
@pytest.mark.parametrize("row", [1, 2])
def test_copies_within_a_subject_join_nothing(row: int, tmp_path: Path) -> None:
    audit = audited(clean(lambda pixels, label, at: cell(0) if at == row else pixels), tmp_path)
    found = {"copies_within_groups"} | ({"copies_with_different_labels"} if row == 1 else set())
    assert names(audit) == found and audit.duplicates["pairs"][0]["how"] == "pixels"
    assert audit.duplicates["merged_groups"] == [] and audit.groups["groups"] == SUBJECTS


def test_the_gravest_of_many_copies_are_listed() -> None:
    rows = [
        {"groups": ["S", "ST"[row % 5 == 0]], "labels": ["a", "ab"[row % 7 == 0]], "similarity": 0.9, "how": "pixels"}
        for row in range(100)
    ]
    listed = audits.list_duplicates(rows)
    assert listed["counts"]["pairs"] == 100 and len(listed["pairs"]) == audits.LISTED
    gravest = [tuple(len(set(pair[key])) == 1 for key in ("labels", "groups")) for pair in listed["pairs"]]
    assert gravest == sorted(gravest) and not gravest[0][0]


UNEVEN: dict[str, tuple[dict[str, Any], set[str], dict[str, Any]]] = {
    "one with 28 of 96": ({"subjects": [f"S{max(0, number // EACH - 6):02d}" for number in range(COUNT)]},
                          {"dominating_group", "few_groups"},
                          {"largest": "S00", "largest_share": pytest.approx(28 / 96)}),
    "a label of few": ({"labels": ["hem" if number % 2 and number < 16 else "all" for number in range(COUNT)]},
                       {"label_in_few_groups"}, {}),
    "of one label each": ({"labels": np.repeat(["all", "hem"] * (SUBJECTS // 2), EACH).tolist()},
                          {"one_label_per_group"}, {"one_label_each": True}),
    "all unknown": ({"subjects": [None] * COUNT}, {"subject_unknown"}, {"unknown": COUNT}),
}  # fmt: skip


@pytest.mark.usefixtures("no_probes")
@pytest.mark.parametrize("subjects", UNEVEN)
def test_uneven_and_unknown_subjects_are_found(subjects: str, tmp_path: Path) -> None:
    fields, found, groups = UNEVEN[subjects]
    audit = audited(clean(**fields), tmp_path)
    assert names(audit) == found
    assert audit.groups | groups == audit.groups


# Responses.


def responses(lines: int = 60, effect: np.ndarray | None = None, **settings: Any) -> ResponseTables:
    tables = response_tables.make_tables(lines, 6, **settings)
    of_line = np.zeros(lines) if effect is None else effect  # rows are in the order of lines, six drugs each
    added = tables.response["ln_ic50"] + np.repeat(of_line, 6).astype(np.float32)
    return replace(tables, response=tables.response.assign(ln_ic50=added))


def audit_of(tables: ResponseTables, mode: str = "cell_blind") -> Audit:
    task = response_tables.shipped_task()
    samples = response_tables.samples_of(tables, task)
    task = replace(task, split=replace(task.split, mode=mode))
    return audit_samples(samples, Path("nowhere"), "drug_response", task, SEED)


def test_clean_responses_raise_no_finding() -> None:
    audit = audit_of(responses())
    assert audit.findings == ()
    levels = [f"level_{omics}" for omics in ("expression", "mutation", "copy_number", "methylation")]
    assert list(shortcuts(audit)) == [*levels, "missing", "study", "metadata"]
    assert (audit.groups["groups"], audit.groups["unit"]) == (60, "cell line")


LATE = np.arange(60) % 2 == 0
LATE_LINES = [f"L{number:02d}" for number in range(0, 60, 2)]
SHIFTED = responses(effect=np.where(LATE, 4.0, 0.0))
LEVELED = SHIFTED.omics["expression"].set_index("cell_line_id").add(np.where(LATE, 6, 0), axis=0).reset_index()
PLATFORM = np.where(LATE, "new", "old")
SHORTCUTS = {
    "level_expression": replace(SHIFTED, omics=SHIFTED.omics | {"expression": LEVELED}),
    "missing": response_tables.without_profile(SHIFTED, "methylation", *LATE_LINES),
    "study": replace(SHIFTED, response=SHIFTED.response.assign(study=np.repeat(np.where(LATE, "GDSC2", "GDSC1"), 6))),
    "metadata": replace(SHIFTED, cell_lines=SHIFTED.cell_lines.assign(platform=PLATFORM)),
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_planted_shortcut_of_responses_is_a_finding_with_its_score(name: str) -> None:
    audit = audit_of(SHORTCUTS[name])
    found = {finding.name: finding for finding in audit.findings if finding.name.startswith("shortcut_")}
    scores = {f"shortcut_{one['probe']}": one["score"] for one in audit.shortcuts if one["finding"]}
    assert {each: finding.score for each, finding in found.items()} == scores
    shortcut = shortcuts(audit)[name]
    assert 0.3 < shortcut["low"] <= shortcut["score"] <= shortcut["high"]
    assert f"reaches r2_over_drug_mean {shortcut['score']:.3f}" in found[f"shortcut_{name}"].message
    assert not shortcuts(audit)["level_copy_number"]["finding"]


def test_biology_and_what_tells_only_the_group_of_a_cell_line_are_no_shortcut() -> None:
    lines = SHIFTED.cell_lines.assign(histology=PLATFORM)
    biology = response_tables.samples_of(replace(SHIFTED, cell_lines=lines), response_tables.shipped_task())
    assert pair_confounders(biology)["metadata"].shape[1] == 0
    family = np.arange(60) % 6
    tables = responses(effect=np.where(family % 2, -4.0, 4.0))
    samples = response_tables.samples_of(tables, response_tables.shipped_task())
    features = pd.DataFrame({"value": family.astype(float)})
    mixed = probe_response("x", features, samples, samples.cell_lines.index.to_numpy(str), SEED)
    apart = probe_response("x", features, samples, family.astype(str), SEED)
    assert mixed["finding"] and not apart["finding"]
    assert apart["score"] < mixed["score"] - 0.3


@pytest.mark.usefixtures("no_probes")
def test_one_line_under_two_ids_is_listed() -> None:
    tables = responses()
    same = response_tables.profile(tables, "expression", "L03")
    tables = response_tables.with_profile(tables, "expression", "L07", same)
    audit = audit_of(response_tables.with_cell(tables, "cell_lines", "L20", "name", "LINE-11"))
    assert "cell_line_under_two_ids" in names(audit)
    how = {(pair["a"], pair["b"]): pair["how"] for pair in audit.duplicates["pairs"]}
    assert how == {("L03", "L07"): "profile", ("L11", "L20"): "name"}
    assert [group["members"] for group in audit.duplicates["merged_groups"]] == [["L03", "L07"], ["L11", "L20"]]
    assert audit.groups["groups"] == 58


@pytest.mark.usefixtures("no_probes")
def test_one_molecule_under_two_ids_is_listed_and_its_measurements_compared() -> None:
    tables = response_tables.with_cell(responses(), "drugs", "D04", "smiles", "CCO")
    tables = response_tables.with_cell(tables, "drugs", "D01", "smiles", "OCC")
    audit = audit_of(tables)
    assert names(audit) == {"drug_under_two_ids", "copies_with_different_labels"}
    (pair,), counts = audit.duplicates["pairs"], audit.duplicates["counts"]
    assert (pair["a"], pair["b"], pair["similarity"], pair["how"]) == ("D01", "D04", 1.0, "molecule")
    assert counts["repeated"] == 60 and 0 < counts["different_labels"] < 60
    response = tables.response
    first = response[response["drug_id"] == "D01"].set_index("cell_line_id")["ln_ic50"]
    agreeing = response["ln_ic50"].where(response["drug_id"] != "D04", response["cell_line_id"].map(first))
    assert names(audit_of(replace(tables, response=response.assign(ln_ic50=agreeing)))) == {"drug_under_two_ids"}


@pytest.mark.usefixtures("no_probes")
def test_drugs_of_few_lines_and_unknown_tissues_are_found() -> None:
    tables = responses(tissues=[*(f"tissue {number}" for number in range(14)), None])
    assert names(audit_of(tables)) == set()
    assert "tissue_unknown" in names(audit_of(tables, "tissue_blind"))
    few = (tables.response["drug_id"] == "D02") & ~tables.response["cell_line_id"].isin(["L00", "L01", "L02"])
    audit = audit_of(replace(tables, response=tables.response[~few].reset_index(drop=True)))
    assert names(audit) == {"label_in_few_groups"}
    assert audit.groups["labels"]["D02"]["groups"] == 3


# Profiles.


def audit_profiles(tables: ExpressionTables, task: ProfilesTask | None = None) -> Audit:
    task = task or label_task()
    return audit_samples(profiles_of(tables, task), Path("nowhere"), "profiles", task, SEED)


def with_values(tables: ExpressionTables, rows: Any, values: np.ndarray) -> ExpressionTables:
    expression = tables.expression.copy()
    expression.loc[rows, GENES] = values.astype(np.float32)
    return replace(tables, expression=expression)


def test_clean_profiles_raise_no_finding() -> None:
    audit = audit_profiles(make_tables())
    assert audit.findings == () and audit.duplicates["counts"]["pairs"] == 0
    assert list(shortcuts(audit)) == PROBES
    assert (audit.groups["unit"], audit.groups["groups"], audit.groups["unknown"]) == ("patient", 48, 0)
    assert audit.groups["labels"]["RED"]["groups"] == 16
    of_genes = audit_profiles(logged := make_tables("log2"), gene_task())
    assert of_genes.findings == () and list(shortcuts(of_genes)) == PROBES
    without = audit_profiles(replace(logged, samples=logged.samples.drop(columns="label")), gene_task())
    assert (without.findings, without.shortcuts, without.groups["labels"]) == ((), (), {})
    task = label_task()
    standardized = profiles_of(make_tables("as_is"), replace(task, data=replace(task.data, scale="as_is")))
    assert list(profile_confounders(standardized)) == PROBES[1:]


def test_a_platform_confounded_with_the_label_is_found() -> None:
    tables = make_tables()
    rng = np.random.default_rng(1)
    told = tables.samples["label"].map({"BLUE": "SEQ 1", "GREEN": "SEQ 1", "RED": "SEQ 2"}).to_numpy()
    platform = np.where(rng.random(len(told)) < 0.95, told, "SEQ 1")
    audit = audit_profiles(with_samples(tables, platform=platform))
    assert names(audit) == {"shortcut_metadata"}
    found = shortcuts(audit)["metadata"]
    assert found["metric"] == "balanced_accuracy" and found["low"] <= found["score"] <= found["high"]
    told_apart = {tuple(pair["classes"]): pair["roc_auc"] for pair in found["pairs"]}
    assert min(told_apart["BLUE", "RED"], told_apart["GREEN", "RED"]) > 0.85 > told_apart["BLUE", "GREEN"]
    mixed = audit_profiles(with_samples(tables, platform=rng.permutation(platform)))
    assert not shortcuts(mixed)["metadata"]["finding"]


@pytest.mark.parametrize("scale", ["linear", "log2"])
def test_a_library_size_and_gaps_that_tell_the_label_are_found(scale: Literal["linear", "log2"]) -> None:
    tables, task = make_tables(scale), label_task()
    task = replace(task, data=replace(task.data, scale=scale))
    red = (tables.samples["label"] == "RED").to_numpy()
    values = tables.expression.loc[red, GENES].to_numpy(copy=True)
    deeper = with_values(tables, red, values * 4 if scale == "linear" else np.log2((2.0**values - 1) * 4 + 1))
    assert names(audit_profiles(deeper, task)) == {"shortcut_library_size"}
    values[:, :2] = np.nan
    assert "shortcut_missing" in names(audit_profiles(with_values(tables, red, values), task))


def test_a_batch_confounded_with_the_label_is_found_in_the_barcodes() -> None:
    tables = make_tables()
    rng = np.random.default_rng(2)
    sites = rng.choice(["AA", "BB", "CC"], 48)
    rows = tables.samples[["label", "patient_id", "sample_type"]].itertuples(index=False)
    ids = [f"TCGA-{sites[int(name[1:])]}-A{name[1:]}-{code:02d}A-11R-A{label[0]}{int(name[1:]) % 2:02d}-07"
           for label, name, code in rows]  # fmt: skip

    def barcoded(given: ExpressionTables) -> ExpressionTables:
        return replace(with_samples(given, sample_id=ids), expression=given.expression.assign(sample_id=ids))

    audit = audit_profiles(barcoded(tables))
    assert list(shortcuts(audit)) == [*PROBES, "barcode_plate", "barcode_site", "barcode_center"]
    assert names(audit) == {"shortcut_barcode_plate"}
    assert "a plate holds few kinds of tumors" in audit.findings[0].message
    assert shortcuts(audit)["barcode_center"]["note"] == "the same for all samples"
    logged = audit_profiles(barcoded(make_tables("log2")), gene_task())
    assert "cannot be separated from that of the label" in logged.findings[0].message


def test_barcodes_are_read_as_far_as_they_go() -> None:
    samples, whole = profiles_of(make_tables()).take(np.array([0, 1])), "TCGA-OR-A5J1-01A-11R-A29W-13"
    for ids, parts in (
        ([whole, "TCGA-OS-A5J2-01A-11R-A29X-07"], {"plate": 2, "site": 2, "center": 2}),
        ([whole, "TCGA-OS-A5J2-01A"], {"plate": 1, "site": 2, "center": 1}),
        (["TCGA-OR-A5J1", "TCGA-OS-A5J2"], {"site": 2}),
        (["TCGA-OR-A5J1-01", "P1"], {}),
    ):
        found = profile_confounders(replace(samples, table=samples.table.assign(sample_id=ids)))
        barcodes = {name.removeprefix("barcode_"): table.shape[1] for name, table in found.items() if "barcode" in name}
        assert barcodes == parts


def copied(tables: ExpressionTables, of: str, to: str, digits: int | None = None) -> ExpressionTables:
    ids = tables.expression["sample_id"]
    values = tables.expression.loc[ids == of, GENES].to_numpy()
    return with_values(tables, ids == to, values if digits is None else np.round(values, digits))


@pytest.mark.usefixtures("no_probes")
def test_copies_and_unknown_patients_of_profiles_are_found() -> None:
    tables = make_tables()
    for to, digits, how in (("P003-01", None, "identical"), ("P002-01", 0, "near")):  # P003 is BLUE as P000 is
        audit = audit_profiles(copied(tables, "P000-01", to, digits))
        assert names(audit) == {"copies_across_groups", *(["copies_with_different_labels"] if how == "near" else [])}
        (pair,) = audit.duplicates["pairs"]
        assert (pair["a"], pair["b"], pair["how"], pair["groups"]) == ("P000-01", to, how, ["P000", to[:4]])
        assert audit.groups["groups"] == 47
    unknown = audit_profiles(with_samples(tables, patient_id=[None, *tables.samples["patient_id"][1:]]))
    assert names(unknown) == {"patient_unknown"} and unknown.groups["unknown"] == 1
    few = with_samples(tables, patient_id=["P" + str(min(number, 8)) for number in range(len(tables.samples))])
    uneven = audit_profiles(few, gene_task())
    assert {"dominating_group", "few_groups"} <= names(uneven) and uneven.groups["largest"] == "P8"
    task = label_task()  # one label a patient matters only where patients are not kept apart
    for mode, found in {"patient_blind": set(), "random": {"one_label_per_group"}}.items():
        audit = audit_profiles(make_tables(), replace(task, split=replace(task.split, mode=mode)))
        assert names(audit) == found and audit.groups["one_label_each"]


def test_an_audit_does_not_depend_on_the_order_of_rows() -> None:
    tables = copied(make_tables(), "P000-01", "P002-01")
    expression, samples = (
        table.sample(frac=1, random_state=seed) for seed, table in enumerate((tables.expression, tables.samples), 1)
    )
    mixed = replace(tables, expression=expression, samples=samples)
    assert audit_profiles(mixed).as_dict() == audit_profiles(tables).as_dict()


def test_stage_writes_a_report_and_logs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = copied(make_tables(), "P000-01", "P002-01")
    data = write_expression_folder(tmp_path / "data", with_samples(tables, platform=tables.samples["label"]))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    reports = tmp_path / "reports"
    given = ["--task", "tumor_type", "--data", str(data), "--reports", str(reports)]
    with working_in(tmp_path):
        assert stage.main(given) == 0
        (run,) = mlflow.search_runs(experiment_names=["tumor_type"], output_format="list")
        logged = [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)]
    report = read_json(reports / AUDIT_FILE)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert {"shortcut_metadata", "copies_across_groups", "copies_with_different_labels"} <= set(found)
    assert not report["passed"] and report["samples"] == 60
    assert read_json(reports / SHORTCUTS_FILE) == {"shortcuts": []}  # no study of a table depends on them
    scores = {one["probe"]: one["score"] for one in report["shortcuts"]}
    assert found["shortcut_metadata"]["score"] == scores["metadata"] > 0.8
    printed = capsys.readouterr()
    assert all(f"{finding['severity']}: {finding['name']}: " in printed.err for finding in found.values())
    assert f"60 samples audited, findings: {len(found)}" in printed.out
    assert run.data.tags["stage"] == "audit" and logged == ["audit.json"]
    assert str(tracking.git("--version")).startswith("git") and tracking.git("no such command") is None
    assert run.data.metrics["data/findings"] == len(found)
    assert run.data.metrics["data/probe_metadata"] == pytest.approx(scores["metadata"])
