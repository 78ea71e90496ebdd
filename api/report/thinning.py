"""Which of very many places are drawn: so few that a picture can show them, and so chosen that it
looks the same."""

from __future__ import annotations

from collections.abc import Sequence

MOST_PLACES = 240
"""Drawn, and listed in a chart's table, at most; more are closer together than three pixels."""


def kept_places(values: Sequence[float | None], most: int = MOST_PLACES) -> tuple[int, ...]:
    """Indices to keep, in order: the first, the last, and of every stretch between them the lowest
    and the highest value, so that no peak is lost. All of them where they are few."""
    count = len(values)
    if count <= most:
        return tuple(range(count))
    stretches = (most - 2) // 2
    kept = {0, count - 1}
    for number in range(stretches):
        begin = 1 + number * (count - 2) // stretches
        end = 1 + (number + 1) * (count - 2) // stretches
        kept |= _extremes(values, range(begin, end))
    return tuple(sorted(kept))


def _extremes(values: Sequence[float | None], stretch: range) -> set[int]:
    known = [(value, index) for index in stretch if (value := values[index]) is not None]
    return {min(known)[1], max(known)[1]} if known else {stretch[0]}
