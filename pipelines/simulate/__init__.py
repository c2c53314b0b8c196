"""Simulated data for the shipped sample, in the platform's raw formats: nothing here is measured."""
