"""The page of doubtful labels, with what a person can see of the first ones."""

import importlib
from typing import Any

import pandas as pd

from evaluation.label_doctor.find import MARGIN, OutOfFold
from evaluation.modalities import modality_of
from pipelines.datasets import Prepared
from pipelines.report import as_html, report, section, text
from pipelines.samples.label_decisions import DECISIONS_FILE

_SHOWN = 60


def page(name: str, found: pd.DataFrame, of: OutOfFold, prepared: Prepared) -> str:
    """Return the page of `evaluation.label_doctor.find.queue` as HTML."""
    first, samples = found[:_SHOWN], prepared.samples
    captions = [
        f"{number}. {row['sample_id']} ({'tested' if row['tested'] else row['split']}): labeled {row['given']} "
        f"({row['probability_given']:.3f}), seems {row['suggested']} ({row['probability_suggested']:.3f})"
        + (f"; decided: {row['decision']}" if row["decision"] else "")
        for number, row in enumerate(first.to_dict("records"), 1)
    ]
    codes = pd.Index(samples.classes)
    blocks: list[Any] = []
    figures: dict[str, bytes] = {}
    if captions:
        rows = first.index.to_numpy()
        models = [of.model(row) for row in rows]
        classes = codes.get_indexer(first["given"]), codes.get_indexer(first["suggested"])
        modality = importlib.import_module(f"evaluation.label_doctor.{samples.modality}")
        blocks, figures = modality.shown(samples.take(rows), models, captions, *classes)
    lead = (
        f"{len(found)} of {len(samples):,} labels are doubtful: a model that never saw the sample's group, and the "
        f"labels of its other samples, make another class more probable by at least {MARGIN}. A person decides what "
        f"is done with a label, in data/{name}/{DECISIONS_FILE}; this page changes none."
    )
    said = report(
        f"Doubtful labels of {name}",
        [section("The worst first", *(blocks or [text("None.")]))],
        lead=lead,
        simulated=modality_of(samples.modality).simulated(samples),
    )
    return as_html(said, figures)
