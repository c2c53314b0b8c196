"""Profiles allow gene images along the genome where the positions of genes are known."""

from typing import Any

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.samples.expression import POSITION


def allowed(settings: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Return the settings without the layout along the genome where ``genes.csv`` has no positions."""
    if "layouts" not in settings or set(POSITION) <= set(prepared.samples.about_genes):
        return settings
    layouts = tuple(layout for layout in settings["layouts"] if layout != "chromosome")
    if not layouts:
        raise UserError("tune.layouts names chromosome alone, and genes.csv has no chromosome and start; add them")
    return {**settings, "layouts": layouts}
