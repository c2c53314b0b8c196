"""The response of cell lines to drugs, a number."""

from pipelines.modalities.pairs import PairsTask

TASK = PairsTask
