"""The part of the page "Compare" on studies with a cost: their trials by metric and cost, with the front."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pipelines.errors import UserError
from pipelines.files import read_json
from pipelines.paths import FRONTS
from serving.dashboard.data import charts
from serving.dashboard.data.words import means, named, number, plain, score_word, share
from serving.dashboard.pages import frame

_PLACES = {"chosen": "chosen", "front": "on the front", "beaten": "behind the front"}
_ROWS = {"validation": "validation rows", "cross_validation": "the folds of cross-validation"}


def fronts(task: str, reports: Path) -> dict[str, dict[str, Any]]:
    """Return what `training.tune` wrote of each study with a cost, by architecture; UserError names a broken file."""
    found = {}
    for path in sorted((reports / task / FRONTS).glob("*.json")):
        try:
            content = read_json(path)
            points = pd.DataFrame(content["points"])
            points["place"] = points["place"].map(_PLACES)
            content["table"] = points[["trial", "place", "value", "cost"]]
            content["hyperparameters"] = pd.DataFrame(points["hyperparameters"].tolist())
            content["chosen"] = points[points["place"] == "chosen"].iloc[0]
            found[path.stem] = content
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read ({error}); run `make tune TASK={task} ARCH={path.stem}`"
            ) from error
    return found


def draw(task: str) -> None:
    """Draw the studies of a task that have a cost; nothing where none has."""
    found = fronts(task, frame.REPORTS)
    if not found:
        return
    st.subheader("Trials by quality and cost", help=means("front"))
    name = st.selectbox("Study of", list(found), format_func=named, key=f"front {task}")
    study, word = found[name], score_word(found[name]["metric"])
    rows, cost, chosen = _ROWS[study["objective"]], study["cost_label"], study["chosen"]
    text = f"Trial {chosen['trial']} is the cheapest whose {word} is at most {share(study['tolerance'], 1)} worse than "
    text += f"the best: {number(chosen['value'])} at {number(chosen['cost'])} {cost}. Scores are of {rows}; test rows "
    text += "decide nothing."
    st.markdown(plain(text))
    drawn = charts.front(study["table"], cost, f"{word}, {rows}")
    frame.chart(drawn, alt=f"{word} of {len(study['table'])} trials of {named(name)} over {cost}. {text}")
    numbers = study["table"].rename(columns={"value": word, "cost": cost}).join(study["hyperparameters"])
    frame.numbers(
        numbers, f"{task}_{name}_trials.csv", f"Trials of {named(name)} with {word}, {cost} and hyperparameters"
    )
