"""The charts of a report, each made of what the analysis measured; one is left out where there is
nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from api.report.chart import Chart, Point, Series
from api.report.thinning import kept_places
from service.domain.measurements import LayerMeasurements, TrialRun
from service.domain.recommendations import LayerAfter
from service.domain.report import Report

BEFORE, AFTER, THEORY = "as submitted", "with the prescription", "theory"
SUBMITTED, REPAIRED = Series(BEFORE, "c1"), Series(AFTER, "c2")
PREDICTED = Series(THEORY, "c3", dashed=True)
LAYER = "layer"
WORTH_SHOWING = 0.01
"""Share of a layer that is saturated or dead, from which on there is something to see."""
MOST_CELLS = 3
"""Recurrent layers whose memory is drawn."""


def charts(report: Report) -> tuple[Chart, ...]:
    """In the order of the page: what the verdict is about comes first."""
    made = (one(report) for one in MAKERS)
    shown = [one for one in made if one is not None and one.drawn]
    over_time = any(one.code == "fading_memory" for one in report.diagnosis.findings)
    return tuple(sorted(shown, key=lambda one: one.name != "memory" if over_time else False))


def chart_named(report: Report, name: str) -> Chart | None:
    """One of them; None where this analysis has it not."""
    return next((one for one in charts(report) if one.name == name), None)


def gradient_flow(report: Report) -> Chart:
    """How much of the last layer's gradient reaches each layer."""
    layers = report.layers
    reference = next((n for one in reversed(layers) if (n := one.gradient.norm)), None)
    before = [
        _share(one.gradient.norm, one.spread.get("gradient.norm"), reference) for one in layers
    ]
    after = _after(report)
    base = next((n for one in reversed(after) if one and (n := one.gradient_norm)), None)
    repaired = [
        _share(one.gradient_norm, one.gradient_norm_range, base) if one else None for one in after
    ]
    theory = predicted_flow(layers)
    places = kept_places([one[0] for one in before])
    return Chart(
        name="gradient-flow",
        title="Gradient flow",
        reading="How much of the gradient at the last layer reaches each layer: training goes well "
        "where the line is flat, within a few powers of ten. Bands are the lowest and highest "
        "value over initializations and batches"
        + (
            "; theory is the product of the gains that it predicts for each layer."
            if theory
            else "."
        ),
        along=LAYER,
        upward="gradient norm, last layer = 1",
        series=_shown((SUBMITTED, True), (REPAIRED, any(repaired)), (PREDICTED, bool(theory))),
        points=(
            *_points(BEFORE, before, places),
            *_points(AFTER, repaired, places),
            *_points(THEORY, [(one, None, None) for one in theory], places if theory else ()),
        ),
        labels=_names(layers, places),
        mark_at=1.0,
        left_out=len(layers) - len(places),
    )


def predicted_flow(layers: Sequence[LayerMeasurements]) -> tuple[float, ...]:
    """What theory says `gradient_flow` should be: the product of the predicted gains of all later
    layers. Empty unless the layers are one chain that theory covers from the second on."""
    gains = [one.gradient.predicted_gain for one in layers[1:]]
    chain = all(one.depth == index and not one.residual for index, one in enumerate(layers, 1))
    if not gains or not chain or None in gains:
        return ()
    flow = [1.0]
    for gain in reversed(gains):
        flow.append(flow[-1] * (gain or 0.0))
    return tuple(reversed(flow))


def gains(report: Report) -> Chart:
    """What each layer by itself does to the gradient."""
    layers = report.layers
    measured = [
        (one.gradient.gain, *one.spread.get("gradient.gain", (None, None))) for one in layers
    ]
    after = [(one.gain, None, None) if one else None for one in _after(report)]
    theory = [(one.gradient.predicted_gain, None, None) for one in layers]
    covered = any(one[0] is not None for one in theory)
    places = kept_places([one[0] for one in measured])
    return Chart(
        name="gain",
        title="Gain of each layer",
        reading="The factor by which each layer by itself shrinks or enlarges the gradient that "
        "passes it: 1 keeps it, and over depth these factors multiply.",
        along=LAYER,
        upward="gain",
        series=_shown((SUBMITTED, True), (REPAIRED, any(after)), (PREDICTED, covered)),
        points=(
            *_points(BEFORE, measured, places),
            *_points(AFTER, after, places),
            *_points(THEORY, theory, places if covered else ()),
        ),
        labels=_names(layers, places),
        mark_at=1.0,
        left_out=len(layers) - len(places),
    )


def activation_scale(report: Report) -> Chart:
    """How large the outputs are."""
    layers = report.layers
    before = [
        (one.activation.rms, *one.spread.get("activation.rms", (None, None))) for one in layers
    ]
    after = [(one.activation_rms, None, None) if one else None for one in _after(report)]
    places = kept_places([one[0] for one in before])
    return Chart(
        name="activation-scale",
        title="Scale of activations",
        reading="Root mean square of each layer's output: signals that grow or fade on the way "
        "forward mostly do so to gradients on the way back, too.",
        along=LAYER,
        upward="activation, root mean square",
        series=_shown((SUBMITTED, True), (REPAIRED, any(after))),
        points=(*_points(BEFORE, before, places), *_points(AFTER, after, places)),
        labels=_names(layers, places),
        left_out=len(layers) - len(places),
    )


