"""What neither validation nor a score shows: each planted fault must be found, and clean data raises no finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines import audit as stage
from pipelines import audits
from pipelines.audits import images as audits_of_images
from pipelines.audits import pairs as audits_of_pairs
from pipelines.audits.images import image_confounders
from pipelines.audits.pairs import pair_confounders
from pipelines.audits.run import Audit, audit_samples
from pipelines.files import read_json
from pipelines.modalities.images import ImagesTask
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Task, read_params
from pipelines.paths import AUDIT_FILE
from pipelines.probes import probe_labels, probe_response
from pipelines.samples.formats import ResponseTables
from pipelines.samples.images import ImageSamples
from pipelines.samples.response import ResponseSamples, keep_samples
from tests.empty_store import empty_store
from tests.pipelines import response_tables
from tests.pipelines.image_samples import Saver, cell, compressed, saved_as_jpeg, write_files
from tests.pipelines.image_samples import samples_of as images_of

SEED = 20261120
ROOT = Path(__file__).parents[2]
SUBJECTS, EACH = 24, 4
IMAGE_PROBES = (
    *("border", "corners", "mean_color", "image_size", "file_size", "compression", "file_name", "metadata"),
)


@cache
def image_task() -> ImagesTask:
    task = read_params(ROOT / "params.yaml").task("leukemia_cell")
    assert isinstance(task, ImagesTask)
    return task


def labels_of(count: int) -> list[str]:
    """Return labels that every subject has two of each."""
    return [("all", "hem")[number % 2] for number in range(count)]


def clean(
    change: Callable[[np.ndarray, str, int], np.ndarray] | None = None, *, side: int = 48, **fields: Any
) -> ImageSamples:
    """Return samples of which nothing is amiss, but for what ``change(pixels, label, number)`` does."""
    count = SUBJECTS * EACH
    rng = np.random.default_rng(1)
    labels = fields.pop("labels", labels_of(count))
    numbers = rng.permutation(90_000)[:count] + 10_000
    fields.setdefault("subjects", [f"S{number // EACH:02d}" for number in range(count)])
    fields.setdefault("names", [f"{label}/{number}.jpg" for label, number in zip(labels, numbers, strict=True)])
    images = [cell(number, side) for number in range(count)]
    if change is not None:
        images = [change(image, label, row) for row, (image, label) in enumerate(zip(images, labels, strict=True))]
    return images_of(images, labels=labels, **fields)


def audited(samples: ImageSamples, folder: Path, save: Saver = saved_as_jpeg) -> Audit:
    return audit_samples(samples, write_files(samples, folder, save), "leukemia_cell", image_task(), SEED)


def names(audit: Audit) -> set[str]:
    return {finding.name for finding in audit.findings}


def probe(samples: ImageSamples, folder: Path, name: str, save: Saver = saved_as_jpeg) -> dict[str, Any]:
    """Return one probe of samples whose groups are their subjects."""
    features = image_confounders(samples, write_files(samples, folder, save))[name]
    return probe_labels(name, features, samples.target, samples.table["subject_id"].to_numpy(str), SEED)


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the probes out where something else is tested."""
    monkeypatch.setattr(audits_of_images, "image_confounders", lambda samples, folder: {})
    monkeypatch.setattr(audits_of_pairs, "pair_confounders", lambda samples: {})
    yield


# Images: shortcuts.


def test_clean_images_raise_no_finding(tmp_path: Path) -> None:
    audit = audited(clean(), tmp_path)
    assert audit.findings == ()
    assert audit.passed
    assert audit.duplicates["counts"]["pairs"] == 0
    assert [one["probe"] for one in audit.shortcuts] == list(IMAGE_PROBES)
    assert not any(one["finding"] for one in audit.shortcuts)
    assert audit.groups["groups"] == SUBJECTS
    assert audit.groups["effective"] == pytest.approx(SUBJECTS)


