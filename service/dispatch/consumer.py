"""A worker's end of the broker: Celery's consumer in this process, the work in a child of it.

Two processes, because the connection wants a heartbeat every few seconds while the work goes on for
minutes. When the child dies the consumer gives the message back at once; when the consumer dies the
kernel ends the child (Celery asks for that), and the broker gives the message to another worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog
from celery import Celery, signals
from celery.exceptions import Reject

from service.dispatch.celery_app import TASK, declare, name_of
from service.domain.analysis import Queue

HAND_BACK = signal.SIGUSR2
"""What the consumer sends its child when it is told to stop. The child cannot have SIGTERM or
SIGINT: Celery, and the shell's Ctrl-C, mean something else by them."""

LOOK_SECONDS = 0.2
"""How soon a child that was killed is noticed; Celery's own timer has 5 s."""

log = structlog.get_logger()


class Works(Protocol):
    """What of a worker is used here."""

    def work_on(self, analysis_id: str, *, again: bool) -> str:
        """What became of it; "handed back" when another worker should be told."""

    def stop(self) -> None:
        """Hand back what is at work; safe in a signal handler."""


def consume(
    app: Celery,
    prefix: str,
    queues: Collection[Queue],
    name: str,
    worker: Callable[[], AbstractContextManager[Works]],
    handed_back: str,
) -> int:
    """Work on what the broker delivers until SIGTERM or SIGINT; returns the exit status. `worker`
    is entered in the child. `handed_back`: the outcome after which another one should be told."""
    child = _Child(worker, handed_back)

    def analyse(task: Any, analysis_id: str) -> None:
        child.analyse(task.request, analysis_id)

    app.task(analyse, name=TASK, bind=True, ignore_result=True)
    # Whoever listens to this one sets the logs up, and Celery leaves them alone.
    signals.setup_logging.connect(_leave_logs, weak=False)
    signals.worker_process_init.connect(child.start, weak=False)
    signals.worker_process_shutdown.connect(child.end, weak=False)
    consumer = app.Worker(
        hostname=name,
        queues=[name_of(prefix, queue) for queue in queues],
        pool="prefork",
        concurrency=1,
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
        quiet=True,
    )

    def declare_all(**_: Any) -> None:
        with app.connection_for_write() as connection:
            declare(app, connection, prefix)

    def hand_back(**_: Any) -> None:
        for process in getattr(getattr(consumer.pool, "_pool", None), "_pool", ()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, HAND_BACK)

    def look_often(sender: Any, **_: Any) -> None:
        sender.hub.call_repeatedly(LOOK_SECONDS, sender.pool.maintain_pool)

    signals.celeryd_after_setup.connect(_quietly(declare_all), weak=False)
    signals.worker_shutting_down.connect(hand_back, weak=False)
    signals.worker_ready.connect(_once(look_often), weak=False)
    log.info("taking from the broker", queues=[queue.value for queue in queues], worker=name)
    consumer.start()
    return int(consumer.exitcode or 0)


def _leave_logs(**_: Any) -> None:
    return None


def _once(first: Callable[..., None]) -> Callable[..., None]:
    """Celery says that it is ready again after every new connection."""
    called = False

    def call(**given: Any) -> None:
        nonlocal called
        if not called:
            called = True
            first(**given)

    return call


def _quietly(declare_all: Callable[..., None]) -> Callable[..., None]:
    def attempt(**given: Any) -> None:
        # Without a broker now: the consumer waits for it, and senders declare as well.
        with contextlib.suppress(Exception):
            declare_all(**given)

    return attempt


class _Child:
    """What goes on in the process that works."""

    def __init__(
        self, worker: Callable[[], AbstractContextManager[Works]], handed_back: str
    ) -> None:
        self._make = worker
        self._handed_back = handed_back
        self._open = contextlib.ExitStack()
        self._worker: Works | None = None
        self._told_to_stop = threading.Event()

    def start(self, **_: Any) -> None:
        """In the child, before the first message."""
        signal.signal(HAND_BACK, self._stop)
        self._worker = self._open.enter_context(self._make())
        if self._told_to_stop.is_set():
            self._worker.stop()

    def end(self, **_: Any) -> None:
        """In the child, after the last one."""
        self._open.close()

    def analyse(self, message: Any, analysis_id: str) -> None:
        """A message. Raises Reject, so that the broker tells another worker."""
        assert self._worker is not None
        delivery = message.delivery_info or {}
        became = self._worker.work_on(analysis_id, again=bool(delivery.get("redelivered")))
        if became == self._handed_back:
            raise Reject(became, requeue=True)

    def _stop(self, *_: Any) -> None:
        self._told_to_stop.set()
        if self._worker is not None:
            self._worker.stop()
