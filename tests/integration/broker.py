"""A real RabbitMQ, from TEST_BROKER_URL or on this machine, and workers that it tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from amqp.exceptions import NotFound

from benchmarks.cuttable_proxy import CuttableProxy
from service.dispatch.celery_app import dead_letters, declare, make_app, name_of
from service.dispatch.publisher import BrokerDispatcher
from service.domain.analysis import Analysis, Queue
from service.storage.analyses import SqlAnalyses
from tests.integration.stored_examples import queued

LOCAL_BROKER = "amqp://guest:guest@127.0.0.1:5672//"
LEASE = 4.0
ROOT = Path(__file__).parents[2]


def broker_url() -> str:
    """Of a broker that answers; skips the test where there is none."""
    given = os.environ.get("TEST_BROKER_URL")
    url = given or LOCAL_BROKER
    try:
        with make_app(url, "probe").connection_for_write() as connection:
            connection.ensure_connection(max_retries=0, timeout=3)
    except Exception as error:
        if given:
            raise
        pytest.skip(f"no RabbitMQ on this machine, and TEST_BROKER_URL is not set: {error}")
    return url


class Broker:
    """Queues of one test, gone with it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"graddx-test-{os.getpid()}-{uuid4().hex[:8]}"
        self.app = make_app(url, self.prefix, publishing=True)

    def declare(self) -> None:
        """Before anybody asks for a depth."""
        with self.app.connection_for_write() as connection:
            declare(self.app, connection, self.prefix)

    def depth(self, name: str | None = None) -> int:
        """Messages that wait in the CPU queue, or in another one."""
        with self.app.connection_for_write() as connection, connection.channel() as channel:
            wanted = name or name_of(self.prefix, Queue.CPU)
            count: int = channel.queue_declare(wanted, passive=True).message_count
            return count

    def delete(self) -> None:
        """Queues and exchanges."""
        with self.app.connection_for_write() as connection:
            for queue in (dead_letters(self.prefix), *self.app.conf.task_queues):
                with suppress(NotFound), connection.channel() as channel:
                    queue.bind(channel).delete()
            for exchange in (self.prefix, f"{self.prefix}.dead"):
                with suppress(NotFound), connection.channel() as channel:
                    channel.exchange_delete(exchange)

    def through(self, proxy: CuttableProxy) -> str:
        """The same broker, by a way that can be cut."""
        parts = urlsplit(self.url)
        who = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{who}@127.0.0.1:{proxy.port}").geturl()

    def proxy(self) -> CuttableProxy:
        """A way to it that can be cut."""
        parts = urlsplit(self.url)
        return CuttableProxy(parts.hostname or "127.0.0.1", parts.port or 5672)

    @contextmanager
    def dispatcher(
        self, analyses: SqlAnalyses, url: str | None = None
    ) -> Iterator[BrokerDispatcher]:
        """The API's end, at work."""
        app = make_app(url or self.url, self.prefix, publishing=True)
        dispatcher = BrokerDispatcher(app, self.prefix, analyses, lambda: 1)
        dispatcher.start()
        try:
            yield dispatcher
        finally:
            dispatcher.stop()


class Consumer:
    """A worker's two processes."""

    def __init__(self, broker: Broker, database_url: str, url: str | None = None) -> None:
        given = ["--database-url", database_url, "--lease-seconds", str(LEASE)]
        told = ["--broker-url", url or broker.url, "--prefix", broker.prefix]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.worker_process", *given, *told],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def child(self) -> int:
        """The process that works."""
        found = _children(self.process.pid)
        return found[0] if found else 0

    def kill_all(self) -> None:
        """Both at once, as when their machine goes."""
        self.process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """As an operator does; the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=30)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in listed.read_text().split()] if listed.exists() else []


@contextmanager
def consumers(
    broker: Broker, database_url: str, count: int = 1, url: str | None = None
) -> Iterator[list[Consumer]]:
    """So many workers, up when the block begins."""
    started = [Consumer(broker, database_url, url) for _ in range(count)]
    try:
        for one in started:
            until(lambda one=one: bool(one.child))  # type: ignore[misc]
        yield started
    finally:
        for one in started:
            with suppress(ProcessLookupError):
                os.kill(one.process.pid, signal.SIGCONT)
            one.kill_all()


def until(true: Callable[[], bool], seconds: float = 30.0) -> float:
    """Waits for it; how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - began


class Dispatches(Protocol):
    """What of a dispatcher is used here."""

    def dispatch(self, analysis_id: str, queue: Queue) -> None:
        """Tell a worker."""


def submit(analyses: SqlAnalyses, dispatcher: Dispatches, **labels: str) -> Analysis:
    """Row first, then the message."""
    analysis = queued(analyses._clock.now(), **labels)
    analyses.add(analysis)
    dispatcher.dispatch(analysis.id, analysis.queue)
    return analysis
