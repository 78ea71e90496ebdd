"""What was found."""

from __future__ import annotations

from pydantic import Field

from api.schemas.responses.wire import Json, Number, Out


class FindingOut(Out):
    """One problem, with its numbers."""

    code: str = Field(examples=["vanishing_gradient"])
    """Stable; see /v1/catalog."""
    severity: str
    """error, warning or info."""
    confidence: Number
    """Probability that the finding is true, 0 … 1."""
    layers: tuple[str, ...]
    """Layers concerned, in order; empty: the whole model."""
    title: str
    """A few words."""
    detail: str
    """Numbers, threshold and its source."""
    evidence: Json
    """The numbers behind it."""
    causes: tuple[str, ...]
    """Why, one sentence each."""
    docs: str = Field(examples=["/guide/detectors.html#vanishing_gradient"])
    """Path on this server of the guide's section on findings of this code."""


class SuppressedOut(FindingOut):
    """A finding the caller chose to ignore."""

    reason: str
    """The caller's own."""
