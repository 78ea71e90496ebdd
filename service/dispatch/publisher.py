"""The API's end of the broker: tells workers of new analyses, and of those nobody was told of."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, Full
from queue import Queue as Outbox
from typing import Any, Protocol

import structlog
from celery import Celery

from service.dispatch.celery_app import TASK, declare, name_of
from service.domain.analysis import Queue
from service.ports import Backlog

OUTBOX = 10_000
"""Messages that wait in this process while the broker is slow; more are left to the sweeper."""
SWEEP_SECONDS = 2.0
"""Between two looks for what nobody was told of."""
GRACE_SECONDS = 5.0
"""A message sent less than this ago may still be on its way."""
SWEPT = 1000
"""Analyses of which workers are told again at a time, of one queue."""
PAUSE_SECONDS = 1.0
"""Before a broker that was away is tried again."""

log = structlog.get_logger()


class Told(Protocol):
    """What of `service.ports.AnalysisRepository` is read here."""

    def backlog(self, queue: Queue | None = None) -> Backlog:
        """What waits and what is at work."""

    def overdue(
        self, queue: Queue, *, seconds: float, waiting: bool, limit: int
    ) -> tuple[str, ...]:
        """Analyses that nobody was told of for so long."""


class BrokerDispatcher:
    """`service.ports.Dispatcher`: one thread and one connection, so that no call of the API ever
    waits for the broker. What it cannot send, or takes along when it is killed, is found by the
    sweep, its own or another API's."""

    def __init__(
        self, app: Celery, prefix: str, analyses: Told, workers_up: Callable[[], int]
    ) -> None:
        """Connects to nothing yet. `workers_up`: how many workers are there."""
        self._app = app
        self._prefix = prefix
        self._analyses = analyses
        self._workers_up = workers_up
        self._outbox: Outbox[tuple[str, Queue]] = Outbox(OUTBOX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def dispatch(self, analysis_id: str, queue: Queue) -> None:
        """Tell a worker, soon; never waits and never fails."""
        with contextlib.suppress(Full):
            self._outbox.put_nowait((analysis_id, queue))

    def stop(self) -> None:
        """Send what waits to be sent, then return."""
        self._stopping.set()
        self._thread.join()

    def workers_alive(self) -> int:
        """How many workers are there, wherever they are."""
        return self._workers_up()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._app.connection_for_write() as connection:
                    connection.ensure_connection(max_retries=0, timeout=PAUSE_SECONDS)
                    declare(self._app, connection, self._prefix)
                    self._serve(connection)
            except Exception as error:
                # Whatever it is: the rows are stored, and the sweep tells of them later.
                log.warning("the broker is away", error=f"{type(error).__name__}: {error}")
                self._stopping.wait(PAUSE_SECONDS)

    def _serve(self, connection: Any) -> None:
        """Send and sweep until told to stop. Raises the connection's errors."""
        with self._app.amqp.Producer(connection) as producer:
            swept = time.monotonic() - SWEEP_SECONDS
            while True:
                if time.monotonic() - swept >= SWEEP_SECONDS:
                    self._sweep(connection, producer)
                    swept = time.monotonic()
                try:
                    self._send(producer, *self._outbox.get(timeout=0.1))
                except Empty:
                    if self._stopping.is_set():
                        return

    def _send(self, producer: Any, analysis_id: str, queue: Queue) -> None:
        self._app.send_task(
            TASK,
            (analysis_id,),
            producer=producer,
            queue=name_of(self._prefix, queue),
            retry=False,
        )

    def _sweep(self, connection: Any, producer: Any) -> None:
        for one in Queue:
            for analysis_id in self._untold(connection, one):
                log.info("told again", analysis=analysis_id, queue=one.value)
                self._send(producer, analysis_id, one)

    def _untold(self, connection: Any, one: Queue) -> tuple[str, ...]:
        """Whose lease ran out; and, when the broker holds fewer messages than analyses wait, as
        many of the oldest as are missing."""
        try:
            lost = self._analyses.overdue(one, seconds=GRACE_SECONDS, waiting=False, limit=SWEPT)
            missing = self._analyses.backlog(one).waiting - self._ready(connection, one)
            if missing <= 0:
                return lost
            limit = min(missing, SWEPT)
            return lost + self._analyses.overdue(
                one, seconds=GRACE_SECONDS, waiting=True, limit=limit
            )
        except connection.connection_errors + connection.channel_errors:
            raise
        except Exception as error:
            log.warning("the database did not answer the sweep", error=str(error).splitlines()[0])
            return ()

    def _ready(self, connection: Any, one: Queue) -> int:
        name = name_of(self._prefix, one)
        with connection.channel() as channel:
            count: int = channel.queue_declare(name, passive=True).message_count
        return count
