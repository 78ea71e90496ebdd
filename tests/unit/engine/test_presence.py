"""Workers that tell that they are there, and what they did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.domain.analysis import Queue
from service.ports import Tally, WorkerFacts
from service.presence import Presence
from service.storage.session import Database
from service.storage.tables import metadata
from service.storage.workers import KEPT_HOURS, UP_SECONDS, SqlWorkers

CPU = WorkerFacts("host:1", (Queue.CPU,), "cpu", 4096)
GPU = WorkerFacts("host:2", (Queue.CPU, Queue.GPU), "NVIDIA H100", 81559)


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 11, 21, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'graddx.sqlite3'}")
    with made.write() as connection:
        metadata.create_all(connection)
    yield made
    made.close()


@pytest.fixture
def workers(database: Database, clock: Clock) -> SqlWorkers:
    return SqlWorkers(database, clock)


def test_who_is_there_is_known_with_device_and_queues(workers: SqlWorkers, clock: Clock) -> None:
    workers.announce(CPU)
    workers.announce(GPU)
    assert [one.facts for one in workers.all()] == [CPU, GPU]
    assert (workers.up(), workers.up(Queue.CPU), workers.up(Queue.GPU)) == (2, 2, 1)
    clock.time += timedelta(seconds=UP_SECONDS)
    workers.seen(CPU.name, Tally({"succeeded": 3}, {"1": 3}, 1.5))
    assert (workers.up(), workers.up(Queue.GPU)) == (1, 0)
    alive, silent = workers.all()
    assert (alive.up, silent.up) == (True, False)
    assert alive.tally == Tally({"succeeded": 3}, {"1": 3}, 1.5)


def test_one_that_comes_again_starts_with_nothing(workers: SqlWorkers) -> None:
    for _ in range(2):
        workers.announce(CPU)
        workers.seen(CPU.name, Tally({"succeeded": 1}))
    workers.announce(CPU)
    assert [one.tally for one in workers.all()] == [Tally()]


def test_who_is_gone_is_shown_for_a_day(workers: SqlWorkers, clock: Clock) -> None:
    workers.announce(CPU)
    clock.time += timedelta(hours=KEPT_HOURS - 1)
    workers.announce(GPU)
    assert len(workers.all()) == 2
    clock.time += timedelta(hours=2)
    workers.announce(GPU)
    assert [one.facts for one in workers.all()] == [GPU]


def test_a_worker_announces_itself_counts_and_takes_its_leave(
    workers: SqlWorkers, clock: Clock
) -> None:
    with Presence(workers, CPU) as presence:
        presence.note("succeeded", 0.2)
        presence.note("failed: probe_timeout", 301.0)
        presence.note("again", 0.0)
        _until(lambda: workers.up() == 1)
    (seen,) = workers.all()
    assert not seen.up
    assert seen.tally == Tally(
        {"succeeded": 1, "failed: probe_timeout": 1, "again": 1}, {"0.25": 1, "+Inf": 1}, 301.2
    )


def test_a_registry_that_is_away_stops_nobody(database: Database, clock: Clock) -> None:
    class Away(SqlWorkers):
        def announce(self, facts: WorkerFacts) -> None:
            raise ConnectionError

        def leave(self, name: str, tally: Tally) -> None:
            raise ConnectionError

    with Presence(Away(database, clock), CPU) as presence:
        presence.note("succeeded", 1.0)
    assert presence.tally().outcomes == {"succeeded": 1}


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
