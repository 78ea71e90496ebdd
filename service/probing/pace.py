"""How far an ask is, told outside the child while it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.domain.errors import ChangeRefused

TELL_SECONDS = 0.2
"""Between two tellings, at least: what is over sooner needs none."""
LEAST = 0.01
"""Share by which it must have come further to be told: a percent, so a hundred tellings an ask."""


class Pace:
    """Counts the steps of one ask after the other."""

    def __init__(
        self,
        tell: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tell`: called with the share that is done, 0 … 1, more at every call of an ask."""
        self._tell = tell
        self._clock = clock
        self._ends: float | None = None
        self.begin(1)

    @contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """What is done here is given up after so many seconds; None: as before."""
        before = self._ends
        if seconds is not None:
            self._ends = self._clock() + seconds
        try:
            yield
        finally:
            self._ends = before

    def left(self) -> float | None:
        """Seconds after which it is given up; None: never."""
        return None if self._ends is None else self._ends - self._clock()

    def begin(self, steps: int, *, perhaps_more: bool = False) -> None:
        """A new ask of so many steps, or of some such number: then they are the first half."""
        self._steps, self._perhaps_more = max(steps, 1), perhaps_more
        self._done = 0
        self._told, self._when = 0.0, self._clock()

    def step(self) -> None:
        """One more is done. Raises ChangeRefused when the ask's time is over."""
        self._done += 1
        self.go_on()
        share = self._share()
        if share < self._told + LEAST or self._clock() - self._when < TELL_SECONDS:
            return
        self._told, self._when = share, self._clock()
        self._tell(share)

    def go_on(self) -> None:
        """Raises ChangeRefused when the ask's time is over."""
        left = self.left()
        if left is not None and left < 0:
            raise ChangeRefused("its time was over before it ended")

    def _share(self) -> float:
        if self._perhaps_more:
            return self._done / (self._done + self._steps)
        return min(self._done / self._steps, 1.0)
