"""drevalpy's models on our rows: the split and the features in its format, its predictions in a table beside ours.

See https://doi.org/10.1038/s41467-026-72903-w. It needs an older pandas, so it runs in an environment of its own, and
nothing of it is imported here.
"""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation.comparison.paired import paired_difference
from evaluation.comparison.ranking import leaderboard
from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.metrics import best_first
from evaluation.problems import measures_of
from evaluation.promotion.candidate_run import read_predictions
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.formatting import interval
from pipelines.params import Params
from pipelines.report import Code, report, section, table, text
from training.features.pair import fingerprints

MODES = {"random": "LPO", "cell_blind": "LCO", "drug_blind": "LDO", "tissue_blind": "LTO"}  # as drevalpy names them
NAIVE = "NaiveMeanEffectsPredictor"
KEYS = {"cell_line_name": "cell_line_id", "pubchem_id": "drug_id"}  # its names of what a row is known by, and ours
SHOWN = ("r2", "margin", "rmse", "within_drug_pearson")
_DATA = "oncolineage"  # name of the data set
_BITS = 128  # of the fingerprints that its models read


def write_data(prepared: Prepared, folder: Path) -> Path:
    """Write our rows as a data set of drevalpy; return its folder below ``folder``, which is named by the content.

    `UserError` where a pair was measured twice or a line has no expression: drevalpy knows neither.
    """
    samples = prepared.samples.alone()
    rows = prepared.table[[*KEYS.values(), "split", "target"]].set_axis([*KEYS, "split", "response"], axis=1)
    if (twice := rows.duplicated(list(KEYS))).any():
        line, drug = rows.loc[twice, list(KEYS)].iloc[0]
        raise UserError(f"response.parquet: {line} and {drug} were measured in two studies; drug ids must differ")
    expression = samples.omics.get("expression", pd.DataFrame(np.nan, samples.cell_lines.index, [""]))
    if (lacking := expression.index[expression.isna().any(axis=1)]).size:
        raise UserError(
            f"expression.parquet: {len(lacking)} cell lines, such as {lacking[0]}, are not measured, and drevalpy "
            "needs expression: set data.missing.expression to drop in params.yaml"
        )
    tissue, drugs = samples.cell_lines["tissue"], samples.drugs
    bits = fingerprints(drugs["smiles"].tolist(), _BITS)
    # Drugs without a structure have an empty column, for which drevalpy draws one at random.
    molecules = pd.DataFrame(np.where(bits[:, :1], np.nan, bits[:, 1:]).T, columns=drugs.index)
    lines = expression.rename_axis("cell_line_name")
    # It drops lines that equal another in all but their name: a second identifier tells lines of one tissue apart.
    named = tissue.to_frame().assign(cellosaurus_id=tissue.index).rename_axis("cell_line_name")
    tables = {
        "split.csv": rows[[*KEYS, "split"]],
        f"data/{_DATA}/{_DATA}.csv": rows.assign(tissue=tissue.to_numpy()[samples.cell]).drop(columns="split"),
        f"data/{_DATA}/cell_line_names.csv": named.reset_index(),
        f"data/{_DATA}/drug_names.csv": pd.DataFrame({"pubchem_id": drugs.index}),
        f"data/{_DATA}/gene_expression.csv": lines.reset_index(),
        f"data/{_DATA}/drug_fingerprints/pubchem_id_to_demorgan_{_BITS}_map.csv": molecules,
        "data/meta/gene_lists/landmark_genes.csv": pd.DataFrame({"Symbol": lines.columns}),  # all that are there
    }
    files = {path: each.to_csv(index=False) for path, each in tables.items()}
    files["split.py"] = Path(__file__).with_name("drevalpy_split.py").read_text(encoding="utf-8")
    folder = folder / hashlib.sha256("".join(files.values()).encode()).hexdigest()[:12]
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    return folder


def run(program: Path, folder: Path, mode: str, models: Sequence[str], transformation: str) -> None:
    """Let drevalpy tune, fit and predict in its environment; models that have predicted there before are kept."""
    if mode not in MODES:
        raise UserError(f"drevalpy has no split mode {mode}; it has {', '.join(MODES)}")
    command = [str(program.absolute()), "--models", *models, "--baselines", NAIVE, "--test_mode", MODES[mode]]
    command += ["--dataset_name", _DATA, "--no_refitting", "--measure", "response", "--path_data", "data"]
    command += ["--path_out", "results", "--run_id", transformation, "--response_transformation", transformation]
    command += ["--custom_splitter_path", "split.py"]
    # Its random fingerprints depend on Python's hashes; our packages are none of its business.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONHASHSEED": "0"}
    try:
        subprocess.run(command, cwd=folder, env=environment, check=True)
    except FileNotFoundError as error:
        raise UserError(f"{program} is not there; name the program drevalpy of its environment") from error
    except subprocess.CalledProcessError as error:
        raise UserError(f"drevalpy ended with {error.returncode}; what it said is above") from error


