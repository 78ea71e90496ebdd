"""A database with many analyses: what is asked often is found by an index, large models are stored
at once, and clocks that disagree do no harm."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, insert, text

from service.domain.analysis import Queue, Status
from service.ports import Filter
from service.storage import mapping
from service.storage.analyses import SqlAnalyses
from service.storage.clock import DatabaseClock
from service.storage.session import Database
from service.storage.tables import analyses as rows
from service.storage.tables import labels, layers
from tests.integration.stored_examples import START, HeldClock, queued, report
from tests.integration.stored_examples import layer as a_layer

MANY = 20_000
"""Rows at which PostgreSQL's planner reads a table only if no index fits."""


def _id(number: int) -> str:
    return str(UUID(int=number))


@pytest.fixture(scope="module")
def crowded(postgresql_schema: str) -> Iterator[Database]:
    """Final analyses of ten branches, with a layer each, and three that go on."""
    database = Database(postgresql_schema)
    one = mapping.analysis_values(queued(START))
    measured = mapping.to_json(a_layer(0, "fc1"))
    with database.write() as connection:
        connection.execute(text("TRUNCATE analyses CASCADE"))
        for first in range(0, MANY, 2000):
            numbers = range(first, first + 2000)
            connection.execute(
                insert(rows),
                [
                    {
                        **one,
                        "id": _id(n),
                        "status": "queued" if n >= MANY - 3 else "succeeded",
                        "verdict": "healthy" if n % 3 else "unhealthy",
                        "model_sha256": f"{n % 500:064d}",
                        "question": f"{n % 5000:064d}",
                    }
                    for n in numbers
                ],
            )
            branch = [
                {"analysis_id": _id(n), "key": "branch", "value": f"b{n % 10}"} for n in numbers
            ]
            connection.execute(insert(labels), branch)
            layer = [
                {"analysis_id": _id(n), "index": 0, "name": "fc1", "statistics": measured}
                for n in numbers
            ]
            connection.execute(insert(layers), layer)
        connection.execute(text("ANALYZE"))
    yield database
    with database.write() as connection:
        connection.execute(text("TRUNCATE analyses CASCADE"))
    database.close()


@contextmanager
def _noting(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is asked of this database, with its parameters."""
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, given: Any, *rest: Any) -> None:
        asked.append((statement, given))

    engine = database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


CALLS = {
    "the newest": lambda a: a.list(Filter(), limit=20, cursor=None),
    "by status": lambda a: a.list(Filter(status=Status.QUEUED), limit=20, cursor=None),
    "by verdict": lambda a: a.list(Filter(verdict="unhealthy"), limit=20, cursor=None),
    "by model": lambda a: a.list(Filter(model_sha256=f"{7:064d}"), limit=20, cursor=None),
    "by label": lambda a: a.list(Filter(labels={"branch": "b3"}), limit=20, cursor=None),
    "a layer's history": lambda a: a.history("fc1", {"branch": "b3"}, limit=20, cursor=None),
    "one to compare": lambda a: a.layers(_id(7)),
    "an answer to copy": lambda a: a.answer_to(f"{7:064d}"),
    "what to claim": lambda a: a.claim("w1", lease_seconds=15, queues=[Queue.GPU]),
    "what nobody was told of": lambda a: a.overdue(Queue.CPU, seconds=5, waiting=True, limit=9),
    "the backlog": lambda a: a.backlog(Queue.CPU),
}


@pytest.mark.parametrize("asked", CALLS)
def test_what_is_asked_often_is_found_by_an_index(asked: str, crowded: Database) -> None:
    with _noting(crowded) as statements:
        CALLS[asked](SqlAnalyses(crowded, HeldClock()).owned_by("local"))
    assert statements
    with crowded.read() as connection:
        for statement, given in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars().all()
            # One that reads as many rows as there are would say so here.
            assert "Seq Scan" not in "\n".join(plan), plan


def test_ten_thousand_layers_are_stored_well_under_a_second(database: Database) -> None:
    analyses = SqlAnalyses(database, HeldClock())
    large = report(layers=tuple(f"body.{n}.fc" for n in range(10_000)))
    seconds = []
    for n in range(3):
        added = queued(START + timedelta(seconds=n))
        analyses.add(added)
        claim = analyses.claim("w1", lease_seconds=900)
        assert claim is not None
        began = time.perf_counter()
        assert analyses.succeed(claim, large)
        seconds.append(time.perf_counter() - began)
        assert len(analyses.layers(added.id)) == 10_000
    # 0.2 to 0.4 s on an idle machine, one statement for all; one by one it takes several seconds.
    assert statistics.median(seconds) < 1.5, seconds


def test_leases_go_by_the_databases_clock(postgresql_schema: str) -> None:
    database = Database(postgresql_schema)
    with database.write() as connection:
        connection.execute(text("TRUNCATE analyses CASCADE"))
    ahead = SqlAnalyses(database, _Ahead(timedelta(hours=1)))
    truth = SqlAnalyses(database, DatabaseClock(database))
    added = queued(datetime.now(UTC))
    truth.add(added)
    assert truth.claim("w1", lease_seconds=15) is not None
    assert truth.claim("w2", lease_seconds=15) is None
    stolen = ahead.claim("w3", lease_seconds=15)  # what a clock of its own would make of it
    assert stolen is not None
    assert stolen.attempt == 2
    database.close()


def test_the_databases_clock_is_carried_on_without_asking(
    postgresql_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgresql_schema)
    clock = DatabaseClock(database)
    monkeypatch.setattr(
        "service.storage.clock.time.monotonic", iter([0.0, 0.0, 0.1, 0.1, 30.0, 30.0]).__next__
    )
    first = clock.now()
    assert clock.now() - first == timedelta(seconds=29.9)
    database.close()


class _Ahead:
    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return datetime.now(UTC) + self._by


def test_deliveries_are_not_counted_as_attempts(database: Database) -> None:
    analyses = SqlAnalyses(database, HeldClock())
    added = replace(queued(START), request_id="r-1")
    analyses.add(added)
    found = analyses.get(added.id)
    assert (found.attempt, found.request_id) == (0, "r-1")
