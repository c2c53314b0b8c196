"""A doctor of labels that finds no wrong ones, doubts right ones, hears a group that says nothing, or asks twice."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from evaluation import labels
from evaluation.label_doctor import profiles
from evaluation.label_doctor.ask import in_order
from evaluation.label_doctor.find import doubtful, heard, out_of_fold, queue
from evaluation.label_doctor.page import page
from evaluation.library import open_task
from pipelines.errors import UserError
from pipelines.simulate.expression import simulate_tumor_type
from training.architectures import get_architecture
from training.studies.trials import fit_settings

ROOT = Path(__file__).parents[2]


def test_planted_wrong_labels_are_found_and_few_others_and_tested_rows_are_marked(tmp_path: Path) -> None:
    simulate_tumor_type(tmp_path)
    opened = open_task("tumor_type", data=tmp_path, params=ROOT / "params.yaml")
    prepared, task, count = opened.prepared, opened.task, len(opened.prepared.table)
    rng, classes = np.random.default_rng(1), np.array(prepared.samples.classes, dtype=object)
    planted = rng.choice(count, round(0.03 * count), replace=False)
    target = prepared.samples.target.copy()
    target[planted] = (target[planted] + rng.integers(1, len(classes), len(planted))) % len(classes)
    table = prepared.samples.table.assign(target=target, label=classes[target])
    wrong = replace(prepared, samples=replace(prepared.samples, table=table))
    architecture = get_architecture(profiles.ARCHITECTURE, task.modality, task.problem)
    of = out_of_fold(architecture, profiles.HYPERPARAMETERS, wrong, opened.params, task)
    name = prepared.table["sample_id"].iloc[planted[0]]
    known = pd.DataFrame({"sample_id": [name], "decision": ["keep"]})
    found = queue(of, wrong, known)
    right = np.isin(found.index, planted)
    assert right.mean() >= 0.8 and right.sum() >= 0.6 * len(planted)
    assert (found["tested"] == (found["split"] == "test")).all() and found["tested"].any()
    assert found["score"].is_monotonic_increasing
    assert found.loc[found["sample_id"] == name, "decision"].tolist() in (["keep"], [])
    shown = page("tumor_type", found, wrong)
    assert found["sample_id"].iloc[0] in shown and "SIMG" in shown


def test_a_group_of_one_label_speaks_and_a_mixed_one_does_not() -> None:
    groups = np.repeat(np.arange(20).astype(str), 10)
    pure, even = np.repeat(np.arange(20) % 2, 10), np.full((200, 2), 0.5)
    pure[3] = 1  # in a group of zeros
    told = heard(even, pure, groups)
    assert told[3, 0] > 0.9 and told[13, 1] > 0.9
    assert doubtful(told, pure)[0].tolist() == [3]
    mixed = np.tile([0, 1], 100)
    np.testing.assert_allclose(heard(even, mixed, groups), even, atol=0.02)
    alone = np.arange(200).astype(str)
    np.testing.assert_allclose(heard(even, pure, alone), even)


def test_what_cannot_be_decided_is_asked_first_and_no_two_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure, torn, other = [0.98, 0.01, 0.01], [0.5, 0.49, 0.01], [0.01, 0.49, 0.5]
    probabilities = np.array([sure, torn, torn, torn, other, sure])
    far = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 2.5])
    order = in_order(probabilities, far)
    assert sorted(order) == list(range(6)) and set(order[:2]) == {1, 4}
    assert order.tolist().index(5) < order.tolist().index(0), "of two alike the one that is unlike all known"
    assert sorted(in_order(probabilities, far, count=2)) == list(range(6)) and not len(
        in_order(np.empty((0, 3)), far[:0])
    )
    answers = pd.DataFrame({"sample_id": list("abcdef"), "label": "x", "probability": probabilities.max(axis=1)})
    answers["out_of_distribution"], answers["out_of_distribution_threshold"] = far * 2, 2.0
    (tmp_path / "asked" / "answers").mkdir(parents=True)
    maps = [list(zip("xyz", each, strict=True)) for each in probabilities.tolist()]
    column = pyarrow.array(maps, pyarrow.map_(pyarrow.string(), pyarrow.float64()))
    table = pyarrow.Table.from_pandas(answers).append_column("probabilities", column)
    table = table.replace_schema_metadata({"oncolineage.run": json.dumps({"model": "tumor_type 3 abc"})})
    pyarrow.parquet.write_table(table, tmp_path / "asked" / "answers" / "part-00000.parquet")
    monkeypatch.setattr(labels, "REPORTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["labels", "--task", "tumor_type", "--answers", str(tmp_path / "asked")])
    assert labels.main() == 0
    ranked = pd.read_csv(tmp_path / "tumor_type" / "to_label.csv")
    assert ranked["sample_id"].tolist() == [answers["sample_id"][each] for each in order]
    monkeypatch.setattr("sys.argv", ["labels", "--task", "blood_cell", "--answers", str(tmp_path / "asked")])
    with pytest.raises(UserError, match="answers of tumor_type 3, not of a model of blood_cell"):
        labels.main()
    for absent in (tmp_path, tmp_path / "none"):
        monkeypatch.setattr("sys.argv", ["labels", "--task", "tumor_type", "--answers", str(absent)])
        with pytest.raises(UserError, match="has no answers; make them"):
            labels.main()


def test_half_of_the_labels_are_as_good_as_all(tmp_path: Path) -> None:
    simulate_tumor_type(tmp_path)
    opened = open_task("tumor_type", data=tmp_path, params=ROOT / "params.yaml")
    prepared, samples = opened.prepared, opened.prepared.samples
    architecture = get_architecture("logistic_regression", opened.task.modality, opened.task.problem)
    settings = fit_settings(opened.params, opened.task)
    train, validation, test = (prepared.rows(side) for side in ("train", "validation", "test"))

    def fitted(rows: np.ndarray) -> Any:
        built = architecture.build(architecture.first_trial(settings), **settings)
        return built.fit(samples.take(rows), samples.take(validation))

    def accuracy(rows: np.ndarray) -> float:
        return float((fitted(rows).outputs(samples.take(test)).argmax(axis=1) == samples.target[test]).mean())

    drawn = np.random.default_rng(0).permutation(train)
    known = np.array(
        [row for code in np.unique(samples.target[train]) for row in drawn[samples.target[drawn] == code][:2]]
    )
    while (room := len(train) // 2 - len(known)) > 0:
        rest = np.setdiff1d(train, known)
        order = in_order(fitted(known).outputs(samples.take(rest)), np.zeros(len(rest)))
        known = np.concatenate([known, rest[order[: min(room, len(train) // 10)]]])
    assert len(known) <= len(train) / 2 and accuracy(known) >= accuracy(train) - 0.03
