"""Analyses handed out by a real RabbitMQ to real workers: what is normal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import pytest

from service.domain.analysis import Queue, Status
from service.storage.analyses import SqlAnalyses
from tests.integration.broker import (
    Broker,
    broker_url,
    consumers,
    submit,
    until,
)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    made = Broker(broker_url())
    made.declare()
    yield made
    made.delete()


def test_what_is_told_is_done_once_and_soon(
    analyses: SqlAnalyses, broker: Broker, url: str
) -> None:
    with consumers(broker, url), broker.dispatcher(analyses) as dispatcher:
        until(lambda: analyses.status(submit(analyses, dispatcher).id).final or True)
        jobs = [submit(analyses, dispatcher) for _ in range(50)]
        until(lambda: all(analyses.status(one.id).final for one in jobs))
        done = [analyses.get(one.id) for one in jobs]
        assert {(one.status, one.attempt) for one in done} == {(Status.SUCCEEDED, 1)}
        waits = []
        for _ in range(20):
            job = submit(analyses, dispatcher)
            until(lambda job=job: analyses.status(job.id).final)  # type: ignore[misc]
            found = analyses.get(job.id)
            assert found.started_at is not None
            waits.append((found.started_at - found.created_at).total_seconds())
    # 4 ms on an idle machine; who looked into the database would take half a second.
    assert statistics.median(waits) < 0.2, waits


def test_a_worker_told_to_stop_hands_back_and_another_is_told(
    analyses: SqlAnalyses, broker: Broker, url: str
) -> None:
    with broker.dispatcher(analyses) as dispatcher:
        with consumers(broker, url) as (first,):
            job = submit(analyses, dispatcher, do="sleep", seconds="60")
            until(lambda: analyses.status(job.id) is Status.RUNNING)
            assert first.stop() == 0
            assert analyses.status(job.id) is Status.QUEUED
            until(lambda: broker.depth() == 1)
        with consumers(broker, url) as (second,):
            until(lambda: analyses.status(job.id) is Status.RUNNING)
            analyses.cancel(job.id)
            after = submit(analyses, dispatcher)
            # The child of the cancelled one was ended, or this one would have to wait a minute.
            until(lambda: analyses.status(after.id).final)
            # The database knows before the broker does: killed in between, it leaves the message.
            assert second.stop() == 0
    assert analyses.status(job.id) is Status.CANCELLED
    assert broker.depth() == 0


def test_a_lost_message_is_sent_again_and_a_second_one_does_nothing(
    analyses: SqlAnalyses, broker: Broker, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.dispatch.publisher.GRACE_SECONDS", 0.2)
    monkeypatch.setattr("service.dispatch.publisher.SWEEP_SECONDS", 0.2)
    with broker.dispatcher(analyses) as dispatcher:
        never_told = submit(analyses, _Nobody())
        until(lambda: broker.depth() == 1)
        dispatcher.dispatch(never_told.id, Queue.CPU)
        until(lambda: broker.depth() == 2)
        with consumers(broker, url):
            until(lambda: analyses.status(never_told.id).final)
            until(lambda: broker.depth() == 0)
    assert analyses.get(never_told.id).attempt == 1


class _Nobody:
    def dispatch(self, analysis_id: str, queue: Queue) -> None: ...
