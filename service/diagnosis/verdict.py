"""From probabilities to the one answer: will this train as it stands?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from service.diagnosis.detector import Reading
from service.diagnosis.doubt import Doubt
from service.diagnosis.outcome import LIKELIHOOD, Outcome
from service.domain.findings import Verdict
from service.domain.probe_plan import OptimizerPlan

UNSEEN = (0.003, 0.015, 0.003)
"""Probability left to unhealthy, at_risk and healthy whatever the detectors say: of 180 labelled
feed-forward networks judged healthy with the highest confidence 4 were mixed and none sick; of 60
judged unhealthy none was healthy."""
SURE = Doubt()
CONDEMNED = 0.4
"""Probability from which unhealthy is said even where at_risk is likelier: letting a sick model
through costs more than failing one that only Adam trains."""


@dataclass(frozen=True, slots=True)
class Belief:
    """How probable each verdict is; sums to 1."""

    unhealthy: float
    at_risk: float
    healthy: float

    @property
    def verdict(self) -> Verdict:
        """The most probable, but unhealthy rather than at_risk from `CONDEMNED` on."""
        if self.unhealthy >= max(CONDEMNED, self.healthy):
            return Verdict.UNHEALTHY
        return Verdict.HEALTHY if self.healthy > self.at_risk else Verdict.AT_RISK

    @property
    def confidence(self) -> float:
        """Probability that `verdict` is right."""
        return {
            Verdict.UNHEALTHY: self.unhealthy,
            Verdict.AT_RISK: self.at_risk,
            Verdict.HEALTHY: self.healthy,
        }[self.verdict]


def static_belief(
    readings: Sequence[Reading],
    optimizer: OptimizerPlan | None,
    doubt: Doubt = SURE,
) -> Belief:
    """What the detectors say together: each cause may be enough to keep a model from training, so
    it trains only where none of them does (causes taken as independent); of what puts training at
    risk the worst counts.

    At risk means that SGD fails and Adam trains, or both half-way. So when SGD is the one
    optimizer named, what puts training at risk keeps it from training, unless it stops either
    optimizer half-way.
    """
    causes: list[Reading | Doubt] = [*readings, doubt]
    error = 1.0 - math.prod(1.0 - cause.error for cause in causes)
    warning = max(error, *(cause.warning for cause in causes))
    if optimizer is not None and optimizer.name == "sgd":
        fatal = max((r.warning for r in readings if not r.halfway), default=0.0)
        error = max(error, fatal, doubt.warning)
    return _belief(error, warning - error, 1.0 - warning)


def revised(prior: Belief, outcome: Outcome, *, named: bool = False) -> Belief:
    """Bayes: the static belief in the light of the short training. The statistics judge a model
    under usual rates: of an optimizer that the caller `named` they know half."""
    if named:
        prior = Belief(*((p + 1 / 3) / 2 for p in (prior.unhealthy, prior.at_risk, prior.healthy)))
    sick, mixed, healthy = LIKELIHOOD[outcome]
    return _belief(prior.unhealthy * sick, prior.at_risk * mixed, prior.healthy * healthy)


def _belief(unhealthy: float, at_risk: float, healthy: float) -> Belief:
    """Scaled to sum to 1, with `UNSEEN` left to each."""
    weights = (unhealthy, at_risk, healthy)
    share = (1.0 - sum(UNSEEN)) / sum(weights)
    return Belief(*(left + share * w for left, w in zip(UNSEEN, weights, strict=True)))
