"""`Engine` in memory: what the front door does with it is what is tested."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.domain.analysis import Analysis, Failure, Queue, Status
from service.domain.api_keys import ANYONE, LOCAL, Caller
from service.domain.comparison import Comparison, compare
from service.domain.errors import (
    AnalysisNotFound,
    AnalysisUnfinished,
    ArtifactNotFound,
    InvalidRequest,
    Unauthorized,
)
from service.domain.findings import Diagnosis, Finding, Severity, Suppressed, Verdict
from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    ModelFacts,
    ModelMeasurements,
    ParameterStatistics,
    Quantiles,
)
from service.domain.model_source import model_source
from service.domain.prescribed import patch_of, spec_of, weights_of
from service.domain.recommendations import Recommendation
from service.domain.report import Cost, Report
from service.domain.request import AnalysisRequest
from service.ports import LayerAt, LayerPage, Tally, WorkerFacts, WorkerSeen
from service.source import pytorch_source
from service.use_cases import Artifact, Backlog, Filter, Page, Readiness, Submitted

NAN = float("nan")
SICK = Finding(
    "vanishing_gradient",
    Severity.ERROR,
    0.99,
    ("fc1",),
    "Gradients vanish",
    "fc1 receives 3.1e-11 of the gradient at fc20.",
    {"total_gain": 3.1e-11, "profile": [1.0, NAN]},
    ("sigmoid saturates",),
)
LAYER = LayerMeasurements(
    index=0,
    name="fc1",
    op="linear",
    nonlinearity="sigmoid",
    normalization=None,
    residual=False,
    fan_in=64,
    fan_out=32,
    depth=1,
    output_shape=(64, 32),
    activation=ActivationStatistics(0.5, 0.1, 0.51, 0.9, 0.0, 0.25, 0.0, NAN),
    gradient=GradientStatistics(1e-9, 1e-8, 1e-7, 0.19, {"p50": 0.18}),
    parameters=(ParameterStatistics("fc1.weight", (32, 64), 0.1, 1e-9, 1e-11, 1e-8, None),),
    spread={"gradient.gain": (0.18, 0.2)},
)


def report(verdict: Verdict = Verdict.HEALTHY) -> Report:
    """A finished analysis' report."""
    healthy = verdict is Verdict.HEALTHY
    findings = () if healthy else (SICK,)
    return Report(
        facts=ModelFacts("spec", 2080, 1, True, "2.13.0", "cpu"),
        probe={"loss": "cross_entropy", "batch_size": 64},
        diagnosis=Diagnosis(
            verdict,
            0.99,
            "static",
            "All is well." if healthy else "Gradients vanish.",
            findings,
            () if healthy else (Suppressed(SICK, "known"),),
        ),
        recommendations=(
            Recommendation("r1", "clipping", (), "Clip", "Good practice.", (), {"max_norm": 1.0}),
        ),
        prescription=None,
        model=ModelMeasurements(
            "cross_entropy",
            True,
            2.31,
            2.3026,
            Quantiles(1.0, 1.1, 1.2, 12),
            0.5,
            0.1,
            (64, 10),
            None,
        ),
        layers=(LAYER,),
        trial=None,
        cost=Cost(1.9, "cpu", 310.0, {"probe": 0.6}),
        notes=("batch size 64",),
        passed=healthy,
    )


