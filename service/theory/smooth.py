"""Functions of a mean square that are dear to reckon and asked for at a thousand near places."""

from __future__ import annotations

import math
from collections.abc import Callable

STEP = 0.1
"""Between two places in ln q."""
Cubic = tuple[float, float, float, float]
"""Coefficients, of t³ first."""


class Smooth:
    """Several functions of q ≥ 0 at once, reckoned at every `STEP` of ln q and interpolated through
    four places (Lagrange): off by some STEP⁴ of what their logarithm changes within a factor e of
    q. Gaussian moments are that smooth even where the activation has kinks."""

    def __init__(self, f: Callable[[float], tuple[float, ...]]) -> None:
        self._f = f
        self._known: dict[int, tuple[float, ...]] = {}
        self._cubics: dict[int, tuple[Cubic, ...] | None] = {}

    def __call__(self, q: float) -> tuple[float, ...]:
        """Their values; at 0, and where one of them is 0 or less close by, as they say."""
        if q <= 0.0:
            return self._f(q)
        at = math.log(q) / STEP
        low = math.floor(at)
        if low not in self._cubics:
            self._cubics[low] = self._between(low)
        cubics = self._cubics[low]
        if cubics is None:
            return self._f(q)
        t = at - low
        return tuple([math.exp(((a * t + b) * t + c) * t + d) for a, b, c, d in cubics])

    def _between(self, low: int) -> tuple[Cubic, ...] | None:
        """From this place to the next one; None where there is no logarithm."""
        near = [self._at(place) for place in range(low - 1, low + 3)]
        if any(value <= 0.0 for values in near for value in values):
            return None
        return tuple(_cubic(*map(math.log, values)) for values in zip(*near, strict=True))

    def _at(self, place: int) -> tuple[float, ...]:
        if place not in self._known:
            self._known[place] = self._f(math.exp(place * STEP))
        return self._known[place]


def _cubic(before: float, here: float, there: float, beyond: float) -> Cubic:
    """Through these values at -1, 0, 1 and 2."""
    third = (beyond - before) / 6.0 + (here - there) / 2.0
    second = (before + there) / 2.0 - here
    return third, second, (there - before) / 2.0 - third, here
