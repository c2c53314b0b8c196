"""``make bench``: speed and memory as ratios, each pair measured side by side in this run. Nothing here is a test."""

from tests.bench.pancan import pancan_reader, write_pancan
from tests.bench.served_endpoint import endpoint

__all__ = ["endpoint", "pancan_reader", "write_pancan"]
