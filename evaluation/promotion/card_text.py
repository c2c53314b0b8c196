"""What model cards say of every model of a modality and a problem, and how checks of explanations are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

USES = Path(__file__).parents[1] / "uses"  # <modality>_<problem>.yaml


@dataclass(frozen=True)
class Use:
    """What models of a modality and a problem are for."""

    what: str = "A model of a kind that has no card of its own yet."
    intended: tuple[str, ...] = ()
    not_intended: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


_NO_DEVICE = "Diagnosis or treatment of patients: it is a research model and no medical device."

HOW_CHECKED = {
    "completeness": "how far attributions miss what they explain; near 0 is good",
    "random_weights": "likeness to explanations of a network with random weights; near 0 is good",
    "deletion": "how much more masking the named features changes than masking random ones; above 0 is good",
}


@cache
def use_of(modality: str, problem: str) -> Use:
    """Return what models of a modality and a problem are for; what holds of any where nobody has written it down."""
    path = USES / f"{modality}_{problem}.yaml"
    said = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    lists: dict[str, Any] = {key: tuple(said.get(key, ())) for key in ("intended", "not_intended", "limits")}
    lists["not_intended"] = (_NO_DEVICE, *lists["not_intended"])
    return Use(said["what"], **lists) if said else Use(**lists)
