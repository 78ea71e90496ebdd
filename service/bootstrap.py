"""The one place that names concrete parts: settings in, use cases or a worker out."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog

from service.config import Settings
from service.dispatch.embedded import EmbeddedDispatcher
from service.dispatch.wakeup import Waiting
from service.sandbox.limits import MIB, Limits
from service.sandbox.seal import why_unsealable
from service.storage.analyses import SqlAnalyses
from service.storage.artifact_store import FileArtifacts
from service.storage.input_guess import guess_inputs
from service.storage.session import Database
from service.storage.tensor_headers import read_headers
from service.use_cases import UseCases
from service.worker import Worker

log = structlog.get_logger()

ENTRY = "service.probing.child:serve"
"""A child's life; by name, because only the child may import torch."""
WARM_UP = "service.probing.child:warm_up"
"""One whole job before the first fork."""


class UtcClock:
    """`service.ports.Clock`."""

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC)


@contextmanager
def engine(settings: Settings) -> Iterator[UseCases]:
    """The use cases, with local workers at work while the block runs."""
    dispatcher = EmbeddedDispatcher(settings.workers, settings.environment())
    database = Database(settings.database_url)
    analyses = SqlAnalyses(database, UtcClock())
    artifacts = _artifacts(settings, database)
    refused = None if settings.run_uploads_unsealed else why_unsealable()
    use_cases = UseCases(
        analyses,
        artifacts,
        dispatcher,
        UtcClock(),
        queue_max=settings.queue_max,
        needs_worker=settings.workers > 0,
        why_uploads_are_refused=refused,
        guess_inputs=guess_inputs,
        read_headers=read_headers,
    )
    _say_what_to_expect(analyses, refused)
    artifacts.tidy()
    if analyses.ready():
        artifacts.discard()
    dispatcher.start()
    try:
        yield use_cases
    finally:
        dispatcher.stop()
        database.close()


@contextmanager
def worker(settings: Settings, wake_fd: int | None = None) -> Iterator[Worker]:
    """A worker, its zygote warm. `wake_fd`: the dispatcher's pipe; None: look every second."""
    # Only here: the API, which starts workers, needs none of this.
    from service.pipeline import analyse
    from service.sandbox.prober import ZygoteProber

    database = Database(settings.database_url)
    artifacts = _artifacts(settings, database)
    prober = ZygoteProber(
        _limits(settings),
        ENTRY,
        WARM_UP,
        artifacts.path,
        threads=settings.threads_of_a_child,
        run_uploads_unsealed=settings.run_uploads_unsealed,
    )
    try:
        prober.start()
        yield Worker(
            f"{socket.gethostname()}:{os.getpid()}",
            SqlAnalyses(database, UtcClock()),
            prober,
            analyse,
            _pause if wake_fd is None else Waiting(wake_fd),
            lease_seconds=settings.lease_seconds,
            discard=artifacts.discard,
        )
    finally:
        prober.close()
        database.close()


def _artifacts(settings: Settings, database: Database) -> FileArtifacts:
    return FileArtifacts(
        settings.data_dir / "artifacts",
        database,
        UtcClock(),
        max_bytes=settings.max_upload_mb * MIB,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        wall_seconds=settings.probe_seconds,
        cpu_seconds=int(settings.probe_cpu_seconds),
        memory_mb=settings.probe_memory_mb,
        reply_bytes=settings.reply_max_mb * MIB,
    )


def _say_what_to_expect(analyses: SqlAnalyses, uploads_refused: str | None) -> None:
    if not analyses.ready():
        log.warning("the database has not the current schema, nothing will work: make migrate")
    if uploads_refused is None:
        log.info("accepting", formats=["spec", "torchscript"])
    else:
        log.warning("accepting specs only", uploads_refused=uploads_refused)


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return True
