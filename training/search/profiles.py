"""Profiles allow a layout along the genome and ComBat where positions of genes and origins of samples are known."""

from typing import Any

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.samples.barcodes import origin
from pipelines.samples.expression import POSITION
from training.features.expression_profile import ORIGINS


def allowed(settings: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Return the settings without the layout along the genome where ``genes.csv`` has no positions.

    ``origins`` are those of `ORIGINS` in which the samples differ.
    """
    found = {name: origin(prepared.samples.table, name) for name in ORIGINS}
    origins = [name for name, values in found.items() if values is not None and values.nunique() > 1]
    settings = {**settings, **({"origins": origins} if origins else {})}
    if "layouts" not in settings or set(POSITION) <= set(prepared.samples.about_genes):
        return settings
    layouts = tuple(layout for layout in settings["layouts"] if layout != "chromosome")
    if not layouts:
        raise UserError("tune.layouts names chromosome alone, and genes.csv has no chromosome and start; add them")
    return {**settings, "layouts": layouts}
