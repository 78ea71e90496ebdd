"""The worker's loop in this process; killed and stopped ones stand in tests/integration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from service.domain.analysis import Analysis, Stage, Status
from service.domain.errors import ModelRaised
from service.domain.model_source import ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.ports import Prober, ProbeSession
from service.storage.analyses import SqlAnalyses
from service.storage.session import Database
from service.storage.tables import metadata
from service.use_cases import new_id
from service.worker import POLL_SECONDS, Worker

SPEC = {"input": {"shape": [8]}, "layers": [{"type": "Linear", "args": {"out_features": 4}}]}


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class NoProber:
    """Nothing here opens a session."""

    def open(self, source: ModelSource, plan: ProbePlan) -> AbstractContextManager[ProbeSession]:
        raise AssertionError

    def abort(self) -> None: ...


def _queued() -> Analysis:
    now = WallClock().now()
    request = AnalysisRequest(model=ModelRequest("spec", spec=SPEC))
    return Analysis(new_id(now), Status.QUEUED, now, request, model_format="spec")


def test_a_worker_outlives_a_database_that_is_away_and_rebuilds_the_model_from_the_row(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'graddx.sqlite3'}")
    analyses = SqlAnalyses(database, WallClock())
    job = _queued()
    pauses: list[float] = []
    sources: list[ModelSource] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 3:  # twice there was no table to look into
            with database.write() as connection:
                metadata.create_all(connection)
            analyses.add(job)
        return len(pauses) < 5

    def analyse(
        request: AnalysisRequest,
        source: ModelSource,
        prober: Prober,
        on_stage: Callable[[Stage], None],
    ) -> Report:
        sources.append(source)
        raise ModelRaised("no")

    Worker("w1", analyses, NoProber(), analyse, wait, lease_seconds=15, discard=lambda: None).run()
    assert pauses == [0.0, POLL_SECONDS, POLL_SECONDS, 0.0, POLL_SECONDS]
    (source,) = sources
    assert isinstance(source, SpecSource)
    assert source.architecture.submitted == SPEC
    failed = analyses.get(job.id)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.code == "model_raised"
    database.close()