def bright_border(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
    if label == "hem":
        pixels[[0, -1]] = np.clip(pixels[[0, -1]] * 1.3, 0, 255)
        pixels[:, [0, -1]] = np.clip(pixels[:, [0, -1]] * 1.3, 0, 255)
    return pixels


def dark_corner(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
    if label == "hem":
        pixels[:6, :6] //= 2
    return pixels


def stained(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
    shift = np.array([12, 0, -12]) if label == "hem" else np.zeros(3)
    return np.clip(pixels + shift, 0, 255).astype(np.uint8)


def larger_picture(image: Image.Image, path: Path, label: str) -> None:
    image.resize((60, 48) if label == "hem" else (48, 48)).save(path, "JPEG", quality=90)


def longer_file(image: Image.Image, path: Path, label: str) -> None:
    saved_as_jpeg(image, path, label)
    if label == "hem":
        with path.open("ab") as file:
            file.write(b"\0" * 2000)


def lower_quality(image: Image.Image, path: Path, label: str) -> None:
    image.save(path, "JPEG", quality=70 if label == "hem" else 90)


def other_format(image: Image.Image, path: Path, label: str) -> None:
    image.save(path, "PNG" if label == "hem" else "JPEG")


def numbered() -> ImageSamples:
    labels = labels_of(SUBJECTS * EACH)
    return clean(names=[f"{label}/{number + 5000 * (label == 'hem'):05d}.jpg" for number, label in enumerate(labels)])


PLANTED: dict[str, tuple[str, Callable[[], ImageSamples], Saver]] = {
    "a border": ("border", lambda: clean(bright_border), saved_as_jpeg),
    "corners": ("corners", lambda: clean(dark_corner), saved_as_jpeg),
    "a color": ("mean_color", lambda: clean(stained), saved_as_jpeg),
    "a size": ("image_size", clean, larger_picture),
    "bytes": ("file_size", clean, longer_file),
    "a quality": ("compression", clean, lower_quality),
    "a format": ("compression", clean, other_format),
    "numbers of files": ("file_name", numbered, saved_as_jpeg),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_probe_finds_the_label_in(planted: str, tmp_path: Path) -> None:
    name, samples, save = PLANTED[planted]
    found = probe(samples(), tmp_path, name, save)
    assert found["finding"]
    assert found["metric"] == "roc_auc"
    assert 0.6 < found["low"] <= found["score"] <= found["high"]
    assert found["chance"] == pytest.approx(0.5, abs=0.05)


def test_words_of_file_names_tell_nothing(tmp_path: Path) -> None:
    """The class's name in a file name is no shortcut: no model sees it, and readers take labels from it."""
    samples = clean()
    named = samples.table["sample_id"].str.replace(".jpg", "") + "_" + samples.table["label"] + ".jpg"
    samples = replace(samples, table=samples.table.assign(sample_id=named))
    assert not probe(samples, tmp_path, "file_name")["finding"]


def test_probe_tells_a_label_by_its_metadata(tmp_path: Path) -> None:
    samples = clean()
    rng = np.random.default_rng(2)
    scanner = np.where(rng.random(len(samples)) < 0.9, samples.table["label"].map({"all": "A", "hem": "B"}), "A")
    told = replace(samples, table=samples.table.assign(scanner=scanner))
    assert probe(told, tmp_path, "metadata")["finding"]
    other = rng.permutation(scanner)
    assert not probe(replace(samples, table=samples.table.assign(scanner=other)), tmp_path, "metadata")["finding"]


def test_probe_names_the_classes_that_come_from_another_source(tmp_path: Path) -> None:
    def sourced(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
        return np.clip(pixels + (20 if label in ("x", "y") else 0), 0, 255).astype(np.uint8)

    labels = [("u", "v", "x", "y")[number % 4] for number in range(SUBJECTS * EACH)]
    found = probe(clean(sourced, labels=labels), tmp_path, "mean_color")
    assert found["metric"] == "balanced_accuracy"
    assert found["chance"] == pytest.approx(0.25, abs=0.05)
    assert found["finding"]
    told = {tuple(pair["classes"]): pair["roc_auc"] for pair in found["pairs"]}
    assert min(told[0, 2], told[0, 3], told[1, 2], told[1, 3]) > 0.9 > max(told[0, 1], told[2, 3])
    assert found["pairs"][0]["roc_auc"] == max(told.values())


def test_what_tells_only_the_subject_is_no_shortcut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects that are wholly of one label, each of a color of its own: random folds would tell the label by it."""
    whose = [number // 8 for number in range(SUBJECTS * EACH)]
    shift = np.random.default_rng(5).uniform(-40, 40, (12, 3))

    def tinted(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
        return np.clip(pixels + shift[whose[row]], 0, 255).astype(np.uint8)

    labels = [("all", "hem")[subject % 2] for subject in whose]
    samples = clean(tinted, labels=labels, subjects=[f"S{subject:02d}" for subject in whose])
    features = image_confounders(samples, write_files(samples, tmp_path))["mean_color"]
    apart = probe_labels("mean_color", features, samples.target, samples.table["subject_id"].to_numpy(str), SEED)
    mixed = probe_labels("mean_color", features, samples.target, samples.table["sample_id"].to_numpy(str), SEED)
    assert mixed["finding"]
    assert mixed["low"] > 0.7
    assert not apart["finding"]
    assert apart["score"] < mixed["score"] - 0.2
    assert apart["high"] - apart["low"] > 2 * (mixed["high"] - mixed["low"])  # 12 subjects, not 96 images
    monkeypatch.setattr(audits_of_images, "image_confounders", lambda samples, folder: {})
    assert "one_label_per_group" in names(audited(samples, tmp_path))


def test_probe_says_why_it_cannot_tell() -> None:
    features = pd.DataFrame({"value": np.arange(12.0)})
    groups = np.array(list("aaaabbbbcccc"))
    one_group = probe_labels("x", features, np.repeat([0, 0, 1], 4), groups, SEED)
    assert one_group["score"] is None
    assert "in one group only" in one_group["note"]
    assert not one_group["finding"]
    assert probe_labels("x", features, np.zeros(12, int), groups, SEED)["note"] == "there is one label"
    same = probe_labels("x", features * 0, np.tile([0, 1], 6), groups, SEED)
    assert (same["score"], same["finding"]) == (0.5, False)


def test_missing_nuisances_are_values() -> None:
    """Where a value is missing can tell the label as well as the value."""
    labels = np.tile([0, 1], 40)
    features = pd.DataFrame({"value": np.where(labels == 1, np.nan, 3.0)})
    found = probe_labels("x", features, labels, np.arange(80).astype(str), SEED)
    assert found["finding"]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("classes", [2, 4])
def test_noise_is_no_finding(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 20, 120).astype(str)
    features = pd.DataFrame(rng.normal(size=(120, 5)))
    assert not probe_labels("noise", features, rng.integers(0, classes, 120), groups, seed)["finding"]


# Images: copies and groups.


@pytest.mark.usefixtures("no_probes")
def test_copies_across_subjects_are_listed_and_their_subjects_joined(tmp_path: Path) -> None:
    def turned(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
        return compressed(np.ascontiguousarray(np.rot90(cell(0))), 80) if row == 14 else pixels

    samples = clean(turned)
    audit = audited(samples, tmp_path)
    assert names(audit) == {"copies_across_groups"}
    assert audit.duplicates["counts"]["across_groups"] == 1
    pair = audit.duplicates["pairs"][0]
    assert (sorted(pair["groups"]), pair["how"]) == (["S00", "S03"], "turned")
    assert {pair["a"], pair["b"]} == set(samples.table["sample_id"][[0, 14]])
    assert audit.duplicates["merged_groups"] == [{"members": ["S00", "S03"], "samples": 2 * EACH}]
    assert audit.groups["groups"] == SUBJECTS - 1
    message = audit.findings[0].message
    assert "1 pairs of identical or nearly identical images are of different subjects: 2 subjects become 1" in message


@pytest.mark.usefixtures("no_probes")
def test_copies_with_different_labels_are_a_finding_of_their_own(tmp_path: Path) -> None:
    audit = audited(clean(lambda pixels, label, row: compressed(cell(0), 80) if row == 1 else pixels), tmp_path)
    assert names(audit) == {"copies_within_groups", "copies_with_different_labels"}
    assert sorted(audit.duplicates["pairs"][0]["labels"]) == ["all", "hem"]
    assert audit.duplicates["merged_groups"] == []


@pytest.mark.usefixtures("no_probes")
def test_copies_within_a_subject_join_nothing(tmp_path: Path) -> None:
    audit = audited(clean(lambda pixels, label, row: cell(0) if row == 2 else pixels), tmp_path)
    assert names(audit) == {"copies_within_groups"}
    assert audit.duplicates["pairs"][0]["how"] == "pixels"
    assert audit.groups["groups"] == SUBJECTS


@pytest.mark.usefixtures("no_probes")
def test_the_gravest_of_many_copies_are_listed(tmp_path: Path) -> None:
    def copied(pixels: np.ndarray, label: str, row: int) -> np.ndarray:
        return cell(0) if row < 2 or row in (10, 12) else cell(row // EACH * EACH)

    audit = audited(clean(copied), tmp_path)
    assert audit.duplicates["counts"]["pairs"] > len(audit.duplicates["pairs"]) == audits.LISTED
    differ = [pair["labels"][0] != pair["labels"][1] for pair in audit.duplicates["pairs"]]
    assert differ == sorted(differ, reverse=True)


@pytest.mark.usefixtures("no_probes")
def test_a_dominating_subject_is_found(tmp_path: Path) -> None:
    whose = [f"S{max(0, number // EACH - 6):02d}" for number in range(SUBJECTS * EACH)]  # S00 has 28 of 96
    audit = audited(clean(subjects=whose), tmp_path)
    assert "dominating_group" in names(audit)
    assert audit.groups["largest"] == "S00"
    assert audit.groups["largest_share"] == pytest.approx(28 / 96)
    assert "29%" in next(finding.message for finding in audit.findings if finding.name == "dominating_group")
    assert names(audited(clean(subjects=[f"S{number // 12}" for number in range(96)]), tmp_path)) == {"few_groups"}


@pytest.mark.usefixtures("no_probes")
def test_a_label_of_few_subjects_is_found(tmp_path: Path) -> None:
    labels = ["hem" if number % 2 and number < 4 * EACH else "all" for number in range(SUBJECTS * EACH)]
    audit = audited(clean(labels=labels), tmp_path)
    assert names(audit) == {"label_in_few_groups"}
    assert audit.groups["labels"]["hem"] == {"samples": 8, "groups": 4, "largest_share": 0.25}
    assert "hem (4)" in audit.findings[0].message


@pytest.mark.usefixtures("no_probes")
@pytest.mark.parametrize("unknown", [1, SUBJECTS * EACH])
def test_unknown_subjects_are_found(tmp_path: Path, unknown: int) -> None:
    whose = [None if number < unknown else f"S{number // EACH:02d}" for number in range(SUBJECTS * EACH)]
    audit = audited(clean(subjects=whose), tmp_path)
    assert names(audit) == {"subject_unknown"}
    assert audit.groups["unknown"] == unknown


def few_probes(samples: ImageSamples, folder: Path) -> dict[str, pd.DataFrame]:
    return {
        name: found for name, found in image_confounders(samples, folder).items() if name in ("border", "file_size")
    }


def test_audit_does_not_depend_on_the_order_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits_of_images, "image_confounders", few_probes)
    samples = clean(lambda pixels, label, row: compressed(cell(0), 80) if row == 14 else pixels)
    folder = write_files(samples, tmp_path)
    first = audit_samples(samples, folder, "leukemia_cell", image_task(), SEED).as_dict()
    moved = samples.take(np.random.default_rng(3).permutation(len(samples)))
    assert audit_samples(moved, folder, "leukemia_cell", image_task(), SEED).as_dict() == first


# Responses.


def response_task() -> PairsTask:
    task = response_tables.shipped_task()
    return replace(task, split=replace(task.split, mode="cell_blind"))


def responses(lines: int = 60, **settings: Any) -> ResponseTables:
    return response_tables.make_tables(lines, 6, **settings)


def with_line_effect(tables: ResponseTables, effect: np.ndarray) -> ResponseTables:
    """Return the tables with ``effect`` added to all responses of each line."""
    of_line = dict(zip(tables.cell_lines["cell_line_id"], effect, strict=True))
    added = tables.response["ln_ic50"] + tables.response["cell_line_id"].map(of_line).astype(np.float32)
    return replace(tables, response=tables.response.assign(ln_ic50=added))


def kept(tables: ResponseTables) -> ResponseSamples:
    samples: ResponseSamples = keep_samples(tables, response_task()).samples
    return samples


def audit_of(tables: ResponseTables, task: Task | None = None) -> Audit:
    return audit_samples(kept(tables), Path("nowhere"), "drug_response", task or response_task(), SEED)


def response_probe(samples: ResponseSamples, name: str) -> dict[str, Any]:
    groups = samples.cell_lines.index.to_numpy(str)
    return probe_response(name, pair_confounders(samples)[name], samples, groups, SEED)


def test_clean_responses_raise_no_finding() -> None:
    audit = audit_of(responses())
    assert audit.findings == ()
    assert [one["probe"] for one in audit.shortcuts] == [
        *("level_expression", "level_mutation", "level_copy_number", "level_methylation"),
        *("missing", "study", "metadata"),
    ]
    assert audit.groups["groups"] == 60
    assert audit.groups["unit"] == "cell line"


@pytest.mark.parametrize("omics", ["expression", "methylation"])
def test_probe_tells_the_response_by_the_level_of_a_profile(omics: str) -> None:
    tables = responses()
    effect = np.linspace(-3, 3, 60)
    table = tables.omics[omics].copy()
    table.iloc[:, 1:] += (effect[:, None] + 3).astype(np.float32)
    samples = kept(with_line_effect(replace(tables, omics=tables.omics | {omics: table}), effect))
    found = response_probe(samples, f"level_{omics}")
    assert found["finding"]
    assert found["low"] <= found["score"] <= found["high"]
    assert found["score"] > 0.5
    assert not response_probe(samples, "level_copy_number")["finding"]


def test_what_tells_only_the_group_of_a_cell_line_is_no_shortcut() -> None:
    family = np.arange(60) % 6
    samples = kept(with_line_effect(responses(), np.array([4.0, -4.0, 4.0, -4.0, 4.0, -4.0])[family]))
    features = pd.DataFrame({"value": family.astype(float)})
    mixed = probe_response("x", features, samples, samples.cell_lines.index.to_numpy(str), SEED)
    apart = probe_response("x", features, samples, family.astype(str), SEED)
    assert mixed["finding"]
    assert not apart["finding"]
    assert apart["score"] < mixed["score"] - 0.3


def test_a_planted_shortcut_of_responses_is_a_finding_with_its_score() -> None:
    tables = responses()
    without = [f"L{number:02d}" for number in range(0, 60, 3)]
    tables = response_tables.without_profile(tables, "methylation", *without)
    audit = audit_of(with_line_effect(tables, np.where(np.arange(60) % 3 == 0, 3.0, 0.0)))
    told = {finding.name: finding for finding in audit.findings if finding.name.startswith("shortcut_")}
    assert {name: finding.score for name, finding in told.items()} == {
        f"shortcut_{one['probe']}": one["score"] for one in audit.shortcuts if one["finding"]
    }
    planted = told["shortcut_missing"]
    assert planted.score is not None and planted.score > 0.5
    assert f"missing alone reaches r2_over_drug_mean {planted.score:.3f}" in planted.message


def test_probe_tells_the_response_by_the_study() -> None:
    tables = responses()
    second = tables.response["cell_line_id"].isin([f"L{number:02d}" for number in range(30)])
    tables = replace(tables, response=tables.response.assign(study=np.where(second, "GDSC2", "GDSC1")))
    samples = kept(with_line_effect(tables, np.where(np.arange(60) < 30, 3.0, 0.0)))
    assert response_probe(samples, "study")["finding"]


def test_probe_tells_the_response_by_metadata_and_not_by_tissue() -> None:
    tables = responses()
    late = np.arange(60) % 2 == 0
    lines = tables.cell_lines.assign(platform=np.where(late, "new", "old"), histology=np.where(late, "x", "y"))
    effect = np.where(late, 3.0, 0.0)
    assert response_probe(kept(with_line_effect(replace(tables, cell_lines=lines), effect)), "metadata")["finding"]
    biology = kept(with_line_effect(replace(tables, cell_lines=lines.drop(columns="platform")), effect))
    assert pair_confounders(biology)["metadata"].shape[1] == 0
    assert response_probe(biology, "metadata")["note"] == "the same for all samples"


@pytest.mark.usefixtures("no_probes")
def test_one_line_under_two_ids_is_listed() -> None:
    tables = responses()
    same = response_tables.profile(tables, "expression", "L03")
    tables = response_tables.with_profile(tables, "expression", "L07", same)
    named = response_tables.with_cell(tables, "cell_lines", "L20", "name", "LINE-11")
    audit = audit_of(named)
    assert "cell_line_under_two_ids" in names(audit)
    told = {(pair["a"], pair["b"]): pair["how"] for pair in audit.duplicates["pairs"]}
    assert told == {("L03", "L07"): "profile", ("L11", "L20"): "name"}
    assert [group["members"] for group in audit.duplicates["merged_groups"]] == [["L03", "L07"], ["L11", "L20"]]
    assert audit.groups["groups"] == 58


@pytest.mark.usefixtures("no_probes")
def test_one_molecule_under_two_ids_is_listed_and_its_measurements_compared() -> None:
    tables = response_tables.with_cell(responses(), "drugs", "D04", "smiles", "CCO")
    tables = response_tables.with_cell(tables, "drugs", "D01", "smiles", "OCC")
    audit = audit_of(tables)
    assert names(audit) == {"drug_under_two_ids", "copies_with_different_labels"}
    assert audit.duplicates["pairs"][0] | {"groups": None} == {
        **{"what": "drug", "a": "D01", "b": "D04", "similarity": 1.0, "how": "molecule", "groups": None},
    }
    counts = audit.duplicates["counts"]
    assert counts["repeated"] == 60
    assert 0 < counts["different_labels"] < 60
    first = tables.response[tables.response["drug_id"] == "D01"].set_index("cell_line_id")["ln_ic50"]
    agreeing = tables.response["ln_ic50"].where(
        tables.response["drug_id"] != "D04", tables.response["cell_line_id"].map(first)
    )
    agreed = audit_of(replace(tables, response=tables.response.assign(ln_ic50=agreeing)))
    assert names(agreed) == {"drug_under_two_ids"}


@pytest.mark.usefixtures("no_probes")
def test_a_drug_of_few_lines_is_found() -> None:
    tables = responses()
    few = (tables.response["drug_id"] == "D02") & ~tables.response["cell_line_id"].isin(["L00", "L01", "L02"])
    audit = audit_of(replace(tables, response=tables.response[~few].reset_index(drop=True)))
    assert names(audit) == {"label_in_few_groups"}
    assert audit.groups["labels"]["D02"]["groups"] == 3


@pytest.mark.usefixtures("no_probes")
def test_unknown_tissues_are_found_where_tissues_are_groups() -> None:
    tables = responses(tissues=[*(f"tissue {number}" for number in range(14)), None])
    task = response_task()
    blind = replace(task, split=replace(task.split, mode="tissue_blind"))
    assert "tissue_unknown" in names(audit_of(tables, blind))
    assert names(audit_of(tables)) == set()


def test_audit_does_not_depend_on_the_order_of_responses() -> None:
    tables = response_tables.with_cell(responses(24), "drugs", "D04", "smiles", "CCO")
    first = audit_of(tables).as_dict()
    again = audit_of(response_tables.shuffled(tables, 1)).as_dict()
    assert _rounded(again) == _rounded(first)


def _rounded(content: Any) -> Any:
    """Return ``content`` with its numbers as exact as sums in another order can be."""
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    return round(content, 6) if isinstance(content, float) else content


# The stage.


def test_stage_writes_a_report_that_reads_back_and_logs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = clean(bright_border, names=[f"{label}/{number:04d}.png" for number, label in enumerate(labels_of(96))])
    data = write_files(samples, tmp_path / "data", lambda image, path, label: image.save(path, "PNG"))
    listed = samples.table.rename(columns={"sample_id": "file"})[["file", "label", "subject_id"]]
    listed.to_csv(data / "images.csv", index=False)
    params = (ROOT / "params.yaml").read_text()
    assert "crop: 0.75" in params  # which would cut the border off
    (tmp_path / "params.yaml").write_text(params.replace("crop: 0.75", "crop: 1.0"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := empty_store(tmp_path))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    import mlflow

    mlflow.set_tracking_uri(uri)
    reports = tmp_path / "reports"
    monkeypatch.setattr(
        audits_of_images, "image_confounders", lambda *given: {"border": image_confounders(*given)["border"]}
    )
    assert stage.main(["--task", "leukemia_cell", "--data", str(data), "--reports", str(reports)]) == 0
    report = read_json(reports / AUDIT_FILE)
    assert {"passed", "task", "modality", "samples", "duplicates", "shortcuts", "groups", "findings"} == set(report)
    assert report["samples"] == 96
    (planted,) = [finding for finding in report["findings"] if finding["name"] == "shortcut_border"]
    (border,) = [one for one in report["shortcuts"] if one["probe"] == "border"]
    assert border["finding"] and planted["score"] == border["score"] > 0.8
    assert f"border alone reaches roc_auc {border['score']:.3f}" in planted["message"]
    assert all(finding["severity"] == "warning" for finding in report["findings"])
    printed = capsys.readouterr()
    assert all(f"warning: {finding['name']}: " in printed.err for finding in report["findings"])
    assert f"findings: {len(report['findings'])}" in printed.out
    (run,) = mlflow.search_runs(experiment_names=["leukemia_cell"], output_format="list")
    assert run.data.tags["stage"] == "audit"
    assert run.data.metrics["audit_findings"] == len(report["findings"])
    assert run.data.metrics["probe_border"] == pytest.approx(border["score"])
    assert [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)] == ["audit.json"]
