"""Changes of the training: what no look at the model can show."""

from __future__ import annotations

from typing import Any

from service.domain.errors import ChangeRefused
from service.domain.measurements import Measurements, Trial
from service.domain.recommendations import Effect, Recommendation
from service.recommendation import training_effects
from service.verification.bench import GLANCE, Bench

TRAINED = frozenset({"learning_rate", "regularization"})
"""Kinds that change the training, and are kept only when a short training shows what they do."""

Change = tuple[dict[str, Any], ...]


class Course:
    """Trains with the change and without."""

    def __init__(self, bench: Bench, *, may_train: bool) -> None:
        self.bench = bench
        self.trial = bench.submitted.trial
        self.may_train = may_train

    def effect(self, recommendation: Recommendation) -> Effect | None:
        """None for what is offered whatever it does, and where no time is left."""
        change = ({**recommendation.change, "kind": recommendation.kind},)
        try:
            if recommendation.kind == "loss_scaling":
                return self._scaled(recommendation, change)
            if recommendation.kind in TRAINED:
                return self._trained(recommendation, change)
        except ChangeRefused:
            pass
        return None

    def _trained(self, recommendation: Recommendation, change: Change) -> Effect | None:
        if not self.may_train:
            return training_effects.NOT_TRIED
        self.trial = self.trial or self._trial()
        return training_effects.effect(self.trial, self._trial(change), recommendation.resolves)

    def _trial(self, change: Change = ()) -> Trial:
        if not self.bench.allowance.covers():
            raise ChangeRefused("no time is left")
        return self.bench.session.trial(change, seconds=self.bench.allowance.left())

    def _scaled(self, recommendation: Recommendation, change: Change) -> Effect | None:
        before, look = self._before(), self.bench.look
        if not self.bench.allowance.covers(look.passes):
            return None
        later = self.bench.measured(change, look)
        return training_effects.scaled(before, later, recommendation.resolves)

    def _before(self) -> Measurements:
        """The submitted model, looked at as the change will be."""
        glanced = self.bench.glanced if self.bench.look == GLANCE else None
        return glanced.measurements if glanced else self.bench.submitted.measurements
