"""Storing a new analysis: its row, labels and files, and the Idempotency-Key it came with, all in
the transaction of the caller."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, text, update

from service.domain.analysis import Analysis, Status
from service.domain.errors import (
    AnalysisNotFound,
    ArtifactNotFound,
    IdempotencyConflict,
    QueueFull,
)
from service.ports import Once
from service.storage import mapping
from service.storage.tables import (
    MADE,
    analyses,
    artifacts,
    idempotency_keys,
    labels,
    layers,
    uses,
)

LOCK_SECONDS = 5
"""How long a request waits for the first one with its Idempotency-Key to be stored (PostgreSQL;
writers of SQLite wait for each other as it is)."""


def made_by(connection: Connection, owner: str, once: Once) -> str | None:
    """Id of the analysis that this key has made. Raises IdempotencyConflict."""
    row = connection.execute(
        select(idempotency_keys.c.request_sha256, idempotency_keys.c.analysis_id).where(
            idempotency_keys.c.owner == owner, idempotency_keys.c.key == once.key
        )
    ).first()
    if row is None:
        return None
    if row.request_sha256 != once.request_sha256:
        raise IdempotencyConflict("this Idempotency-Key was used with another request before")
    return str(row.analysis_id)


def store(connection: Connection, analysis: Analysis, question: str | None, now: datetime) -> None:
    """Row, labels and notes of the files. Raises ArtifactNotFound when a file it refers to is
    gone."""
    if rows := _uses(connection, analysis, now):
        connection.execute(insert(uses), rows)
    told = {"question": question, "dispatched_at": now}  # by the caller, when this is stored
    values = {**mapping.analysis_values(analysis), **told}
    connection.execute(insert(analyses), values)
    if rows := mapping.label_values(analysis):
        connection.execute(insert(labels), rows)


def copy_answer(connection: Connection, source_id: str, analysis: Analysis) -> None:
    """Give a stored analysis the result of another one, which succeeded. Raises AnalysisNotFound
    when that one is gone."""
    answer = select(analyses.c.verdict, analyses.c.passed, analyses.c.report).where(
        analyses.c.id == source_id,
        analyses.c.owner == analysis.owner,
        analyses.c.status == Status.SUCCEEDED.value,
    )
    row = connection.execute(answer.with_for_update(read=True)).mappings().first()
    if row is None:
        raise AnalysisNotFound(f"no analysis {source_id}")
    times = {"started_at": analysis.started_at, "finished_at": analysis.finished_at}
    final = {"status": Status.SUCCEEDED.value, "cached": True, **times, **row}
    connection.execute(update(analyses).where(analyses.c.id == analysis.id).values(final))
    of_source = select(
        literal(analysis.id), layers.c.index, layers.c.name, layers.c.statistics
    ).where(layers.c.analysis_id == source_id)
    names = ["analysis_id", "index", "name", "statistics"]
    connection.execute(insert(layers).from_select(names, of_source))
    for artifact_id in connection.scalars(
        select(uses.c.artifact_id).where(
            uses.c.analysis_id == source_id, uses.c.upload == MADE, uses.c.retain
        )
    ).all():
        own(connection, analysis, artifact_id)


def own(connection: Connection, analysis: Analysis, artifact_id: str) -> None:
    """Note that the analysis made this file, unless it is gone or was given to the analysis."""
    mine = (artifacts.c.owner == analysis.owner) & (artifacts.c.id == artifact_id)
    known = select(artifacts.c.id).where(mine).with_for_update()
    noted = select(uses.c.artifact_id).where(
        uses.c.analysis_id == analysis.id, uses.c.artifact_id == artifact_id
    )
    if connection.scalar(known) is None or connection.scalar(noted) is not None:
        return
    row = {
        "analysis_id": analysis.id,
        "artifact_id": artifact_id,
        "owner": analysis.owner,
        "upload": MADE,
        "retain": analysis.request.retain == "all",
    }
    connection.execute(insert(uses), row)


def keep_key(connection: Connection, analysis: Analysis, once: Once, now: datetime) -> None:
    """Note which analysis this key has made. Raises IntegrityError when another transaction was
    quicker, and, on PostgreSQL, OperationalError when that one does not end."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    connection.execute(
        insert(idempotency_keys),
        {
            "owner": analysis.owner,
            "key": once.key,
            "request_sha256": once.request_sha256,
            "analysis_id": analysis.id,
            "created_at": now,
        },
    )


def check_queue(connection: Connection, limit: int | None) -> None:
    """Raises QueueFull when `limit` analyses wait already."""
    waiting = select(func.count()).where(analyses.c.status == Status.QUEUED.value)
    if limit is not None and (connection.scalar(waiting) or 0) >= limit:
        raise QueueFull(f"{limit} analyses are waiting already; try again later")


def _uses(connection: Connection, analysis: Analysis, now: datetime) -> list[dict[str, Any]]:
    """Rows of the files it refers to. They cannot be deleted before it is stored."""
    wanted = analysis.request.artifact_ids
    if not wanted:
        return []
    mine = (artifacts.c.owner == analysis.owner) & artifacts.c.id.in_(wanted)
    # In one order everywhere: two that lock the same files must not wait for each other.
    order = select(artifacts.c.id, artifacts.c.upload).where(mine).order_by(artifacts.c.id)
    found = connection.execute(order.with_for_update()).all()
    if missing := wanted - {row.id for row in found}:
        raise ArtifactNotFound(f"no artifact {min(missing)}")
    connection.execute(update(artifacts).where(mine).values(used_at=now))
    facts = {
        "analysis_id": analysis.id,
        "owner": analysis.owner,
        "retain": analysis.request.retain == "all",
    }
    return [{**facts, "artifact_id": row.id, "upload": row.upload} for row in found]
