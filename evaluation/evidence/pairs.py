"""What the evidence says of why a model predicts a response: genes and other features of lines, and atoms of drugs."""

from __future__ import annotations

from typing import Any

from evaluation.evidence.drugs import explain_drugs
from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.explain import atoms, checks
from evaluation.explain.genes import deletion, explain, explained_rows
from evaluation.figures import plots
from evaluation.figures.responses import omics_contributions
from training.estimator import Estimator

ROWS_FOR_DRUGS = 2  # times the rows that are spread over all drugs: so many more explain single drugs


def explain_pairs(run: Evaluation, unit: str, output: int | None = None) -> Evidence:
    """Explain a model on some test rows, spread over the drugs, and check whether that can be believed."""
    test, estimator, seed, title = run.test, run.model.estimator, run.seed, run.title
    rows = explained_rows(test, run.explained_samples, seed)
    explained = test.take(rows)
    explanation = explain(estimator, explained, output)
    if explanation is None:
        return checks.not_explained()
    train = run.prepared.side("train")
    fell = deletion(estimator, explained, explanation, train, run.groups[rows], **run.bootstrap)
    alike = checks.random_correlation(_regressor(estimator), explained, None, seed, set(explanation.names))
    section: dict[str, Any] = {"by_table": explanation.groups, "top": explanation.genes.head(10).to_dict("records")}
    told = (explanation.method, explanation.rows, explanation.relative_error, fell, alike)
    if not len(explanation.genes):
        return checks.told(*told, section=section)
    count = ROWS_FOR_DRUGS * len(rows)
    of_drugs, single = explain_drugs(
        run.task, estimator, run.prepared, rows=count, title=title, unit=unit, seed=seed, output=output
    )
    by_atom = atoms.explain_atoms(estimator, test, seed=seed, output=output)
    return (
        checks.told(*told, section=section | of_drugs)
        | single
        | Evidence(
            tables={
                "top_genes": explanation.genes,
                "top_genes_by_drug": explanation.by_drug,
                "contributions_by_omics": explanation.by_omics,
                "contributions_by_gene": explanation.by_gene,
                "contributions_by_drug": explanation.sums_by_drug,
                **({"atoms": atoms.table(by_atom)} if by_atom else {}),
            },
            figures={
                "top_genes": plots.largest_contributions(explanation.genes, title, unit),
                "top_genes_by_drug": plots.contributions_by_drug(explanation.by_drug, title),
                "contributions_by_omics": omics_contributions(explanation.by_omics, title, unit),
            },
            drawings=atoms.drawings(by_atom, unit),
        )
    )


def _regressor(estimator: Estimator) -> Estimator:
    """Return what may be a network: of an ensemble its first, of a classifier of responses the regressor."""
    first = getattr(estimator, "members_", [estimator])[0]
    found: Estimator = getattr(first, "regressor_", first)
    return found
