"""What changed from one analysis to another."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from api.schemas.responses.findings import FindingOut
from api.schemas.responses.wire import Number, Out


class SideOut(Out):
    """One of two analyses that are compared."""

    id: str
    """Of the analysis."""
    status: str
    """succeeded, failed or cancelled."""
    created_at: datetime
    """UTC."""
    labels: dict[str, str]
    """The caller's own key-value pairs."""
    verdict: str | None
    """Of a succeeded analysis."""
    passed: bool | None
    """As in the analysis."""
    model_sha256: str | None
    """As in the analysis."""


class StatisticChangeOut(Out):
    """One statistic of one layer, in both."""

    statistic: str = Field(examples=["gradient.gain"])
    """Dotted name."""
    before: Number
    """In the first, in the units of the statistic; null where it is not finite, or the layer has it
    not."""
    after: Number
    """In the second, in the units of the statistic; null likewise."""
    ratio: Number
    """after / before, of any sign; null where that means nothing."""
    before_range: tuple[Number, Number] | None
    """Lowest and highest over seeds and batches; null where it is not known."""
    after_range: tuple[Number, Number] | None
    """Likewise."""
    changed: bool
    """Beyond the spread: the ranges lie further apart than the wider of them is wide; without
    ranges: not the same number."""


class LayerChangeOut(Out):
    """One layer, by its name."""

    name: str
    """Module path."""
    presence: str
    """both, added (only the second has it) or removed (only the first has it)."""
    changed: bool
    """Added, removed, or any statistic changed."""
    statistics: tuple[StatisticChangeOut, ...]
    """Of a layer that both have."""


class FindingChangeOut(Out):
    """A finding code that both have."""

    code: str
    """Stable."""
    before: str
    """Severity."""
    after: str
    """Severity."""


class ComparisonOut(Out):
    """What changed from one analysis to another."""

    before: SideOut
    """The first of the two."""
    after: SideOut
    """The second."""
    same_model: bool
    """The same file, or the same spec."""
    probe_differs: tuple[str, ...]
    """Fields of the probe that differ: sizes of gradients are then not comparable, gains are."""
    appeared: tuple[FindingOut, ...]
    """Findings whose code only the second has."""
    gone: tuple[FindingOut, ...]
    """Findings whose code only the first has."""
    kept: tuple[FindingChangeOut, ...]
    """Findings whose code both have."""
    layers: tuple[LayerChangeOut, ...]
    """In the second's order; those that only the first has come last."""
