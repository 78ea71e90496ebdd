"""The one place that names concrete parts: settings in, use cases or a worker out."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from threading import Event, Thread

import structlog

from service.config import Settings
from service.dispatch.devices import visible_gpus
from service.dispatch.embedded import EmbeddedDispatcher
from service.dispatch.wakeup import Waiting
from service.domain.analysis import Queue
from service.domain.baseline import Baseline, baseline_of
from service.domain.errors import AnalysisNotFound
from service.importing import nothing_collected
from service.intake.check import check_model
from service.intake.program import program_in
from service.intake.unknown import describe
from service.ports import Artifact, Dispatcher, WorkerFacts
from service.presence import Presence
from service.sandbox.limits import MIB, Limits
from service.sandbox.seal import why_unsealable
from service.storage.analyses import SqlAnalyses
from service.storage.api_keys import SqlApiKeys
from service.storage.artifact_store import FileArtifacts
from service.storage.clock import DatabaseClock
from service.storage.input_guess import guess_inputs
from service.storage.pruning import prune_analyses, prune_layers
from service.storage.session import Database
from service.storage.tables import MADE
from service.storage.tensor_headers import read_headers
from service.storage.workers import SqlWorkers
from service.use_cases import UseCases
from service.worker import Outcome, Worker

log = structlog.get_logger()

ENTRY = "service.probing.child:serve"
"""A child's life; by name, because only the child may import torch."""
WARM_UP = "service.probing.child:warm_up"
"""One whole job before the first fork."""
WARM_UP_SYMBOLIC = "service.probing.symbolic:warm_up"
"""Another before the first exported program, or spec that comes near the memory's bound."""
REHEARSE = "service.probing.child:rehearse"
"""What the next child does while it waits."""
CHECKED_FILES = 4096
"""Models that are known to have passed the filter: named by their content, they never change."""
CPU = "cpu"
SWEEP_SECONDS = 600
"""Between two looks for what is kept too long."""


class Unprotected(Exception):
    """Strangers could use the server; the message says what to do."""


class UtcClock:
    """`service.ports.Clock`: this machine's."""

    def now(self) -> datetime:
        """UTC."""
        return datetime.now(UTC)


@contextmanager
def engine(settings: Settings, version: str) -> Iterator[UseCases]:
    """The use cases, with local workers at work while the block runs. Raises
    Unprotected."""
    database = Database(settings.database_url)
    clock = DatabaseClock(database)
    analyses = SqlAnalyses(database, clock)
    registry = SqlWorkers(database, clock)
    dispatcher = _dispatcher(settings, analyses, registry)
    artifacts = _artifacts(settings, database)
    keys = SqlApiKeys(database, clock)
    refused = None if settings.run_uploads_unsealed else why_unsealable()
    use_cases = UseCases(
        analyses,
        artifacts,
        keys,
        dispatcher,
        clock,
        version=version,
        open_without_keys=not settings.beyond_this_machine,
        queue_limit=settings.queue_limit,
        needs_worker=settings.workers > 0 or settings.broker_url is not None,
        workers=registry,
        why_uploads_are_refused=refused,
        uploads_may_use_gpus=settings.run_uploads_on_gpu,
        guess_inputs=guess_inputs,
        read_headers=read_headers,
        check_model=lru_cache(CHECKED_FILES)(check_model),
        describe_unknown=describe,
        read_program=program_in,
    )
    try:
        _refuse_to_be_open(settings, analyses, keys)
        _say_what_to_expect(analyses, refused)
        with _swept(settings, analyses, artifacts):
            dispatcher.start()
            try:
                yield use_cases
            finally:
                dispatcher.stop()
    finally:
        database.close()


@contextmanager
def api_keys(settings: Settings) -> Iterator[SqlApiKeys]:
    """The API keys, for whoever runs the server. Raises SystemExit when the schema is not
    current."""
    database = Database(settings.database_url)
    try:
        if not SqlAnalyses(database, UtcClock()).ready():
            raise SystemExit("the database has not the current schema: make migrate")
        yield SqlApiKeys(database, UtcClock())
    finally:
        database.close()


def _dispatcher(settings: Settings, analyses: SqlAnalyses, registry: SqlWorkers) -> Dispatcher:
    """Local workers, or the broker that tells those elsewhere."""
    if settings.broker_url is None:
        return EmbeddedDispatcher(settings.workers, settings.environment())
    # Only here: Celery is an extra.
    from service.dispatch.celery_app import make_app
    from service.dispatch.publisher import BrokerDispatcher

    prefix = settings.broker_prefix
    app = make_app(settings.broker_url, prefix, publishing=True)
    return BrokerDispatcher(app, prefix, analyses, registry.up)


def consume(settings: Settings) -> int:
    """Work on what the broker delivers until told to stop; returns the exit status."""
    from service.dispatch.celery_app import make_app
    from service.dispatch.consumer import consume as take

    if settings.broker_url is None:
        raise ValueError("there is no broker in the settings")
    prefix, name = settings.broker_prefix, _name()
    return take(
        make_app(settings.broker_url, prefix),
        prefix,
        _queues(settings) or (Queue.CPU,),
        name,
        partial(worker, settings),
        Outcome.HANDED_BACK,
    )


def prune(settings: Settings, days: float, *, layers_only: bool) -> int:
    """Delete final analyses that were asked for more than so many days ago, or only their per-layer
    statistics, and the files that nobody needs any more; returns how many analyses."""
    database = Database(settings.database_url)
    try:
        before = DatabaseClock(database).now() - timedelta(days=days)
        if layers_only:
            return prune_layers(database, before)
        pruned = prune_analyses(database, before)
        _artifacts(settings, database).discard()
        return pruned
    finally:
        database.close()


