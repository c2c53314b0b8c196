"""Doubtful labels of profiles: a forest sees them, and people see the genes that speak for the other label."""

from typing import Any

import numpy as np

from pipelines.report import Block, items

ARCHITECTURE = "random_forest"
HYPERPARAMETERS: dict[str, Any] = {}
_GENES = 6


def shown(
    samples: Any, models: Any, captions: list[str], given: Any, suggested: Any
) -> tuple[list[Block], dict[str, bytes]]:
    """Return a line a sample, with the genes that speak most for ``suggested`` against ``given``, classes ``(n,)``."""
    lines = []
    for row, (model, caption) in enumerate(zip(models, captions, strict=True)):
        one = samples.take(np.array([row]))
        found = [model.attribute(one, np.array([code])) for code in (suggested[row], given[row])]
        if None in found:
            lines.append(caption)
            continue
        of, against = found
        values = dict(zip(of.names, of.values[0], strict=True))
        for name, value in zip(against.names, against.values[0], strict=True):
            values[name] = values.get(name, 0.0) - value
        top = sorted(values, key=lambda name: -values[name])[:_GENES]
        lines.append(
            f"{caption}: " + ", ".join(f"{name.partition(':')[2] or name} {values[name]:+.2f}" for name in top)
        )
    return [items(lines)], {}
