"""Candidates for promotion: evidence, card, and the checks of the gate."""