def _queues(settings: Settings) -> tuple[Queue, ...]:
    return tuple(Queue(name) for name in settings.queues.split(",") if name)


def _name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _facts(settings: Settings) -> WorkerFacts:
    """This process as it announces itself."""
    everything = tuple(Queue) if settings.broker_url is None else (Queue.CPU,)
    queues = _queues(settings) or everything
    gpu = next(iter(visible_gpus()), None) if Queue.GPU in queues else None
    if gpu is None:
        served = tuple(queue for queue in queues if queue is not Queue.GPU)
        return WorkerFacts(_name(), served, CPU, settings.probe_memory_mb)
    return WorkerFacts(_name(), queues, gpu.name, gpu.memory_mb)


@contextmanager
def worker(settings: Settings, wake_fd: int | None = None) -> Iterator[Worker]:
    """A worker, its zygote warm, announced. `wake_fd`: the dispatcher's pipe; None: look every
    second."""
    # Only here: the API, which starts workers, needs none of this.
    with nothing_collected():
        from service.pipeline import analyse
        from service.sandbox.prober import ZygoteProber

    database = Database(settings.database_url)
    clock = DatabaseClock(database)
    analyses = SqlAnalyses(database, clock)
    facts = _facts(settings)
    presence = Presence(SqlWorkers(database, clock), facts)
    artifacts = _artifacts(settings, database)
    files = _FilesAtWork(artifacts)
    prober = ZygoteProber(
        _limits(settings),
        ENTRY,
        WARM_UP,
        files.path,
        rehearse=REHEARSE,
        warm_up_symbolic=WARM_UP_SYMBOLIC,
        threads=settings.threads_of_a_child,
        run_uploads_unsealed=settings.run_uploads_unsealed,
        gpu=facts.device != CPU,
        gpu_memory_fraction=settings.gpu_memory_fraction,
        run_uploads_on_gpu=settings.run_uploads_on_gpu,
    )
    try:
        prober.start()
        with presence:
            yield Worker(
                facts.name,
                analyses,
                prober,
                partial(analyse, keep=files.keep, find_baseline=partial(_baseline, analyses)),
                _pause if wake_fd is None else Waiting(wake_fd),
                lease_seconds=settings.lease_seconds,
                discard=files.discard,
                work_for=files.of,
                queues=_queues(settings) or None,
                note=presence.note,
            )
    finally:
        prober.close()
        database.close()


def _baseline(analyses: SqlAnalyses, analysis_id: str) -> Baseline | None:
    """Found for its owner when the comparison was asked for; None: deleted since."""
    with suppress(AnalysisNotFound):
        return baseline_of(analyses.get(analysis_id))
    return None


class _FilesAtWork:
    """What the ids in an analysis mean: the files of its owner, found whole."""

    def __init__(self, artifacts: FileArtifacts) -> None:
        self._artifacts = artifacts
        self._made: list[Artifact] = []

    def of(self, owner: str) -> None:
        """From now on the worker is at an analysis of this owner."""
        self._artifacts = self._artifacts.owned_by(owner)

    def path(self, artifact_id: str) -> Path:
        """Where the content lies. Raises ArtifactNotFound."""
        return self._artifacts.checked(artifact_id)

    def keep(self, content: bytes) -> str:
        """Store what the analysis made; its id. Raises StorageFull, PayloadTooLarge."""
        made = self._artifacts.keep(content)
        self._made.append(made)
        return made.id

    def discard(self) -> None:
        """What was made for an analysis that was not saved, and what ended ones do not retain."""
        while self._made:
            made = self._made.pop()
            if made.upload == MADE:
                self._artifacts.withdraw(made)
        self._artifacts.discard()


def _refuse_to_be_open(settings: Settings, analyses: SqlAnalyses, keys: SqlApiKeys) -> None:
    """Raises Unprotected."""
    if not settings.beyond_this_machine:
        return
    now = UtcClock().now()
    if not (analyses.ready() and any(key.active(now) for key in keys.list())):
        raise Unprotected(
            f"GRADDX_HOST={settings.host} can be reached from other machines, and there is no API "
            "key that calls would need: make one with `python -m api keys create --name NAME`, or "
            "set GRADDX_ALLOW_ANYONE=true if anyone who reaches this server may use it"
        )


@contextmanager
def _swept(settings: Settings, analyses: SqlAnalyses, artifacts: FileArtifacts) -> Iterator[None]:
    """Now and every SWEEP_SECONDS while the block runs: what is kept too long is deleted."""
    stopping = Event()

    def sweep() -> None:
        while True:
            try:
                sweep_once(settings, analyses, artifacts)
            except Exception:
                log.exception("what is kept too long could not be deleted")
            if stopping.wait(SWEEP_SECONDS):
                return

    thread = Thread(target=sweep, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def sweep_once(settings: Settings, analyses: SqlAnalyses, artifacts: FileArtifacts) -> None:
    """Delete what uploads that were killed left behind, files that nobody needs or uses, and old
    Idempotency-Keys."""
    artifacts.tidy()
    if not analyses.ready():
        return
    now = UtcClock().now()
    artifacts.discard()
    if settings.unused_file_days:
        artifacts.expire(now - timedelta(days=settings.unused_file_days))
    analyses.forget_keys(now - timedelta(hours=settings.idempotency_hours))


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
        log.info("accepting", formats=["spec", "keras", "torchscript", "exported_program"])
    else:
        log.warning("accepting specs only", uploads_refused=uploads_refused)


def _pause(seconds: float) -> bool:
    time.sleep(seconds)
    return True
