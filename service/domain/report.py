"""A finished analysis, ready to be stored and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from service.domain.findings import Diagnosis
from service.domain.measurements import LayerMeasurements, ModelFacts, ModelMeasurements, Trial
from service.domain.recommendations import Prescription, Recommendation


@dataclass(frozen=True, slots=True)
class Cost:
    """What the answer cost."""

    wall_seconds: float
    device: str
    peak_memory_mb: float | None
    """Largest resident set of the child, MiB."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds per stage: load, probe, diagnose, trial, recommend."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a succeeded analysis answers besides the row itself."""

    facts: ModelFacts
    probe: dict[str, Any]
    """The probe as used, JSON."""
    diagnosis: Diagnosis
    recommendations: tuple[Recommendation, ...]
    prescription: Prescription | None
    model: ModelMeasurements
    layers: tuple[LayerMeasurements, ...]
    trial: Trial | None
    cost: Cost
    notes: tuple[str, ...]
    passed: bool
    baseline: str | None = None
    """Id of the analysis it was compared with; None where there was none."""
