"""What every remedy is."""

from __future__ import annotations

from typing import Protocol

from service.domain.recommendations import Recommendation
from service.recommendation.case import Case

HEADINGS = ("What it changes", "When it is offered", "Why it works", "Limits", "References")
"""Every remedy's docstring has these, in this order, after one sentence."""


class Remedy(Protocol):
    """One kind of change. Its docstring is its page of the documentation."""

    @property
    def kind(self) -> str:
        """One of `service.domain.request.ALL_KINDS`."""

    @property
    def cures(self) -> frozenset[str]:
        """Finding codes it can be offered for; empty: it is always offered."""

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        """The changes of this kind that fit, in order of preference; ids are given later."""
