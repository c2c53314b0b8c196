"""A doctor of labels that finds no wrong ones, doubts right ones, or hears a group that has nothing to say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.label_doctor import profiles
from evaluation.label_doctor.find import doubtful, heard, out_of_fold, queue
from evaluation.label_doctor.page import page
from evaluation.library import open_task
from pipelines.simulate.expression import simulate_tumor_type
from training.architectures import get_architecture

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
