"""Small, complete values to store: requests, analyses, a report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.domain.analysis import Analysis, Status
from service.domain.findings import Diagnosis, Finding, Severity, Verdict
from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    ModelFacts,
    ModelMeasurements,
    ParameterStatistics,
    Quantiles,
)
from service.domain.recommendations import Recommendation
from service.domain.report import Cost, Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.use_cases import new_id

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SPEC = {"input": {"shape": [8]}, "layers": [{"type": "Linear", "args": {"out_features": 4}}]}


class HeldClock:
    """Time stands still until told otherwise."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def queued(now: datetime, sha256: str = "ab" * 32, **labels: str) -> Analysis:
    request = AnalysisRequest(ModelRequest("spec", spec=SPEC), labels=labels)
    return Analysis(
        id=new_id(now),
        status=Status.QUEUED,
        created_at=now,
        request=request,
        labels=request.labels,
        model_format="spec",
        model_sha256=sha256,
    )


def layer(index: int, name: str, gain: float | None = 0.141) -> LayerMeasurements:
    return LayerMeasurements(
        index=index,
        name=name,
        op="linear",
        nonlinearity="sigmoid",
        normalization=None,
        residual=False,
        fan_in=256,
        fan_out=256,
        depth=index + 1,
        output_shape=(64, 256),
        activation=ActivationStatistics(0.5, 0.1, 0.51, 0.9, 0.0, 0.2, 0.0, 0.99),
        gradient=GradientStatistics(1e-9, 1e-6, 1e-8, gain, {"p05": 0.139, "p50": gain}),
        parameters=(ParameterStatistics(f"{name}.weight", (256, 256), 0.03, 1e-7, 1e-9, 0.1, 2.0),),
        spread={"gradient.gain": (0.139, 0.144)},
    )


def report(
    verdict: Verdict = Verdict.UNHEALTHY, layers: tuple[str, ...] = ("fc1", "fc2")
) -> Report:
    finding = Finding(
        "vanishing_gradient",
        Severity.ERROR,
        0.99,
        layers,
        "Gradients vanish",
        "fc1 receives 3.1e-11 of the gradient at fc2.",
        evidence={"total_gain": 3.1e-11},
        causes=("sigmoid saturates",),
    )
    return Report(
        facts=ModelFacts("torchscript", 12345, len(layers), True, "2.13.0", "cpu"),
        probe={"loss": "cross_entropy", "batch_size": 64},
        diagnosis=Diagnosis(verdict, 0.99, "static", "Gradients vanish.", (finding,)),
        recommendations=(
            Recommendation(
                "r1", "initializer", layers, "He", "why", ("vanishing_gradient",), {"gain": 1.41}
            ),
        ),
        prescription=None,
        model=ModelMeasurements(
            "cross_entropy",
            True,
            2.3,
            2.3026,
            Quantiles(0.1, 0.2, 0.3, 12),
            3e-11,
            1e-9,
            (64, 10),
            None,
        ),
        layers=tuple(layer(index, name) for index, name in enumerate(layers)),
        trial=None,
        cost=Cost(1.9, "cpu", 310.0, {"load": 0.1, "probe": 0.6}),
        notes=("a note",),
        passed=verdict is Verdict.HEALTHY,
    )
