"""Which files may go: statements about who needs a file, and who has given it up.

A file is needed by every analysis that goes on and by every one that retains its files. It is
given up by a final analysis that does not, as it was sent then: content that came again since was
given for another purpose, perhaps for an analysis that is about to be asked for.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Delete, FromClause, Select, delete, exists, select

from service.domain.analysis import Status
from service.storage.tables import analyses, artifacts, uses

OPEN = (Status.QUEUED.value, Status.RUNNING.value)
"""Statuses of an analysis that goes on."""


def lock(artifact_id: str) -> Select[Any]:
    """The upload of a file, None without it; nobody can send, refer to or delete it meanwhile."""
    return select(artifacts.c.upload).where(artifacts.c.id == artifact_id).with_for_update()


def needed(artifact_id: str) -> Select[Any]:
    """Whether any analysis needs this file."""
    return select(exists().where(uses.c.artifact_id == artifact_id, uses.c.retain | _goes_on(uses)))


def given_up() -> Select[Any]:
    """Ids of files that are given up and not needed."""
    others = uses.alias("others")
    needed_by_another = exists().where(
        others.c.artifact_id == uses.c.artifact_id, others.c.retain | _goes_on(others)
    )
    return (
        select(artifacts.c.id)
        .join(uses, (uses.c.artifact_id == artifacts.c.id) & (uses.c.upload == artifacts.c.upload))
        .where(~uses.c.retain, ~_goes_on(uses), ~needed_by_another)
        .distinct()
    )


def forget(artifact_id: str) -> Delete:
    """Delete the notes of those who gave up a file, once it is gone."""
    return delete(uses).where(uses.c.artifact_id == artifact_id, ~uses.c.retain, ~_goes_on(uses))


def _goes_on(use: FromClause) -> ColumnElement[bool]:
    return exists().where(analyses.c.id == use.c.analysis_id, analyses.c.status.in_(OPEN))
