"""Page "Compare": the architectures of a task side by side, their costs, and the features of their explanations."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from serving.dashboard.data import charts, leaderboard
from serving.dashboard.data.glossary import means, metric_means
from serving.dashboard.data.leaderboard import OVERALL, Standings
from serving.dashboard.data.trust import score_word
from serving.dashboard.data.words import named, plain, share, with_interval
from serving.dashboard.pages import frame
from serving.modalities import get_modality
from serving.problems import get_problem

_MOST_FEATURES, _IN_CHART = 1000, 15


def page() -> None:
    """Draw the page."""
    st.title("Compare")
    with frame.errors_shown():
        found = leaderboard.standings(frame.task_name(), frame.REPORTS)
        frame.simulated(bool(found.table["simulated"].any()))
        _leaderboard(found)
        _costs(found)
        _explanations(found)


def _leaderboard(found: Standings) -> None:
    baselines = found.table.loc[found.table["baseline"], "architecture"]
    baseline, word = str(baselines.iloc[0]) if len(baselines) else "the baseline", score_word(found.metric)
    help_ = metric_means(found.metric, baseline)
    st.subheader("Leaderboard", help=f"{help_} {means('confidence_interval')}")
    text = f"{word} on the test rows, which no model was trained or chosen on, with 95 % intervals."
    st.markdown(plain(text), help=help_)
    table = leaderboard.scores(found)
    best = f"{table.iloc[0]['architecture']} is first with {table.iloc[0]['score']}" if len(table) else "no scores"
    drawn = charts.intervals(table, "architecture", "kind", f"{word}, test rows")
    frame.chart(drawn, alt=f"{word} of {len(table)} architectures; {best}.")
    shown = leaderboard.board(found)
    shown = shown.rename(columns={"Score": f"{word} [95 %]", "Margin": f"Margin over {named(baseline).lower()}"})
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
    if not found.costs:
        frame.advice("No architecture has recorded its cost; train it again to see.")
        return
    cost = st.selectbox("Cost", found.costs, format_func=lambda key: leaderboard.COSTS[key][0], key="cost")
    table, title, word = leaderboard.against_cost(found, cost), leaderboard.COSTS[cost][0], score_word(found.metric)
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
        features = leaderboard.explained(folder, [*modality.tables, *problem.tables])
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
        _features(found, chosen, [tables[name] for name in chosen])
        return
    for place, (side, name) in enumerate(zip(sides, chosen, strict=True)):
        with side:
            st.image(str(pictures[name]), width="stretch", alt=f"Where {named(name)} looks (Grad-CAM)")
            st.caption(means("grad_cam"))
            file = f"{found.task}_{name}{pictures[name].suffix}"
            frame.offer("Download the picture", pictures[name].read_bytes(), file, key=f"picture {place}")


def _features(found: Standings, names: list[str], tables: list[pd.DataFrame]) -> None:
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
