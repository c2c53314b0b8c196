"""Why a model predicts a response: features of cell lines, over all and by drug, known biomarkers, atoms of drugs."""

from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.explain import atoms, checks, genes
from evaluation.explain.biomarkers import COLUMNS, COULD_SEE, RULE, look_up, marked_drugs, read_markers
from evaluation.figures.plots import BLUE, RED, heat_map, styled
from evaluation.modalities import Modality
from evaluation.problems import Measures
from pipelines.files import jsonable
from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution, Estimator

RESISTANT = 0  # its log odds are explained: positive contributions mean resistance, as where ln IC50 is predicted
ROWS_FOR_DRUGS = 2  # single drugs are explained on so many times the rows that are spread over all drugs
_MARKER_COLUMNS = [name for name in COLUMNS if name not in ("rows", "data_carriers", "reference")]


def evidence(modality: Modality, run: Evaluation, measures: Measures) -> Evidence:
    """Explain the response, or the log odds of resistance, and measure each drug; see `Modality.evidence`."""
    task: Any = run.task
    contract = run.contract
    table = measures.by_part(run.predictions, modality.part_names(run))
    by_drug = Evidence(tables={} if table is None else {"by_drug": table})
    if not contract.thresholds:
        return explain_pairs(run, modality.target_unit(task)) | by_drug
    thresholds = {"method": task.data.threshold.method, "learnt_on": "training rows"}
    thresholds |= {"overall": contract.thresholds["overall"], "drugs": len(contract.thresholds["by_drug"])}
    return explain_pairs(run, "log odds of resistance", RESISTANT) | by_drug | Evidence(test={"thresholds": thresholds})


def explain_pairs(run: Evaluation, unit: str, output: int | None = None) -> Evidence:
    """Explain a model on some test rows, spread over the drugs, and check the explanation."""
    estimator, title = run.model.estimator, run.title
    rows = genes.explained_rows(run.test, run.explained_samples, run.seed)
    samples = run.test.take(rows)
    attribution = _attribute(estimator, samples, output)
    if attribution is None:
        return checks.not_explained()
    deletion = _deletion(run, samples, attribution, rows)
    measured = np.array(attribution.names)[genes.measured(attribution.names, samples)]
    first: Any = checks.first_member(estimator)
    network = getattr(first, "regressor_", first)  # of a classifier of responses
    alike = checks.random_correlation(network, samples, None, run.seed, set(measured.tolist()))
    top, tables = genes.by_feature(attribution, samples), genes.tables_of(attribution.names)
    sums = {name: attribution.values[:, tables == name].sum(axis=1) for name in dict.fromkeys(tables.tolist())}
    section: dict[str, Any] = {
        "by_table": {name: float(np.abs(values).mean()) for name, values in sums.items()},
        "top": top.head(10).to_dict("records"),
    }
    if not len(top):
        return checks.explanation_evidence(attribution, deletion, alike, section=section)
    of_drugs, single = explain_drugs(run, unit, ROWS_FOR_DRUGS * len(rows), output)
    by_drug, by_omics = genes.by_feature_and_drug(attribution, samples), genes.by_omics(attribution, samples)
    by_atom = atoms.explain_atoms(estimator, run.test, seed=run.seed, output=output)
    explained = Evidence(
        tables={
            "top_genes": top,
            "top_genes_by_drug": by_drug,
            "contributions_by_omics": by_omics,
            "contributions_by_gene": genes.by_gene(attribution, samples),
            "contributions_by_drug": genes.by_drug(attribution, samples),
            **({"atoms": atoms.table(by_atom)} if by_atom else {}),
        },
        figures={
            "top_genes": contributions(top["omics"] + ": " + top["gene"], top, title, f"mean |contribution| to {unit}"),
            "top_genes_by_drug": contributions_by_drug(by_drug, title),
            "contributions_by_omics": contributions(
                by_omics["omics"].str.replace("_", " "), by_omics, title, f"mean |sum of contributions| to {unit}"
            ),
        },
        drawings=atoms.drawings(by_atom, unit),
    )
    return checks.explanation_evidence(attribution, deletion, alike, section=section | of_drugs) | single | explained


def explain_drugs(run: Evaluation, unit: str, count: int, output: int | None = None) -> tuple[dict[str, Any], Evidence]:
    """Explain drugs one by one on about ``count`` test rows; return an entry of the explanation, and other evidence."""
    test, markers = run.test, read_markers()
    marked = marked_drugs(markers, test)
    chosen = test.take(genes.rows_by_drug(test, marked, count, run.seed))
    attribution = _attribute(run.model.estimator, chosen, output) if len(chosen) else None
    if attribution is None or not genes.measured(attribution.names, chosen).any():
        return {}, Evidence()
    every = genes.directed(attribution, chosen)
    known = look_up(markers, every, test, run.prepared.side("train", "validation"), **run.bootstrap)
    order = {drug: place for place, drug in enumerate(marked)}
    named = genes.sensitizing(every).sort_values(
        "drug_id", key=lambda ids: ids.map(order).fillna(len(order)), kind="stable"
    )
    looked_up = known["status"].isin(COULD_SEE).sum()
    section: dict[str, Any] = {
        "rule": RULE,
        "looked_up": int(looked_up),
        "found": int((known["status"] == "found").sum()),
        "status": known["status"].value_counts().to_dict(),
        "rows": jsonable(known[_MARKER_COLUMNS].to_dict("records")),
    }
    drawn = {"sensitizing_genes": sensitizing_genes(named, run.title, unit)} if len(named) else {}
    logged = {f"biomarkers/{key}": float(section[key]) for key in ("found", "looked_up")}
    tables = {"biomarkers": known, "sensitizing_genes": named}
    return {"biomarkers": section}, Evidence(tables=tables, figures=drawn, logged=logged)


