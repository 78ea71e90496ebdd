"""An analysis: the one row that is the truth about a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from service.domain.api_keys import LOCAL
from service.domain.report import Report
from service.domain.request import AnalysisRequest


class Status(StrEnum):
    """Where an analysis stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when nothing will change any more."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED, Status.SUCCEEDED}),
    Status.RUNNING: frozenset({Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""Allowed moves. running → running is a later attempt claiming over an expired lease;
queued → succeeded is an answer copied from an identical finished analysis."""


class Queue(StrEnum):
    """What kind of worker an analysis waits for."""

    CPU = "cpu"
    GPU = "gpu"


class Stage(StrEnum):
    """What a running analysis is doing."""

    LOAD = "load"
    PROBE = "probe"
    DIAGNOSE = "diagnose"
    TRIAL = "trial"
    RECOMMEND = "recommend"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an analysis failed."""

    code: str
    """A stable code of `service.domain.errors`."""
    title: str
    """The same in a few words."""
    detail: str
    """What happened, one or two sentences."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis as stored."""

    id: str
    """Opaque, sortable by creation."""
    status: Status
    """Where it stands."""
    created_at: datetime
    """UTC."""
    request: AnalysisRequest
    """What the caller asked, defaults filled in."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The caller's own key-value pairs."""
    owner: str = LOCAL
    """Who alone can see it."""
    cached: bool = False
    """True: copied from an identical analysis that had succeeded before."""
    started_at: datetime | None = None
    """UTC, of the last attempt; None while queued."""
    finished_at: datetime | None = None
    """UTC; None until final."""
    attempt: int = 0
    """How many times a worker has claimed it."""
    queue: Queue = Queue.CPU
    """What kind of worker it waits for."""
    request_id: str | None = None
    """Of the call that asked for it, so that one word finds it in every log."""
    stage: Stage | None = None
    """What the running attempt is doing."""
    percent: int | None = None
    """How far the running attempt is, 0 … 99 (`service.domain.progress`)."""
    model_format: str | None = None
    """spec, torchscript, exported_program or keras."""
    model_sha256: str | None = None
    """Digest of the model: of the file, or of canonical JSON of the spec and the weights' id."""
    verdict: str | None = None
    """Of a succeeded analysis."""
    passed: bool | None = None
    """Of a succeeded analysis: nothing at or above `fail_on`, verdict not inconclusive."""
    error: Failure | None = None
    """Of a failed analysis."""
    report: Report | None = None
    """Of a succeeded analysis; None in lists."""
    queue_position: int | None = None
    """While queued: how many analyses are ahead of it."""
