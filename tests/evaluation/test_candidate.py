"""A candidate that is chosen by luck or compared on other rows, and a card that leaves out what must be known."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.metrics import roc_auc_score

import evaluation.candidate
import evaluation.promotion.candidate_run
import evaluation.promotion.production
from evaluation.evidence.build import PREDICTIONS, SPLIT, file_sha256
from evaluation.evidence.evidence_file import evidence_path, read_evidence, seal
from evaluation.promotion.candidate_run import candidate, choose
from evaluation.promotion.card import write_card
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.params import read_params, task_text
from tests.empty_store import working_in
from tests.evaluation.made_evidence import made_cell_evidence as made_evidence
from training.contract import contract_class

PARAMS = read_params(Path(__file__).parents[2] / "params.yaml")
TASK = "leukemia_cell"
CLASSES = ("all", "hem")
ROWS = 120
SPLIT_SHA = "2" * 64


@dataclass
class Samples:
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(self.table.iloc[rows].reset_index(drop=True))


def predictions(noise: float, seed: int) -> pd.DataFrame:
    """Return predictions of the test rows by a model that errs by ``noise``."""
    target = np.arange(ROWS) % 2
    score = 1 / (1 + np.exp(-(2 * target - 1 + noise * np.random.default_rng(seed).normal(size=ROWS))))
    frame = pd.DataFrame({"sample_id": [f"s{row}" for row in range(ROWS)], "target": target})
    frame["group"] = [f"g{row // 3}" for row in range(ROWS)]
    return frame.assign(probability_all=1 - score, probability_hem=score, baseline_all=0.5, baseline_hem=0.5)


@dataclass
class Place:
    reports: Path
    prepared: Prepared
    client: MlflowClient

    def add(self, architecture: str, noise: float, validation: float, **hashes: str) -> dict[str, Any]:
        with tracking.mlflow.start_run(experiment_id=tracking.experiment(TASK)) as run:
            experiment, run_id = run.info.experiment_id, run.info.run_id
        logged = self.client.create_logged_model(experiment, name=architecture, source_run_id=run_id)
        path = evidence_path(TASK, architecture, self.reports)
        path.parent.mkdir(parents=True)
        (path.parent / "roc_curves.png").write_bytes(b"\x89PNG")
        predictions(noise, len(architecture)).to_parquet(path.parent / PREDICTIONS, index=False)
        own = {"predictions.sha256": file_sha256(path.parent / PREDICTIONS), **hashes}
        evidence = made_evidence(
            **{"architecture": architecture, "run_id": run_id, "model_uri": f"models:/{logged.model_id}"},
            validation={"metric": "roc_auc", "value": validation},
            hashes={**made_evidence()["hashes"], **own},
        )
        write_json(path, evidence)
        return evidence

    def candidate(self, architecture: str | None = None, **others: Any) -> dict[str, Any]:
        return candidate(TASK, PARAMS, self.prepared, architecture, **others)

    def promote(self, evidence: dict[str, Any], **tags: str) -> None:
        if not self.client.search_registered_models(f"name = '{TASK}'"):
            self.client.create_registered_model(TASK)
        every = {"architecture": evidence["architecture"], **evidence["hashes"], **tags}
        made = self.client.create_model_version(
            TASK, source=evidence["model_uri"], run_id=evidence["run_id"], tags=every
        )
        self.client.set_registered_model_alias(TASK, "production", made.version)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    table = predictions(1, 0)[["sample_id", "group"]].assign(split="test", fold=-1)
    prepared = Prepared(Samples(table), table, SPLIT_SHA, {"rows": {"dropped": {}}})
    with working_in(tmp_path):
        made = Place(tmp_path / "reports", prepared, MlflowClient())
        for name, *numbers in (("majority_class", 9.0, 0.99), ("resnet50", 0.7, 0.9), ("random_forest", 1.5, 0.8)):
            made.add(name, *numbers)
        made.add("vgg16", 0.3, 0.7)
        yield made


def by_kind(evidence: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one for one in evidence["comparisons"] if one["kind"] == kind]


def test_the_choice_is_made_on_validation_rows_and_never_takes_the_baseline(place: Place) -> None:
    assert choose(TASK, PARAMS)["architecture"] == "resnet50"  # vgg16 is best on test rows
    assert choose(TASK, PARAMS, ["vgg16"])["architecture"] == "vgg16"
    with pytest.raises(UserError, match="dvc repro evaluate@"):
        choose(TASK, PARAMS, ["alexnet"])
    with pytest.raises(UserError, match=f"no model of {TASK} is evaluated yet"):  # none is not all
        choose(TASK, PARAMS, [])  # as of a loop that trained the baseline alone


def test_it_is_compared_with_all_others_on_the_same_rows(place: Place) -> None:
    evidence = place.candidate()
    assert [(one["with"], one["kind"]) for one in evidence["comparisons"]] == [
        ("majority_class", "naive"),
        ("random_forest", "simple"),
        ("vgg16", "peer"),
    ]
    target = predictions(1, 0)["target"]

    def auc(name: str) -> float:
        scores = pd.read_parquet(evidence_path(TASK, name, place.reports).parent / PREDICTIONS)
        return float(roc_auc_score(target, scores["probability_hem"]))

    expected = [auc("resnet50") - other for other in (0.5, auc("random_forest"), auc("vgg16"))]
    for one, difference in zip(evidence["comparisons"], expected, strict=True):
        assert one["difference"] == pytest.approx(difference)
        assert one["low"] <= one["difference"] <= one["high"]
        assert (one["rows"], one["groups"], one["metric"]) == (ROWS, 40, "roc_auc")
    assert expected[1] > 0 > expected[2]


def test_all_of_it_is_kept_at_the_run_by_its_hash_and_never_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = place.candidate()
    folder = place.reports / TASK / "candidate"
    assert read_evidence(folder / "evidence.json") == evidence
    below = f"evidence/{evidence['sha256']}"
    there = {file.path for file in place.client.list_artifacts(evidence["run_id"], below)}
    names = ("evidence.json", "evidence.schema.json", "card.md", "README.md", "card.html", PREDICTIONS, "figures")
    assert there == {f"{below}/{name}" for name in names}
    with monkeypatch.context() as patch:  # a fault on the way leaves what was there
        patch.setattr(evaluation.promotion.candidate_run, "write_card", Mock(side_effect=OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            place.candidate("vgg16")
    assert read_evidence(folder / "evidence.json") == evidence
    assert {path.name for path in folder.parent.iterdir()} == {"models", "candidate"}
    logged: list[str] = []
    monkeypatch.setattr(tracking.mlflow, "log_artifact", lambda path, *_: logged.append(path))
    assert place.candidate()["sha256"] == evidence["sha256"] and logged == []
    other = place.candidate("vgg16")
    assert Path(logged[-1]).name == "evidence.json" and len(logged) == 7  # what says that all is there comes last
    assert json.loads((folder / "evidence.json").read_text())["sha256"] == other["sha256"] != evidence["sha256"]
    assert place.client.get_run(other["run_id"]).data.tags["evidence.sha256"] == other["sha256"]


def test_edited_predictions_and_another_split_are_refused_and_a_cohort_needs_a_name_and_a_folder(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evidence_path(TASK, "vgg16", place.reports).parent / PREDICTIONS
    frame = pd.read_parquet(path)
    frame.assign(probability_hem=frame["target"], probability_all=1.0 - frame["target"]).to_parquet(path, index=False)
    with pytest.raises(UserError, match="not what the evidence was measured on"):
        place.candidate("vgg16")
    frame.to_parquet(path, index=False)
    place.add("alexnet", 0.5, 0.1, **{"split.sha256": "9" * 64})
    assert "alexnet" not in {one["with"] for one in place.candidate()["comparisons"]}
    assert "alexnet is not compared" in capsys.readouterr().err
    with pytest.raises(UserError, match="another split"):
        place.candidate("alexnet")
    for given in (["away"], ["=x"], ["a=x", "a=y"]):
        with pytest.raises(UserError, match="NAME=DIR"):
            evaluation.candidate._cohorts(given)


def test_the_version_in_production_is_taken_as_it_answered_on_the_same_split(place: Place) -> None:
    other = place.candidate("vgg16")
    place.promote(other, **{"evidence.sha256": other["sha256"]})
    (facing,) = by_kind(place.candidate(), "production")
    assert facing["with"] == "vgg16" and facing["version"] == "1" and facing["seen"] == 0
    (peer,) = by_kind(place.candidate(), "peer")
    assert (facing["difference"], facing["low"]) == (peer["difference"], peer["low"])
    (itself,) = by_kind(place.candidate("vgg16"), "production")
    assert itself["difference"] == itself["low"] == itself["high"] == 0
    assert "is the version in production" in itself["note"]


def planted(classes: tuple[str, ...]) -> Any:
    """Return a predictor of another split, which makes no mistake."""

    def outputs(samples: Samples) -> np.ndarray:
        frame = predictions(0.0, 77).set_index("sample_id").loc[samples.table["sample_id"]]
        return frame[[f"probability_{label}" for label in CLASSES]].to_numpy()[:, :: 1 if classes[0] == "all" else -1]

    task, kind = PARAMS.task(TASK), contract_class("images", "classification")
    named: dict[str, Any] = {"task": TASK, "architecture": "vgg16", "baseline": task.evaluate.baseline}
    known: dict[str, Any] = {"classes": list(classes), "temperature": 1.0, "threshold": 0.5}
    return SimpleNamespace(contract=kind(**named, task_text=task_text(task), coverage=0.9, **known), outputs=outputs)


@pytest.mark.parametrize(
    ("seen_groups", "rows", "said"),
    [(None, ROWS, "not recorded"), (0, ROWS, "answered anew"), (15, 75, "are left out"), (35, ROWS, "favors it")],
)
def test_rows_that_production_was_fitted_on_do_not_flatter_it(
    seen_groups: int | None, rows: int, said: str, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = read_evidence(evidence_path(TASK, "vgg16", place.reports))
    if seen_groups is not None:  # one row of a group is enough: the others are of the same patient
        groups = place.prepared.table.groupby("group", sort=False).head(1).reset_index(drop=True)
        split = groups.assign(split=np.where(np.arange(len(groups)) < seen_groups, "train", "test"))
        split.to_parquet(tmp_path / SPLIT)
        place.client.log_artifact(other["run_id"], str(tmp_path / SPLIT))
    place.promote(other, **{"split.sha256": "9" * 64})
    # Its classes are in another order, as those of older data may be.
    monkeypatch.setattr(evaluation.promotion.production, "load", lambda uri: planted(CLASSES[::-1]))
    evidence = place.candidate()
    (facing,) = by_kind(evidence, "production")
    assert said in facing["note"] and facing["rows"] == rows
    assert facing.get("seen") == (None if seen_groups is None else 3 * seen_groups)
    assert facing["difference"] < 0  # it makes no mistake
    assert "9" * 64 not in json.dumps(facing)


@pytest.mark.parametrize("classes", [("all", "other"), None])
def test_a_version_that_cannot_answer_is_named_and_not_passed_over(
    classes: tuple[str, ...] | None, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(uri: str) -> Any:
        if classes is None:
            raise TypeError("its contract is of another age")
        return planted(classes)

    place.promote(read_evidence(evidence_path(TASK, "vgg16", place.reports)), **{"split.sha256": "9" * 64})
    monkeypatch.setattr(evaluation.promotion.production, "load", load)
    (facing,) = by_kind(place.candidate(), "production")
    assert facing["difference"] is None and facing["rows"] == 0
    assert "cannot answer" in facing["note"]


DRAWING = '<svg xmlns="http://www.w3.org/2000/svg"><title>imatinib</title></svg>'
HOSTILE = "<script>alert('x')</script>|`]( onerror=1 \n# no heading"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def written(evidence: dict[str, Any], folder: Path) -> tuple[str, str]:
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "confusion_matrix.png").write_bytes(b"\x89PNG\r\n")
    (folder / "figures" / "molecule_1.svg").write_text(DRAWING)
    (folder / "figures" / "notes.txt").write_text("no figure")
    write_card(evidence, folder)
    return (folder / "card.md").read_text(), (folder / "card.html").read_text()


def comparison(**changed: Any) -> dict[str, Any]:
    numbers = {"metric": "roc_auc", "difference": 0.1, "low": 0.05, "high": 0.2, "p": 0.01, "rows": 40, "groups": 12}
    return {"with": "majority_class", "kind": "naive", "version": None, "run_id": None, **numbers, **changed}


def test_the_card_says_what_a_reader_must_know(tmp_path: Path) -> None:
    production = comparison(
        **{"with": "vgg16", "kind": "production", "version": "7", "note": "3 of 40 test rows are left out"}
    )
    evidence = made_evidence(comparisons=[comparison(), production], cohorts=[])
    markdown, html = written(evidence, tmp_path)
    plain = markdown.replace("\\", "")
    tags = Tags()
    tags.feed(html)
    for told in (plain, tags.text):
        for said in (
            *("The data is simulated", "medical device", "0.800 [0.700, 0.900]", "few_groups: few subjects"),
            *("vgg16 (version 7)", "3 of 40 test rows are left out", "+0.100 [+0.050, +0.200]", "93.0%"),
            *("subject_blind", "12 groups", "git checkout " + "1" * 40, evidence["sha256"]),
        ):
            assert said in told, said
    assert "![Confusion of the classes, test rows](figures/confusion_matrix.png)" in plain
    sources = [dict(attrs)["src"] or "" for tag, attrs in tags.found if tag == "img"]
    assert len(sources) == 2 and sources[0].startswith("data:image/png;base64,iVBOR")
    assert "![What each atom of a drug adds to the prediction](figures/molecule_1.svg)" in plain
    kind, _, drawing = sources[1].partition(";base64,")  # as it was drawn
    assert kind == "data:image/svg+xml" and base64.b64decode(drawing).decode() == DRAWING


def test_the_card_says_what_isolation_leaves_of_a_shortcut_and_where_it_fails(tmp_path: Path) -> None:
    evidence = made_evidence(isolation={"images": 1250, "failed": 30, "failed_share": 0.024})
    left = {"score": 0.512, "low": 0.45, "high": 0.57, "finding": False}
    evidence["data"]["audit"]["groups"]["without_cell"] = 1007
    evidence["data"]["audit"]["shortcuts"] = [
        {"probe": name, "metric": "roc_auc", "score": 0.9, "low": 0.8, "high": 0.95, "finding": True, **more}
        for name, more in (("border", {"isolated": left}), ("file_size", {}))
    ]
    markdown, _ = written(seal(evidence), tmp_path)
    assert "| border | roc_auc | 0.900 [0.800, 0.950] | yes | 0.512 [0.450, 0.570] |" in markdown.replace("\\", "")
    assert "No cell was found in 30 of 1,250 test images (2.4%), which it saw whole." in markdown
    assert "Images in which no cell is found: 1,007." in markdown


def test_a_hostile_name_stays_text(tmp_path: Path) -> None:
    cohort = {"name": HOSTILE, "n": 3, "groups": 2, "metrics": {}, "data.sha256": "6" * 64}
    evidence = made_evidence(
        classes=(HOSTILE, "hem"), comparisons=[comparison(note=HOSTILE)], cohorts=[cohort], simulated=False
    )
    evidence["data"]["audit"]["findings"][0]["message"] = HOSTILE
    markdown, html = written(evidence, tmp_path)
    tags = Tags()
    tags.feed(html)
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "a", "iframe"})
    assert all(not name.startswith("on") for _, attrs in tags.found for name, _ in attrs)
    assert tags.text.count("<script>alert('x')</script>") >= 4
    # Markdown passes HTML through, ends a cell at a bar, and begins a heading at the line's start.
    assert not re.search(r"(?<!\\)<script", markdown)
    assert "\n# no heading" not in markdown
    (line,) = [line for line in markdown.splitlines() if "alert" in line and line.startswith("|") and " 20 " in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 4
    (command,) = [line for line in markdown.splitlines() if line.startswith("python -m evaluation.candidate")]
    assert re.fullmatch(r"[\w\-./=@? ]+", command)


def test_the_card_tells_each_decision_on_a_tested_label(tmp_path: Path) -> None:
    told = {"decision": "drop", "given": "SIMB", "new_label": "", "by": "A. Reader", "why": "two tissues", "samples": 2}
    decided = {"keep": 1, "change": 3, "drop": 2, "tested": [told]}
    evidence = made_evidence()
    markdown, _ = written(seal({**evidence, "data": {**evidence["data"], "label_decisions": decided}}), tmp_path)
    assert "1 keep, 3 change, 2 drop" in markdown and "| drop | 2 | SIMB |  | A. Reader | two tissues |" in markdown


def test_no_score_stands_in_the_card_without_its_interval(tmp_path: Path) -> None:
    bare = {"value": 0.777, "low": None, "high": None}
    evidence = made_evidence(
        comparisons=[comparison(difference=0.777, low=None, high=None)],
        cohorts=[{"name": "elsewhere", "n": 3, "groups": 1, "metrics": {"accuracy": bare}, "data.sha256": "6" * 64}],
        worst={"unit": "class", "metric": "recall", "rows": [{"name": "all", "n": 3, **bare}]},
        calibration={"temperature": 1.3, "ece_before": 0.777, "mean_set_size": 1.2},
    )
    evidence["test"]["metrics"] |= {"ece": {"value": 0.123, "low": 0.1, "high": 0.15}, "accuracy": bare}
    evidence["data"]["audit"]["shortcuts"] = [
        {"probe": "border", "metric": "roc_auc", "score": 0.666, "low": 0.6, "high": 0.7, "finding": False},
        {"probe": "color", "metric": "roc_auc", "score": 0.777, "low": None, "high": None, "finding": False},
    ]
    for text in written(evidence, tmp_path):
        plain = text.replace("\\", "")
        assert "0.777" not in plain
        assert plain.count("no interval: too few groups to resample") == 5
        assert "calibration error: 0.123 [0.100, 0.150]" in plain
        assert "0.666 [0.600, 0.700]" in plain
        assert "0.100 (over the explained rows, without resampling)" in plain  # a check that has none


def test_what_is_not_defined_is_no_number_and_no_audit_is_not_a_clean_audit(tmp_path: Path) -> None:
    clean: dict[str, Any] = {"findings": [], "shortcuts": [], "groups": {}, "duplicates": {}}
    for audit in (None, clean):
        data: dict[str, Any] = {"validation": {"passed": None, "warnings": []}, "audit": audit}
        markdown, _ = written(made_evidence(data=data, simulated=False), tmp_path / str(audit is None))
        assert "imulated" not in markdown and "is not recorded" in markdown
        assert ("was not audited" in markdown) is (audit is None)
        assert ("has no finding" in markdown) is (audit is not None)
    nothing = dict.fromkeys(("low", "high"))
    evidence = made_evidence(
        comparisons=[comparison(**nothing, difference=None, p=None, note="cannot answer")],
        cohorts=[],
        coverage={"declared": 0.9, "observed": None, "low": None, "high": None},
        explanation={"method": None, "checks": []},
        worst={"unit": "class", "metric": "recall", "rows": [{"name": "all", "n": 0, **nothing, "value": None}]},
    )
    for text in written(evidence, tmp_path):
        assert "None" not in text and not re.search(r"\bnan\b", text)
        assert "cannot answer" in text and "No prediction sets" in text
