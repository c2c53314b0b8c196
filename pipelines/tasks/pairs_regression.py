"""The response of cell lines to drugs, a number."""

from __future__ import annotations

from pipelines.modalities.pairs import PairsTask

TASK = PairsTask
