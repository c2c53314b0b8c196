"""Simulated data for the shipped sample, in the platform's raw formats: nothing here is measured."""

from pipelines.simulate.response import Size, simulate

__all__ = ["Size", "simulate"]
