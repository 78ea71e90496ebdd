"""A full disk is 507 storage_full wherever it is met, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from service.domain.errors import StorageFull
from service.storage import artifact_store
from service.storage.session import Database
from tests.integration.front_door import SPEC, FrontDoor, digest, form, torchscript

MODEL = torchscript(os.urandom(300_000))
"""Larger than what ROOM leaves."""
ROOM = 200_000
BODY = {"model": SPEC, "labels": {"branch": "main"}}
LONG = {"model": SPEC, "labels": {str(number): "x" * 256 for number in range(64)}}


@pytest.fixture
def house(database: Database, tmp_path: Path) -> FrontDoor:
    return FrontDoor(database, tmp_path)


def refused(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Writes past it fail with EFBIG, as they do with ENOSPC on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_file_that_finds_no_room_leaves_nothing(house: FrontDoor) -> None:
    kept = torchscript()
    client = house.client()
    client.put("/v1/artifacts", content=kept)
    with no_file_over(ROOM):
        refused(client.put("/v1/artifacts", content=MODEL))
        refused(client.post("/v1/analyses", **form(MODEL)))
        assert house.on_disk() == [digest(kept)]
        assert client.get(f"/v1/artifacts/sha256:{digest(kept)}").status_code == 200
    assert client.get(f"/v1/artifacts/sha256:{digest(MODEL)}").status_code == 404
    assert client.get("/v1/analyses").json()["items"] == []
    assert client.put("/v1/artifacts", content=MODEL).status_code == 201


def test_a_device_without_room_is_told(house: FrontDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A temporary file on a disk that is full: the kernel's own ENOSPC."""

        def __init__(self, dir: Path, delete: bool) -> None:  # noqa: A002
            self._file = open("/dev/full", "wb")  # noqa: SIM115, PTH123
            self.name = str(dir / "never")

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            with suppress(OSError):
                self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    monkeypatch.setattr(artifact_store, "NamedTemporaryFile", Full)
    refused(house.client().put("/v1/artifacts", content=MODEL))
    assert house.on_disk() == []


def test_a_form_that_cannot_be_spooled_is_told(
    house: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "write", full)
    refused(house.client().post("/v1/analyses", **form(MODEL)))
    assert house.on_disk() == []


def test_a_folder_that_cannot_be_made_is_told(
    house: FrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    client = house.client()
    refused(client.put("/v1/artifacts", content=MODEL))
    monkeypatch.undo()
    assert house.on_disk() == []
    # The row was rolled back with the file.
    assert client.put("/v1/artifacts", content=MODEL).status_code == 201


def test_a_full_database_is_told_and_keeps_what_it_has(sqlite_url: str, tmp_path: Path) -> None:
    @event.listens_for(Engine, "begin")
    def bound(connection: Any) -> None:
        if limit:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {limit[0]}")

    limit: list[int] = []
    database = Database(sqlite_url)
    try:
        house = FrontDoor(database, tmp_path)
        client = house.client()
        first = client.post("/v1/analyses", json=BODY).json()["id"]
        with database.read() as connection:
            limit.append(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
        answers = [client.post("/v1/analyses", json=LONG) for _ in range(3)]
        refused(answers[-1])
        listed = [one["id"] for one in client.get("/v1/analyses").json()["items"]]
        assert listed == [first]
        limit[0] += 1000
        assert client.post("/v1/analyses", json=LONG).status_code == 202
    finally:
        event.remove(Engine, "begin", bound)
        database.close()


def test_postgresqls_own_word_is_understood(postgresql_schema: str) -> None:
    database = Database(postgresql_schema)
    with pytest.raises(StorageFull), database.write() as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE disk_full; END $$")
    with pytest.raises(DBAPIError, match="division by zero"), database.write() as connection:
        connection.exec_driver_sql("SELECT 1/0")
    database.close()
