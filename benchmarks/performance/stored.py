"""An answer of many layers, stored and given out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from api.layers import Layers
from api.presenting import analysis_json
from benchmarks.performance.watched import status_mb
from service.ports import Claim
from service.storage.analyses import SqlAnalyses
from service.storage.clock import DatabaseClock
from service.storage.session import Database
from service.storage.tables import metadata
from service.use_cases import Engine
from tests.integration.stored_examples import START, queued, report

Taken = tuple[float, float, int]
"""Seconds, MiB, bytes."""
PAGE = 100


def saved(layers: int) -> Taken:
    """What storing so many layers takes; no bytes are told."""
    done = report(layers=tuple(f"body.{n}.fc" for n in range(layers)))
    with _repository() as analyses:
        claim = _claimed(analyses)
        return taken(lambda: int(analyses.succeed(claim, done)))


def paged(layers: int) -> Taken:
    """Of `/layers` in pages, all of them one after the other."""

    def read(engine: Engine, analysis_id: str) -> int:
        size, cursor, more = 0, None, True
        while more:
            page = Layers(engine, analysis_id, PAGE, cursor)
            size += sum(map(len, page.json()))
            cursor, more = page.next_cursor, page.next_cursor is not None
        return size

    return _read(layers, read)


def listed(layers: int) -> Taken:
    """Of `/layers` in one answer."""
    return _read(layers, lambda engine, one: sum(map(len, Layers(engine, one, None, None).json())))


def whole(layers: int) -> Taken:
    """Of the analysis with all its layers."""
    return _read(layers, lambda engine, one: len(analysis_json(engine.get(one))))


def taken(work: Callable[[], int]) -> Taken:
    """What one call takes, memory above what there was; it tells the bytes."""
    before, began = status_mb("VmRSS"), time.perf_counter()
    size = work()
    return time.perf_counter() - began, max(status_mb("VmHWM") - before, 0.1), size


def _read(layers: int, read: Callable[[Engine, str], int]) -> Taken:
    done = report(layers=tuple(f"body.{n}.fc" for n in range(layers)))
    with _repository() as analyses:
        claim = _claimed(analyses)
        assert analyses.succeed(claim, done)
        analysis_id = claim.analysis.id
        del done, claim
        # A repository answers these calls as the engine does.
        return taken(lambda: read(cast(Engine, analyses), analysis_id))


def _claimed(analyses: SqlAnalyses) -> Claim:
    added = queued(START)
    analyses.add(added)
    claim = analyses.claim_this(added.id, "w", lease_seconds=900)
    assert claim is not None
    return claim


@contextmanager
def _repository() -> Iterator[SqlAnalyses]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/graddx.sqlite3")
        with database.write() as connection:
            metadata.create_all(connection)
        yield SqlAnalyses(database, DatabaseClock(database))
        database.close()
