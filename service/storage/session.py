"""One unit of work: a transaction that commits at its end, and nowhere else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, Pool

from service.domain.errors import StorageFull

BUSY_SECONDS = 30
"""How long a SQLite writer waits for another one."""
POOL, POOL_OVERFLOW = 5, 5
"""Connections of one process to PostgreSQL: kept open, and at most so many more for a while. A
worker uses 2 at once (its work and its heartbeat), an API one per call at work in its threads."""
CONNECT_SECONDS, POOL_SECONDS = 5, 30
"""How long a server may take to accept a connection, and how long one of the pool's is waited
for."""
DISK_FULL, LOCK_NOT_AVAILABLE = "53100", "55P03"
"""PostgreSQL's SQLSTATEs."""


class Database:
    """A database by URL: SQLite (WAL) or PostgreSQL (psycopg 3)."""

    def __init__(self, url: str) -> None:
        """Nothing connects before the first unit of work; SQLite's folder is created then."""
        self._engine = _engine(make_url(url))
        self._aside = self._engine if self.is_local else _postgresql(make_url(url), NullPool)
        self._writing = self._engine.execution_options(graddx_write=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view, written to by nobody. Raises StorageFull: SQLite writes to read."""
        with _room_is_needed(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """All or nothing: commits at the end, rolls back when the block raises. Raises
        StorageFull."""
        with _room_is_needed(), self._writing.begin() as connection:
            yield connection

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return self._engine.dialect.name == "sqlite"

    def time(self) -> datetime:
        """The server's own clock, UTC. Asked beside the pool: whoever asks may hold a connection,
        and must not wait for a second one that others hold who wait for the answer."""
        with self._aside.connect() as connection:
            told: datetime = connection.scalars(select(func.clock_timestamp())).one()
        return told.astimezone(UTC)

    def close(self) -> None:
        """Return every pooled connection."""
        self._engine.dispose()


def waited_in_vain(error: DBAPIError) -> bool:
    """Whether a statement was given up because another transaction holds what it wants."""
    busy = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
    return busy or getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE


@contextmanager
def _room_is_needed() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if _full(error.orig):
            raise StorageFull("the disk of this server's database is full") from error
        raise


def _full(error: BaseException | None) -> bool:
    """By the codes of SQLite (13, SQLITE_FULL) and PostgreSQL (53100, disk_full)."""
    of_sqlite = getattr(error, "sqlite_errorcode", None)
    return of_sqlite == sqlite3.SQLITE_FULL or getattr(error, "sqlstate", None) == DISK_FULL


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    return _postgresql(
        url,
        pool_pre_ping=True,
        pool_size=POOL,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_SECONDS,
    )


def _postgresql(url: URL, pool: type[Pool] | None = None, **options: Any) -> Engine:
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        poolclass=pool,
        **options,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            # A server that vanished without a word is noticed within half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
        },
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_timeout=BUSY_SECONDS)

    @event.listens_for(engine, "do_connect")
    def _folder(*_: Any) -> None:
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        # The driver would open transactions of its own, always deferred ones.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writing one fails at once when another wrote
        # in between ('database is locked'); one that is a writer from its start waits its turn.
        writing = connection.get_execution_options().get("graddx_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
