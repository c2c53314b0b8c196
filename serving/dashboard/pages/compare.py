"""Page "Compare": the architectures of a task side by side, their costs, and the features of their explanations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from evaluation.comparison.page import STANDINGS
from pipelines.errors import UserError
from pipelines.files import read_json
from pipelines.samples.gene_names import symbol_of
from serving.dashboard.data import charts
from serving.dashboard.data.collection import drug_labels
from serving.dashboard.data.words import means, metric_means, named, number, plain, score_word, share, with_interval
from serving.dashboard.pages import frame, fronts
from serving.modalities import get_modality
from serving.problems import get_problem

_MOST_FEATURES, _IN_CHART = 1000, 15
_COSTS = {  # of the evidence: heading and decimals; the first three are in the leaderboard
    "cost_latency_ms_batch_1": ("Time to answer one row (ms)", 2),
    "cost_fit_seconds": ("Time to fit (s)", 1),
    "cost_model_megabytes": ("Size of the model (MB)", 1),
    "cost_peak_memory_megabytes": ("Memory to fit (MB)", 0),
    "cost_parameters": ("Parameters", 0),
}
OVERALL = "all rows together"
_SCORE, _MARGIN = ["value", "low", "high"], ["margin", "margin_low", "margin_high"]
_WORST = ("worst_stress", "worst_stratum")  # of the leaderboard: parts of the test rows, with interval and name


@dataclass(frozen=True)
class Standings:
    """The leaderboard of a task: a row an architecture, the best first; scores without an interval are NaN."""

    task: str
    metric: str
    table: pd.DataFrame
    agreement: dict[str, dict[str, float]]  # share of top genes that two explanations have in common
    notes: list[str]  # of `make compare`, if it has run on these fits


def standings(task: str, reports: Path) -> Standings:
    """Read the leaderboard of a task; one that is missing or cannot be read is a UserError."""
    path = reports / task / "leaderboard.json"
    rows = _json(path, f"no model of {task} is evaluated yet; run `make train TASK={task}`")
    try:
        other = reports / task / "comparison" / "comparison.json"
        comparison = _json(other, "") if other.is_file() else {"rows": []}
        if {row["run_id"] for row in comparison["rows"]} != {row["run_id"] for row in rows}:  # of earlier fits
            comparison = {}
        table = _table(rows, {row["architecture"]: row.get("standing") for row in comparison.get("rows", [])})
        agreement = {row["architecture"]: row.get("agreement") or {} for row in rows}
        metric = str(rows[0]["metric"])
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path}: is no leaderboard; run `make train TASK={task}`") from error
    notes = [note for note in comparison.get("notes", []) if not note.startswith("SIMULATED")]
    return Standings(task, metric, table, agreement, notes)


def _table(rows: list[dict[str, Any]], standing: Mapping[str, Any]) -> pd.DataFrame:
    table = pd.DataFrame(rows)[["architecture", "baseline", "metric", *_SCORE, *_MARGIN, "simulated"]]
    for ends in (_SCORE, _MARGIN):
        table[ends] = table[ends].astype(float)
        table.loc[table[ends].isna().any(axis=1), ends] = float("nan")
    table.insert(9, "standing", table["architecture"].map(standing))
    for key in _WORST:
        if any(found := [row.get(key) for row in rows]):
            part = pd.DataFrame([each or {} for each in found], columns=_SCORE).astype(float)
            table = table.join(part.set_axis([key, f"{key}_low", f"{key}_high"], axis=1))
            table[f"{key}_name"] = [each and _name(each) for each in found]
    costs = pd.DataFrame([row["cost"] for row in rows]).reindex(columns=list(_COSTS)).astype(float)
    return table.join(costs.loc[:, (costs > 0).any()])


def board(found: Standings) -> pd.DataFrame:
    """Return the leaderboard as text: every score with its interval."""
    rows = []
    for row in found.table.to_dict("records"):
        margin = dict(zip(_SCORE, (row[end] for end in _MARGIN), strict=True))
        worst = {key.replace("_", " ").capitalize(): _worst(row, key) for key in _WORST if key in row}
        costs = {head: number(row.get(cost), digits) for cost, (head, digits) in list(_COSTS.items())[:3]}
        rows.append(
            {
                "Architecture": named(row["architecture"]) + (" (baseline)" if row["baseline"] else ""),
                "Score": with_interval(row),
                "Margin": "–" if row["baseline"] else with_interval(margin, sign="+"),
                **worst,
                "Standing": STANDINGS.get(str(row["standing"]), "not compared yet"),
                **costs,
            }
        )
    return pd.DataFrame(rows)


def _name(worst: Mapping[str, Any]) -> str:
    """Return what the worst part of the rows is called: a kind of stress, or column and value of a stratum."""
    return str(worst["kind"]).replace("_", " ") if "kind" in worst else f"{worst['column']} {worst['name']}"


def _worst(row: Mapping[Any, Any], key: str) -> str:
    found = dict(zip(_SCORE, (row[end] for end in (key, f"{key}_low", f"{key}_high")), strict=True))
    name = row[f"{key}_name"]
    return f"{with_interval(found)} ({name})" if isinstance(name, str) else "–"


def scores(found: Standings) -> pd.DataFrame:
    """Return ``architecture, value, low, high, kind, score`` for charts; without those that have no interval."""
    table = found.table.dropna(subset=_SCORE)
    return pd.DataFrame(
        {
            "architecture": table["architecture"].map(named),
            **table[_SCORE],
            "kind": table["baseline"].map({True: "baseline", False: "model"}),
            "score": [with_interval(row) for row in table[_SCORE].to_dict("records")],
        }
    )


def explained(folder: Path, tables: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return features of explanations by ``part`` (`OVERALL` first): ``part, feature, value``, the largest first."""
    found = [pd.DataFrame(columns=["part", "feature", "value"])]
    for file in ("top_genes.csv", "top_predictors.csv"):
        if (folder / file).is_file():
            table = pd.read_csv(folder / file)
            found.append(_features(table, pd.Series(OVERALL, index=table.index)))
    for file, column in [each for each in tables if (folder / each[0]).is_file()][:1]:
        table = pd.read_csv(folder / file)
        part = table[column].astype(str).map(symbol_of)
        if column == "drug":  # several drugs may have one name
            part = table["drug_id"].map(drug_labels(table["drug_id"].astype(str), table["drug"].astype(str)))
        found.append(_features(table, part))
    whole = pd.concat([table for table in found if len(table)] or found, ignore_index=True)
    return whole if (whole["value"] > 0).any() else found[0]


