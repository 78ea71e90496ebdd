"""The probe session once the diagnosis is ready: the child may be lost, the diagnosis stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from service.domain.errors import (
    ChangeRefused,
    ProbeCrashed,
    ProbeFailure,
    ProbeOutOfMemory,
    ProbeTimeout,
    ReplyTooLarge,
)
from service.domain.measurements import Measurements, ModelFacts, Trial
from service.domain.probe_plan import Look
from service.ports import ProbeSession

LOST = (ProbeTimeout, ProbeOutOfMemory, ProbeCrashed, ReplyTooLarge)
"""What ends a child at a limit. A model that raises, or a fault of graddx itself, is no such
end: those fail the analysis at every stage."""

_Answer = TypeVar("_Answer")


class LosableSession:
    """A `ports.ProbeSession` that refuses every ask once its child is lost, and says why."""

    def __init__(
        self,
        session: ProbeSession,
        on_loss: Callable[[], None],
        on_answer: Callable[[], None],
        left: Callable[[], float],
    ) -> None:
        """`on_loss`: told at once; what it raises ends the analysis (a child may be gone because
        somebody cancelled). `on_answer`: told of every answer. `left`: seconds of the budget,
        after which no measurement and no training goes on."""
        self._session = session
        self._on_loss = on_loss
        self._on_answer = on_answer
        self._left = left
        self.loss: ProbeFailure | None = None
        """Why the child is gone; None while it answers."""

    @property
    def facts(self) -> ModelFacts:
        """What loading told."""
        return self._session.facts

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        """Probe the model as changed. Raises ChangeRefused, ProbeFailure."""
        within = self._within(seconds)
        return self._ask(
            lambda: self._session.measure(
                changes, after_steps=after_steps, look=look, seconds=within
            )
        )

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Train the model as changed. Raises ChangeRefused, ProbeFailure."""
        within = self._within(seconds)
        return self._ask(lambda: self._session.trial(changes, rates=rates, seconds=within))

    def export(self, changes: tuple[Mapping[str, Any], ...] = ()) -> bytes:
        """The weights as changed. Raises ChangeRefused, ProbeFailure."""
        return self._ask(lambda: self._session.export(changes))

    def peak_memory_mb(self) -> float | None:
        """Largest resident set of the child so far, MiB."""
        return self._session.peak_memory_mb()

    def _within(self, seconds: float | None) -> float:
        """No longer than the budget lasts. Raises ChangeRefused when it is over."""
        left = self._left() if seconds is None else min(seconds, self._left())
        if left <= 0 and self.loss is None:
            raise ChangeRefused("no time is left")
        return left

    def _ask(self, ask: Callable[[], _Answer]) -> _Answer:
        if self.loss is None:
            try:
                answer = ask()
            except LOST as failure:
                self.loss = failure
                self._on_loss()
            else:
                self._on_answer()
                return answer
        raise ChangeRefused(f"the probe's child is gone: {self.loss.detail}")
