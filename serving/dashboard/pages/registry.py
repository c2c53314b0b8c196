"""Page "Registry": which version stands where, since when, on whose word, and by which evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.glossary import means
from serving.dashboard.data.links import Links
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import moment, named, plain
from serving.dashboard.pages import frame, progress

_STATUS = {"pass": ":green-badge[:material/check: passes]", "waived": ":orange-badge[:material/gavel: waived]"}
_FAILS = ":red-badge[:material/close: fails]"
_DONE = {"register": "registered", "promote": "promoted", "rollback": "rolled back", "restore": "restored"}
_ORDER = {"fail": 0, "waived": 1, "pass": 2}


def page() -> None:
    """Draw the page."""
    st.title("Registry")
    st.markdown(
        "Versions move from candidate to staging to production; every move is checked against the version's evidence "
        "and written into a history that nobody can edit unnoticed.",
        help=means("gate"),
    )
    if st.button("Look again", icon=":material/refresh:", key="registry again"):
        progress.forget("registry ")
        progress.forget("card ")
    tasks = list(frame.params().tasks)
    progress.shown(_everywhere(tasks), _draw, label="Reading the registry", key="registry", stoppable=False)


def _everywhere(tasks: list[str]) -> Job[list[Any]]:
    def read(_: Job[list[Any]]) -> list[Any]:
        registered = load("serving.dashboard.data.registry")  # MLflow takes seconds to import

        found: list[Any] = registered.everywhere(tasks)
        return found

    return progress.job("registry all", read)


def _draw(found: list[Any]) -> None:
    _overview(found)
    name = frame.task_name()
    of_task = next((each for each in found if each.task == name), None)
    st.header(named(name))
    if of_task is None or not of_task.standings:
        frame.advice(
            f"No version of {named(name)} is registered yet. With a trained model:",
            f"make register TASK={name}",
            f"make promote TASK={name}",
        )
        return
    for problem in of_task.problems:
        st.error(plain(problem), icon=":material/error:")
    links = Links(frame.params().policy.dashboard.mlflow_ui)
    by_alias = {one.alias: one for one in of_task.standings}
    chosen = st.segmented_control(
        "Version",
        list(by_alias),
        format_func=lambda alias: f"{named(alias)} – version {by_alias[alias].version.number}",
        default=next(iter(by_alias)),
        required=True,
        key=f"standing {name}",
        help=" ".join(means(alias) for alias in by_alias),
    )
    _version(by_alias[str(chosen)], of_task, links)
    _history(of_task)


def _overview(found: list[Any]) -> None:
    rows = []
    for each in found:
        cells = {}
        for alias in ("production", "staging"):
            standing = each.standing(alias)
            cells[named(alias)] = "–" if standing is None else _short(standing)
        simulated = [one.version.simulated for one in each.standings]
        data = "–" if not simulated else "simulated" if any(simulated) else "real"
        rows.append({"Task": named(each.task), **cells, "Data": data})
    frame.table(pd.DataFrame(rows), alt="What is in production and staging, by task")


def _short(standing: Any) -> str:
    since = "" if standing.entry is None else f", since {moment(standing.entry.time)}, {standing.entry.by}"
    return f"version {standing.version.number}, {named(standing.version.architecture)}{since}"


def _version(standing: Any, of_task: Any, links: Links) -> None:
    version, entry = standing.version, standing.entry
    frame.simulated(version.simulated)
    with st.container(border=True):
        st.markdown(f"**Version {version.number}** – {plain(named(version.architecture))}", help=means("version"))
        if entry is not None:
            why = f": “{entry.why}”" if entry.why else ""
            moved = f"{named(standing.alias)} since {moment(entry.time)}, {_DONE.get(entry.action, entry.action)}"
            st.markdown(plain(f"{moved} on the word of {entry.by}{why}."))
        else:
            st.markdown("The history does not say who put it there.")
        if version.evidence_sha256:
            st.markdown(plain(f"Evidence {version.evidence_sha256[:12]}"), help=means("evidence"))
        with st.container(horizontal=True):
            st.link_button(
                "Version in MLflow", links.version(of_task.task, version.number), icon=":material/open_in_new:"
            )
            if of_task.experiment_id is not None:
                run = links.run(of_task.experiment_id, version.run_id)
                st.link_button("Its run", run, icon=":material/open_in_new:")
                st.link_button("All runs", links.experiment(of_task.experiment_id), icon=":material/open_in_new:")
    gate, card = st.tabs(["Checks of the gate", "Model card"])
    with gate:
        _gate(entry, f"{of_task.task}_version_{version.number}")
    with card:
        progress.shown(
            _content(version),
            lambda found: _card(found, f"{of_task.task}_version_{version.number}_card.html"),
            label="Reading the model card",
            key=f"card {version.task} {version.number}",
            stoppable=False,
        )


def _gate(entry: Any, file: str) -> None:
    if entry is None or not entry.verdicts:
        frame.advice("No verdicts are recorded for this move.")
        return
    st.caption(plain(f"As judged on {moment(entry.time)}, before the version became {entry.alias or 'what it is'}."))
    verdicts = sorted(entry.verdicts, key=lambda one: _ORDER.get(str(one["status"]), 0))
    rows = [
        {
            "Check": plain(named(str(one["check"]))),
            "Result": _STATUS.get(str(one["status"]), _FAILS),
            "Why": plain(one["reason"]),
            "By": plain(one.get("by") or "–"),
        }
        for one in verdicts
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt="Checks of the gate and their results")
    frame.download(pd.DataFrame(verdicts), f"{file}_gate.csv", "Download the verdicts as CSV")


def _history(of_task: Any) -> None:
    with st.expander(f"History, {len(of_task.entries)} rows", icon=":material/history:"):
        rows = [
            {
                "Row": str(entry.number),
                "When": moment(entry.time),
                "Who": entry.by,
                "What": entry.action,
                "Moved": _moved(entry),
                "Why": entry.why or "–",
            }
            for entry in of_task.entries
        ]
        frame.table(pd.DataFrame(rows), alt=f"History of {of_task.task}, the newest first")
        frame.download(pd.DataFrame(rows), f"{of_task.task}_history.csv", "Download the history as CSV")


def _moved(entry: Any) -> str:
    if not entry.alias:
        return "aliases as they were"
    before, after = ("none" if one is None else f"version {one}" for one in (entry.from_version, entry.to_version))
    return f"{entry.alias}: {before} → {after}"


def _content(version: Any) -> Job[tuple[dict[str, Any], dict[str, bytes], str]]:
    def read(_: Job[Any]) -> tuple[dict[str, Any], dict[str, bytes], str]:
        # Made from the sealed evidence, and not from the page that lies beside it, which anybody may have edited.
        cards, registered = load("evaluation.promotion.card"), load("serving.dashboard.data.registry")
        figures = registered.figures(version)
        content = cards.content(registered.evidence(version), list(figures))
        return content, figures, cards.as_html(content, figures)

    return progress.job(f"card {version.task} {version.number}", read)


def _card(found: tuple[dict[str, Any], dict[str, bytes], str], file: str) -> None:
    content, figures, page_ = found
    frame.offer("Download the card as a page", page_, file)
    st.subheader(plain(content["title"]), help=means("card"))
    st.markdown(plain(content["lead"]))
    frame.simulated(bool(content["simulated"]))
    for section in content["sections"]:
        st.markdown(f"#### {plain(section['title'])}")
        for block in section["blocks"]:
            _block(block, figures)


def _block(block: Mapping[str, Any], figures: Mapping[str, bytes]) -> None:
    kind = block["kind"]
    if kind == "text":
        st.markdown(plain(block["text"]))
    elif kind == "items":
        frame.sentences(block["items"])
    elif kind == "code":
        st.code(block["text"], language=None)
    elif kind == "table":
        # Heads may repeat, or be empty: a table wants them told apart.
        head = [name or "\u200b" * (place + 1) for place, name in enumerate(block["head"])]
        frame.table(pd.DataFrame(block["rows"], columns=head), alt="Table of the model card")
    elif kind == "figure" and block["name"] in figures:
        figure = figures[block["name"]]
        shown = figure.decode() if block["name"].endswith(".svg") else figure  # Streamlit takes SVG as text
        st.image(shown, caption=plain(block["caption"]), alt=block["caption"])