class FakeEngine:
    """Finishes what it is given as `outcome` says; None: never."""

    def __init__(self) -> None:
        self.outcome: Callable[[Analysis], Analysis] | None = succeed
        self.finish_after_looks = 0
        self.looks = 0
        self.submitted: list[AnalysisRequest] = []
        self.analyses: dict[str, Analysis] = {}
        self.files: dict[str, Artifact] = {}
        self.paths: dict[str, Path] = {}
        self.largest_chunk = 0
        self.ready = True
        self.error: Exception | None = None
        self.callers: dict[str, Caller] = {}
        self.others: dict[str, FakeEngine] = {}
        self.once: dict[str, str] = {}
        self.request_ids: list[str | None] = []

    def caller(self, token: str | None) -> Caller:
        if not self.callers:
            return ANYONE
        if token not in self.callers:
            raise Unauthorized("no such key")
        return self.callers[token or ""]

    def owned_by(self, owner: str) -> FakeEngine:
        return self if owner == LOCAL else self.others.setdefault(owner, FakeEngine())

    def submit_once(
        self, request: AnalysisRequest, key: str, *, request_id: str | None = None
    ) -> Submitted:
        if key in self.once:
            return Submitted(self.get(self.once[key]), True)
        analysis = self.submit(request, request_id=request_id)
        self.once[key] = analysis.id
        return Submitted(analysis, False)

    def submit(self, request: AnalysisRequest, *, request_id: str | None = None) -> Analysis:
        self.request_ids.append(request_id)
        if self.error is not None:
            raise self.error
        if request.model.artifact_id is not None:
            self.artifact(request.model.artifact_id)
        else:
            try:
                model_source(request.model, "spec")
            except InvalidRequest as error:
                raise error.within("/model") from error
        self.submitted.append(request)
        number = len(self.submitted)
        analysis = Analysis(
            id=f"a{number}",
            status=Status.QUEUED,
            created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
            request=request,
            labels=request.labels,
            model_format="spec",
            model_sha256="0" * 64,
            queue_position=0,
        )
        self.analyses[analysis.id] = analysis
        if self.outcome is not None and self.finish_after_looks == 0:
            self.analyses[analysis.id] = self.outcome(analysis)
            return analysis
        return analysis

    def get(self, analysis_id: str) -> Analysis:
        if self.error is not None:
            raise self.error
        if analysis_id not in self.analyses:
            raise AnalysisNotFound(f"no analysis {analysis_id}")
        return self.analyses[analysis_id]

    def head(self, analysis_id: str) -> Analysis:
        self.status(analysis_id)
        return replace(self.get(analysis_id), report=None)

    def status(self, analysis_id: str) -> Status:
        self.looks += 1
        analysis = self.get(analysis_id)
        if self.outcome is not None and self.looks >= self.finish_after_looks > 0:
            self.analyses[analysis_id] = self.outcome(analysis)
        return self.analyses[analysis_id].status

    def list(self, where: Filter, *, limit: int, cursor: str | None) -> Page:
        ids = sorted((i for i, a in self.analyses.items() if _shown(a, where)), reverse=True)
        rest = [i for i in ids if cursor is None or i < cursor]
        items = tuple(self.analyses[i] for i in rest[:limit])
        return Page(items, rest[limit - 1] if len(rest) > limit else None)

    def layers(
        self, analysis_id: str, *, after: int = -1, limit: int | None = None
    ) -> tuple[LayerMeasurements, ...]:
        found = self.get(analysis_id).report
        rest = [layer for layer in found.layers if layer.index > after] if found else []
        return tuple(rest[:limit])

    def compare(self, before: str, after: str) -> Comparison:
        both = self.get(before), self.get(after)
        if not all(one.status.final for one in both):
            raise AnalysisUnfinished("it goes on")
        return compare(*both)

    def history(
        self, layer: str, labels: Mapping[str, str], *, limit: int, cursor: str | None
    ) -> LayerPage:
        shown = Filter(status=Status.SUCCEEDED, labels=labels)
        page = self.list(shown, limit=limit, cursor=cursor)
        items = tuple(
            LayerAt(analysis, one)
            for analysis in page.items
            for one in (analysis.report.layers if analysis.report else ())
            if one.name == layer
        )
        return LayerPage(items, page.next_cursor)

    def repaired_spec(self, analysis_id: str) -> dict[str, Any]:
        return spec_of(self.get(analysis_id))

    def repairing_patch(self, analysis_id: str) -> tuple[dict[str, Any], ...]:
        return patch_of(self.get(analysis_id))

    def repaired_source(self, analysis_id: str) -> str:
        return pytorch_source(self.repaired_spec(analysis_id))

    def repaired_weights(self, analysis_id: str) -> Artifact:
        return self.artifact(weights_of(self.get(analysis_id)))

    def remove(self, analysis_id: str) -> bool:
        analysis = self.get(analysis_id)
        if analysis.status.final:
            del self.analyses[analysis_id]
            return False
        self.analyses[analysis_id] = replace(analysis, status=Status.CANCELLED)
        return True

    def answered(self, analysis: Analysis) -> None:
        if analysis.status.final and analysis.request.retain == "nothing":
            self.analyses.pop(analysis.id, None)

    def withdraw(self, artifact: Artifact) -> None:
        self.files.pop(artifact.id, None)

    def put_artifact(self, chunks: Iterable[bytes]) -> Artifact:
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            self.largest_chunk = max(self.largest_chunk, len(chunk))
            size += len(chunk)
            digest.update(chunk)
        artifact_id = f"sha256:{digest.hexdigest()}"
        new = Artifact(artifact_id, size, "torchscript", datetime.now(UTC))
        return self.files.setdefault(artifact_id, new)

    def artifact(self, artifact_id: str) -> Artifact:
        if artifact_id not in self.files:
            raise ArtifactNotFound(f"no artifact {artifact_id}")
        return self.files[artifact_id]

    def artifact_path(self, artifact_id: str) -> Path:
        return self.paths.get(self.artifact(artifact_id).id, Path(artifact_id))

    def delete_artifact(self, artifact_id: str) -> None:
        del self.files[self.artifact(artifact_id).id]

    def readiness(self) -> Readiness:
        return Readiness(self.ready, {"database": True, "workers": self.ready})

    def backlog(self, queue: Queue) -> Backlog:
        if queue is Queue.GPU:
            return Backlog(0, None)
        return Backlog(3, datetime.now(UTC) - timedelta(seconds=60), running=2)

    def workers(self) -> tuple[WorkerSeen, ...]:
        now = datetime.now(UTC)
        tally = Tally({"succeeded": 5, "failed: probe_timeout": 1, "again": 2}, {"1": 6}, 4.5)
        facts = WorkerFacts("host:1", (Queue.CPU,), "cpu", 4096)
        gone = WorkerFacts("host:2", (Queue.CPU, Queue.GPU), "NVIDIA H100", 81559)
        return (
            WorkerSeen(facts, now, now, True, tally),
            WorkerSeen(gone, now, now, False, Tally()),
        )


