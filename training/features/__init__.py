"""Featurizers: fitted on training rows only, and saved with the model that they belong to."""
