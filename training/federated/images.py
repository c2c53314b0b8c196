"""Agreed statistics of networks on images of cells: counts, a mean stain, and what a frozen backbone makes of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.samples.images import ImageSamples
from training.features.cell_color import learned_stain
from training.federated.statistics import Sums, class_counts, head_sums, settled
from training.networks.cell_network import CellNetwork

STEPS = ("counts", "features")
# What a site's own rows alone can tell: which sources there are, and how images of other classes look.
CHOICES = {"by_source": False, "source_penalty": 0.0, "exchange": "none"}


def lists(samples: ImageSamples) -> dict[str, Any]:
    """Return the classes, and how images are decoded."""
    return {"classes": list(samples.classes), "made": samples.made, "size": samples.pixels.shape[1]}


def agree(given: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the sites have named; UserError where they differ."""
    if any(each != given[0] for each in given):
        raise UserError("the sites have other classes, or images of another size; give all the same params.yaml")
    return given[0]


def sums(step: str, samples: ImageSamples, agreed: Mapping[str, Any], estimator: CellNetwork) -> Sums:
    """Return a site's sums of ``step``, see `training.federated.statistics`."""
    if step == "features":
        return head_sums(_begun(estimator, agreed), estimator.seen(samples))
    found = {"classes": class_counts(samples)}
    stain = learned_stain(estimator.color, estimator.seen(samples))
    return found if stain is None else found | {"stain": stain.astype(np.float64) * len(samples)}


def begin(estimator: CellNetwork, agreed: Mapping[str, Any]) -> CellNetwork:
    """Return the estimator with the statistics that were agreed, and the weights of a package or random ones."""
    return settled(_begun(estimator, agreed), agreed["features"])


def _begun(estimator: CellNetwork, agreed: Mapping[str, Any]) -> CellNetwork:
    counts, stain = agreed["counts"]["classes"], agreed["counts"].get("stain")
    mean_stain = None if stain is None else (stain / counts.sum()).astype(np.float32)
    return estimator.begin(agreed["classes"], agreed["size"], counts, mean_stain)
