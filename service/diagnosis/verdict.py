"""From probabilities to the one answer: will this train as it stands?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.diagnosis.calibration import Calibration, Weighing
from service.diagnosis.detector import Reading
from service.diagnosis.doubt import Doubt
from service.diagnosis.fitted import FITTED
from service.diagnosis.outcome import LIKELIHOOD, Outcome
from service.diagnosis.signs import LONGEST
from service.domain.findings import Verdict
from service.domain.probe_plan import OptimizerPlan

FLOOR = 0.003
"""Probability that the detectors leave to each verdict at least: one that nobody has seen."""
SURE = Doubt()
CONDEMNED = 0.2
"""Probability from which unhealthy is said even where at_risk is likelier: letting a sick model
through costs more than failing one that only Adam trains. See docs/calibration.md."""
TRIED_IN_VAIN = 0.1
"""The same where a short training was tried and no optimizer learned. Judged by fits that have not
seen a network's architecture, 0.1 catches 11 more of 170 sick networks drawn at the edge of
training than 0.2, and takes 2 more of 212 mixed ones for sick; neither touches a healthy one."""
TRAINED = 0.5
"""The same where an optimizer learned in the steps that it was given."""
CONDEMNED_RIGHT = 0.5
"""Confidence in an unhealthy that is said at less than even odds. By fits that had not seen their
activation, initializer, depth or architecture, 47 to 63 of 765 labelled networks were condemned so,
and 0.42 to 0.54 of those were sick, those at odds of 0.1 as often as those at 0.4."""

SURELY_HEALTHY = 0.75
"""Static probability of being healthy from which a short training alone does not condemn: its task
may not suit a model that nothing is wrong with."""
UNSUPPORTED = 0.01
"""How far below the probability that condemns it is left then."""


@dataclass(frozen=True, slots=True)
class Belief:
    """How probable each verdict is; sums to 1."""

    unhealthy: float
    at_risk: float
    healthy: float
    condemned: float = CONDEMNED
    """Probability from which unhealthy is said even where at_risk is likelier."""

    @property
    def verdict(self) -> Verdict:
        """The most probable, but unhealthy rather than at_risk from `condemned` on."""
        if self.unhealthy >= max(self.condemned, self.healthy):
            return Verdict.UNHEALTHY
        return Verdict.HEALTHY if self.healthy > self.at_risk else Verdict.AT_RISK

    @property
    def confidence(self) -> float:
        """Probability that `verdict` is right."""
        return {
            Verdict.UNHEALTHY: max(self.unhealthy, CONDEMNED_RIGHT),
            Verdict.AT_RISK: self.at_risk,
            Verdict.HEALTHY: self.healthy,
        }[self.verdict]

    @property
    def shares(self) -> tuple[float, float, float]:
        """In the order of `calibration.LABELS`."""
        return self.unhealthy, self.at_risk, self.healthy


def static_belief(
    readings: Sequence[Reading],
    optimizer: OptimizerPlan | None,
    doubt: Doubt = SURE,
) -> Belief:
    """What the detectors say together: each cause may be enough to keep a model from training, so
    it trains only where none of them does (causes taken as independent); of what puts training at
    risk the worst counts. Not calibrated yet (`settled_belief`, `tried`).

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


def settled_belief(raw: Belief, calibration: Calibration = FITTED) -> Belief:
    """The static belief, as sure of itself as labelled networks allow."""
    return _weighed(raw, calibration.static, {})


def tried(
    raw: Belief,
    signs: Mapping[str, float],
    calibration: Calibration = FITTED,
    *,
    unseen: float = 0.0,
) -> Belief:
    """The static belief in the light of short trainings at usual rates; `unseen`: the probability
    of a risk that they cannot show, which what they say for the model does not take away."""
    seen = _weighed(raw, calibration.trial, signs)
    condemned = _condemned(signs)
    hidden = seen.healthy * unseen
    most = condemned - UNSUPPORTED if raw.healthy >= SURELY_HEALTHY else 1.0
    excess = max(seen.unhealthy - most, 0.0)
    return Belief(
        seen.unhealthy - excess, seen.at_risk + hidden + excess, seen.healthy - hidden, condemned
    )


def _condemned(signs: Mapping[str, float]) -> float:
    """By what the short trainings show: what one learned in time is not called unhealthy lightly,
    and what none learned is not let through."""
    slow = [signs[f"{name}_slow"] for name in LONGEST if signs[f"{name}_learned"]]
    if not slow:
        return TRIED_IN_VAIN
    return TRAINED if min(slow) <= 1.0 else CONDEMNED


def unseen(readings: Sequence[Reading]) -> float:
    """The probability that training is at risk for a reason that no short training shows."""
    return max((reading.warning for reading in readings if reading.unseen), default=0.0)


def tried_as_named(raw: Belief, outcome: Outcome) -> Belief:
    """Bayes: the static belief in the light of a short training with the optimizer that the caller
    named. The statistics judge a model under usual rates: of that one they know half."""
    prior = [(share + 1 / 3) / 2 for share in raw.shares]
    likelihood = LIKELIHOOD[outcome]
    return _belief(*(p * known for p, known in zip(prior, likelihood, strict=True)))


def _weighed(raw: Belief, weighing: Weighing, signs: Mapping[str, float]) -> Belief:
    scores = [
        bias
        + weighing.trust * math.log(share)
        + sum(weight[place] * signs[name] for name, weight in weighing.weights.items())
        for place, (bias, share) in enumerate(zip(weighing.bias, raw.shares, strict=True))
    ]
    best = max(scores)
    return _belief(*(math.exp(score - best) for score in scores))


def _belief(unhealthy: float, at_risk: float, healthy: float) -> Belief:
    """Scaled to sum to 1, with `FLOOR` left to each."""
    weights = (unhealthy, at_risk, healthy)
    share = (1.0 - 3.0 * FLOOR) / sum(weights)
    return Belief(*(FLOOR + share * weight for weight in weights))
