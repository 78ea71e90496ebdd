"""Which files may go: statements about who needs a file, and who has given it up.

A file is needed by every analysis that goes on and by every one that retains its files. It is
given up by a final analysis that does not, as it was sent then: content that came again since was
given for another purpose, perhaps for an analysis that is about to be asked for. Every file is one
owner's; the same content sent by two owners is two files.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Delete, FromClause, Select, delete, exists, select

from service.domain.analysis import Status
from service.storage.tables import analyses, artifacts, uses

OPEN = (Status.QUEUED.value, Status.RUNNING.value)
"""Statuses of an analysis that goes on."""


def of(owner: str, artifact_id: str) -> ColumnElement[bool]:
    """An owner's file."""
    return (artifacts.c.owner == owner) & (artifacts.c.id == artifact_id)


def lock(owner: str, artifact_id: str) -> Select[Any]:
    """The upload of a file, None without it; nobody can send, refer to or delete it meanwhile."""
    return select(artifacts.c.upload).where(of(owner, artifact_id)).with_for_update()


def needed(owner: str, artifact_id: str) -> Select[Any]:
    """Whether any analysis needs this file."""
    return select(exists().where(_by(owner, artifact_id), uses.c.retain | _goes_on(uses)))


def given_up() -> Select[Any]:
    """Owners and ids of files that are given up and not needed."""
    others = uses.alias("others")
    needed_by_another = exists().where(
        others.c.owner == uses.c.owner,
        others.c.artifact_id == uses.c.artifact_id,
        others.c.retain | _goes_on(others),
    )
    sent_then = (
        (artifacts.c.owner == uses.c.owner)
        & (artifacts.c.id == uses.c.artifact_id)
        & (artifacts.c.upload == uses.c.upload)
    )
    return (
        select(artifacts.c.owner, artifacts.c.id)
        .join(uses, sent_then)
        .where(~uses.c.retain, ~_goes_on(uses), ~needed_by_another)
        .distinct()
    )


def unused_since(before: datetime) -> Select[Any]:
    """Owners and ids of files that nobody sent or referred to since, and no analysis that goes on
    needs."""
    at_work = exists().where(
        uses.c.owner == artifacts.c.owner, uses.c.artifact_id == artifacts.c.id, _goes_on(uses)
    )
    return select(artifacts.c.owner, artifacts.c.id).where(artifacts.c.used_at < before, ~at_work)


def forget(owner: str, artifact_id: str) -> Delete:
    """Delete the notes of those who gave up a file, once it is gone."""
    return delete(uses).where(_by(owner, artifact_id), ~uses.c.retain, ~_goes_on(uses))


def _by(owner: str, artifact_id: str) -> ColumnElement[bool]:
    return (uses.c.owner == owner) & (uses.c.artifact_id == artifact_id)


def _goes_on(use: FromClause) -> ColumnElement[bool]:
    return exists().where(analyses.c.id == use.c.analysis_id, analyses.c.status.in_(OPEN))
