"""The page of doubtful labels, with what a person can see of the first ones."""

import importlib

import pandas as pd

from evaluation.label_doctor.find import MARGIN, SHOWN
from evaluation.modalities import modality_of
from pipelines.datasets import Prepared
from pipelines.report import as_html, figure, items, report, section, text
from pipelines.samples.label_decisions import DECISIONS_FILE


def page(name: str, found: pd.DataFrame, prepared: Prepared) -> str:
    """Return the page of `evaluation.label_doctor.find.queue` as HTML."""
    first, samples = found[:SHOWN], prepared.samples
    captions = [
        f"{number}. {row['sample_id']} ({'tested' if row['tested'] else row['split']}): labeled {row['given']} "
        f"({row['probability_given']:.3f}), seems {row['suggested']} ({row['probability_suggested']:.3f})"
        + (f"; decided: {row['decision']}" if row["decision"] else "")
        for number, row in enumerate(first.to_dict("records"), 1)
    ]
    made = importlib.import_module(f"evaluation.label_doctor.{samples.modality}").pictures(samples.take(first.index))
    figures = {f"{number}.png": data for number, data in enumerate(made)}
    blocks = [figure(file, caption) for file, caption in zip(figures, captions, strict=False)]
    if captions and not figures:
        blocks = [items(map(": ".join, zip(captions, first["because"], strict=True)))]
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
