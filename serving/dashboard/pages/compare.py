"""Page "Compare": the architectures of a task side by side, what they cost, and what their explanations name."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from serving.dashboard.data import charts, leaderboard
from serving.dashboard.data.glossary import means, metric_means
from serving.dashboard.data.trust import score_word
from serving.dashboard.data.words import named, plain, share, with_interval
from serving.dashboard.pages import frame
from serving.modalities import get_modality
from serving.problems import get_problem

_MOST_FEATURES = 1000  # in a table; all that a model names would be a copy of its genome


def page() -> None:
    """Draw the page."""
    name = frame.task_name()
    st.title("Compare")
    with frame.told():
        found = leaderboard.standings(name, frame.REPORTS)
        frame.simulated(found.simulated)
        _leaderboard(found)
        _costs(found)
        _explanations(found)


def _leaderboard(found: leaderboard.Standings) -> None:
    baseline = next((row["architecture"] for row in found.rows if row["baseline"]), "the baseline")
    word = score_word(found.metric)
    st.subheader("Leaderboard", help=metric_means(found.metric, str(baseline)) + " " + means("confidence_interval"))
    st.markdown(
        plain(f"{word} on the test rows, which no model was trained or chosen on, with 95 % intervals."),
        help=metric_means(found.metric, str(baseline)),
    )
    table = leaderboard.scores(found)
    best = table.iloc[0] if len(table) else None
    said = f"{best['architecture']} has the highest place with {best['score']}" if best is not None else "no scores"
    frame.chart(charts.scores(table, f"{word}, test rows"), alt=f"{word} of {len(table)} architectures; {said}.")
    shown = leaderboard.board(found).rename(
        columns={"Score": f"{word} [95 %]", "Margin": f"Margin over {named(str(baseline)).lower()}"}
    )
    frame.table(shown, alt=f"Leaderboard of {found.task}: {word}, margin and cost of each architecture")
    frame.download(leaderboard.as_table(found), f"{found.task}_leaderboard.csv", "Download the leaderboard as CSV")
    for note in found.notes:
        st.markdown(plain(note))
    if not found.notes:
        st.caption(
            plain("Intervals that overlap do not say who is better: this compares pair by pair, corrected:"),
            help=means("margin"),
        )
        st.code(f"make compare TASK={found.task}", language=None)


def _costs(found: leaderboard.Standings) -> None:
    st.subheader("Quality against cost", help=means("cost"))
    known = leaderboard.known_costs(found)
    if not known:
        frame.advice("No architecture has recorded what it costs; train it again to see.")
        return
    cost = st.selectbox("Cost", known, format_func=lambda key: leaderboard.COSTS[key][0], key="cost")
    table, title, word = leaderboard.against_cost(found, cost), leaderboard.COSTS[cost][0], score_word(found.metric)
    frame.chart(
        charts.against_cost(table, title, f"{word}, test rows"),
        alt=f"{word} with intervals of {len(table)} architectures over {title.lower()}.",
    )
    of = {"architecture": table["architecture"], title: table["cost"], f"{word} [95 %]": table["score"]}
    frame.numbers(pd.DataFrame(of), f"{found.task}_{cost}.csv", f"{word} and {title.lower()}")


def _explanations(found: leaderboard.Standings) -> None:
    st.subheader("Explanations of two models", help=means("agreement"))
    have = [name for name in found.names if _explained(name) is not None]
    if len(have) < 2:
        frame.advice(
            f"{len(have)} of {len(found.names)} architectures say what they look at; it takes two to compare.",
            f"make train TASK={found.task}",
        )
        return
    sides = st.columns(2, gap="large")
    chosen = [
        side.selectbox(title, have, index=place, format_func=named, key=f"explained {found.task} {place}")
        for place, (side, title) in enumerate(zip(sides, ("One model", "Another model"), strict=True))
    ]
    overall = True
    if _by_part(chosen):
        overall = st.toggle("Over all, in the place of part by part", value=False, key=f"overall {found.task}")
    both = [_explained(name, overall=overall) for name in chosen]
    one, other = both
    if one is None or other is None:
        return
    if one.image is not None or other.image is not None:
        for place, (side, name, each) in enumerate(zip(sides, chosen, both, strict=True)):
            if each is not None and each.image is not None:
                side.image(str(each.image), width="stretch", alt=f"Where {named(name)} looks (Grad-CAM)")
                side.caption(means("grad_cam"))
                file, key = f"{found.task}_{name}{each.image.suffix}", f"picture {found.task} {place}"
                with side:
                    frame.offer("Download the picture", each.image.read_bytes(), file, key=key)
            else:
                side.info("This one has no image of where it looks.")
        return
    _bars(found, chosen, one, other)


def _explained(architecture: str, *, overall: bool = True) -> leaderboard.Explained | None:
    task = frame.task()
    modality, problem = get_modality(task.modality), get_problem(task.problem)
    folder = frame.REPORTS / frame.task_name() / "models" / architecture
    return leaderboard.explained(folder, modality.pictures, [*modality.tables, *problem.tables], overall=overall)


def _by_part(names: list[str]) -> bool:
    """Return whether both have explanations part by part as well as over all."""
    parted, whole = ([_explained(name, overall=overall) for name in names] for overall in (False, True))
    return all(each is not None and each.of is not None for each in parted) and all(
        each is not None and each.of is None for each in whole
    )


def _bars(
    found: leaderboard.Standings, names: list[str], one: leaderboard.Explained, other: leaderboard.Explained
) -> None:
    part = None
    if one.of is not None:
        parts = leaderboard.same_parts(one, other)
        if not parts:
            frame.advice("The two explain nothing in common.")
            return
        part = st.selectbox(one.of, parts, key=f"part {found.task}")
    tops = [each.top(part) for each in (one, other)]
    shared = leaderboard.shared_features(*tops)
    same = leaderboard.agreement(found, names[0], names[1])
    said = f"{len(shared)} of the top {max(len(top) for top in tops)} are named by both"
    said += f"; over everything they share {share(same)} of their top genes" if same is not None else ""
    st.markdown(plain(f"{said}."), help=means("agreement"))
    for place, (side, name, top) in enumerate(zip(st.columns(2, gap="large"), names, tops, strict=True)):
        with side:
            row = leaderboard.score_of(found, name)
            st.markdown(f"**{plain(named(name))}** {plain(score_word(found.metric))} {plain(with_interval(row))}")
            frame.chart(
                charts.features(top, shared, "Mean size of the contribution"),
                alt=f"Features that move {named(name)} most: {', '.join(top['feature'].head(5))}.",
            )
            every = (one, other)[place].top(part, count=_MOST_FEATURES)
            of = f" {part}" if part is not None else ""
            frame.numbers(
                pd.DataFrame({"feature": every["feature"], "mean size of the contribution": every["value"]}),
                f"{found.task}_{name}{of}_features_{place}.csv",
                f"Features that move {named(name)} most",
            )
