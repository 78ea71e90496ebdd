"""The doors of the engine, as Protocols. Adapters live in storage, sandbox and dispatch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from service.domain.analysis import Analysis, Failure, Queue, Status
from service.domain.api_keys import ApiKey
from service.domain.measurements import LayerMeasurements, Measurements, ModelFacts, Trial
from service.domain.model_source import ModelSource
from service.domain.probe_plan import Look, ProbePlan
from service.domain.progress import Progress
from service.domain.report import Report


@dataclass(frozen=True, slots=True)
class Filter:
    """Which analyses a list shows."""

    status: Status | None = None
    verdict: str | None = None
    labels: Mapping[str, str] | None = None
    model_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first."""

    items: tuple[Analysis, ...]
    next_cursor: str | None
    """Opaque; None on the last page."""


@dataclass(frozen=True, slots=True)
class LayerAt:
    """A layer as one analysis has measured it."""

    analysis: Analysis
    """Without its report."""
    layer: LayerMeasurements


@dataclass(frozen=True, slots=True)
class LayerPage:
    """One page of a layer's history, newest first."""

    items: tuple[LayerAt, ...]
    next_cursor: str | None
    """Opaque; None on the last page."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to one attempt; every later write is fenced by it."""

    analysis: Analysis
    attempt: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file."""

    id: str
    """"sha256:" and 64 hexadecimal digits."""
    size: int
    """Bytes."""
    format: str
    """torchscript, exported_program, safetensors, npz or unknown; told by content."""
    created_at: datetime
    upload: str = field(default="", compare=False)
    """Names the last time that this content was sent."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be done."""

    waiting: int
    """Queued analyses."""
    oldest: datetime | None
    """When the one that waits longest was asked for, UTC; None when nothing waits."""
    running: int = 0
    """Claimed analyses."""


PROBE_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Upper bounds by which the seconds of attempts are counted."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A worker as it announces itself."""

    name: str
    """Host and process id; stored with what it claims."""
    queues: tuple[Queue, ...]
    """What it takes from."""
    device: str
    """"cpu", or the name of its GPU."""
    memory_mb: int
    """What a model may use on that device, MiB."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a worker has done since it started."""

    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Attempts by what became of them: succeeded, "failed: CODE", handed back, abandoned, too late;
    and "again", those that were not the first on their analysis."""
    seconds_within: Mapping[str, int] = field(default_factory=dict)
    """Attempts by the smallest bound of PROBE_SECONDS that holds their seconds."""
    seconds: float = 0.0
    """Of all attempts together."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker as others know it."""

    facts: WorkerFacts
    started_at: datetime
    """UTC."""
    seen_at: datetime
    """When it last said that it is there, UTC."""
    up: bool
    """It said so lately."""
    tally: Tally


@dataclass(frozen=True, slots=True)
class Once:
    """An Idempotency-Key with what it stands for."""

    key: str
    """The owner's word for one request."""
    request_sha256: str
    """Digest of the request: the same key with another one is a conflict."""


