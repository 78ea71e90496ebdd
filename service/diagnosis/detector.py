"""What a detector is: one rule, one file, one section of docs/detectors.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from service.domain.baseline import Baseline
from service.domain.findings import Finding, Severity
from service.domain.measurements import LayerMeasurements, Measurements, Trial
from service.domain.probe_plan import ProbePlan

HEADINGS = ("What it sees", "Why it matters", "Evidence", "Known false alarms", "References")
"""Every detector's docstring has these, in this order."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a detector may look at."""

    measured: Measurements
    """The model as it stands, at step 0."""
    plan: ProbePlan
    settled: Measurements | None = None
    """The same after a few optimizer steps, when step 0 alone could mislead."""
    trial: Trial | None = None
    """The short trainings, when there were any."""
    baseline: Baseline | None = None
    """An earlier analysis to compare with, when the request names one."""

    @property
    def flow(self) -> Measurements:
        """Where to judge gradient flow: after settling when there was any."""
        return self.settled or self.measured


@dataclass(frozen=True, slots=True)
class Reading:
    """What a detector makes of a case."""

    finding: Finding | None = None
    error: float = 0.0
    """Probability that this alone keeps the model from training, 0 … 1."""
    warning: float = 0.0
    """Probability that this at least puts training at risk (one usual optimizer fails, or it gets
    only half-way), 0 … 1, ≥ `error`. 0 when it says nothing about training."""
    halfway: bool = False
    """True when the risk is that either optimizer gets only half-way, not that SGD fails."""
    unseen: bool = False
    """True when the short training, whose task it does not touch, says nothing about the risk."""


QUIET = Reading()


class Detector(Protocol):
    """One problem that a model can have. The docstring of its class is its documentation."""

    @property
    def code(self) -> str:
        """Stable snake_case code, the name of its module."""

    @property
    def title(self) -> str:
        """A few words that state the problem."""

    def read(self, case: Case) -> Reading:
        """Judge one case; QUIET when nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From a number to probabilities: a logistic curve at each of two thresholds."""

    warning: float
    """Where training is at risk with probability one half."""
    warning_width: float
    """Width of that curve: 0.95 is reached three widths above."""
    error: float = math.inf
    """Where the model does not train with probability one half; inf: never by this alone."""
    error_width: float = 1.0
    error_ceiling: float = 1.0
    """Probability of failing far above `error`: under 1 where some models still train."""

    def at_risk(self, value: float) -> float:
        """Probability, 0 … 1, that `value` puts training at risk."""
        return max(logistic((value - self.warning) / self.warning_width), self.fails(value))

    def fails(self, value: float) -> float:
        """Probability, 0 … 1, that `value` keeps the model from training."""
        if math.isinf(self.error):
            return 0.0
        return self.error_ceiling * logistic((value - self.error) / self.error_width)


def logistic(x: float) -> float:
    """1 / (1 + e⁻ˣ), without overflow."""
    return 1.0 / (1.0 + math.exp(-min(max(x, -700.0), 700.0)))


def grade(error: float, warning: float) -> Severity | None:
    """The severity that these probabilities amount to; None: under even odds."""
    if error >= 0.5:
        return Severity.ERROR
    return Severity.WARNING if warning >= 0.5 else None


def finding(
    detector: Detector,
    severity: Severity,
    confidence: float,
    detail: str,
    *,
    layers: Sequence[LayerMeasurements] = (),
    evidence: Mapping[str, Any] | None = None,
    causes: Sequence[str] = (),
) -> Finding:
    """A finding of this detector. The first sentence of `detail` must stand alone: it becomes the
    summary's. It begins with a layer's name or a small letter, which is made a capital."""
    names = tuple(layer.name for layer in layers)
    if not detail.startswith(names):
        detail = detail[:1].upper() + detail[1:]
    return Finding(
        code=detector.code,
        severity=severity,
        confidence=round(min(max(confidence, 0.01), 0.99), 2),
        layers=names,
        title=detector.title,
        detail=detail,
        evidence=dict(evidence or {}),
        causes=tuple(causes),
    )
