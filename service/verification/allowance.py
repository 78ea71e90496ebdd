"""What is left of the budget, and what an ask of the child is likely to take of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Allowance:
    """Nothing is begun that is likely to end after the budget."""

    def __init__(self, left: Callable[[], float], pass_seconds: float = 0.0) -> None:
        """`left`: seconds of the budget, ≤ 0 when it is over. `pass_seconds`: what a pass of the
        probe took as the model came, ≥ 0."""
        self.left = left
        self._pass_seconds = pass_seconds
        self._extra_seconds = 0.0
        """What an ask took beyond its passes, at most: the changed model has to be built, and its
        passes may be slower."""
        self.exceeded = False
        """Something was not begun for want of time."""

    def covers(self, passes: int = 0) -> bool:
        """Whether there is likely time for an ask of so many passes; of none: any time at all."""
        expected = passes * self._pass_seconds + self._extra_seconds if passes else 0.0
        enough = self.left() > expected
        self.exceeded = self.exceeded or not enough
        return enough

    @contextmanager
    def spent_on(self, passes: int) -> Iterator[None]:
        """Learn from these what an ask takes."""
        began = time.perf_counter()
        yield
        extra = time.perf_counter() - began - passes * self._pass_seconds
        self._extra_seconds = max(self._extra_seconds, extra)
