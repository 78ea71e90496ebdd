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
        self.exceeded = False
        """Something was not begun for want of time."""

    def covers(self, passes: int = 0) -> bool:
        """Whether there is time for so many passes, each like the slowest kind so far: changed
        models are often slower than the one that came."""
        enough = self.left() > passes * self._pass_seconds
        self.exceeded = self.exceeded or not enough
        return enough

    @contextmanager
    def spent_on(self, passes: int) -> Iterator[None]:
        """Learn from these what a pass takes."""
        began = time.perf_counter()
        yield
        self._pass_seconds = max(self._pass_seconds, (time.perf_counter() - began) / passes)
