"""What an analysis is compared with: an earlier one, as far as the comparison needs it."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.analysis import Analysis
from service.domain.measurements import LayerMeasurements


@dataclass(frozen=True, slots=True)
class Baseline:
    """An analysis that succeeded before."""

    id: str
    layers: tuple[LayerMeasurements, ...]
    """With their spread."""
    findings: frozenset[str]
    """Codes."""
    seeds: int
    """Initializations, or redrawn sets of batches, that it measured, ≥ 1."""
    loss: str
    """The loss that was used."""


def baseline_of(analysis: Analysis) -> Baseline | None:
    """None of one without a report."""
    report = analysis.report
    if report is None:
        return None
    return Baseline(
        id=analysis.id,
        layers=report.layers,
        findings=frozenset(one.code for one in report.diagnosis.findings),
        seeds=max(report.facts.seeds, 1),
        loss=report.model.loss,
    )
