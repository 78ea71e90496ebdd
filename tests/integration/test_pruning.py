"""What is old is deleted by a command, and a backup is one again: tried, not told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, make_url, select

from service.domain.errors import AnalysisNotFound
from service.storage.analyses import SqlAnalyses
from service.storage.artifact_store import FileArtifacts
from service.storage.clock import DatabaseClock
from service.storage.pruning import BATCH, prune_analyses, prune_layers
from service.storage.session import Database
from service.storage.tables import analyses as rows
from service.storage.tables import labels, layers, metadata
from tests.integration.conftest import new_postgresql_database
from tests.integration.stored_examples import START, HeldClock, queued, report

ROOT = Path(__file__).parents[2]


def _filled(database: Database, count: int) -> list[str]:
    """So many succeeded analyses, a day apart, and one that waits."""
    clock = HeldClock()
    analyses = SqlAnalyses(database, clock)
    ids = []
    for _ in range(count):
        ids.append(analyses.add(queued(clock.now(), branch="main")))
        claim = analyses.claim("w1", lease_seconds=60)
        assert claim is not None
        assert analyses.succeed(claim, report())
        clock.advance(86_400)
    return [*ids, analyses.add(queued(START))]


def _count(database: Database, table: object = rows) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0  # type: ignore[arg-type]


def test_old_analyses_go_with_all_that_is_theirs(database: Database) -> None:
    *old, new, waiting = _filled(database, 4)
    assert prune_analyses(database, START + timedelta(days=2.5)) == 3
    analyses = SqlAnalyses(database, HeldClock())
    for gone in old:
        with pytest.raises(AnalysisNotFound):
            analyses.get(gone)
    assert analyses.get(new).report == report()
    assert analyses.get(waiting).queue_position == 0  # old, but it goes on
    assert (_count(database, layers), _count(database, labels)) == (2, 1)


def test_old_layers_go_and_verdicts_stay(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.pruning.BATCH", 2)
    assert BATCH > 2
    *old, new, _ = _filled(database, 6)
    assert prune_layers(database, START + timedelta(days=4.5)) == 5
    analyses = SqlAnalyses(database, HeldClock())
    for one in old:
        assert analyses.get(one).verdict == "unhealthy"
        assert analyses.layers(one) == ()
    assert len(analyses.layers(new)) == 2
    assert prune_layers(database, START + timedelta(days=4.5)) == 0


def test_the_command_prunes_the_database_of_the_settings(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    _filled(database, 2)
    environment = {
        "GRADDX_DATABASE_URL": database_url,
        "GRADDX_DATA_DIR": str(tmp_path / "data"),
        "PATH": "/usr/bin:/bin",
    }

    def prune(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "service", "prune", *more]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    now = DatabaseClock(database).now()
    assert prune("--days", str((now - START).days + 10)).stdout == "0\n"
    assert prune("--days", str((now - START).days), "--layers-only").returncode == 0
    assert prune("--days", "-1").returncode == 2
    done = prune("--days", "0")
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert _count(database) == 1


def test_a_backup_taken_while_it_is_written_to_is_restored(
    postgresql_server: str, postgresql_schema: str, tmp_path: Path
) -> None:
    dump, restore = shutil.which("pg_dump"), shutil.which("pg_restore")
    if dump is None or restore is None:
        pytest.skip("there is no pg_dump here")
    files, saved = tmp_path / "artifacts", tmp_path / "saved"
    database = Database(postgresql_schema)
    with database.write() as connection:
        connection.exec_driver_sql("TRUNCATE " + ", ".join(metadata.tables))
    stored = FileArtifacts(files, database, HeldClock(), max_bytes=10**6).put([b"a model"])
    first = _filled(database, 2)
    # Rows first, files second: a file without a row is tidied away, a row without its file is not.
    plain = make_url(postgresql_schema).set(drivername="postgresql")
    url = plain.render_as_string(hide_password=False)
    subprocess.run([dump, "-Fc", "-f", tmp_path / "rows", url], check=True)
    shutil.copytree(files, saved)
    later = _filled(database, 1)
    database.close()
    with new_postgresql_database(postgresql_server) as empty:
        subprocess.run([restore, "-d", empty, tmp_path / "rows"], check=True)
        again = Database(empty)
        analyses = SqlAnalyses(again, HeldClock())
        assert analyses.ready()
        assert analyses.get(first[0]).report == report()
        with pytest.raises(AnalysisNotFound):
            analyses.get(later[0])
        assert analyses.claim("w1", lease_seconds=60) is not None
        files_again = FileArtifacts(saved, again, HeldClock(), max_bytes=10**6)
        assert files_again.checked(stored.id).read_bytes() == b"a model"
        again.close()
