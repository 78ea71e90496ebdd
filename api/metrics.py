"""/metrics: requests by route, method and status, and the queue, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_fastapi_instrumentator import Instrumentator

from api.openapi import problems
from service.use_cases import Engine


class Queue(Collector):
    """Read off the engine when Prometheus asks, so that it is never stale."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names alone: registering must not ask the engine."""
        yield GaugeMetricFamily("graddx_queue_depth", "Analyses that wait")
        yield GaugeMetricFamily("graddx_queue_oldest_seconds", "Age of the one waiting longest")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The queue now."""
        backlog = self._engine.backlog()
        age = (datetime.now(UTC) - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        for gauge, value in zip(self.describe(), (backlog.waiting, age), strict=True):
            gauge.add_metric([], value)
            yield gauge


def expose_metrics(app: FastAPI, engine: Engine) -> None:
    """Counts and times every request of this app; each app has figures of its own."""
    registry = CollectorRegistry()
    registry.register(Queue(engine))
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
