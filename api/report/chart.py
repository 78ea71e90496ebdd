"""One chart: its points, the table that says the same, and what Vega-Lite is told to draw."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

WIDTH, HEIGHT = 760, 260
"""Of the plotting area, px; a page scales it."""
NAMED_STEPS = 24
"""Up to so many steps are labelled by their names, each with a dot; more by their numbers."""
LABEL_WIDTH = 110
"""Longest label of a step, px."""
MOST_TICKS = 9
FACTORS = ((8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)), (200.0, (1.0, 2.0, 5.0)))
"""A logarithmic axis whose ends differ by less than the one has the others times powers of ten as
ticks."""
FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
"""Of one width on every machine: where a legend's words end is decided when it is drawn."""
GAPS = "break-paths-filter-domains"
LEGEND = {
    "title": None,
    "orient": "top",
    "symbolType": "stroke",
    "symbolSize": 320,
    "symbolStrokeWidth": 2.5,
    "symbolOpacity": 1,
    "columnPadding": 24,
}

Palette = dict[str, str]
FILE: Palette = {
    "ink": "#1f2933",
    "quiet": "#52606d",
    "line": "#d9dee4",
    "paper": "#ffffff",
    "c1": "#c2410c",
    "c2": "#0f766e",
    "c3": "#64748b",
    "c4": "#7c3aed",
    "c5": "#b45309",
    "c6": "#0369a1",
}
"""For a file that may end up anywhere. c1 and c2 differ in lightness, too; series differ in dash
and shape as well."""
PAGE: Palette = {name: f"var(--{name})" for name in FILE}
"""Colours that the page's own style sheet decides, by day and by night."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    colour: str
    """A name of the palette."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a series. None: not finite, or it does not apply; then it is not drawn."""

    at: int
    """Place on the horizontal axis, from 1."""
    series: str
    value: float | None
    low: float | None = None
    """Lowest over seeds and batches."""
    high: float | None = None
    """Highest over seeds and batches."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, and what is told beside it."""

    name: str
    """Of its address: letters and hyphens."""
    title: str
    reading: str
    """How to read it, in a sentence or two."""
    along: str
    """What the horizontal axis counts."""
    upward: str
    """What the vertical axis measures, with its unit."""
    series: tuple[Series, ...]
    points: tuple[Point, ...]
    labels: dict[int, str] = field(default_factory=dict)
    """Names of the places on the horizontal axis, where they have any."""
    scale: Literal["log", "linear"] = "log"
    mark_at: float | None = None
    """Height of a thin line to compare with."""
    ceiling: float | None = None
    """Upper end of a linear scale from 0; None: as the points want it."""
    left_out: int = 0
    """Places that are neither drawn nor in the table, because there are too many."""

    def drawable(self, value: float | None) -> bool:
        """A logarithmic scale has no place for 0."""
        return value is not None and math.isfinite(value) and (self.scale == "linear" or value > 0)

    @property
    def drawn(self) -> tuple[Point, ...]:
        """Points that have a place in the picture."""
        return tuple(one for one in self.points if self.drawable(one.value))

    @property
    def zeros(self) -> int:
        """Points that a logarithmic scale cannot show."""
        return sum(1 for one in self.points if one.value == 0 and self.scale == "log")

    def table(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Heads and rows: everything that is drawn, as text."""
        named = (self.along, "name") if self.labels else (self.along,)
        cells: dict[int, dict[str, str]] = {}
        for one in self.points:
            cells.setdefault(one.at, {})[one.series] = _told(one)
        rows = (
            (
                str(at),
                *((self.labels.get(at, ""),) if self.labels else ()),
                *(row.get(series.name, "–") for series in self.series),
            )
            for at, row in sorted(cells.items())
        )
        return (*named, *(one.name for one in self.series)), tuple(rows)


def number(value: float | None) -> str:
    """Three digits, and a dash for none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _told(point: Point) -> str:
    if point.low is None or point.high is None:
        return number(point.value)
    return f"{number(point.value)} ({number(point.low)} … {number(point.high)})"


def specification(chart: Chart, palette: Palette) -> dict[str, Any]:
    """As Vega-Lite. What comes from the model stands among the data alone, never in what Vega
    reads as an expression."""
    places = sorted({one.at for one in chart.points})
    named = bool(chart.labels) and len(places) <= NAMED_STEPS
    along = _along(chart, named)
    bands = [one for one in chart.drawn if chart.drawable(one.low) and chart.drawable(one.high)]
    layers: list[dict[str, Any]] = []
    if chart.mark_at is not None and chart.drawable(chart.mark_at):
        layers.append(_mark(chart.mark_at, palette))
    if bands:
        layers.append(_band(chart, bands, along, named, palette))
    dashed = {one.name for one in chart.series if one.dashed}
    dots = len(places) <= 2 * NAMED_STEPS
    for of, dotted in ((dashed, False), ({one.name for one in chart.series} - dashed, dots)):
        points = [one for one in chart.points if one.series in of]
        if any(chart.drawable(one.value) for one in points):
            layers.append(_lines(chart, points, along, named, palette, dotted=dotted))
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": HEIGHT,
        "layer": layers,
        "config": _config(palette),
    }


