"""How much arithmetic a model takes, and how many threads pay off for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from service.domain.probe_plan import InputPlan

WORTH_SHARING = 2**25
"""Multiplications of the largest layer, in one pass over a batch, from which a second thread pays
off. Measured on two cores, seconds of a whole probe with one thread and with two: linear layers of
width 128 (2²⁰ multiplications at batch 64) 0.16 and 0.29, 256 (2²²) 0.45 and 0.66, 512 (2²⁴) 0.46
and 0.51, 1024 (2²⁶) 0.83 and 0.67."""


def worth_sharing(
    weights: Iterable[tuple[int, ...]], inputs: tuple[InputPlan, ...], batch_size: int
) -> bool:
    """Whether the largest of these weights (shapes) is applied often enough: once to every sample
    and, with images and sequences, every place of it. Deeper layers may see fewer places; too many
    counted leaves the threads as they are."""
    return max(_each(weights, inputs, batch_size), default=0) >= WORTH_SHARING


def multiplications(
    weights: Iterable[tuple[int, ...]], inputs: tuple[InputPlan, ...], batch_size: int
) -> int:
    """Of one pass over a batch, all layers; too many where deeper ones see fewer places."""
    return sum(_each(weights, inputs, batch_size))


def _each(
    weights: Iterable[tuple[int, ...]], inputs: tuple[InputPlan, ...], batch_size: int
) -> Iterator[int]:
    places = max((_places(one) for one in inputs), default=1)
    return (math.prod(shape) * places * batch_size for shape in weights if len(shape) > 1)


def _places(plan: InputPlan) -> int:
    """Of one sample: pixels of (C, H, W), steps of (T, F), tokens of integers (T,)."""
    if not plan.dtype.startswith(("float", "bfloat", "complex")):
        return math.prod(plan.shape)
    return plan.shape[0] if len(plan.shape) == 2 else math.prod(plan.shape[1:])
