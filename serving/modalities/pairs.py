"""Pairs of a cell line and a drug: lines brought or chosen, drugs chosen or written, and the drugs of a line ranked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from pipelines.text_values import clean
from serving.dashboard.data import collection
from serving.dashboard.data.collection import Drug, Line
from serving.dashboard.data.endpoints import Endpoint, Refused
from serving.dashboard.data.loading import load, tables
from serving.dashboard.data.words import counted, means, plain
from serving.dashboard.pages import answers, choosing, frame, predict
from serving.dashboard.pages.predict import Asked, Contract, Make
from serving.modalities import Modality
from serving.problems import Answer, get_problem

if TYPE_CHECKING:  # pandas is loaded with the first question, not with the first page
    import pandas as pd

_KEY = "cell_line_id"
_QUOTES = "\"'`“”„‘’«»"
_DRAWING = "drawing"  # of an answer: its molecule
_lines = st.cache_data(show_spinner=False, ttl=60)(collection.cell_lines)
_offered = st.cache_data(show_spinner=False, ttl=60)(collection.drugs)


class Pairs(Modality):
    """Pairs: omics of a cell line, each a map of feature to value, and a drug."""

    leading = ("margin", "within_drug_pearson", "within_drug_roc_auc")
    tables = (("top_genes_by_drug.csv", "drug"),)

    def invitation(self, task: Any) -> str:
        """Return how drugs are ranked."""
        ranks = get_problem(task.problem).ranks
        return f"Choose a cell line or bring a profile, choose drugs, and press Predict. {ranks}"

    def question(self, name: str, task: Any, endpoint: Endpoint) -> tuple[Make | None, str]:
        """Let people say which cells and which drugs."""
        folder, omics = frame.DATA / name, list(task.data.omics)
        required = predict.required(endpoint, omics)
        st.markdown("#### 1 · Cells")
        own = choosing.source(name, "Which cells") == choosing.OWN
        make: Callable[..., tables.Question] | None = None  # of drugs, and the contract
        if own:
            found = choosing.own_files(name, omics, folder, _KEY, required)
            values = {each: found[each].values for each in omics if each in found}
            tissue: dict[str, str] = {}
            for table in found.values():
                tissue |= table.tissue
            make = partial(of_pairs, values, tissue) if values else None
        else:
            # Most models need the expression: until its contract is known, lines without it are not offered.
            with frame.errors_shown():
                lines = _lines(folder, tuple(omics), tuple(omics[:1] if required is None else required))
                labels = {each: found.label for each, found in lines.items()}
                line = choosing.one_of(labels, "Cell line", "cell lines", f"line {name}")
                make = None if line is None else partial(_of_line, folder, omics, (line, lines[line]))
        st.markdown("#### 2 · Drugs")
        drugs = _drugs(name, folder)
        if make is None:
            return None, "Bring a file with a profile first." if own else "Choose a cell line first."
        if not drugs:
            return None, "Choose drugs first, or write the SMILES of one."
        measured = _measured_text(name) if any(drug.drug_id is None for drug in drugs) else ""
        if measured:
            return partial(with_measured, partial(make, drugs), measured, (folder, omics), drugs), ""
        return partial(make, drugs), ""

    def answers(self, asked: Asked, name: str, task: Any) -> None:
        """Draw the drugs of a sample in order, and why one of them is where it is."""
        problem, target, about = get_problem(task.problem), task.data.target, asked.question.about
        table = problem.ranked(asked.answers, about, lambda: _usual(str(frame.DATA / name), target))
        answers.panel(name, task, asked.answers, table, "predictions")
        samples = list(dict.fromkeys(about["sample"]))
        chosen = str(samples[0] if len(samples) == 1 else st.selectbox("Sample", samples, key=f"sample {name}"))
        own = problem.show_ranked(table[table["sample"] == chosen], chosen, target)
        frame.download(
            table.drop(columns=["note"] if (table["note"] == "").all() else []),
            f"{name}_predictions.csv",
            f"Download all {counted(len(table), 'prediction')} as CSV",
        )
        st.subheader("Genes behind a prediction", help=means("contribution"))
        drugs = own["drug"].tolist()
        drug = drugs[0] if len(drugs) == 1 else st.selectbox("Drug", drugs, key=f"explained {name} {chosen}")
        row = int(about.index[(about["sample"] == chosen) & (about["drug"] == drug)][0])
        wording, smiles = problem.pair_wording(target), asked.question.rows[row].get("smiles")

        def shown(answer: Answer) -> None:
            if wording.note:
                st.caption(plain(wording.note))
            answers.genes(answer, wording, f"{chosen} with {drug}", f"{chosen}_{drug}")
            _atoms(answer, f"{chosen}_{drug}")

        def with_molecule(answer: Answer) -> Answer:
            atoms = answer.get("atoms")
            return {**answer, _DRAWING: drawing(atoms, str(drug), smiles, wording.unit)} if atoms else answer

        answers.explained(asked, row, shown, "Asking what moved it", with_molecule)


def of_pairs(
    omics: Mapping[str, pd.DataFrame],
    tissue: Mapping[str, str | None],
    drugs: Sequence[Drug],
    contract: Contract | None = None,
) -> tables.Question:
    """Return the question about every sample with every drug; `Refused` without a table that the contract requires."""
    features, required = (contract or {}).get("features", {}), set((contract or {}).get("required", ["expression"]))
    if lacking := [name.replace("_", " ") for name in features if name in required and name not in omics]:
        raise Refused(f"The model needs a table of {' and of '.join(lacking)}, which these samples lack.")
    if not omics:
        raise Refused("Nothing was measured of these cells.")
    naming = [table for name, table in omics.items() if name in required][:1] or list(omics.values())
    samples = dict.fromkeys(str(sample) for table in naming for sample in table.index)
    notes: list[str] = []
    maps: dict[str, dict[str, Any]] = {}
    for name, table in omics.items():
        if contract is not None and name not in features:
            notes.append(f"The model does not look at {name.replace('_', ' ')}; it was left out.")
            continue
        maps[name], left_out = tables.measured(table, features.get(name))
        notes += left_out
        for sample, values in maps[name].items():
            if None in values.values() and name not in required:  # sent whole or not at all, and imputed then
                maps[name][sample] = None
    rows, pairs = [], []
    for sample in samples:
        of_sample = {name: found.get(sample) for name, found in maps.items()}
        of_sample = {name: value for name, value in of_sample.items() if value is not None or name in required}
        for drug in drugs:
            said = {"smiles": drug.smiles, "drug_id": drug.drug_id, "tissue": tissue.get(sample) or None}
            said = {name: value for name, value in said.items() if value is not None}
            rows.append({**of_sample, **said, "sample_id": f"{sample}|{drug.drug_id or drug.label}"})
            pairs.append((sample, drug.label, drug.drug_id))
    return tables.asked_pairs(rows, pairs, notes)


def with_measured(
    make: Make, text: str, data: tuple[Path, Sequence[str]], drugs: Sequence[Drug], contract: Contract | None = None
) -> tables.Question:
    """Return the question of ``make`` with the measured lines of a molecule as further rows, which adjust the others.

    `Refused` for a model that takes none, other drugs beside the molecule, lines that are not in the data, and more
    rows than one request has: only rows of one request adjust one another.
    """
    if not (contract or {}).get("pilot"):
        raise Refused("This model takes no measured lines: it was not fitted with split.mode drug_pilot.")
    if len(drugs) > 1:
        raise Refused("Measured lines are of your molecule: take the other drugs out.")
    responses, question, (folder, omics) = responses_of(text), make(contract), data
    paths = {each: folder / f"{each}.parquet" for each in omics}
    found = {each: tables.profiles(path, _KEY, list(responses)) for each, path in paths.items() if path.is_file()}
    known = collection.cell_lines(folder, tuple(omics))
    if lacking := [line for line in responses if line not in known]:
        raise Refused(f"The data has no profile of {', '.join(lacking[:4])}: write a cell_line_id of cell_lines.csv.")
    tissue = {line: known[line].tissue for line in responses}
    pilot = of_pairs(found, tissue, drugs, contract)
    lines = {of.name: line for line, of in known.items()}
    asked = zip(question.rows, question.about["sample"], strict=True)
    rows = [{**row, _KEY: lines.get(sample)} for row, sample in asked]
    for row, line in zip(pilot.rows, pilot.about["sample"], strict=True):
        rows.append({**row, _KEY: line, "measured": responses[line]})
    if len(rows) > Pairs.rows_at_once:
        raise Refused(f"{len(rows)} samples and measured lines are more than the {Pairs.rows_at_once} of one request.")
    pairs = [*question.about.itertuples(index=False, name=None), *pilot.about.itertuples(index=False, name=None)]
    note = f"{counted(len(responses), 'measured line')} adjust the answers; contributions are those before that."
    return tables.asked_pairs(rows, pairs, [*question.notes, note])


def responses_of(text: str) -> dict[str, float]:
    """Return responses by line from text of a ``cell_line_id`` and a number a line; `Refused` for any other line."""
    found = {}
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        *name, value = clean(re.sub(r"[,;\t]", " ", line)).rsplit(" ", 1)
        try:
            found[name[0]] = float(value)
        except (ValueError, IndexError):
            if number > 1:  # the first may be a header
                raise Refused(f"Measured line {number}, {line[:40]!r}: write a cell_line_id and a number.") from None
    return found


def molecule(text: str) -> str:
    """Return a SMILES that was typed or pasted, without quotation marks and line ends around it."""
    return clean(clean(text).strip(_QUOTES))


def _of_line(
    folder: Path, omics: Sequence[str], chosen: tuple[str, Line], drugs: Sequence[Drug], contract: Contract | None
) -> tables.Question:
    """Return the question about a cell line of the data; runs on a thread."""
    line, of = chosen
    paths = {each: folder / f"{each}.parquet" for each in omics}
    found = {each: tables.profiles(path, _KEY, [line]) for each, path in paths.items() if path.is_file()}
    found = {each: table.set_axis([of.name] * len(table)) for each, table in found.items() if len(table)}
    return of_pairs(found, {of.name: of.tissue}, drugs, contract)


def _drugs(name: str, folder: Path) -> list[Drug]:
    offered: list[Drug] = []
    with frame.errors_shown():
        offered = _offered(folder)
    chosen = st.multiselect(
        "Drugs",
        range(len(offered)),
        format_func=lambda place: offered[place].label,
        placeholder=f"All {len(offered):,} drugs – or choose some",
        key=f"drugs {name}",
        persist_state="session",
        disabled=not offered,
    )
    typed = st.text_input(
        "Another molecule (SMILES)", key=f"smiles {name}", help=means("smiles"), placeholder="Optional"
    )
    other = molecule(typed or "")
    more = [Drug(None, "your molecule", other)] if other else []
    return [*([offered[place] for place in chosen] or ([] if more else offered)), *more]


def _measured_text(name: str) -> str:
    found = st.text_area(
        "Measured lines of your molecule",
        key=f"measured {name}",
        placeholder="Optional: a cell_line_id and its response a line, such as ACH-000698, 1.25",
    )
    return (found or "").strip()


@st.cache_data(show_spinner=False, ttl=600)
def _usual(folder: str, target: str) -> dict[str, float]:
    return tables.usual_responses(Path(folder), target)


def drawing(
    contributions: Sequence[float], drug: str, smiles: str | None, unit: str
) -> tuple[str, str, pd.DataFrame] | None:
    """Return SVG, description and table of atoms with their contributions; None where a drawing would mislead."""
    atoms, np = load("evaluation.explain.atoms"), load("numpy")
    if smiles is None:
        return None
    found = atoms.DrugAtoms(drug, drug, smiles, np.array(contributions, dtype=np.float64), 1)
    try:
        svg = atoms.draw(found, unit)
    except ValueError:
        return None
    return svg, atoms.described(found, unit), atoms.table([found])[["atom", "element", "contribution"]]


def _atoms(answer: Answer, file: str) -> None:
    """Draw the molecule with its atoms colored, if the model has contributions of atoms."""
    if _DRAWING not in answer:
        return
    st.subheader("Atoms behind it", help=means("atoms"))
    if answer[_DRAWING] is None:
        st.info("The model looks at atoms, but the molecule of this drug is not known.", icon=":material/info:")
        return
    svg, text, atoms = answer[_DRAWING]
    st.image(svg, alt=text, width=520)
    st.markdown(plain(text))
    frame.offer("Download the drawing", svg, f"{file}_atoms.svg")
    frame.download(atoms, f"{file}_atoms.csv", "Download the atoms as CSV")


MODALITY = Pairs()
