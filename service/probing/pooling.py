"""Repetitions over seeds and batches to one number."""

from __future__ import annotations

import math

GEOMETRIC = ("gradient.rms", "gradient.norm", "gradient.gain", "gradient.small")
"""Statistics that multiply over depth, and the parts of the gain: their mean over repetitions is
geometric."""
LARGEST = frozenset({"activation.abs_max", "gradient.abs_max"})


def pooled(statistic: str, values: list[float | None]) -> float | None:
    """One number for all repetitions: geometric mean, maximum or mean, by the statistic."""
    if statistic.startswith(GEOMETRIC):
        return geometric_mean(values)
    if statistic in LARGEST:
        present = [value for value in values if value is not None]
        return max(present) if present else None
    return finite_mean(values)


def finite_mean(values: list[float | None] | list[float]) -> float | None:
    """Mean of the finite ones; None without any."""
    present = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(present) / len(present) if present else None


def quantile(ordered: list[float], share: float) -> float | None:
    """Linear interpolation between order statistics (NumPy's default)."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def geometric_mean(values: list[float | None]) -> float | None:
    """exp of the mean log; 0 when any value is 0; None without values."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    if min(present) <= 0:
        return 0.0
    return math.exp(math.fsum(math.log(value) for value in present) / len(present))