def _rows(chart: Chart, points: Sequence[Point], named: bool) -> dict[str, Any]:
    return {
        "values": [
            {
                "at": f"{one.at} {chart.labels.get(one.at, '')}" if named else one.at,
                "series": one.series,
                "value": one.value if chart.drawable(one.value) else None,
                "low": one.low,
                "high": one.high,
            }
            for one in points
        ]
    }


def _along(chart: Chart, named: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": chart.along, "labelLimit": LABEL_WIDTH, "grid": False}
    if named:
        return {
            "field": "at",
            "type": "ordinal",
            "sort": None,
            "axis": axis | {"labelAngle": -40},
        }
    return {
        "field": "at",
        "type": "quantitative",
        "scale": {"zero": False, "nice": False},
        "axis": axis | {"format": "d", "tickMinStep": 1, "tickCount": 12},
    }


def _upward(chart: Chart, of: str) -> dict[str, Any]:
    scale: dict[str, Any] = {"type": chart.scale, "zero": False}
    axis: dict[str, Any] = {"title": chart.upward, "tickCount": 6}
    if chart.ceiling is not None:
        scale = {"type": chart.scale, "domain": [0, chart.ceiling]}
    elif chart.scale == "log":
        low, high = _ends(chart)
        scale |= {"domain": [low, high], "nice": False}
        axis |= {"values": _ticks(low, high), "format": "~e" if high > 1e4 * low else "~g"}
    return {"field": of, "type": "quantitative", "scale": scale, "axis": axis}


def _ends(chart: Chart) -> tuple[float, float]:
    """Of a logarithmic axis: everything that is drawn, with a margin."""
    told = [each for one in chart.drawn for each in (one.value, one.low, one.high)]
    values = [each for each in (*told, chart.mark_at) if each is not None and each > 0]
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.05, 1.1)
    return max(low / margin, sys.float_info.min), min(high * margin, sys.float_info.max)


def _ticks(low: float, high: float) -> list[float]:
    """Of a logarithmic axis: powers of ten, not too many; of a short one the 2 and 5 between."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / MOST_TICKS))
    factors = next((each for within, each in FACTORS if high < within * low), (1.0,))
    steps = range(first - first % stride, last + 1, stride)
    ticks = [factor * 10.0**step for step in steps for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def _by_series(chart: Chart, palette: Palette) -> dict[str, Any]:
    names = [one.name for one in chart.series]
    return {
        "field": "series",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": names, "range": [palette[one.colour] for one in chart.series]},
        "legend": LEGEND,
    }


def _dashes(chart: Chart) -> dict[str, Any]:
    names = [one.name for one in chart.series]
    dashes = [[5, 4] if one.dashed else [1, 0] for one in chart.series]
    return {
        "field": "series",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": names, "range": dashes},
        "legend": LEGEND,
    }


def _lines(
    chart: Chart,
    points: Sequence[Point],
    along: dict[str, Any],
    named: bool,
    palette: Palette,
    *,
    dotted: bool,
) -> dict[str, Any]:
    point = {"filled": True, "size": 34} if dotted else False
    return {
        "data": _rows(chart, points, named),
        # A line is broken where there is nothing to show.
        "mark": {"type": "line", "strokeWidth": 2, "point": point, "invalid": GAPS},
        "encoding": {
            "x": along,
            "y": _upward(chart, "value"),
            "color": _by_series(chart, palette),
            "strokeDash": _dashes(chart),
        },
    }


def _band(
    chart: Chart, bands: Sequence[Point], along: dict[str, Any], named: bool, palette: Palette
) -> dict[str, Any]:
    return {
        "data": _rows(chart, bands, named),
        "mark": {"type": "area", "opacity": 0.22},
        "encoding": {
            "x": along,
            "y": _upward(chart, "low"),
            "y2": {"field": "high"},
            "color": _by_series(chart, palette),
        },
    }


def _mark(height: float, palette: Palette) -> dict[str, Any]:
    return {
        "data": {"values": [{"height": height}]},
        "mark": {"type": "rule", "color": palette["quiet"], "strokeDash": [2, 3]},
        "encoding": {"y": {"field": "height", "type": "quantitative"}},
    }


def _config(palette: Palette) -> dict[str, Any]:
    words = {"labelColor": palette["quiet"], "titleColor": palette["ink"], "labelFontSize": 12}
    return {
        # The table says the same to a screen reader, in order.
        "aria": False,
        "background": palette["paper"],
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **words,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "gridColor": palette["line"],
            "domainColor": palette["line"],
            "tickColor": palette["line"],
        },
        "legend": {**words, "labelLimit": 320},
    }