def _features(table: pd.DataFrame, part: pd.Series) -> pd.DataFrame:
    kind = table["omics"].astype(str).str.replace("_", " ") if "omics" in table else pd.Series("", index=table.index)
    gene = table["gene"].astype(str).map(symbol_of)
    gene = gene.where(kind != "tissue", gene.str.replace("_", " "))
    feature = [f"{name} ({of})" if of and of != "expression" else name for name, of in zip(gene, kind, strict=True)]
    made = pd.DataFrame({"part": part, "feature": feature, "value": table["mean_abs"]})
    return made.sort_values(["part", "value"], ascending=[True, False], kind="stable").reset_index(drop=True)


def _json(path: Path, missing: str) -> Any:
    if not path.is_file():
        raise UserError(missing)
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def page() -> None:
    """Draw the page."""
    st.title("Compare")
    with frame.errors_shown():
        found = standings(frame.task_name(), frame.REPORTS)
        frame.simulated(bool(found.table["simulated"].any()))
        _leaderboard(found)
        _costs(found)
        fronts.draw(found.task)
        _explanations(found)


def _leaderboard(found: Standings) -> None:
    baselines = found.table.loc[found.table["baseline"], "architecture"]
    baseline, word = str(baselines.iloc[0]) if len(baselines) else "the baseline", score_word(found.metric)
    help_ = metric_means(found.metric, baseline)
    st.subheader("Leaderboard", help=f"{help_} {means('confidence_interval')}")
    text = f"{word} on the test rows, which no model was trained or chosen on, with 95 % intervals."
    st.markdown(plain(text), help=help_)
    table = scores(found)
    best = f"{table.iloc[0]['architecture']} is first with {table.iloc[0]['score']}" if len(table) else "no scores"
    drawn = charts.intervals(table, "architecture", "kind", f"{word}, test rows")
    frame.chart(drawn, alt=f"{word} of {len(table)} architectures; {best}.")
    shown = board(found)
    shown = shown.rename(columns={"Score": f"{word} [95 %]", "Margin": f"Margin over {named(baseline).lower()}"})
    for key in ("stress", "stratum"):
        if f"Worst {key}" in shown:
            st.caption(plain(f"Worst {key}: {means(key)}"))
    frame.table(shown, alt=f"Leaderboard of {found.task}: {word}, margin and cost of each architecture")
    frame.download(found.table, f"{found.task}_leaderboard.csv", "Download the leaderboard as CSV")
    for note in found.notes:
        st.markdown(plain(note))
    if not found.notes:
        text = "Intervals that overlap do not say which is better: this compares pair by pair, corrected:"
        st.caption(plain(text), help=means("margin"))
        st.code(f"make compare TASK={found.task}", language=None)


