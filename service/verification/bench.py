"""Changed models are measured here, and what came out is remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from service.diagnosis.diagnose import wants_settling
from service.diagnosis.thresholds import SURE
from service.domain import probe_plan
from service.domain.errors import ChangeRefused
from service.domain.findings import Diagnosis, Verdict
from service.domain.measurements import Measurements, Trial
from service.domain.probe_plan import Look
from service.domain.recommendations import Effect, Recommendation
from service.ports import ProbeSession
from service.recommendation.combination import combined
from service.verification.allowance import Allowance
from service.verification.effects import Judged, effect, rank, threats

SETTLING_STEPS = 2
"""Optimizer steps before a second look: the first moves a zero-initialised last layer or branch,
the second lets the gradient through it (Zhang et al. 2019, Fixup; Goyal et al. 2017, §5.1)."""
GLANCE = probe_plan.GLANCE
"""What is measured of a change at first: two passes in place of twelve. Two batches are the fewest
between which a gradient can be compared."""

Judge = Callable[[Measurements, Measurements | None, Trial | None], Diagnosis]
"""By the pipeline's own rules, of a model's numbers, those after a second look, its training."""
Chosen = Sequence[Recommendation]
"""Changes that are made together."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The model as it came."""

    diagnosis: Diagnosis
    measurements: Measurements
    trial: Trial | None
    """Its short training, where the verdict asked for one."""


class Bench:
    """Measures changed models: a glance at first, in full what is to be trained or prescribed.
    Either is compared with the submitted model on the same initializations and batches."""

    def __init__(
        self, session: ProbeSession, submitted: Submitted, judge: Judge, allowance: Allowance
    ) -> None:
        self.session = session
        self.submitted = submitted
        self.judge = judge
        self.allowance = allowance
        self.full = Look(session.facts.seeds, session.facts.batches)
        self._seen: dict[tuple[Look, tuple[str, ...]], Judged | None] = {}

    @cached_property
    def look(self) -> Look:
        """How changes are looked at first: a glance, where the submitted model shows at a glance
        all that the whole probe found; else in full."""
        before = self.glanced
        whole = self.submitted.diagnosis
        same = before is not None and (
            before.diagnosis.verdict is whole.verdict
            and threats(before.diagnosis) == threats(whole)
        )
        return GLANCE if same else self.full

    @cached_property
    def glanced(self) -> Judged | None:
        """The submitted model at a glance; None where that would save nothing, or no time is
        left."""
        saves = GLANCE.passes < self.full.passes and GLANCE.batches <= self.full.batches
        if not saves or not self.allowance.covers(GLANCE.passes):
            return None
        try:
            return self._judged((), GLANCE, self.submitted.trial)
        except ChangeRefused:  # the child is gone
            return None

    def effect(self, chosen: Chosen) -> Effect | None:
        """Of all together, by the best look there was; None when they cannot be made here (a path
        that depends on data, say), or no time is left."""
        after = self._seen.get((self.full, _key(chosen))) or self.seen(chosen, self.look)
        if after is None:
            return None
        before = self.glanced if after.look == GLANCE else None
        return effect(before or self._whole, after, self._static_rank)

    def verdict(self, chosen: Chosen) -> Verdict | None:
        """By the statistics; what a glance does not rule out for sure is looked at in full. None
        where they cannot be had."""
        seen = self.seen(chosen, self.look)
        if seen is not None and _unsure(seen.diagnosis):
            seen = self.whole(chosen)
        return None if seen is None else seen.diagnosis.verdict

    def whole(self, chosen: Chosen) -> Judged | None:
        """On every initialization and batch of the plan."""
        return self.seen(chosen, self.full)

    def seen(self, chosen: Chosen, look: Look) -> Judged | None:
        """The model with these changes; None when they cannot be made or no time is left."""
        key = (look, _key(chosen))
        if key not in self._seen:
            if not self.allowance.covers(look.passes):
                return None
            try:
                self._seen[key] = self._judged(combined(chosen), look, None)
            except ChangeRefused:
                self._seen[key] = None
        return self._seen[key]

    def trained(self, seen: Judged, trial: Trial | None) -> Diagnosis:
        """By the pipeline's rules, with a short training."""
        return self.judge(seen.measurements, seen.settled, trial)

    def _judged(
        self, changes: tuple[dict[str, Any], ...], look: Look, trial: Trial | None
    ) -> Judged:
        measurements, settled = self.measured(changes, look), None
        if wants_settling(self.judge(measurements, None, None)):
            settled = self.measured(changes, look, SETTLING_STEPS)
        return Judged(measurements, settled, self.judge(measurements, settled, trial), look)

    def measured(
        self, changes: tuple[dict[str, Any], ...], look: Look, after_steps: int = 0
    ) -> Measurements:
        """The numbers alone. Whatever is asked in full is asked in the same words, so that the
        child knows again what it has measured. Raises ChangeRefused."""
        with self.allowance.spent_on(look.passes):
            return self.session.measure(
                changes, after_steps=after_steps, look=None if look == self.full else look
            )

    @property
    def _whole(self) -> Judged:
        """The submitted model."""
        told = self.submitted
        return Judged(told.measurements, None, told.diagnosis, self.full)

    @cached_property
    def _static_rank(self) -> int:
        """Of the submitted model, by its statistics."""
        told = self.submitted
        if told.diagnosis.decided_by == "static":
            return rank(told.diagnosis)
        return rank(self.judge(told.measurements, None, None))


def _key(chosen: Chosen) -> tuple[str, ...]:
    return tuple(one.title for one in chosen)


def _unsure(diagnosis: Diagnosis) -> bool:
    return diagnosis.verdict is Verdict.UNHEALTHY and diagnosis.confidence < SURE
