"""A model card made from sealed evidence, and not from the page that lies beside it, which anybody may have edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.candidates.card import as_html, content


def card(evidence: dict[str, Any], figures: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """Return the card's content, its figures, and the card as one HTML page.

    Parameters
    ----------
    evidence
        Checked against its hash.
    figures
        PNG or SVG, by their file names.
    """
    made = content(evidence, list(figures))
    return made, dict(figures), as_html(made, figures)