def _costs(found: Standings) -> None:
    st.subheader("Quality against cost", help=means("cost"))
    costs = [cost for cost in _COSTS if cost in found.table]
    if not costs:
        frame.advice("No architecture has recorded its cost; train it again to see.")
        return
    cost = st.selectbox("Cost", costs, format_func=lambda key: _COSTS[key][0], key="cost")
    table, title, word = scores(found).assign(cost=found.table[cost]), _COSTS[cost][0], score_word(found.metric)
    table = table[table["cost"] > 0].reset_index(drop=True)
    drawn = charts.against_cost(table, title, f"{word}, test rows")
    frame.chart(drawn, alt=f"{word} with intervals of {len(table)} architectures over {title.lower()}.")
    of = {"architecture": table["architecture"], title: table["cost"], f"{word} [95 %]": table["score"]}
    frame.numbers(pd.DataFrame(of), f"{found.task}_{cost}.csv", f"{word} and {title.lower()}")


def _explanations(found: Standings) -> None:
    st.subheader("Explanations of two models", help=means("agreement"))
    modality, problem = get_modality(frame.task().modality), get_problem(frame.task().problem)
    pictures, tables = {}, {}
    for name in found.table["architecture"]:
        folder = frame.REPORTS / found.task / "models" / name
        if found_ := [folder / each for each in modality.pictures if (folder / each).is_file()]:
            pictures[name] = found_[0]
        features = explained(folder, [*modality.tables, *problem.tables])
        if len(features):
            tables[name] = features
    have = list(pictures or tables)
    if len(have) < 2:
        text = f"{len(have)} of {len(found.table)} architectures have an explanation; it takes two to compare."
        frame.advice(text, f"make train TASK={found.task}")
        return
    sides = st.columns(2, gap="large")
    chosen = [
        side.selectbox(title, have, index=place, format_func=named, key=f"explained {found.task} {place}")
        for place, (side, title) in enumerate(zip(sides, ("One model", "Another model"), strict=True))
    ]
    if not pictures:
        _side_by_side(found, chosen, [tables[name] for name in chosen])
        return
    for place, (side, name) in enumerate(zip(sides, chosen, strict=True)):
        with side:
            st.image(str(pictures[name]), width="stretch", alt=f"Where {named(name)} looks (Grad-CAM)")
            st.caption(means("grad_cam"))
            file = f"{found.task}_{name}{pictures[name].suffix}"
            frame.offer("Download the picture", pictures[name].read_bytes(), file, key=f"picture {place}")


def _side_by_side(found: Standings, names: list[str], tables: list[pd.DataFrame]) -> None:
    parts = [part for part in tables[0]["part"].unique() if part in set(tables[1]["part"])]
    if not parts:
        frame.advice("The two have no part in common.")
        return
    part = st.selectbox("Explanation of", parts, key=f"part {found.task}") if len(parts) > 1 else parts[0]
    tables = [table[table["part"] == part].reset_index(drop=True) for table in tables]
    tops = [table.head(_IN_CHART) for table in tables]
    shared = set(tops[0]["feature"]) & set(tops[1]["feature"])
    same = found.agreement[names[0]].get(names[1])
    text = f"{len(shared)} of the top {max(map(len, tops))} are named by both"
    text += f"; over all their common features {share(same)} of their top genes" if same is not None else ""
    st.markdown(plain(f"{text}."), help=means("agreement"))
    for place, (side, name, top) in enumerate(zip(st.columns(2, gap="large"), names, tops, strict=True)):
        with side:
            row = found.table.set_index("architecture").loc[name].to_dict()
            st.markdown(f"**{plain(named(name))}** {plain(score_word(found.metric))} {plain(with_interval(row))}")
            by = ["named by both" if feature in shared else "by this one" for feature in top["feature"]]
            drawn = charts.bars(top.assign(by=by), "feature", "value", "by", "Mean size of the contribution")
            alt = f"Features that move {named(name)} most"
            frame.chart(drawn, alt=f"{alt}: {', '.join(top['feature'].head(5))}.")
            shown = tables[place][["feature", "value"]].head(_MOST_FEATURES)
            shown = shown.rename(columns={"value": "mean size of the contribution"})
            file = f"{found.task}_{name}{'' if part == OVERALL else f'_{part}'}_features_{place}.csv"
            frame.numbers(shown, file, alt)
