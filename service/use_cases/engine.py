"""The use cases as the front door sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from service.domain.analysis import Analysis, Queue, Status
from service.domain.api_keys import Caller
from service.domain.comparison import Comparison
from service.domain.measurements import LayerMeasurements
from service.domain.request import AnalysisRequest
from service.ports import Artifact, Backlog, Filter, LayerPage, Page, WorkerSeen


@dataclass(frozen=True, slots=True)
class Readiness:
    """Can this server take and finish work?"""

    ready: bool
    checks: dict[str, bool]
    """database, workers."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of a request."""

    analysis: Analysis
    """The one that was made, now or before."""
    repeated: bool
    """The Idempotency-Key had made it before; nothing was done."""


class Engine(Protocol):
    """The use cases as the front door sees them, for one owner; `bootstrap` gives the real one."""

    def caller(self, token: str | None) -> Caller:
        """Who comes with this API key, or without any. Raises Unauthorized."""

    def owned_by(self, owner: str) -> Engine:
        """The same for another owner, for whom nobody else's analyses and files exist."""

    def submit(self, request: AnalysisRequest, *, request_id: str | None = None) -> Analysis:
        """Validate, store and dispatch. `request_id`: of the call, for the logs. Raises
        InvalidRequest, ArtifactNotFound, QueueFull, SandboxUnavailable, StorageFull."""

    def submit_once(
        self, request: AnalysisRequest, key: str, *, request_id: str | None = None
    ) -> Submitted:
        """As `submit`, unless this owner has used the Idempotency-Key before. Raises besides:
        IdempotencyConflict, IdempotencyInFlight."""

    def get(self, analysis_id: str) -> Analysis:
        """With report and queue position. Raises AnalysisNotFound."""

    def head(self, analysis_id: str) -> Analysis:
        """Without its report. Raises AnalysisNotFound."""

    def status(self, analysis_id: str) -> Status:
        """Cheap. Raises AnalysisNotFound."""

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        """Newest first."""

    def layers(
        self, analysis_id: str, *, after: int = -1, limit: int | None = None
    ) -> tuple[LayerMeasurements, ...]:
        """Every per-layer statistic of the layers behind index `after`, at most `limit` of them.
        Raises AnalysisNotFound."""

    def compare(self, before: str, after: str) -> Comparison:
        """What changed from one analysis to another. Raises AnalysisNotFound,
        AnalysisUnfinished."""

    def history(
        self, layer: str, labels: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> LayerPage:
        """A layer in past analyses that carry these labels, newest first. Raises InvalidRequest
        for a bad cursor."""

    def repaired_spec(self, analysis_id: str) -> dict[str, Any]:
        """Expanded. Raises AnalysisNotFound, AnalysisUnfinished, NoPrescription, SpecOnly."""

    def repairing_patch(self, analysis_id: str) -> tuple[dict[str, Any], ...]:
        """RFC 6902 operations on the submitted spec. Raises what `repaired_spec` does."""

    def repaired_source(self, analysis_id: str) -> str:
        """PyTorch source of the repaired model. Raises what `repaired_spec` does."""

    def repaired_weights(self, analysis_id: str) -> Artifact:
        """A safetensors file. Raises AnalysisNotFound, AnalysisUnfinished, NoPrescription,
        WeightsNotKept, ArtifactNotFound."""

    def remove(self, analysis_id: str) -> bool:
        """True: cancelled (was queued or running); False: deleted. Raises AnalysisNotFound."""

    def answered(self, analysis: Analysis) -> None:
        """The caller has been given this answer: when it is final, what was not to be retained
        is deleted."""

    def put_artifact(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once. Raises StorageFull, UnsupportedArtifact, ArtifactRejected."""

    def withdraw(self, artifact: Artifact) -> None:
        """Delete a file that was just put for an analysis that was refused, unless it was put
        again since or another analysis needs it."""

    def artifact(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""

    def artifact_path(self, artifact_id: str) -> Path:
        """Raises ArtifactNotFound."""

    def delete_artifact(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""

    def readiness(self) -> Readiness:
        """Database answers, schema current, a worker is up."""

    def backlog(self, queue: Queue) -> Backlog:
        """What waits in this queue and what of it is at work."""

    def workers(self) -> tuple[WorkerSeen, ...]:
        """Who is at work, and who was lately."""
