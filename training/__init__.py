"""Samples become tuned, tracked models."""
