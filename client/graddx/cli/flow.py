"""Gradient flow over depth as a line of blocks: where it rises or falls is seen at a glance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graddx.results import Diagnosis

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-~=+*#"
"""The same where the output cannot hold blocks."""
NOTHING = "·"
PLAIN_NOTHING = "!"
"""Where the gradient is 0 or not finite."""
WIDEST = 3
"""Columns of one layer, at most."""
LEAST_RANGE = 10.0
"""The scale spans at least so much, that a flat flow looks flat."""

Flow = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One model's flow."""

    label: str
    bars: str
    ends: str
    """The first and the last value."""


def flow_lines(diagnosis: Diagnosis, width: int, *, plain: bool) -> list[Line]:
    """The submitted model, and the repaired one beneath it on the same scale; nothing of fewer
    than two layers. `width`: columns for the bars, ≥ 1. `plain`: without Unicode."""
    before = _relative([one.gradient.norm for one in diagnosis.layers])
    prescription = diagnosis.prescription
    repaired = {one.name: one for one in prescription.layers_after} if prescription else {}
    norms = [repaired[one.name].gradient_norm for one in diagnosis.layers if one.name in repaired]
    after = _relative(norms)
    sizes = [one for one in (*before, *after) if one]
    if len(before) < 2 or not sizes:
        return []
    low, high = min(sizes), max(sizes)
    low = min(low, high / LEAST_RANGE)
    return [
        Line(label, _bars(flow, width, low, high, plain=plain), _ends(flow))
        for label, flow in (("as submitted", before), ("prescribed", after))
        if any(flow)
    ]


def _relative(norms: Sequence[float | None]) -> Flow:
    """To the last layer's that is any."""
    last = next((one for one in reversed(norms) if one), None)
    return [None if one is None or last is None else one / last for one in norms]


def _bars(flow: Flow, width: int, low: float, high: float, *, plain: bool) -> str:
    blocks, nothing = (PLAIN, PLAIN_NOTHING) if plain else (BLOCKS, NOTHING)
    repeat = max(1, min(WIDEST, width // len(flow)))
    return "".join(
        repeat * (nothing if not value else blocks[_height(value, low, high, len(blocks))])
        for value in _columns(flow, width)
    )


def _height(value: float, low: float, high: float, steps: int) -> int:
    share = math.log(value / low) / math.log(high / low)
    return max(0, min(steps - 1, int(share * steps)))


def _columns(flow: Flow, width: int) -> Iterator[float | None]:
    """At most `width` values; of a stretch that shares a column the one furthest from 1."""
    count = min(width, len(flow))
    for number in range(count):
        stretch = flow[number * len(flow) // count : (number + 1) * len(flow) // count]
        yield max(stretch, key=lambda one: abs(math.log(one)) if one else math.inf)


def _ends(flow: Flow) -> str:
    first, last = ("–" if one is None else f"{one:.2g}" for one in (flow[0], flow[-1]))
    return f"{first} … {last}"