def read_results(folder: Path, tested: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what each model of drevalpy predicts of the test rows ``tested``, ``(n,)`` in their order, by its name."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("results/*/*/*/*/predictions/predictions_split_0.csv")):
        transformation, model = path.parts[-6], path.parts[-3]
        plain = transformation == "None" or model == NAIVE  # which it never transforms the response for
        found[model if plain else f"{model} ({transformation})"] = read_file(path, tested)
    return found


def read_file(path: Path, tested: pd.DataFrame) -> np.ndarray:
    """Return the predictions of a file of drevalpy in the order of ``tested``; refuse other rows than these."""
    found = pd.read_csv(path, dtype=dict.fromkeys(KEYS, str), float_precision="round_trip")
    if lacking := [name for name in (*KEYS, "response", "predictions") if name not in found]:
        raise UserError(f"{path} has no column {lacking[0]}")
    theirs, ours = (pd.MultiIndex.from_frame(each) for each in (found[list(KEYS)], tested[list(KEYS.values())]))
    for fault, rows in (
        ("is there twice", theirs[theirs.duplicated()]),
        ("is no test row of ours", theirs[~theirs.isin(ours)]),
        ("is missing", ours[~ours.isin(theirs)]),
    ):
        if len(rows):
            raise UserError(f"{path}: the row of {rows[0][0]} and {rows[0][1]} {fault} ({len(rows)} in all)")
    found = found.iloc[theirs.get_indexer(ours)]
    for name, wrong in (
        ("response", ~np.isclose(found["response"], tested["target"], atol=1e-6)),
        ("predictions", ~np.isfinite(found["predictions"])),
    ):
        if np.any(wrong):
            line, drug = ours[int(np.argmax(wrong))]
            raise UserError(f"{path}, column {name}: {found[name].iloc[int(np.argmax(wrong))]} of {line} and {drug}")
    return found["predictions"].to_numpy(np.float64)


def content(name: str, params: Params, prepared: Prepared, folder: Path, against: str) -> dict[str, Any]:
    """Return a report of our evaluated models and drevalpy's, the best first, all on the same resamples of groups.

    The last column is by how much a model is better than ``against``, one of ours. `UserError` if that was evaluated on
    another split, or models predict other rows.
    """
    task, ours = params.task(name), leaderboard(name, params)
    evidence = {row["architecture"]: read_evidence(evidence_path(name, row["architecture"])) for row in ours}
    if against not in evidence:
        raise UserError(f"{against} of {name} is not evaluated; there are {', '.join(evidence)}")
    if evidence[against]["hashes"]["split.sha256"] != prepared.sha256:
        raise UserError(f"{name} {against} was evaluated on another split; run `make train TASK={name}`")
    frames = {each: read_predictions(evidence_path(name, each).parent, found) for each, found in evidence.items()}
    reference = frames[against]
    for model, predicted in read_results(folder, reference).items():
        frames[f"drevalpy: {model}"] = reference.assign(prediction=predicted)
    measures, metric, settings = measures_of(task.problem), task.evaluate.metric, task.evaluate
    known = {"resamples": settings.resamples, "seed": params.seed, "confidence": settings.confidence}
    rows = []
    for model, frame in frames.items():
        found = measures.intervals(frame, task, params.seed)
        cells = [interval(found[each].as_dict(), sign="+" if each == "margin" else "") for each in SHOWN]
        better = vars(paired_difference(task, frame, reference, metric, **known))
        cells.append(interval(better, "difference", sign="+"))
        rows.append({"value": found[metric].value, "cells": [Code(model), *cells]})
    head = ["model", *(each.replace("_", " ") for each in SHOWN), f"{metric} above {against}"]
    said = (
        f"{len(reference):,} test rows of {reference['group'].nunique()} groups, split mode {task.split.mode}; "
        f"{settings.confidence:.0%} intervals over groups, on the same resamples for all models; "
        f"margin over {settings.baseline}."
    )
    shown = table(head, [row["cells"] for row in best_first(rows, metric, "value")])
    simulated = any(row["simulated"] for row in ours)
    return report(f"{name} beside drevalpy", [section("", text(said), shown)], simulated=simulated)
