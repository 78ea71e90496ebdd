"""Figures that hold on a machine that does other things too: each taken beside its reference."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Act = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times its reference something took, round by round."""

    rounds: tuple[float, ...]

    def __str__(self) -> str:
        """Median and quartiles."""
        low, middle, high = quartiles(self.rounds)
        return f"{middle:.2f} ({low:.2f}–{high:.2f})"


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A reference, and others beside it."""

    reference: tuple[float, ...]
    """Seconds, by round."""
    ratios: dict[str, Ratio]


def interleaved(reference: Act, others: Mapping[str, Act], seconds: float) -> Interleaved:
    """Reference and others in turn, for about so many seconds, at least five rounds after one that
    is thrown away; every figure is a ratio to the reference of its own round."""
    base: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in others}
    end = math.inf
    while len(base) < 6 or time.perf_counter() < end:
        before = timed(reference)
        for name, act in others.items():
            taken[name].append(timed(act))
        # The reference on both sides: what the machine does meanwhile hits it as well.
        base.append((before + timed(reference)) / 2)
        if len(base) == 1:
            end = time.perf_counter() + seconds
    ratios = {
        name: Ratio(tuple(one / own for one, own in zip(times[1:], base[1:], strict=True)))
        for name, times in taken.items()
    }
    return Interleaved(tuple(base[1:]), ratios)


def timed(act: Act) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    low, _, high = statistics.quantiles(values, n=4)
    return low, statistics.median(values), high


def percentiles(values: Sequence[float]) -> str:
    """p50 and p95 in milliseconds."""
    p95 = statistics.quantiles(values, n=20, method="inclusive")[-1]
    return f"{1e3 * statistics.median(values):,.0f} | {1e3 * p95:,.0f}"


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the logarithms, by least squares: 1 is linear."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
