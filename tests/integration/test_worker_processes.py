"""Workers as real processes: killed, stopped, told to stop, and their work taken over."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.bootstrap import UtcClock
from service.dispatch.embedded import EmbeddedDispatcher
from service.domain.analysis import Analysis, Status
from service.storage.analyses import SqlAnalyses
from service.storage.session import Database
from service.storage.tables import analyses as tables
from tests.integration.stored_examples import queued

LEASE = 1.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
def analyses(database: Database) -> SqlAnalyses:
    return SqlAnalyses(database, UtcClock())


@contextmanager
def _workers(url: str, count: int) -> Iterator[EmbeddedDispatcher]:
    command = [sys.executable, "-m", "tests.integration.worker_process", "--database-url", url]
    dispatcher = EmbeddedDispatcher(count, {}, [*command, "--lease-seconds", str(LEASE)])
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()


def _until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _submit(analyses: SqlAnalyses, dispatcher: EmbeddedDispatcher, **labels: str) -> Analysis:
    analysis = queued(UtcClock().now(), **labels)
    analyses.add(analysis)
    dispatcher.dispatch(analysis.id, analysis.queue)
    return analysis


def _finish(analyses: SqlAnalyses, analysis: Analysis) -> Analysis:
    _until(lambda: analyses.status(analysis.id).final)
    return analyses.get(analysis.id)


def _running(analyses: SqlAnalyses, analysis: Analysis) -> None:
    _until(lambda: analyses.status(analysis.id) is Status.RUNNING)


def test_work_is_done_and_faults_are_stored_and_the_next_job_runs(
    analyses: SqlAnalyses, database_url: str
) -> None:
    with _workers(database_url, 1) as dispatcher:
        broken = _submit(analyses, dispatcher, do="raise")
        failing = _submit(analyses, dispatcher, do="fail")
        healthy = _submit(analyses, dispatcher)
        assert _finish(analyses, healthy).verdict == "unhealthy"
        fault, failure = analyses.get(broken.id).error, analyses.get(failing.id).error
        assert fault is not None
        assert fault.code == "internal_error"
        assert "ZeroDivisionError" not in fault.detail  # for the log, not for the caller
        assert failure is not None
        assert failure.code == "model_raised"
        assert failure.detail == "RuntimeError: mat1 and mat2 do not fit"
        assert dispatcher.workers_alive() == 1


def test_a_killed_worker_s_job_is_finished_by_another_within_the_lease(
    analyses: SqlAnalyses, database: Database, database_url: str
) -> None:
    with _workers(database_url, 2) as dispatcher:
        job = _submit(analyses, dispatcher, do="sleep", seconds="1.5")
        _running(analyses, job)
        victim = int(_column(database, "worker", job).removeprefix("pid "))
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        _until(lambda: analyses.get(job.id).attempt == 2)
        assert time.monotonic() - killed < LEASE + 1.5  # the lease, and one poll
        done = _finish(analyses, job)
        assert (done.status, done.attempt) == (Status.SUCCEEDED, 2)
        _until(lambda: dispatcher.workers_alive() == 2)
        assert victim not in dispatcher.worker_pids()


def test_a_stopped_worker_s_late_result_is_refused(
    analyses: SqlAnalyses, database: Database, database_url: str
) -> None:
    with _workers(database_url, 1) as dispatcher:
        job = _submit(analyses, dispatcher, do="sleep", seconds="0.5")
        _running(analyses, job)
        (stopped,) = dispatcher.worker_pids()
        os.kill(stopped, signal.SIGSTOP)
        _until(lambda: _column(database, "lease_until", job) < UtcClock().now())
        claim = analyses.claim("test", lease_seconds=60)
        assert claim is not None
        assert claim.attempt == 2
        os.kill(stopped, signal.SIGCONT)
        after = _submit(analyses, dispatcher)  # done once the late result has been dropped
        assert _finish(analyses, after).status is Status.SUCCEEDED
        now = analyses.get(job.id)
        assert (now.status, now.attempt, now.report) == (Status.RUNNING, 2, None)


def test_cancelling_ends_the_child_and_frees_the_worker(
    analyses: SqlAnalyses, database_url: str
) -> None:
    with _workers(database_url, 1) as dispatcher:
        job = _submit(analyses, dispatcher, do="sleep", seconds="60")
        _running(analyses, job)
        assert analyses.cancel(job.id) is Status.CANCELLED
        cancelled = time.monotonic()
        assert _finish(analyses, _submit(analyses, dispatcher)).status is Status.SUCCEEDED
        assert time.monotonic() - cancelled < 5
        assert analyses.get(job.id).error is None


def test_a_worker_told_to_stop_hands_back(analyses: SqlAnalyses, database_url: str) -> None:
    with _workers(database_url, 1) as dispatcher:
        job = _submit(analyses, dispatcher, do="sleep", seconds="60")
        _running(analyses, job)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert dispatcher.workers_alive() == 0
    assert analyses.status(job.id) is Status.QUEUED


def test_workers_end_with_the_process_that_started_them(sqlite_url: str) -> None:
    starter = (
        "import sys, time\n"
        "from tests.integration.test_worker_processes import _workers\n"
        "with _workers(sys.argv[1], 2) as dispatcher:\n"
        "    print(*dispatcher.worker_pids(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, sqlite_url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        workers = [Path("/proc") / pid for pid in process.stdout.readline().split()]
        assert [worker.exists() for worker in workers] == [True, True]
        process.kill()
        process.stdout.read()  # the workers hold the other end too, until they end
    _until(lambda: not any(worker.exists() for worker in workers))


def test_from_dispatch_to_claim_takes_milliseconds(
    analyses: SqlAnalyses, database_url: str
) -> None:
    waits = []
    with _workers(database_url, 2) as dispatcher:
        _finish(analyses, _submit(analyses, dispatcher))
        for _ in range(50):
            done = _finish(analyses, _submit(analyses, dispatcher))
            assert done.started_at is not None
            waits.append((done.started_at - done.created_at).total_seconds())
    # 5 ms on an idle machine; a poll instead of a wake-up would make it half a second.
    assert statistics.median(waits) < 0.1, waits


def _column(database: Database, name: str, analysis: Analysis) -> Any:
    with database.read() as connection:
        return connection.scalar(select(tables.c[name]).where(tables.c.id == analysis.id))
