"""One statistic of one layer over past analyses."""

from __future__ import annotations

from datetime import datetime

from api.schemas.responses.wire import Number, Out


class HistoryPointOut(Out):
    """The statistic in one analysis."""

    analysis: str
    """Id."""
    created_at: datetime
    """UTC."""
    labels: dict[str, str]
    """The caller's own key-value pairs."""
    verdict: str | None
    """Of the analysis."""
    value: Number
    """In the units of the statistic; null where the layer has it not, or it is not finite."""
    low: Number
    """Lowest over seeds and batches, in the units of the statistic; null where it is not known."""
    high: Number
    """Highest over seeds and batches, in the units of the statistic; null where it is not known."""


class HistoryOut(Out):
    """One page, newest first."""

    layer: str
    """Module path."""
    statistic: str
    """Dotted name."""
    items: tuple[HistoryPointOut, ...]
    """Newest first."""
    next_cursor: str | None
    """For `cursor`; null on the last page."""
