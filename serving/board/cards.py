"""A model card made from sealed evidence, and not from the page that lies beside it, which anybody may have edited."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from evaluation.card import as_html, content


def card(evidence: dict[str, Any], figures: Mapping[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """Return the card's content, its figures, and the card as one HTML page.

    Parameters
    ----------
    evidence
        Checked against its hash.
    figures
        PNG, by their names.
    """
    made = content(evidence, list(figures))
    pictures = {name: base64.b64encode(data).decode() for name, data in figures.items()}
    return made, dict(figures), as_html(made, pictures)
