"""Reports that tests look at as pages, and a drawer that draws at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from api.report.drawing import Form
from service.domain.analysis import Analysis
from service.domain.findings import Verdict
from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    TimeSteps,
)
from service.domain.recommendations import Effect, LayerAfter, Prescription, Recommendation
from service.domain.report import Report
from tests.unit.api.fake_engine import SICK, fall_ill, report


def layer(index: int, name: str, norm: float, **changes: Any) -> LayerMeasurements:
    """One of a chain whose gradient is a tenth at every layer further down."""
    return LayerMeasurements(
        index=index,
        name=name,
        op="linear",
        nonlinearity="sigmoid",
        normalization=None,
        residual=False,
        fan_in=8,
        fan_out=8,
        depth=index + 1,
        output_shape=(4, 8),
        activation=ActivationStatistics(0.5, 0.1, 0.5, 0.9, 0.0, 0.25, 0.0, 0.9),
        gradient=GradientStatistics(norm / 3, norm, norm, 0.1, predicted_gain=0.1),
        spread={"gradient.norm": (norm / 2, norm * 2), "gradient.gain": (0.08, 0.12)},
        **changes,
    )


def sick_report(count: int = 4, name: str = "fc{}", fall: float = 10.0) -> Report:
    """Gradients fall `fall`-fold at each of `count` layers; cured by r1."""
    names = [name.format(index) for index in range(count)]
    layers = tuple(layer(i, one, fall ** (i - count + 1)) for i, one in enumerate(names))
    after = tuple(LayerAfter(one, 2.0, (1.0, 3.0), 1.0, 0.7, 0.0, 0.0) for one in names)
    ill = report(Verdict.UNHEALTHY)
    finding = replace(SICK, layers=tuple(names), title=f"Title of {names[0]}")
    effect = Effect(
        True,
        {"verdict": "unhealthy", "total_gain": 1e-3},
        {"verdict": "healthy", "total_gain": 1.0},
        ("vanishing_gradient",),
        (),
    )
    cure = Recommendation(
        "r1", "initializer", tuple(names), f"Draw {names[0]}", "Why.", (), {}, None,
        f"init('{names[0]}')", effect,
    )  # fmt: skip
    trial = {"before": {"loss": [2.3, 2.31]}, "after": {"loss": [2.3, 1.0, 0.1]}}
    prescription = Prescription(("r1",), "healthy", trial, {"layers": []}, layers_after=after)
    return replace(
        ill,
        diagnosis=replace(ill.diagnosis, findings=(finding,), summary=f"{names[0]} is sick."),
        layers=layers,
        facts=replace(ill.facts, layers=count),
        recommendations=(cure,),
        prescription=prescription,
        notes=(f"a note on {names[0]}",),
    )


def remembering(steps: int = 12) -> Report:
    """One recurrent layer."""
    told = TimeSteps(tuple(0.5**k for k in range(steps)), tuple(0.1 for _ in range(steps)))
    ill = sick_report(2)
    return replace(ill, layers=(replace(ill.layers[0], time_steps=told), ill.layers[1]))


def with_report(made: Report) -> Callable[[Analysis], Analysis]:
    """Ends with this report."""
    return lambda analysis: replace(fall_ill(analysis), report=made)


class Sketcher:
    """Draws at once: what was asked for is the picture."""

    def __init__(self) -> None:
        self.specs: list[dict[str, Any]] = []
        self.works = True

    async def draw(self, specs: Sequence[dict[str, Any]], form: Form) -> list[bytes | None]:
        self.specs += specs
        if not self.works:
            return [None for _ in specs]
        return [b"<svg></svg>" if form == "svg" else json.dumps(one).encode() for one in specs]

    async def close(self) -> None:
        pass
