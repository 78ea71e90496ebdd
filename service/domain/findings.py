"""What is wrong, and the answer to the one question: will this train as it stands?"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad a finding is. error: it will not train; warning: it may hurt; info: good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """error 2, warning 1, info 0."""
        return {"error": 2, "warning": 1, "info": 0}[self.value]


class Verdict(StrEnum):
    """Will this model train as it stands?"""

    HEALTHY = "healthy"
    AT_RISK = "at_risk"
    UNHEALTHY = "unhealthy"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, with its numbers."""

    code: str
    """The detector's stable snake_case code."""
    severity: Severity
    confidence: float
    """Probability that the finding is true, 0 … 1."""
    layers: tuple[str, ...]
    """Names of the layers concerned, in order; empty: the whole model."""
    title: str
    """A few words."""
    detail: str
    """Numbers, threshold and its source, in one to three sentences."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """The numbers behind it, JSON."""
    causes: tuple[str, ...] = ()
    """Why, one sentence each."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding the caller chose to ignore."""

    finding: Finding
    reason: str
    """The caller's own."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The answer."""

    verdict: Verdict
    confidence: float
    """Probability that the verdict is right, 0 … 1."""
    decided_by: str
    """static or trial."""
    summary: str
    """One sentence."""
    findings: tuple[Finding, ...]
    """Worst first."""
    suppressed: tuple[Suppressed, ...] = ()
