"""Deleting what is old, a little at a time: nobody waits long for a lock, a stop loses nothing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, delete, select, update

from service.storage.session import Database
from service.storage.tables import MADE, analyses, is_open, layers, uses

BATCH = 500
"""Analyses of one transaction; with 30 layers each it takes some tens of milliseconds."""


def prune_analyses(database: Database, before: datetime) -> int:
    """Delete final analyses that were asked for before this time, and their layers, labels and keys
    with them; returns how many. The files they made are given up, for `ArtifactStore.discard`."""
    total = 0
    old = select(analyses.c.id).where(analyses.c.created_at < before, ~is_open)
    while True:
        with database.write() as connection:
            ids = connection.scalars(old.order_by(analyses.c.id).limit(BATCH)).all()
            if not ids:
                return total
            theirs = uses.c.analysis_id.in_(ids)
            connection.execute(delete(uses).where(theirs, uses.c.retain, uses.c.upload != MADE))
            connection.execute(update(uses).where(theirs, uses.c.retain).values(retain=False))
            connection.execute(delete(analyses).where(analyses.c.id.in_(ids)))
        total += len(ids)


def prune_layers(database: Database, before: datetime) -> int:
    """Delete the per-layer statistics of final analyses that were asked for before this time, and
    keep their verdicts and advice; returns how many analyses had any."""
    total, last = 0, ""
    old = and_(analyses.c.created_at < before, ~is_open)
    while True:
        having = (
            select(layers.c.analysis_id)
            .join(analyses, analyses.c.id == layers.c.analysis_id)
            .where(old, layers.c.analysis_id > last)
            .distinct()
            .order_by(layers.c.analysis_id)
            .limit(BATCH)
        )
        with database.write() as connection:
            ids = connection.scalars(having).all()
            if not ids:
                return total
            connection.execute(delete(layers).where(layers.c.analysis_id.in_(ids)))
        total, last = total + len(ids), ids[-1]