class AnalysisRepository(Protocol):
    """Analyses and their layer statistics. Every call is one transaction."""

    def owned_by(self, owner: str) -> AnalysisRepository:
        """The same seen by one owner, for whom nobody else's analyses exist."""

    def add(
        self,
        analysis: Analysis,
        *,
        question: str | None = None,
        copied_from: str | None = None,
        queue_limit: int | None = None,
        once: Once | None = None,
    ) -> str:
        """Store a new analysis, queued or with the answer of the one it is copied from; returns its
        id, or that of the analysis that `once` made before. `question`: digest of what decides the
        answer. Raises ArtifactNotFound when a file it refers to is gone, AnalysisNotFound when the
        one to copy is, QueueFull, IdempotencyConflict, IdempotencyInFlight."""

    def made_by(self, once: Once) -> str | None:
        """Id of the analysis that this key has made. Raises IdempotencyConflict."""

    def answer_to(self, question: str) -> str | None:
        """Id of the newest analysis that succeeded and answers this question."""

    def get(self, analysis_id: str) -> Analysis:
        """The analysis with its report, if any. Raises AnalysisNotFound."""

    def head(self, analysis_id: str) -> Analysis:
        """The analysis without its report. Raises AnalysisNotFound."""

    def status(self, analysis_id: str) -> Status:
        """Only the status (cheap: waiting callers ask often). Raises AnalysisNotFound."""

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        """Newest first, without reports. Raises InvalidRequest for a bad cursor."""

    def layers(
        self, analysis_id: str, *, after: int = -1, limit: int | None = None
    ) -> tuple[LayerMeasurements, ...]:
        """Layer statistics in order, from the one behind index `after` on, at most `limit`; empty
        until succeeded. Raises AnalysisNotFound."""

    def history(
        self, layer: str, labels: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> LayerPage:
        """The layer of this name in every analysis that succeeded and carries these labels, newest
        first. Raises InvalidRequest for a bad cursor."""

    def backlog(self, queue: Queue | None = None) -> Backlog:
        """What waits and what is at work, in one queue or in all."""

    def claim(
        self, worker: str, *, lease_seconds: float, queues: Collection[Queue] | None = None
    ) -> Claim | None:
        """Take the oldest analysis that is queued or whose lease ran out; None: nothing to do.
        `queues`: only of these."""

    def claim_this(
        self,
        analysis_id: str,
        worker: str,
        *,
        lease_seconds: float,
        silent_since: datetime | None = None,
    ) -> Claim | None:
        """Take this analysis if it is queued, its lease ran out, or its lease is still the one
        that was seen before (`silent_since`); None: somebody has it, or it is final."""

    def lease(self, analysis_id: str) -> datetime | None:
        """Until when somebody holds this analysis; None: nobody does."""

    def overdue(
        self, queue: Queue, *, seconds: float, waiting: bool, limit: int
    ) -> tuple[str, ...]:
        """Analyses that nobody was told of for so long and whose lease ran out or, if asked for,
        that wait. From now on they count as told of."""

    def heartbeat(self, claim: Claim, *, lease_seconds: float, progress: Progress) -> bool:
        """Extend the lease and tell how far it is; False: the claim is lost or cancelled, stop."""

    def release(self, claim: Claim) -> bool:
        """running → queued: a worker that stops hands back; False: the claim was lost."""

    def succeed(self, claim: Claim, report: Report) -> bool:
        """Store the result; False: the claim was lost, nothing was written."""

    def fail(self, claim: Claim, failure: Failure) -> bool:
        """Store the failure; False: the claim was lost, nothing was written."""

    def cancel(self, analysis_id: str) -> Status:
        """queued or running → cancelled; returns the status now. Raises AnalysisNotFound."""

    def delete(self, analysis_id: str) -> None:
        """Remove a final analysis and its layers. Raises AnalysisNotFound."""

    def ready(self) -> bool:
        """True when the database answers and its schema is current."""


class ArtifactStore(Protocol):
    """Content-addressed files of one owner."""

    def owned_by(self, owner: str) -> ArtifactStore:
        """The files of another owner."""

    def put(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once; the same content gives the same id. Raises StorageFull."""

    def get(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""

    def path(self, artifact_id: str) -> Path:
        """Where the content lies. Raises ArtifactNotFound."""

    def delete(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""

    def withdraw(self, artifact: Artifact) -> None:
        """Delete a file that was just put, unless it was put again since or is needed: by an
        analysis that goes on, or one that retains its files."""

    def discard(self) -> None:
        """Delete every file that a final analysis does not retain, unless it was put again since
        or is needed. What cannot be deleted is logged and tried again the next time."""


class ApiKeyRepository(Protocol):
    """API keys. Every call is one transaction."""

    def add(self, key: ApiKey) -> None:
        """Store a new key."""

    def find(self, key_id: str) -> ApiKey | None:
        """The key with this id, whatever its state."""

    def list(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""

    def any(self) -> bool:
        """Whether a key was ever made and not forgotten."""

    def revoke(self, key_id: str) -> bool:
        """From now on it opens nothing; False: there is no such key, or it was revoked before."""

    def forget(self, key_id: str) -> bool:
        """Remove a revoked key's row; False: there is no such key, or it is not revoked."""


class WorkerRegistry(Protocol):
    """Who is at work. Every call is one transaction."""

    def announce(self, facts: WorkerFacts) -> None:
        """This worker is there, and has done nothing yet."""

    def seen(self, name: str, tally: Tally) -> None:
        """It is still there."""

    def leave(self, name: str, tally: Tally) -> None:
        """It ends now; its figures stay a while."""

    def all(self) -> tuple[WorkerSeen, ...]:
        """Who is there and who was, in the order of their names."""

    def up(self, queue: Queue | None = None) -> int:
        """How many are there that take from this queue, or from any."""


class Dispatcher(Protocol):
    """Tells workers that there is work; carries only the id."""

    def start(self) -> None:
        """Begin to supervise or connect."""

    def dispatch(self, analysis_id: str, queue: Queue) -> None:
        """Wake a worker of this queue. Losing the message only delays: the row is the truth."""

    def stop(self) -> None:
        """Let workers finish or hand back what they hold, then return."""

    def workers_alive(self) -> int:
        """How many workers are up."""


class ProbeSession(Protocol):
    """One model, loaded once in one child."""

    @property
    def facts(self) -> ModelFacts:
        """What loading told."""

    def measure(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        after_steps: int = 0,
        look: Look | None = None,
        seconds: float | None = None,
    ) -> Measurements:
        """Probe the model as changed; `look`: less of it than the plan says. Raises ChangeRefused,
        also when it has not ended in so many seconds, and ProbeFailure."""

    def trial(
        self,
        changes: tuple[Mapping[str, Any], ...] = (),
        *,
        rates: Mapping[str, float] | None = None,
        seconds: float | None = None,
    ) -> Trial:
        """Train the model as changed for plan.trial_steps. `rates`: optimizer → the one rate it is
        tried at, where the plan names no optimizer; None: the usual optimizers and rates. Raises
        ChangeRefused, also when it has not ended in so many seconds, and ProbeFailure."""

    def export(self, changes: tuple[Mapping[str, Any], ...] = ()) -> bytes:
        """The weights as changed, a safetensors file. Raises ProbeFailure."""

    def peak_memory_mb(self) -> float | None:
        """Largest resident set of the child so far, MiB."""


class Prober(Protocol):
    """Opens sessions."""

    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> AbstractContextManager[ProbeSession]:
        """Load the model in a fresh child. `tell`: told now and then, while an ask is done, how
        much of it is, 0 … 1, growing. Raises ProbeFailure, SandboxUnavailable."""


class Clock(Protocol):
    """Time, so that tests can hold it."""

    def now(self) -> datetime:
        """UTC."""
