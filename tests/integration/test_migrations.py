"""Migrations, up and down, on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from alembic import command
from service.storage.analyses import SqlAnalyses
from service.storage.session import Database
from service.storage.tables import REVISION, metadata
from tests.integration.stored_examples import HeldClock

ROOT = Path(__file__).parents[2]


def _config(url: str) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.attributes["database_url"] = url
    return config


def _tables(url: str) -> set[str]:
    database = Database(url)
    try:
        with database.read() as connection:
            return set(inspect(connection).get_table_names()) - {"alembic_version"}
    finally:
        database.close()


def _execute(url: str, *statements: str) -> None:
    database = Database(url)
    try:
        with database.write() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
    finally:
        database.close()


def _rows(url: str, query: str) -> list[tuple[Any, ...]]:
    database = Database(url)
    try:
        with database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]
    finally:
        database.close()


def test_up_gives_the_tables_and_down_takes_them_away(empty_url: str) -> None:
    command.upgrade(_config(empty_url), "head")
    assert _tables(empty_url) == set(metadata.tables)
    command.downgrade(_config(empty_url), "base")
    assert _tables(empty_url) == set()
    command.upgrade(_config(empty_url), "head")
    assert _tables(empty_url) == set(metadata.tables)


def test_analyses_and_files_of_before_are_kept_and_their_files_are_needed(empty_url: str) -> None:
    command.upgrade(_config(empty_url), "0001")
    uploaded = {"kind": "artifact", "artifact_id": "sha256:" + "ab" * 32}
    described: dict[str, Any] = {"kind": "spec", "spec": {}, "artifact_id": None}
    _execute(
        empty_url,
        "INSERT INTO artifacts VALUES "
        f"('{uploaded['artifact_id']}', 5, 'torchscript', '2026-11-20 12:00:00')",
        *(
            "INSERT INTO analyses (id, status, created_at, attempt, request) VALUES "
            f"('{number}', 'queued', '2026-11-20 12:00:00', 0, '{json.dumps({'model': model})}')"
            for number, model in enumerate((uploaded, described))
        ),
    )
    command.upgrade(_config(empty_url), "head")
    assert _rows(empty_url, "SELECT analysis_id, artifact_id, upload FROM uses WHERE retain") == [
        ("0", uploaded["artifact_id"], "")
    ]
    assert _rows(empty_url, "SELECT size, upload FROM artifacts") == [(5, "")]
    command.downgrade(_config(empty_url), "0001")
    assert _rows(empty_url, "SELECT size, format FROM artifacts") == [(5, "torchscript")]
    assert len(_rows(empty_url, "SELECT id FROM analyses")) == 2
    command.upgrade(_config(empty_url), "head")
    assert len(_rows(empty_url, "SELECT * FROM uses")) == 1


def test_what_was_there_before_owners_is_the_local_owners(empty_url: str) -> None:
    command.upgrade(_config(empty_url), "0002")
    at = "'2026-11-20 12:00:00'"
    _execute(
        empty_url,
        "INSERT INTO analyses (id, status, created_at, attempt, request) "
        f"VALUES ('0', 'queued', {at}, 0, '{{}}')",
        "INSERT INTO labels VALUES ('0', 'branch', 'main')",
        f"INSERT INTO artifacts VALUES ('sha256:0', 5, 'npz', {at}, 'u')",
        "INSERT INTO uses VALUES ('0', 'sha256:0', 'u', 'true')",
    )
    command.upgrade(_config(empty_url), "head")
    for table in ("analyses", "artifacts", "uses"):
        assert _rows(empty_url, f"SELECT owner FROM {table}") == [("local",)]
    assert _rows(empty_url, "SELECT used_at = created_at FROM artifacts") == [(True,)]
    _execute(
        empty_url,
        "INSERT INTO artifacts (owner, id, size, format, created_at, used_at) "
        f"VALUES ('other', 'sha256:0', 5, 'npz', {at}, {at})",
        f"INSERT INTO idempotency_keys VALUES ('local', 'k', 'd', '0', {at})",
    )
    command.downgrade(_config(empty_url), "0002")
    assert _rows(empty_url, "SELECT id, upload FROM artifacts") == [("sha256:0", "u")]
    assert _rows(empty_url, "SELECT key, value FROM labels") == [("branch", "main")]
    command.upgrade(_config(empty_url), "head")
    assert _rows(empty_url, "SELECT value FROM labels") == [("main",)]


def test_what_was_at_work_before_there_were_queues_goes_on(empty_url: str) -> None:
    command.upgrade(_config(empty_url), "0003")
    at = "'2026-11-21 12:00:00'"
    _execute(
        empty_url,
        *(
            "INSERT INTO analyses (id, status, created_at, attempt, request, question) "
            f"VALUES ('{number}', '{status}', {at}, {attempt}, '{{}}', 'q')"
            for number, (status, attempt) in enumerate(
                [("queued", 0), ("running", 2), ("succeeded", 2)]
            )
        ),
        "INSERT INTO layers VALUES ('2', 0, 'fc1', '{}')",
        f"INSERT INTO idempotency_keys VALUES ('local', 'k', 'd', '2', {at})",
    )
    command.upgrade(_config(empty_url), "head")
    assert _rows(empty_url, "SELECT id, queue, lost FROM analyses ORDER BY id") == [
        ("0", "cpu", 0),
        ("1", "cpu", 1),
        ("2", "cpu", 0),
    ]
    command.downgrade(_config(empty_url), "0003")
    assert _rows(empty_url, "SELECT id, attempt, question FROM analyses ORDER BY id") == [
        ("0", 0, "q"),
        ("1", 2, "q"),
        ("2", 2, "q"),
    ]
    assert _rows(empty_url, "SELECT name FROM layers") == [("fc1",)]
    command.upgrade(_config(empty_url), "head")
    assert _rows(empty_url, "SELECT key, analysis_id FROM idempotency_keys") == [("k", "2")]


def test_migrations_and_tables_agree(empty_url: str) -> None:
    command.upgrade(_config(empty_url), "head")
    command.check(_config(empty_url))  # raises when a migration would be needed


def test_the_database_is_ready_only_with_the_current_schema(empty_url: str) -> None:
    database = Database(empty_url)
    analyses = SqlAnalyses(database, HeldClock())
    assert not analyses.ready()
    command.upgrade(_config(empty_url), "head")
    assert analyses.ready()
    command.downgrade(_config(empty_url), "base")
    assert not analyses.ready()
    database.close()


def test_the_schema_s_revision_is_the_last_migration(tmp_path: Path) -> None:
    assert ScriptDirectory(str(ROOT / "alembic")).get_current_head() == REVISION


def test_the_command_line_migrates_the_database_of_the_settings(tmp_path: Path) -> None:
    migrate = (
        "import sys; from alembic.config import main; main(['upgrade', 'head']); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    environment = {"GRADDX_DATA_DIR": str(tmp_path / "data"), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", migrate], cwd=ROOT, env=environment, check=True)
    assert _tables(f"sqlite:///{tmp_path}/data/graddx.sqlite3") == set(metadata.tables)
