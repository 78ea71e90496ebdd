"""What goes wrong beyond one machine, tried: processes killed and stopped, connections cut. With a
real RabbitMQ, a real PostgreSQL and real processes; the pipeline alone is a stand-in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.cuttable_proxy import CuttableProxy
from service.domain.analysis import Analysis, Status
from service.storage.analyses import SqlAnalyses
from tests.integration.broker import LEASE, Broker, broker_url, consumers, submit, until


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker(broker_url())
    made.declare()
    yield made
    made.delete()


def _running(analyses: SqlAnalyses, job: Analysis) -> None:
    until(lambda: analyses.status(job.id) is Status.RUNNING)


def _succeeded(analyses: SqlAnalyses, job: Analysis, attempt: int) -> None:
    until(lambda: analyses.status(job.id).final)
    found = analyses.get(job.id)
    assert (found.status, found.attempt) == (Status.SUCCEEDED, attempt)


def test_a_killed_child_s_and_a_killed_worker_s_analysis_runs_again_before_its_lease_is_over(
    analyses: SqlAnalyses, broker: Broker, url: str
) -> None:
    with broker.dispatcher(analyses) as dispatcher, consumers(broker, url, 2) as workers:
        job = submit(analyses, dispatcher, do="sleep", seconds="4")
        _running(analyses, job)
        os.kill(_holder(analyses, job, url), signal.SIGKILL)
        seconds = until(lambda: analyses.get(job.id).attempt == 2)
        assert seconds < LEASE - 0.5, "the lease told, not the broker"
        holder = _holder(analyses, job, url)
        (victim,) = (one for one in workers if one.child == holder)
        victim.kill_all()
        assert until(lambda: analyses.get(job.id).attempt == 3) < LEASE - 0.5
        _succeeded(analyses, job, 3)


def test_a_consumer_that_dies_takes_its_child_along_and_another_worker_is_told(
    analyses: SqlAnalyses, broker: Broker, url: str
) -> None:
    with broker.dispatcher(analyses) as dispatcher, consumers(broker, url, 2) as workers:
        job = submit(analyses, dispatcher, do="sleep", seconds="3")
        _running(analyses, job)
        holder = _holder(analyses, job, url)
        (victim,) = (one for one in workers if one.child == holder)
        victim.process.kill()
        assert until(lambda: analyses.get(job.id).attempt == 2) < LEASE - 0.5
        until(lambda: _gone(holder))
        _succeeded(analyses, job, 2)


def test_a_stopped_worker_s_late_result_is_refused(
    analyses: SqlAnalyses, broker: Broker, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.publisher.GRACE_SECONDS", 0.5)
    with broker.dispatcher(analyses) as dispatcher, consumers(broker, url, 2) as workers:
        job = submit(analyses, dispatcher, do="sleep", seconds="1")
        _running(analyses, job)
        stopped = _holder(analyses, job, url)
        (victim,) = (one for one in workers if one.child == stopped)
        for pid in (stopped, victim.process.pid):
            os.kill(pid, signal.SIGSTOP)
        _succeeded(analyses, job, 2)
        finished = analyses.get(job.id).finished_at
        for pid in (stopped, victim.process.pid):
            os.kill(pid, signal.SIGCONT)
        after = [submit(analyses, dispatcher) for _ in range(4)]  # both are at work again
        for one in after:
            _succeeded(analyses, one, 1)
        now = analyses.get(job.id)
        assert (now.status, now.attempt, now.finished_at) == (Status.SUCCEEDED, 2, finished)


def test_analyses_are_taken_while_the_broker_is_away_and_done_when_it_is_back(
    analyses: SqlAnalyses, broker: Broker, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.publisher.GRACE_SECONDS", 0.5)
    with (
        broker.proxy() as proxy,
        broker.dispatcher(analyses, broker.through(proxy)) as dispatcher,
        consumers(broker, url, url=broker.through(proxy)),
    ):
        long = submit(analyses, dispatcher, do="sleep", seconds="3")
        _running(analyses, long)
        proxy.cut()
        jobs = [submit(analyses, dispatcher) for _ in range(10)]
        _succeeded(analyses, long, 1)  # nobody told it to stop
        assert [analyses.status(one.id) for one in jobs] == [Status.QUEUED] * 10
        proxy.join()
        for one in jobs:
            _succeeded(analyses, one, 1)


def test_what_is_at_work_outlasts_a_database_that_is_away(
    analyses: SqlAnalyses, broker: Broker, url: str
) -> None:
    with (
        _cuttable(url) as (proxy, through),
        broker.dispatcher(analyses) as dispatcher,
        consumers(broker, through),
    ):
        job = submit(analyses, dispatcher, do="sleep", seconds="1")
        _running(analyses, job)
        told = analyses.lease(job.id)
        until(lambda: analyses.lease(job.id) != told)  # a heartbeat: it is well on its way
        proxy.cut()
        until(lambda: _expired(analyses, job))  # the result was there long before
        proxy.join()
        _succeeded(analyses, job, 1)
        _succeeded(analyses, submit(analyses, dispatcher), 1)


def test_an_analysis_that_kills_every_worker_is_given_up_and_the_next_one_is_done(
    analyses: SqlAnalyses, broker: Broker, url: str
) -> None:
    with broker.dispatcher(analyses) as dispatcher, consumers(broker, url, 2):
        poison = submit(analyses, dispatcher, do="kill")
        until(lambda: analyses.status(poison.id).final, 60)
        found = analyses.get(poison.id)
        assert found.error is not None
        assert (found.status, found.attempt) == (Status.FAILED, 3)
        assert found.error.code == "worker_lost"
        _succeeded(analyses, submit(analyses, dispatcher), 1)
        until(lambda: broker.depth() == 0)


def _holder(analyses: SqlAnalyses, job: Analysis, url: str) -> int:
    import psycopg

    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT worker FROM analyses WHERE id = %s", [job.id]).fetchone()
    assert row is not None
    return int(str(row[0]).removeprefix("pid "))


def _gone(pid: int) -> bool:
    """Dead, though nobody may have buried it yet."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def _expired(analyses: SqlAnalyses, job: Analysis) -> bool:
    until_then = analyses.lease(job.id)
    return until_then is not None and until_then < analyses._clock.now()


@contextmanager
def _cuttable(url: str) -> Iterator[tuple[CuttableProxy, str]]:
    """The same database, by a way that can be cut."""
    parts = urlsplit(url)
    if not parts.hostname:
        pytest.skip("the database is reached by a socket, which no proxy of ours can cut")
    who = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    with CuttableProxy(parts.hostname, parts.port or 5432) as proxy:
        yield proxy, parts._replace(netloc=f"{who}127.0.0.1:{proxy.port}").geturl()
