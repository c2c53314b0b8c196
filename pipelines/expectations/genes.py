"""Names of genes that no gene has: what a spreadsheet made of one, and names of several genes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.expectations import Check, Tell, some
from pipelines.expectations.checks import all_true
from pipelines.samples.gene_names import several_genes, spreadsheet_names
from pipelines.text_values import quoted


def gene_names(names: Sequence[str]) -> dict[str, list[bool]]:
    """Return for each name whether it is as its source wrote it, and whether it is of one gene."""
    changed = set(spreadsheet_names(names))
    return {
        "name_kept": [name not in changed for name in names],
        "one_gene": [not several_genes(name) for name in names],
    }


def gene_checks(file: str, names: Sequence[str], column: str | None = None) -> Iterator[Check]:
    """Yield the checks of a frame that has the columns of `gene_names`; both warn."""

    def tell(name: str, message: str) -> Tell:
        def told(positions: Sequence[int], severity: str) -> list[Finding]:
            found = [names[position] for position in positions]
            what = f"{len(found)} genes {message.format(found=quoted(found))}"
            return [
                Finding(name, file, what, column or some(found), severity=severity, values=tuple(found[:ROWS_SHOWN]))
            ]

        return told

    message = (
        "bear a date or a number that a spreadsheet makes of a name ({found}); no other table has them so: take the "
        "names from the source anew"
    )
    yield all_true("name_kept", tell("gene_name_kept", message), tolerated=1.0)
    message = "bear the names of several ({found}); they are no gene of these to a model: name each by one gene"
    yield all_true("one_gene", tell("gene_name_single", message), tolerated=1.0)
