"""The analyses table as a queue: who may take what, and what nobody was told of. Statements within
the caller's transaction.

A claim is a compare-and-set on (status, attempt) that sets a lease. Whoever claims what another one
holds counts it as lost; what is handed back is not.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, update

from service.domain.analysis import Failure, Queue, Stage, Status
from service.domain.errors import WorkerLost
from service.domain.progress import progress
from service.ports import Backlog
from service.storage import mapping
from service.storage.tables import analyses, is_open

MAX_LOST = 3
"""Workers an analysis may cost before it is given up."""

LOST = Failure(
    WorkerLost.code,
    WorkerLost.title,
    f"{MAX_LOST} workers in a row were lost while they worked on this analysis",
)

_queued = analyses.c.status == Status.QUEUED.value
_running = analyses.c.status == Status.RUNNING.value


def claimable(now: datetime, queues: Collection[Queue] | None) -> Select[Any]:
    """The oldest analysis that waits in these queues (None: in any), or whose lease ran out."""
    return _offered(or_(_queued, _expired(now)), queues).order_by(analyses.c.id).limit(1)


def claim_oldest(
    connection: Connection,
    worker: str,
    now: datetime,
    lease_seconds: float,
    queues: Collection[Queue] | None,
) -> tuple[str, int] | None:
    """Id and attempt of what this worker has now; None: another one was quicker, or it is given
    up."""
    row = connection.execute(claimable(now, queues).with_for_update(skip_locked=True)).first()
    return None if row is None else _take(connection, row, worker, now, lease_seconds)


def claim_this(
    connection: Connection,
    analysis_id: str,
    worker: str,
    now: datetime,
    lease_seconds: float,
    silent_since: datetime | None,
) -> int | None:
    """The attempt, when this analysis waits, its lease ran out, or its holder has not extended the
    lease beyond `silent_since`; else None."""
    free = or_(_queued, _expired(now))
    if silent_since is not None:
        free = or_(free, and_(_running, analyses.c.lease_until == silent_since))
    this = _offered(and_(analyses.c.id == analysis_id, free), None).with_for_update()
    row = connection.execute(this).first()
    taken = None if row is None else _take(connection, row, worker, now, lease_seconds)
    return None if taken is None else taken[1]


def lease(connection: Connection, analysis_id: str) -> datetime | None:
    """Until when somebody holds this analysis; None: nobody does."""
    held = select(analyses.c.lease_until).where(analyses.c.id == analysis_id, _running)
    until: datetime | None = connection.scalar(held)
    return until


def overdue(
    connection: Connection,
    queue: Queue,
    now: datetime,
    before: datetime,
    *,
    waiting: bool,
    limit: int,
) -> tuple[str, ...]:
    """Oldest first, what nobody was told of since `before`: with a lease that ran out or, if
    asked for, waiting. Noted as told of now, so that one sweeper alone has it."""
    due = or_(_queued, _expired(now)) if waiting else _expired(now)
    untold = or_(analyses.c.dispatched_at.is_(None), analyses.c.dispatched_at < before)
    oldest = (
        select(analyses.c.id)
        .where(is_open, untold, due, analyses.c.queue == queue.value)
        .order_by(analyses.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = tuple(connection.scalars(oldest))
    if ids:
        connection.execute(update(analyses).where(analyses.c.id.in_(ids)).values(dispatched_at=now))
    return ids


def backlog(connection: Connection, queue: Queue | None) -> Backlog:
    """What waits and what is at work, in one queue or in all."""
    where = [is_open] if queue is None else [is_open, analyses.c.queue == queue.value]
    rows = connection.execute(
        select(analyses.c.status, func.count(), func.min(analyses.c.created_at))
        .where(*where)
        .group_by(analyses.c.status)
    )
    found = {row[0]: (row[1], row[2]) for row in rows}
    waiting, oldest = found.get(Status.QUEUED.value, (0, None))
    return Backlog(waiting, oldest, found.get(Status.RUNNING.value, (0, None))[0])


def _offered(free: ColumnElement[bool], queues: Collection[Queue] | None) -> Select[Any]:
    row = select(analyses.c.id, analyses.c.status, analyses.c.attempt, analyses.c.lost)
    row = row.where(is_open, free)
    return row if queues is None else row.where(analyses.c.queue.in_([q.value for q in queues]))


def _expired(now: datetime) -> ColumnElement[bool]:
    return and_(_running, analyses.c.lease_until < now)


def _take(
    connection: Connection, row: Row[Any], worker: str, now: datetime, lease_seconds: float
) -> tuple[str, int] | None:
    lost = row.lost + (row.status == Status.RUNNING.value)
    if lost >= MAX_LOST:
        _compare_and_set(connection, row, {**failed(LOST), **finished(now), "lost": lost})
        return None
    attempt = row.attempt + 1
    values = {
        "status": Status.RUNNING.value,
        "attempt": attempt,
        "lost": lost,
        "worker": worker,
        "started_at": now,
        "lease_until": now + timedelta(seconds=lease_seconds),
        **mapping.progress_values(progress(Stage.LOAD)),
    }
    return (row.id, attempt) if _compare_and_set(connection, row, values) else None


def _compare_and_set(connection: Connection, row: Row[Any], values: dict[str, Any]) -> bool:
    unchanged = and_(
        analyses.c.id == row.id,
        analyses.c.status == row.status,
        analyses.c.attempt == row.attempt,
    )
    return bool(connection.execute(update(analyses).where(unchanged).values(values)).rowcount)


def failed(failure: Failure) -> dict[str, Any]:
    """Columns of an analysis that failed so."""
    return {"status": Status.FAILED.value, "error": mapping.to_json(failure)}


def finished(now: datetime) -> dict[str, Any]:
    """Columns of an analysis that nobody works on any more."""
    return {"finished_at": now, "lease_until": None, **mapping.NO_PROGRESS}
