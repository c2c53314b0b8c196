"""Page "Registry": which version has which alias, since when, who moved it, and its evidence."""

from typing import Any
from urllib.parse import quote

import pandas as pd
import streamlit as st

from serving.dashboard.data.loading import load, registry
from serving.dashboard.data.words import means, moment, named, plain
from serving.dashboard.pages import frame, progress

_STATUS = {
    "fail": ":red-badge[:material/close: fails]",
    "waived": ":orange-badge[:material/gavel: waived]",
    "pass": ":green-badge[:material/check: passes]",
}
_DONE = {"register": "registered", "promote": "promoted", "rollback": "rolled back", "restore": "restored"}


def page() -> None:
    """Draw the page."""
    st.title("Registry")
    text = (
        "Versions move from candidate to staging to production; every move is checked against the version's evidence "
        "and written into a history that nobody can edit unnoticed."
    )
    st.markdown(text, help=means("gate"))
    if st.button("Look again", icon=":material/refresh:", key="registry again"):
        progress.forget("registry ", "card ")
    tasks = list(frame.params().tasks)
    work = progress.job("registry all", lambda job: list(map(registry.registered, tasks)))
    progress.shown(work, _draw, label="Reading the registry", key="registry")


def _draw(every: list[Any]) -> None:
    _overview(every)
    name = frame.task_name()
    st.header(named(name))
    of_task = next((each for each in every if each.task == name), None)
    if of_task is None or not of_task.standings:
        text = f"No version of {named(name)} is registered yet. With a trained model:"
        frame.advice(text, f"make register TASK={name}", f"make promote TASK={name}")
        return
    for problem in of_task.found.moved():
        st.error(plain(problem), icon=":material/error:")
    standings = of_task.standings
    chosen = str(
        st.segmented_control(
            "Version",
            list(standings),
            format_func=lambda alias: f"{named(alias)} – version {standings[alias].version.version}",
            default=next(iter(standings)),
            required=True,
            key=f"standing {name}",
            help=means(*standings),
        )
    )
    _version(chosen, standings[chosen], of_task.experiment_id)
    _history(name, of_task.found.entries)


def _overview(every: list[Any]) -> None:
    rows = []
    for each in every:
        shown = {alias: each.standings.get(alias) for alias in ("production", "staging")}
        cells = {named(alias): "–" if one is None else _short(one) for alias, one in shown.items()}
        simulated = [one.simulated for one in each.standings.values()]
        data = "–" if not simulated else "simulated" if any(simulated) else "real"
        rows.append({"Task": named(each.task), **cells, "Data": data})
    frame.table(pd.DataFrame(rows), alt="Versions in production and staging, by task")


def _short(standing: Any) -> str:
    since = f", since {moment(standing.entry.time)}, {standing.entry.by}" if standing.entry is not None else ""
    return f"version {standing.version.version}, {named(standing.architecture)}{since}"


def _version(alias: str, standing: Any, experiment: str | None) -> None:
    version, entry = standing.version, standing.entry
    frame.simulated(standing.simulated)
    with st.container(border=True):
        st.markdown(f"**Version {version.version}** – {plain(named(standing.architecture))}", help=means("version"))
        text = "The history does not say who moved it."
        if entry is not None:
            why = f": “{entry.why}”" if entry.why else ""
            done = _DONE.get(entry.action, entry.action)
            text = f"{named(alias)} since {moment(entry.time)}, {done} by {entry.by}{why}."
        st.markdown(plain(text))
        if standing.evidence_sha256:
            st.markdown(plain(f"Evidence {standing.evidence_sha256[:12]}"), help=means("evidence"))
        with st.container(horizontal=True):
            links = {"Version in MLflow": f"models/{quote(version.name, safe='')}/versions/{version.version}"}
            if experiment is not None:
                links["Its run"] = f"experiments/{experiment}/runs/{version.run_id}"
                links["All runs"] = f"experiments/{experiment}"
            base = frame.params().policy.dashboard.mlflow_ui.rstrip("/")
            for label, path in links.items():
                st.link_button(label, f"{base}/#/{path}", icon=":material/open_in_new:")
    gate, card = st.tabs(["Checks of the gate", "Model card"])
    with gate:
        _gate(entry)
    with card:
        key = f"card {version.name} {version.version}"

        def made(_: progress.Job) -> str:
            cards, figures = load("evaluation.promotion.card"), registry.figures(version)
            return cards.as_html(cards.content(registry.evidence(version), list(figures)), figures)

        def draw(page_: str) -> None:
            file = f"{version.name}_version_{version.version}_card.html"
            frame.offer("Download the card as a page", page_, file)
            st.html(page_[page_.index("<body>") :])  # which Streamlit cleans of all that runs

        progress.shown(progress.job(key, made), draw, label="Reading the model card", key=key)


def _gate(entry: Any) -> None:
    if entry is None or not entry.verdicts:
        frame.advice("No verdicts are recorded for this move.")
        return
    st.caption(plain(f"Judged on {moment(entry.time)}, before the move."))
    order = list(_STATUS)
    verdicts = sorted(entry.verdicts, key=lambda one: order.index(one["status"]) if one["status"] in order else 0)
    rows = [
        {
            "Check": plain(named(str(one["check"]))),
            "Result": _STATUS.get(str(one["status"]), _STATUS["fail"]),
            "Why": plain(one["reason"]),
            "By": plain(one.get("by") or "–"),
        }
        for one in verdicts
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt="Checks of the gate and their results")


def _history(task: str, entries: tuple[Any, ...]) -> None:
    with st.expander(f"History, {len(entries)} rows", icon=":material/history:"):
        rows = [
            {
                "Row": str(entry.number),
                "When": moment(entry.time),
                "Who": entry.by,
                "What": entry.action,
                "Moved": _moved(entry),
                "Why": entry.why or "–",
            }
            for entry in reversed(entries)
        ]
        frame.table(pd.DataFrame(rows), alt=f"History of {task}, the newest first")


def _moved(entry: Any) -> str:
    if not entry.alias:
        return "aliases as they were"
    before, after = ("none" if one is None else f"version {one}" for one in (entry.from_version, entry.to_version))
    return f"{entry.alias}: {before} → {after}"
