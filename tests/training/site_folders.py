"""Raw folders of three simulated sites, and a plan that takes a second."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.params import Params
from pipelines.simulate.response import Size, simulate_drug_response
from pipelines.simulate.sites import deal_sites
from tests.training.tiny import NAME, tiny_params

NAMES = ("north", "south", "west")
SMALL: dict[str, Any] = {"components": 8, "units": 16, "batch_size": 64}


def site_params() -> Params:
    return replace(tiny_params(epochs=4), device="cpu")


def made_sites(folder: Path) -> list[Path]:
    """Simulate a raw folder ``data/<task>`` and deal it to three folders beside it."""
    simulate_drug_response(folder / "data" / NAME, Size(lines=72, molecules=8, genes=30, programs=2))
    sites = [folder / name for name in NAMES]
    deal_sites(folder / "data" / NAME, "cell_line_id", sites)
    return sites
