"""What a sample is: what people bring or choose of it, the request that is made of it, and what is drawn of its answer.

A modality is a module of this package, found by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from serving.dashboard.data.endpoint_client import ROWS_AT_ONCE
from serving.dashboard.data.loading import load

if TYPE_CHECKING:
    from serving.dashboard.data.endpoints import Endpoint
    from serving.dashboard.pages.request import Asked, Make


class Modality(ABC):
    """One modality; what is drawn is drawn by Streamlit, where the page is.

    Attributes
    ----------
    rows_at_once
        Of a request.
    leading
        Metrics of the evidence that are shown before those of the problem.
    pictures, tables
        Of explanations: files with pictures, and tables as `serving.problems.Problem.tables`.
    """

    rows_at_once: ClassVar[int] = ROWS_AT_ONCE
    leading: ClassVar[tuple[str, ...]] = ()
    pictures: ClassVar[tuple[str, ...]] = ()
    tables: ClassVar[tuple[tuple[str, str, str], ...]] = ()

    @abstractmethod
    def invitation(self, task: Any) -> str:
        """Return what to do and what comes of it, for who has not asked yet."""

    @abstractmethod
    def question(self, name: str, task: Any, endpoint: Endpoint) -> tuple[Make | None, str]:
        """Let people choose or bring samples; return what makes the question, or None and what is missing."""

    @abstractmethod
    def answers(self, asked: Asked, name: str, task: Any) -> None:
        """Draw the answers: how far they can be trusted, what they say, a file to download, and explanations."""


@cache
def get_modality(name: str) -> Modality:
    """Return the modality ``name``, importing its module."""
    found: Modality = load(f"{__name__}.{name}").MODALITY
    return found
