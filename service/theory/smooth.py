"""Functions of a mean square that are dear to reckon and asked for at a thousand near places."""

from __future__ import annotations

import math
from collections.abc import Callable

STEP = 0.1
"""Between two places in ln q."""


class Smooth:
    """Several functions of q ≥ 0 at once, reckoned at every `STEP` of ln q and interpolated through
    four places (Lagrange): off by some STEP⁴ of what their logarithm changes within a factor e of
    q. Gaussian moments are that smooth even where the activation has kinks."""

    def __init__(self, f: Callable[[float], tuple[float, ...]]) -> None:
        self._f = f
        self._known: dict[int, tuple[float, ...]] = {}

    def __call__(self, q: float) -> tuple[float, ...]:
        """Their values; at 0, and where one of them is 0 or less close by, as they say."""
        if q <= 0.0:
            return self._f(q)
        at = math.log(q) / STEP
        low = math.floor(at)
        near = [self._at(place) for place in range(low - 1, low + 3)]
        if any(value <= 0.0 for values in near for value in values):
            return self._f(q)
        t = at - low
        weights = (
            -t * (t - 1.0) * (t - 2.0) / 6.0,
            (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0,
            -(t + 1.0) * t * (t - 2.0) / 2.0,
            (t + 1.0) * t * (t - 1.0) / 6.0,
        )
        return tuple(
            math.exp(math.fsum(w * math.log(v) for w, v in zip(weights, values, strict=True)))
            for values in zip(*near, strict=True)
        )

    def _at(self, place: int) -> tuple[float, ...]:
        if place not in self._known:
            self._known[place] = self._f(math.exp(place * STEP))
        return self._known[place]
