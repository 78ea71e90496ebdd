"""One statistic of one layer over past analyses, a line each, the newest last."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from graddx.cli.human import clean
from graddx.client import Client
from graddx.comparison import HistoryPoint

BAR = 24
"""Columns of the longest bar."""


def past(
    client: Client, layer: str, statistic: str, labels: dict[str, str], most: int
) -> list[HistoryPoint]:
    """The newest `most` points, the oldest of them first. Raises ApiError, ConnectionFailed."""
    newest = islice(client.layer_history(layer, statistic, labels=labels), most)
    return list(reversed(list(newest)))


def told(points: Sequence[HistoryPoint]) -> str:
    """A table: when, verdict, value with its spread, a bar, labels."""
    largest = max((abs(one.value) for one in points if one.value is not None), default=0.0)
    return "".join(_line(one, largest) + "\n" for one in points)


def _line(one: HistoryPoint, largest: float) -> str:
    when = f"{one.created_at:%Y-%m-%d %H:%M}" if one.created_at else ""
    value = "–" if one.value is None else f"{one.value:.3g}"
    spread = "" if None in (one.low, one.high) else f"({one.low:.3g} … {one.high:.3g})"
    share = abs(one.value) / largest if one.value is not None and largest else 0.0
    labels = " ".join(f"{key}={text}" for key, text in one.labels.items())
    bar = "#" * round(BAR * share)
    line = f"{when:16}  {one.verdict or '':12}  {value:>9} {spread:24}  {bar:{BAR}}  {labels}"
    return clean(line.rstrip())
