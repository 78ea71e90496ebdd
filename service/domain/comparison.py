"""Two analyses side by side: what changed, layer by layer, beyond what chance alone makes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.domain.analysis import Analysis
from service.domain.findings import Diagnosis, Finding
from service.domain.layer_statistics import value_of
from service.domain.measurements import LayerMeasurements
from service.domain.report import Report

COMPARED = (
    "gradient.gain",
    "gradient.rms",
    "gradient.norm",
    "gradient.zero_fraction",
    "gradient.underflow_fraction_fp16",
    "activation.mean",
    "activation.std",
    "activation.rms",
    "activation.zero_fraction",
    "activation.saturated_fraction",
    "activation.dead_unit_fraction",
    "activation.correlation",
    "weight.rms",
    "weight.grad_norm",
    "weight.grad_to_weight",
)
"""Statistics that are put side by side."""
SAME = 1e-6
"""Relative difference up to which a number without spread is the same."""
ASKED = ("batch_size", "batches", "seeds", "loss", "precision", "mode", "data", "seed", "inputs")
"""What two probes must share for sizes of gradients to be comparable."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class StatisticChange:
    """One statistic of one layer, in both."""

    statistic: str
    """Dotted name."""
    before: float | None
    after: float | None
    ratio: float | None
    """after / before; None where that means nothing."""
    before_range: Range | None
    """Lowest and highest over seeds and batches; None where it is not known."""
    after_range: Range | None
    changed: bool
    """The ranges lie further apart than the wider of them is wide; without ranges: not the same
    number."""


@dataclass(frozen=True, slots=True)
class LayerChange:
    """One layer, by its name."""

    name: str
    presence: str
    """both, added (only the second has it) or removed (only the first has it)."""
    changed: bool
    """Added, removed, or any statistic changed."""
    statistics: tuple[StatisticChange, ...]
    """Of a layer that both have."""


@dataclass(frozen=True, slots=True)
class FindingChange:
    """A finding code that both have."""

    code: str
    before: str
    """Severity."""
    after: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """From one analysis (before) to another (after)."""

    before: Analysis
    after: Analysis
    same_model: bool
    """The same file, or the same spec."""
    probe_differs: tuple[str, ...]
    """Fields of the probe that differ: sizes of gradients are then not comparable, gains are."""
    appeared: tuple[Finding, ...]
    """Findings whose code only the second has."""
    gone: tuple[Finding, ...]
    """Findings whose code only the first has."""
    kept: tuple[FindingChange, ...]
    layers: tuple[LayerChange, ...]
    """In the second's order; those that only the first has come last."""


def compare(before: Analysis, after: Analysis) -> Comparison:
    """Both are final; one without a report has no findings and no layers."""
    appeared, gone, kept = _findings(_diagnosis(before), _diagnosis(after))
    return Comparison(
        before=before,
        after=after,
        same_model=before.model_sha256 is not None and before.model_sha256 == after.model_sha256,
        probe_differs=_probe_differs(before.report, after.report),
        appeared=appeared,
        gone=gone,
        kept=kept,
        layers=_layers(_measured(before), _measured(after)),
    )


def changed(before: float | None, after: float | None, *ranges: Range | None) -> bool:
    """Whether a number is another one, beyond its spread."""
    if before is None or after is None:
        return before is not after
    if any(one is None for one in ranges):
        return not math.isclose(before, after, rel_tol=SAME, abs_tol=1e-12)
    (low, high), (lower, upper) = sorted(one for one in ranges if one is not None)
    widest = max(high - low, upper - lower)
    return lower - high > widest


def _measured(analysis: Analysis) -> tuple[LayerMeasurements, ...]:
    return analysis.report.layers if analysis.report else ()


def _diagnosis(analysis: Analysis) -> Diagnosis | None:
    return analysis.report.diagnosis if analysis.report else None


def _probe_differs(before: Report | None, after: Report | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    return tuple(name for name in ASKED if before.probe.get(name) != after.probe.get(name))


def _findings(
    before: Diagnosis | None, after: Diagnosis | None
) -> tuple[tuple[Finding, ...], tuple[Finding, ...], tuple[FindingChange, ...]]:
    old = {one.code: one for one in (before.findings if before else ())}
    new = {one.code: one for one in (after.findings if after else ())}
    return (
        tuple(one for code, one in new.items() if code not in old),
        tuple(one for code, one in old.items() if code not in new),
        tuple(
            FindingChange(code, old[code].severity, one.severity)
            for code, one in new.items()
            if code in old
        ),
    )


def _layers(
    before: tuple[LayerMeasurements, ...], after: tuple[LayerMeasurements, ...]
) -> tuple[LayerChange, ...]:
    old = {layer.name: layer for layer in before}
    new = {layer.name: layer for layer in after}
    told = [
        _both(old[name], layer) if name in old else LayerChange(name, "added", True, ())
        for name, layer in new.items()
    ]
    removed = [LayerChange(name, "removed", True, ()) for name in old if name not in new]
    return tuple(told + removed)


def _both(before: LayerMeasurements, after: LayerMeasurements) -> LayerChange:
    statistics = tuple(
        one for name in COMPARED if (one := _statistic(name, before, after)) is not None
    )
    return LayerChange(after.name, "both", any(one.changed for one in statistics), statistics)


def _statistic(
    name: str, before: LayerMeasurements, after: LayerMeasurements
) -> StatisticChange | None:
    old, new = value_of(before, name), value_of(after, name)
    if old is None and new is None:
        return None
    ranges = before.spread.get(name), after.spread.get(name)
    ratio = new / old if old and new is not None and old * new >= 0.0 else None
    return StatisticChange(name, old, new, ratio, *ranges, changed(old, new, *ranges))
