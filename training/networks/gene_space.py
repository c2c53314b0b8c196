"""The search spaces that the networks from genes to genes share."""

from __future__ import annotations

from training.architectures import Range, joined, ranges

SHARED = ranges(
    dropout=Range(0.0, 0.5),
    noise=Range(0.0, 1.0),
    mixup=[0.0, 0.2, 0.4, 1.0],
    weight_decay=Range(0.03, 10.0, log=True),
    batch_size=[64, 128],
    linear_start=[0.0, 0.5, 0.9],
)
RECURRENT = joined(
    ranges(
        learning_rate=Range(3e-4, 6e-3, log=True),
        width=[32, 64],
        depth=Range(1, 2),
        window=[48, 72, 96],
        embedding=[64, 128],
        order=["table", "correlation"],  # not all samples have positions for an order along the genome
    ),
    SHARED,
)
ATTENTION = joined(RECURRENT, ranges(heads=[1, 2, 4]))
