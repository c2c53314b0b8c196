"""The dashboard's view of a sample, a module a modality, found by its name: choosing, asking, drawing the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from serving.dashboard.data.endpoints import ROWS_AT_ONCE
from serving.dashboard.data.loading import load

if TYPE_CHECKING:
    from serving.dashboard.data.endpoints import Endpoint
    from serving.dashboard.pages.predict import Asked, Make


class Modality(ABC):
    """One modality, drawn with Streamlit where the page is."""

    rows_at_once: ClassVar[int] = ROWS_AT_ONCE  # of a request
    leading: ClassVar[tuple[str, ...]] = ()  # metrics of the evidence that are shown before those of the problem
    pictures: ClassVar[tuple[str, ...]] = ()  # files of explanations
    tables: ClassVar[tuple[tuple[str, str], ...]] = ()  # as `serving.problems.Problem.tables`

    @abstractmethod
    def invitation(self, task: Any) -> str:
        """Return what to do, and what the model answers, for people who have not asked yet."""

    @abstractmethod
    def question(self, name: str, task: Any, endpoint: Endpoint) -> tuple[Make | None, str]:
        """Let people choose or bring samples; return what makes the question, or None and what is missing."""

    @abstractmethod
    def answers(self, asked: Asked, name: str, task: Any) -> None:
        """Draw the answers, how far they can be trusted, downloads, and explanations."""


@cache
def get_modality(name: str) -> Modality:
    """Return the modality ``name``, importing its module."""
    return load(f"{__name__}.{name}").MODALITY
