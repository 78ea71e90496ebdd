"""What changed between analyses, as frozen dataclasses; see graddx.results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from graddx.results import Finding


@dataclass(frozen=True, slots=True)
class Side:
    """One of two analyses that are compared."""

    id: str
    status: str = ""
    """succeeded, failed or cancelled."""
    created_at: datetime | None = None
    """UTC."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own key-value pairs."""
    verdict: str | None = None
    """Of a succeeded analysis."""
    passed: bool | None = None
    """As in the analysis."""
    model_sha256: str | None = None
    """As in the analysis."""


@dataclass(frozen=True, slots=True)
class StatisticChange:
    """One statistic of one layer, in both."""

    statistic: str
    """Dotted name."""
    before: float | None = None
    after: float | None = None
    ratio: float | None = None
    """after / before; None where that means nothing."""
    before_range: tuple[float | None, float | None] | None = None
    """Lowest and highest over seeds and batches; None where it is not known."""
    after_range: tuple[float | None, float | None] | None = None
    """Likewise."""
    changed: bool = False
    """Beyond the spread."""


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer, by its name."""

    name: str
    """Module path."""
    presence: str = "both"
    """both, added (only the second has it) or removed (only the first has it)."""
    changed: bool = False
    """Added, removed, or any statistic changed."""
    statistics: tuple[StatisticChange, ...] = ()
    """Of a layer that both have."""


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A finding code that both have."""

    code: str
    """Stable."""
    before: str = ""
    """Severity."""
    after: str = ""
    """Severity."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from one analysis to another."""

    before: Side
    after: Side
    same_model: bool = False
    """The same file, or the same spec."""
    probe_differs: tuple[str, ...] = ()
    """Fields of the probe that differ: sizes of gradients are then not comparable, gains are."""
    appeared: tuple[Finding, ...] = ()
    """Findings whose code only the second has."""
    gone: tuple[Finding, ...] = ()
    """Findings whose code only the first has."""
    kept: tuple[FindingChange, ...] = ()
    """Findings whose code both have."""
    layers: tuple[LayerChange, ...] = ()
    """In the second's order; those that only the first has come last."""


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """A statistic in one analysis."""

    analysis: str
    """Id."""
    created_at: datetime | None = None
    """UTC."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own key-value pairs."""
    verdict: str | None = None
    """Of the analysis."""
    value: float | None = None
    """None where the layer has it not, or it is not finite."""
    low: float | None = None
    """Lowest over seeds and batches; None where it is not known."""
    high: float | None = None
    """Highest over seeds and batches; None where it is not known."""


@dataclass(frozen=True, slots=True)
class History:
    """One page of a statistic's history, newest first."""

    layer: str = ""
    """Module path."""
    statistic: str = ""
    """Dotted name."""
    items: tuple[HistoryPoint, ...] = ()
    next_cursor: str | None = None
    """None on the last page."""