def _shown(analysis: Analysis, where: Filter) -> bool:
    return (
        where.status in (None, analysis.status)
        and where.verdict in (None, analysis.verdict)
        and where.model_sha256 in (None, analysis.model_sha256)
        and (where.labels or {}).items() <= dict(analysis.labels).items()
    )


def succeed(analysis: Analysis, verdict: Verdict = Verdict.HEALTHY) -> Analysis:
    """Succeeded, with this verdict."""
    return _final(
        analysis,
        Status.SUCCEEDED,
        verdict=verdict.value,
        passed=verdict is Verdict.HEALTHY,
        report=report(verdict),
    )


def fall_ill(analysis: Analysis) -> Analysis:
    """Succeeded, unhealthy."""
    return succeed(analysis, Verdict.UNHEALTHY)


def fail(analysis: Analysis) -> Analysis:
    """Failed."""
    error = Failure("model_raised", "The model raised an error", "ValueError: boom")
    return _final(analysis, Status.FAILED, error=error)


def cancel(analysis: Analysis) -> Analysis:
    """Cancelled."""
    return _final(analysis, Status.CANCELLED)


def _final(analysis: Analysis, status: Status, **more: Any) -> Analysis:
    at = analysis.created_at
    return replace(
        analysis, status=status, started_at=at, finished_at=at, queue_position=None, **more
    )
