"""/metrics: requests by route, method and status, the queues and the workers, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from api.openapi import problems
from service.domain.analysis import Queue
from service.use_cases import PROBE_SECONDS, Backlog, Engine, WorkerSeen


class Queues(Collector):
    """Read off the engine when Prometheus asks, so that it is never stale."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Names alone: registering must not ask the engine."""
        return _queues({})

    def collect(self) -> Iterator[Metric]:
        """The queues now."""
        return _queues({queue: self._engine.backlog(queue) for queue in Queue})


class Workers(Collector):
    """What workers tell of themselves, those on other machines too; a worker's figures start at
    nothing with its process, and are shown for a day after its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Names alone."""
        return _workers(())

    def collect(self) -> Iterator[Metric]:
        """The workers now."""
        return _workers(self._engine.workers())


def _queues(backlogs: Mapping[Queue, Backlog]) -> Iterator[Metric]:
    now = datetime.now(UTC)
    depth = GaugeMetricFamily("graddx_queue_depth", "Analyses that wait", labels=["queue"])
    oldest = GaugeMetricFamily(
        "graddx_queue_oldest_seconds", "Age of the one waiting longest", labels=["queue"]
    )
    running = GaugeMetricFamily("graddx_in_flight", "Analyses at work", labels=["queue"])
    for queue, backlog in backlogs.items():
        age = (now - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        depth.add_metric([queue.value], backlog.waiting)
        oldest.add_metric([queue.value], age)
        running.add_metric([queue.value], backlog.running)
    yield from (depth, oldest, running)


def _workers(workers: tuple[WorkerSeen, ...]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "graddx_worker_up", "1: said lately that it is there", labels=["worker", "queues", "device"]
    )
    memory = GaugeMetricFamily(
        "graddx_worker_memory_mb", "What a model may use, MiB", labels=["worker"]
    )
    attempts = CounterMetricFamily(
        "graddx_attempts",
        "Attempts by what became of them; code: why one failed",
        labels=["worker", "outcome", "code"],
    )
    again = CounterMetricFamily(
        "graddx_reruns", "Attempts that were not the first on their analysis", labels=["worker"]
    )
    seconds = HistogramMetricFamily(
        "graddx_probe_seconds", "Seconds from claim to result", labels=["worker"]
    )
    for worker in workers:
        name, facts, tally = worker.facts.name, worker.facts, worker.tally
        queues = " ".join(queue.value for queue in facts.queues)
        up.add_metric([name, queues, facts.device], float(worker.up))
        memory.add_metric([name], facts.memory_mb)
        for became, count in tally.outcomes.items():
            outcome, _, code = became.partition(": ")
            if outcome == "again":
                again.add_metric([name], count)
            else:
                attempts.add_metric([name, outcome, code], count)
        seconds.add_metric([name], _cumulated(tally.seconds_within), tally.seconds)
    yield from (up, memory, attempts, again, seconds)


def _cumulated(within: Mapping[str, int]) -> list[tuple[str, float]]:
    """Prometheus counts in every bucket what is in the smaller ones."""
    buckets, total = [], 0.0
    for bound in (*map(str, PROBE_SECONDS), "+Inf"):
        total += within.get(bound, 0)
        buckets.append((bound, total))
    return buckets


def expose_metrics(app: FastAPI, engine: Engine) -> None:
    """Counts and times every request of this app; each app has figures of its own."""
    registry = CollectorRegistry()
    registry.register(Queues(engine))
    registry.register(Workers(engine))
    instrumentator = Instrumentator(
        registry=registry,
        should_group_status_codes=False,
        excluded_handlers=["/metrics", "/livez", "/readyz"],
    )
    instrumentator.instrument(app).expose(
        app,
        tags=["operations"],
        operation_id="metrics",
        responses={
            200: {
                "description": "Prometheus text.",
                "content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}},
            },
            **problems(),
        },
    )
