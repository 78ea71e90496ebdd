"""One unit of work: a transaction that commits at its end, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL

BUSY_SECONDS = 30
"""How long a SQLite writer waits for another one."""


class Database:
    """A database by URL: SQLite (WAL) or PostgreSQL (psycopg 3)."""

    def __init__(self, url: str) -> None:
        """Nothing connects before the first unit of work; SQLite's folder is created then."""
        self._engine = _engine(make_url(url))
        self._writing = self._engine.execution_options(graddx_write=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view, written to by nobody."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """All or nothing: commits at the end, rolls back when the block raises."""
        with self._writing.begin() as connection:
            yield connection

    def close(self) -> None:
        """Return every pooled connection."""
        self._engine.dispose()


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)


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
