"""What a caller may ask of graddx. HTTP, CLI and tests come in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.domain.analysis import Analysis, Status
from service.domain.measurements import LayerMeasurements
from service.domain.request import AnalysisRequest
from service.ports import Artifact, Filter, Page


@dataclass(frozen=True, slots=True)
class Readiness:
    """Can this server take and finish work?"""

    ready: bool
    checks: dict[str, bool]
    """database, workers."""


class Engine(Protocol):
    """The use cases as the front door sees them; `bootstrap` gives the real one."""

    def submit(self, request: AnalysisRequest) -> Analysis:
        """Validate, store and dispatch. Raises InvalidRequest, ArtifactNotFound, QueueFull."""

    def get(self, analysis_id: str) -> Analysis:
        """With report and queue position. Raises AnalysisNotFound."""

    def status(self, analysis_id: str) -> Status:
        """Cheap. Raises AnalysisNotFound."""

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        """Newest first."""

    def layers(self, analysis_id: str) -> tuple[LayerMeasurements, ...]:
        """Every per-layer statistic. Raises AnalysisNotFound."""

    def remove(self, analysis_id: str) -> bool:
        """True: cancelled (was queued or running); False: deleted. Raises AnalysisNotFound."""

    def put_artifact(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once. Raises StorageFull, UnsupportedArtifact."""

    def artifact(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""

    def artifact_path(self, artifact_id: str) -> Path:
        """Raises ArtifactNotFound."""

    def delete_artifact(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""

    def readiness(self) -> Readiness:
        """Database answers, schema current, a worker is up."""