def saturation(report: Report) -> Chart | None:
    """How much of each layer is stuck; None where as good as nothing is, before or after."""
    layers, after = report.layers, _after(report)
    kinds: tuple[tuple[str, str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
        (
            "saturated",
            "c1",
            lambda one: one.activation.saturated_fraction,
            lambda one: one.saturated_fraction,
        ),
        (
            "dead units",
            "c4",
            lambda one: one.activation.dead_unit_fraction,
            lambda one: one.dead_unit_fraction,
        ),
    )
    measured = {
        Series(f"{word}, {when}", colour, dashed=when == AFTER): [
            (of(one), None, None) if one else None for one, of in zip(of_layers, read, strict=True)
        ]
        for word, colour, of_before, of_after in kinds
        for when, of_layers, read in (
            (BEFORE, layers, [of_before] * len(layers)),
            (AFTER, after, [of_after] * len(layers)),
        )
    }
    told = {
        series: values
        for series, values in measured.items()
        if any(one and one[0] is not None for one in values)
    }
    rows = zip(*told.values(), strict=True)
    worst = [max((one[0] or 0.0 for one in row if one), default=0.0) for row in rows]
    if max(worst, default=0.0) < WORTH_SHOWING:
        return None
    places = kept_places(worst)
    return Chart(
        name="saturation",
        title="Saturated and dead",
        reading="Share of each layer's outputs in the flat region of its nonlinearity, and share "
        "of its units that are 0 on the whole probe: neither passes a gradient on.",
        along=LAYER,
        upward="share, 0 … 1",
        series=tuple(told),
        points=tuple(
            point
            for series, values in told.items()
            for point in _points(series.name, values, places)
        ),
        labels=_names(layers, places),
        scale="linear",
        ceiling=1.0,
        left_out=len(layers) - len(places),
    )


def memory(report: Report) -> Chart | None:
    """How far back the recurrent layers remember; None without any."""
    cells = [one for one in report.layers if one.time_steps is not None][:MOST_CELLS]
    if not cells:
        return None
    lines: dict[Series, tuple[float | None, ...]] = {}
    for cell, colour in zip(cells, ("c1", "c4", "c5"), strict=False):
        assert cell.time_steps is not None
        lines[Series(f"{cell.name}: from the last step", colour)] = cell.time_steps.memory
        lines[Series(f"{cell.name}: in training", colour, dashed=True)] = cell.time_steps.gradient
    places = kept_places(max(lines.values(), key=len))
    steps = max(map(len, lines.values()))
    return Chart(
        name="memory",
        title="Memory over time steps",
        reading="Gradient norm at the input of each time step: of a gradient that stands at the "
        "last step's output alone, and of the loss. Steps where it is lost teach nothing.",
        along="time step",
        upward="gradient norm",
        series=tuple(lines),
        points=tuple(
            point
            for series, values in lines.items()
            for point in _points(
                series.name,
                [(one, None, None) for one in values],
                [place for place in places if place < len(values)],
            )
        ),
        left_out=steps - len(places),
    )


def loss_curves(report: Report) -> Chart | None:
    """The short training; None where there was none."""
    curves = _curves(report)
    if not curves:
        return None
    longest = max(map(len, curves.values()))
    repaired = AFTER in curves
    return Chart(
        name="loss",
        title="Short training",
        reading="Training loss, step by step, of a small task that any healthy network learns"
        + ("; it ends as soon as the task is learned." if repaired else ".")
        + (" The thin line is what knowing nothing costs." if _chance(report) else ""),
        along="step",
        upward="loss",
        series=_shown((SUBMITTED, BEFORE in curves), (REPAIRED, repaired)),
        points=tuple(
            point
            for name, losses in curves.items()
            for point in _points(name, [(one, None, None) for one in losses], range(len(losses)))
        )
        if longest
        else (),
        scale="linear",
        mark_at=_chance(report),
    )


MAKERS: tuple[Callable[[Report], Chart | None], ...] = (
    gradient_flow,
    gains,
    memory,
    activation_scale,
    saturation,
    loss_curves,
)
"""One function, one chart."""

Measured = tuple[float | None, float | None, float | None]


def _share(value: float | None, ends: tuple[float, float] | None, of: float | None) -> Measured:
    if not of:
        return value, *(ends or (None, None))
    low, high = ends or (None, None)
    return (
        None if value is None else value / of,
        None if low is None else low / of,
        None if high is None else high / of,
    )


def _after(report: Report) -> list[LayerAfter | None]:
    """The repaired model's layers, in the places of the submitted ones."""
    told = report.prescription.layers_after if report.prescription else ()
    by_name = {one.name: one for one in told}
    return [by_name.get(one.name) for one in report.layers]


def _curves(report: Report) -> dict[str, Sequence[float | None]]:
    trial = report.prescription.trial if report.prescription else None
    if trial is not None:
        return {BEFORE: trial["before"]["loss"], AFTER: trial["after"]["loss"]}
    if report.trial is not None and report.trial.runs:
        return {BEFORE: max(report.trial.runs, key=_progress).loss}
    return {}


def _progress(run: TrialRun) -> float:
    return run.progress


def _chance(report: Report) -> float | None:
    """Known of classes alone: other trials have tasks of their own."""
    trial = report.trial
    return report.model.chance_loss if trial is None or trial.task != "code_regression" else None


def _points(
    series: str, values: Sequence[Measured | None], places: Sequence[int]
) -> tuple[Point, ...]:
    told = ((place, values[place]) for place in places if place < len(values))
    return tuple(Point(place + 1, series, *one) for place, one in told if one is not None)


def _names(layers: Sequence[LayerMeasurements], places: Sequence[int]) -> dict[int, str]:
    return {place + 1: layers[place].name for place in places}


def _shown(*candidates: tuple[Series, bool]) -> tuple[Series, ...]:
    return tuple(series for series, shown in candidates if shown)
