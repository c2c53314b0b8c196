"""Intended use of models by modality and problem."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipelines.typed_yaml import TypedReader

USES = Path(__file__).parents[1] / "uses"  # <modality>_<problem>.yaml


@dataclass(frozen=True)
class Use:
    """The intended use of models of a modality and a problem."""

    what: str = "A model of a modality and problem without a description of its use."
    pipeline_tag: str = ""  # the Hugging Face hub's name of such a task, if it has one
    intended: tuple[str, ...] = ()
    not_intended: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


_NO_DEVICE = "Diagnosis or treatment of patients: it is a research model and no medical device."


@cache
def use_of(modality: str, problem: str) -> Use:
    """Return the intended use of models of a modality and a problem; a general text if there is no file."""
    path, use = USES / f"{modality}_{problem}.yaml", Use()
    if path.is_file():
        node: Any = yaml.compose(path.read_text(encoding="utf-8"))
        use = TypedReader(path, {}).read(node, Use, path.stem)
    return replace(use, not_intended=(_NO_DEVICE, *use.not_intended))