def masked_lines(
    samples: ResponseSamples, names: list[str], columns: np.ndarray, means: dict[str, pd.Series]
) -> ResponseSamples:
    """Return ``samples``, each with a cell line of its own, some of whose features are the training lines' mean."""
    tables, features, masked = genes.tables_of(names), genes.features_of(names), {}
    for omics, table in samples.omics.items():
        values = table.to_numpy(np.float32)[samples.cell]
        place = table.columns.get_indexer(pd.Index(np.where(tables == omics, features, "")))
        row, nth = np.nonzero(place[columns] >= 0)
        column = place[columns[row, nth]]
        values[row, column] = means[omics].reindex(table.columns).to_numpy(np.float32)[column]
        masked[omics] = pd.DataFrame(values, columns=table.columns)
    lines = samples.cell_lines.iloc[samples.cell].reset_index(drop=True)
    return replace(samples, cell_lines=lines, omics=masked, cell=np.arange(len(samples), dtype=np.int32))


def _deletion(
    run: Evaluation, samples: ResponseSamples, attribution: Attribution, rows: np.ndarray
) -> checks.Deletion | None:
    """Mask the measured features that move each row's prediction most, and as many at random."""
    kept = np.flatnonzero(genes.measured(attribution.names, samples))
    if len(kept) < 2:
        return None
    names, train = [attribution.names[place] for place in kept], run.prepared.side("train")
    means = {name: table.iloc[np.unique(train.cell)].mean() for name, table in train.omics.items()}

    def answer(asked: ResponseSamples) -> np.ndarray:
        outputs = run.model.estimator.outputs(asked)
        return outputs if outputs.ndim == 1 else outputs[:, -1]

    before = answer(samples)
    return checks.delete(
        lambda columns: np.abs(answer(masked_lines(samples, names, columns, means)) - before),
        np.abs(attribution.values[:, kept]),
        run.groups[rows],
        **run.bootstrap,
    )


def _attribute(estimator: Estimator, samples: ResponseSamples, output: int | None) -> Attribution | None:
    return estimator.attribute(samples, None if output is None else np.full(len(samples), output))


# Figures.


@styled
def contributions(labels: pd.Series, table: pd.DataFrame, title: str, what: str, count: int = 20) -> Figure:
    """Return bars of ``mean_abs`` of the first rows of a table, with their ``share`` if the table has it."""
    labels, shown = labels.head(count)[::-1], table.head(count)[::-1]
    figure, axes = plt.subplots(figsize=(5.4, (0.3 if "share" in shown else 0.24) * len(shown) + 1))
    bars = axes.barh(labels, shown["mean_abs"], color=BLUE)
    if "share" in shown:
        axes.bar_label(bars, [f" {share:.0%}" for share in shown["share"]], fontsize=8)
        axes.margins(x=0.12)
    axes.set(xlabel=what, title=title)
    return figure


def contributions_by_drug(by_drug: pd.DataFrame, title: str, count: int = 24) -> Figure:
    """Return a heat map of mean contributions: the genes that recur most, over the drugs that they matter most to."""
    named = by_drug.assign(gene=by_drug["omics"] + ": " + by_drug["gene"], drug=by_drug["drug_id"])
    columns = named.groupby("gene")["mean_abs"].sum().nlargest(count).index
    wide = named.pivot_table(index="drug", columns="gene", values="mean", fill_value=0.0)[columns]
    wide = wide.loc[wide.abs().sum(axis=1).nlargest(count).index]
    label = "mean contribution (red: resistance)"
    return heat_map(wide.to_numpy(), list(wide.index), list(wide.columns), label=label, title=title)


@styled
def sensitizing_genes(table: pd.DataFrame, title: str, unit: str, drugs: int = 12, count: int = 8) -> Figure:
    """Return a panel a drug: what a high value of its first genes does to the predicted response."""
    name_of = table["drug"].where(table["drug"] != "", table["drug_id"])
    chosen = list(table["drug_id"][~name_of.duplicated()])[:drugs]
    across = min(3, max(1, len(chosen)))
    down = -(-len(chosen) // across) or 1
    size = (3.6 * across, 0.22 * count * down + 0.7 * down + 0.6)
    figure, grid = plt.subplots(down, across, figsize=size, squeeze=False)
    for axes in grid.flat[len(chosen) :]:
        axes.axis("off")
    for axes, drug in zip(grid.flat, chosen, strict=False):
        part = table[table["drug_id"] == drug].head(count)[::-1]
        effect, named = part["effect"].to_numpy(np.float64), zip(part["omics"], part["gene"], strict=True)
        labels = [f"{genes.gene_of(f'{omics}:{gene}')} ({omics.replace('_', ' ')})" for omics, gene in named]
        axes.barh(range(len(part)), effect, color=np.where(effect < 0, BLUE, RED))
        axes.set_yticks(range(len(part)), labels, fontsize=7)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_title(str(part["drug"].iloc[0]) or drug, fontsize=8)
    figure.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(f"effect of a high value or a mutation on {unit} (blue: sensitive, red: resistant)", fontsize=8)
    return figure
