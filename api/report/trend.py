"""One statistic of one layer over past analyses, as a page for people."""

from __future__ import annotations

from api.report.chart import Chart, Point, Series
from api.report.drawing import Drawer
from api.report.page import drawings, written
from api.schemas.responses import HistoryOut, HistoryPointOut

WIDE = 20.0
"""Values that differ by more stand on a logarithmic scale."""


async def trend_page(history: HistoryOut, labels: dict[str, str], drawer: Drawer) -> str:
    """The points of one page of the history, oldest first."""
    points = tuple(reversed(history.items))
    made = [trend(history, points)]
    shown = [one for one in made if one.drawn]
    return written(
        "trend.html",
        layer=history.layer,
        statistic=history.statistic,
        labels=labels,
        points=points,
        more=history.next_cursor is not None,
        drawing=next(iter(await drawings(shown, drawer)), None),
    )


def trend(history: HistoryOut, points: tuple[HistoryPointOut, ...]) -> Chart:
    """From the oldest on the left to the newest on the right."""
    sizes = [one.value for one in points if one.value]
    wide = bool(sizes) and min(sizes) > 0 and max(sizes) > WIDE * min(sizes)
    return Chart(
        name="trend",
        title="Trend",
        reading="Each analysis, from the oldest to the newest, with the lowest and highest value "
        "over its initializations and batches.",
        along="analysis",
        upward=history.statistic,
        series=(Series(history.layer, "c1"),),
        points=tuple(
            Point(at, history.layer, one.value, one.low, one.high)
            for at, one in enumerate(points, 1)
        ),
        labels={at: _known_as(one) for at, one in enumerate(points, 1)},
        scale="log" if wide else "linear",
    )


def _known_as(point: HistoryPointOut) -> str:
    """What a person knows it by."""
    return point.labels.get("commit", "")[:10] or point.created_at.strftime("%Y-%m-%d")
