"""The worker's loop in this process; killed and stopped ones stand in tests/integration."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.domain.analysis import Analysis, Stage, Status
from service.domain.errors import ModelRaised
from service.domain.model_source import ModelSource, SpecSource
from service.domain.probe_plan import ProbePlan
from service.domain.progress import Progress, progress
from service.domain.report import Report
from service.domain.request import AnalysisRequest, ModelRequest
from service.ports import Prober, ProbeSession
from service.storage.analyses import SqlAnalyses
from service.storage.session import Database
from service.storage.tables import metadata
from service.use_cases import new_id
from service.worker import POLL_SECONDS, Outcome, Worker

SPEC = {"input": {"shape": [8]}, "layers": [{"type": "Linear", "args": {"out_features": 4}}]}


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class NoProber:
    """Nothing here opens a session."""

    def __init__(self) -> None:
        self.prepared: list[ModelSource] = []

    def prepare(self, source: ModelSource, plan: ProbePlan) -> None:
        self.prepared.append(source)

    def open(
        self, source: ModelSource, plan: ProbePlan, tell: Callable[[float], None]
    ) -> AbstractContextManager[ProbeSession]:
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
        tell: Callable[[Progress], None],
    ) -> Report:
        # What has to be there first is waited for on nobody's budget.
        assert no_prober.prepared == [source]
        sources.append(source)
        raise ModelRaised("no")

    no_prober = NoProber()
    Worker("w1", analyses, no_prober, analyse, wait, lease_seconds=15, discard=lambda: None).run()
    assert pauses == [0.0, POLL_SECONDS, POLL_SECONDS, 0.0, POLL_SECONDS]
    (source,) = sources
    assert isinstance(source, SpecSource)
    assert source.architecture.submitted == SPEC
    failed = analyses.get(job.id)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.code == "model_raised"
    database.close()


LEASE = 0.6


class Told:
    """A worker that is told what to do, and the database that it shares with others."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.database = Database(f"sqlite:///{folder / 'graddx.sqlite3'}")
        with self.database.write() as connection:
            metadata.create_all(connection)
        self.analyses = SqlAnalyses(self.database, WallClock())
        self.job = _queued()
        self.analyses.add(self.job)
        self.asked = 0
        self.noted: list[str] = []
        self.worker = Worker(
            "w1",
            more.pop("analyses", self.analyses),
            NoProber(),
            self._analyse,
            lambda _: True,
            lease_seconds=LEASE,
            discard=lambda: None,
            note=lambda became, _: self.noted.append(became),
        )

    def _analyse(
        self,
        request: AnalysisRequest,
        source: ModelSource,
        prober: Prober,
        tell: Callable[[Progress], None],
    ) -> Report:
        self.asked += 1
        raise ModelRaised("no")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.database.close()


def test_what_is_told_twice_is_done_once(told: Told) -> None:
    for again in (False, True):
        assert told.worker.work_on(told.job.id, again=again) is Outcome.ENDED
    assert (told.asked, told.noted) == (1, ["failed: model_raised"])


def test_what_somebody_has_is_left_to_them_while_their_heart_beats(told: Told) -> None:
    claim = told.analyses.claim("other", lease_seconds=LEASE)
    assert claim is not None
    assert told.worker.work_on(told.job.id, again=False) is Outcome.ENDED
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(LEASE / 6):
            told.analyses.heartbeat(claim, lease_seconds=LEASE, progress=progress(Stage.PROBE))

    beating = threading.Thread(target=beat)
    beating.start()
    assert told.worker.work_on(told.job.id, again=True) is Outcome.ENDED
    ended.set()
    beating.join()
    assert told.asked == 0


def test_from_a_silent_one_it_is_taken_over_before_the_lease_is_out(told: Told) -> None:
    assert told.analyses.claim("other", lease_seconds=60) is not None
    assert told.worker.work_on(told.job.id, again=True) is Outcome.ENDED
    found = told.analyses.get(told.job.id)
    assert (found.status, found.attempt, told.asked) == (Status.FAILED, 2, 1)
    assert told.noted == ["again", "failed: model_raised"]


def test_a_worker_that_stops_wants_another_one_told(told: Told) -> None:
    told.worker.stop()
    assert told.worker.work_on(told.job.id, again=False) is Outcome.HANDED_BACK
    assert told.analyses.get(told.job.id).attempt == 0


def test_a_database_that_is_away_for_a_while_costs_no_attempt(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {"claim_this": 2, "fail": 3}

    def failing(name: str) -> Callable[..., Any]:
        real = getattr(told.analyses, name)

        def call(*given: Any, **named: Any) -> Any:
            if failures[name]:
                failures[name] -= 1
                raise ConnectionError("away")
            return real(*given, **named)

        return call

    for name in failures:
        monkeypatch.setattr(told.analyses, name, failing(name))
    monkeypatch.setattr("service.worker.AGAIN_SECONDS", 0.01)
    assert told.worker.work_on(told.job.id, again=False) is Outcome.ENDED
    found = told.analyses.get(told.job.id)
    assert (found.status, found.attempt, told.asked) == (Status.FAILED, 1, 1)


def test_a_database_that_stays_away_is_not_waited_for_for_ever(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(told.analyses, "claim_this", away)
    monkeypatch.setattr("service.worker.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("service.worker.AGAIN_SECONDS", 0.01)
    with pytest.raises(ConnectionError):
        told.worker.work_on(told.job.id, again=False)
