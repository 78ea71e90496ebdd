"""An analysis: where it stands, and all that is known of it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from api.schemas.responses.diagnosis import DiagnosisOut
from api.schemas.responses.wire import JsonOrNull, Number, Out


class FailureOut(Out):
    """Why an analysis failed."""

    code: str = Field(examples=["model_raised"])
    """Stable."""
    title: str
    """The same in a few words."""
    detail: str
    """What happened."""


class EngineOut(Out):
    """What measured."""

    version: str
    """Of graddx."""
    torch: str | None
    """torch.__version__; null until a model was loaded."""
    device: str | None
    """cpu; null until a model was loaded."""


class ModelOut(Out):
    """The model that was analysed."""

    format: str | None
    """spec or torchscript; null until known."""
    sha256: str | None
    """Of the file; of a spec (and the id of its weights, when given, as `weights`) as JSON with
    sorted keys and without spaces; null until known."""
    parameters: int | None
    """Number of parameter elements; null until measured."""
    layers: int | None
    """Number of layers; null until measured."""


class BaselineOut(Out):
    """The analysis it was compared with."""

    id: str
    """Of the analysis."""


class CostOut(Out):
    """What the answer cost."""

    wall_seconds: Number
    """Seconds from claim to report, ≥ 0."""
    device: str
    """cpu."""
    peak_memory_mb: Number
    """Largest resident set of the child, MiB, > 0."""
    stages: dict[str, Number]
    """Seconds per stage: load, probe, diagnose, trial, recommend."""


class AnalysisHeadOut(Out):
    """An analysis without its result."""

    id: str
    """Opaque; sorts by creation."""
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """Where it stands."""
    stage: str | None
    """What a running analysis is doing: load, probe, diagnose, trial, recommend, verify."""
    percent: int | None
    """How far a running analysis is, 0 … 99: what the probe's process has done, not time; null
    otherwise."""
    queue_position: int | None
    """While queued: how many analyses are ahead."""
    created_at: datetime
    """UTC."""
    started_at: datetime | None
    """UTC; null while queued."""
    finished_at: datetime | None
    """UTC; null until final."""
    labels: dict[str, str]
    """The caller's own key-value pairs."""
    verdict: str | None
    """Of a succeeded analysis."""
    passed: bool | None
    """Nothing at or above `fail_on`, and a verdict that is not inconclusive; null until then."""
    error: FailureOut | None
    """Of a failed analysis."""
    model: ModelOut
    """What was analysed, as far as it is known."""


class AnalysisOut(AnalysisHeadOut):
    """An analysis, with its result when it succeeded."""

    engine: EngineOut
    """What made the measurements."""
    cached: bool
    """True when answered from an identical finished analysis."""
    notes: tuple[str, ...]
    """What the reader should know."""
    baseline: BaselineOut | None
    """The analysis it was compared with."""
    probe: JsonOrNull
    """The probe as used; null until succeeded."""
    cost: CostOut | None
    """null until succeeded."""
    diagnosis: DiagnosisOut | None
    """null until succeeded."""


class AnalysesOut(Out):
    """One page, newest first."""

    items: tuple[AnalysisHeadOut, ...]
    """Newest first."""
    next_cursor: str | None
    """For `cursor`; null on the last page."""


class ProgressOut(Out):
    """`data` of an event."""

    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    """Where it stands."""
    stage: str | None
    """What a running analysis is doing: load, probe, diagnose, trial, recommend, verify."""
    queue_position: int | None
    """While queued: how many analyses are ahead."""
    percent: int
    """Stages gone by, and within one what the probe's process has done, 0 … 100; it only grows, and
    is 100 when the analysis is final."""
    verdict: str | None
    """Of a succeeded analysis."""
    passed: bool | None
    """As in the analysis."""
