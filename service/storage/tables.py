"""The schema. Migrations in `alembic/versions` are written by hand and tested against it."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    literal_column,
)

from service.domain.analysis import Queue, Status
from service.domain.api_keys import LOCAL

REVISION = "0005"
"""The migration that gives this schema."""

NAME_LENGTH = 255
"""Longest indexed layer name; PostgreSQL refuses index entries over 2,704 bytes."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime; SQLite stores no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

analyses = Table(
    "analyses",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", String(64), nullable=False, server_default=LOCAL),
    Column("status", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("attempt", Integer, nullable=False),
    Column("lost", Integer, nullable=False, server_default="0"),
    Column("queue", String(8), nullable=False, server_default=Queue.CPU.value),
    Column("dispatched_at", UtcDateTime),
    Column("request_id", String(64)),
    Column("worker", String(255)),
    Column("lease_until", UtcDateTime),
    Column("stage", String(16)),
    Column("percent", SmallInteger),
    Column("model_format", String(32)),
    Column("model_sha256", String(64)),
    Column("verdict", String(16)),
    Column("passed", Boolean),
    Column("request", Text, nullable=False),
    Column("error", Text),
    Column("report", Text),
    Column("cached", Boolean, nullable=False, server_default=false()),
    Column("question", String(64)),
    Index(None, "owner", "id"),
    Index(None, "owner", "question", "id"),
    Index(None, "status", "id"),
    Index(None, "verdict", "id"),
    Index(None, "model_sha256", "id"),
)
"""One row per analysis; `request`, `error` and `report` (without its layers) are JSON. `question`
is the digest of what decides the answer: rows of one owner that share it have the same one.
`attempt` counts claims and is the fence, `lost` only those whose worker was lost. `dispatched_at`
is when a message about it was sent last."""

is_open = analyses.c.status.in_(
    [literal_column(f"'{status.value}'") for status in (Status.QUEUED, Status.RUNNING)]
)
"""The analysis goes on. Written out, not bound: only so is the index below known to hold all."""

Index("ix_analyses_open", analyses.c.id, postgresql_where=is_open, sqlite_where=is_open)
"""What workers look through: it stays as small as the queue, however many analyses are final."""

_analysis = "analyses.id"

layers = Table(
    "layers",
    metadata,
    Column("analysis_id", ForeignKey(_analysis, ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("statistics", Text, nullable=False),
    Index(None, "name", "analysis_id"),
)
"""One row per layer of a succeeded analysis; `statistics` is JSON, name and index repeated so
that one layer can be followed over many analyses."""

labels = Table(
    "labels",
    metadata,
    Column("analysis_id", ForeignKey(_analysis, ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
    Index(None, "key", "value", "analysis_id"),
)
"""The caller's key-value pairs."""

artifacts = Table(
    "artifacts",
    metadata,
    Column("owner", String(64), primary_key=True, server_default=LOCAL),
    Column("id", String(71), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("format", String(32), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("upload", String(32), nullable=False, server_default=""),
    Column("used_at", UtcDateTime, nullable=False),
    Index(None, "used_at"),
)
"""One row per stored file of an owner; the content lies in that owner's folder under the same
digest. `upload` names the last time it was sent, "" is before that was noted; `used_at` is when it
was last sent or referred to."""

MADE = "made"
"""`upload` of a file that an analysis made: nobody has sent it, and it goes with that analysis."""

uses = Table(
    "uses",
    metadata,
    Column("analysis_id", String(36), primary_key=True),
    Column("artifact_id", String(71), primary_key=True),
    Column("owner", String(64), nullable=False, server_default=LOCAL),
    Column("upload", String(32), nullable=False),
    Column("retain", Boolean, nullable=False),
    Index(None, "owner", "artifact_id"),
    Index(None, "retain", "artifact_id"),
)
"""Which analysis refers to which file, as it was sent last before. Without foreign keys: a file may
be deleted before its analyses, and what an analysis did not retain stays so when it is deleted."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("analysis_id", ForeignKey(_analysis, ondelete="CASCADE"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "analysis_id"),
    Index(None, "created_at"),
)
"""Which request an owner has sent under which Idempotency-Key, and the analysis it made."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("scopes", String(64), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
)
"""One row per API key, never its secret; `scopes` are separated by blanks."""

workers = Table(
    "workers",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("queues", String(16), nullable=False),
    Column("device", String(128), nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("tally", Text, nullable=False),
    Index(None, "seen_at"),
)
"""One row per worker process: what it serves and with what, and what it has done (JSON)."""
