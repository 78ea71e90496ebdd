"""Files by the digest of their content, in the data folder; their facts in the database."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from uuid import uuid4

import structlog
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.sql.dml import ReturningUpdate

from service.domain.errors import ArtifactNotFound, PayloadTooLarge, StorageFull
from service.ports import Artifact, Clock
from service.storage import mapping, retention
from service.storage.formats import told_by_content
from service.storage.session import Database
from service.storage.tables import artifacts

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ID = re.compile(r"sha256:[0-9a-f]{64}")
LEFT_BEHIND = timedelta(days=1)
"""Since when nothing was written to an upload whose sender, or server, must have died."""

log = structlog.get_logger()


class FileArtifacts:
    """`service.ports.ArtifactStore`: one file per content, written once, never changed."""

    def __init__(self, folder: Path, database: Database, clock: Clock, *, max_bytes: int) -> None:
        self._folder = folder
        self._database = database
        self._clock = clock
        self._max_bytes = max_bytes

    def put(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once; the same content gives the same id.

        Raises StorageFull, PayloadTooLarge.
        """
        with _room_is_needed(), self._temporary() as file:
            digest = self._write(file, chunks)
            file.flush()
            os.fsync(file.fileno())
            return self._keep(Path(file.name), "sha256:" + digest, file.tell())

    def get(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""
        known = select(artifacts).where(artifacts.c.id == artifact_id)
        with self._database.read() as connection:
            row = connection.execute(known).mappings().first()
        if row is None or not self._path(artifact_id).exists():
            raise ArtifactNotFound(f"no artifact {artifact_id}")
        return mapping.artifact(row)

    def path(self, artifact_id: str) -> Path:
        """Where the content lies. Raises ArtifactNotFound."""
        return self._path(self.get(artifact_id).id)

    def delete(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""
        with self._database.write() as connection:
            if not self._remove(connection, artifact_id):
                raise ArtifactNotFound(f"no artifact {artifact_id}")

    def withdraw(self, artifact: Artifact) -> None:
        """Delete a file that was just put, unless it was put again since or is needed."""
        with self._told_only(artifact.id), self._database.write() as connection:
            now = connection.scalar(retention.lock(artifact.id))
            if now == artifact.upload and not connection.scalar(retention.needed(artifact.id)):
                self._remove(connection, artifact.id)

    def discard(self) -> None:
        """Delete every file that a final analysis does not retain, unless it was put again since
        or is needed. What cannot be deleted is logged and tried again the next time."""
        with self._told_only("any"):
            for artifact_id in self._given_up():
                self._discard(artifact_id)

    def tidy(self) -> None:
        """Delete what uploads that were killed have left behind."""
        before = (self._clock.now() - LEFT_BEHIND).timestamp()
        for path in (self._folder / "incoming").glob("*"):
            with self._told_only(path.name):
                if path.stat().st_mtime < before:
                    path.unlink()

    def _write(self, file: IO[bytes], chunks: Iterable[bytes]) -> str:
        digest = hashlib.sha256()
        for chunk in chunks:
            if file.tell() + len(chunk) > self._max_bytes:
                raise PayloadTooLarge(f"a file may have {self._max_bytes:,} bytes at most")
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest()

    def _keep(self, temporary: Path, artifact_id: str, size: int) -> Artifact:
        path = self._path(artifact_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = Artifact(
            artifact_id, size, told_by_content(temporary), self._clock.now(), uuid4().hex
        )
        # Row before file: a delete of the same content is then over, or waits for us.
        while True:
            with self._database.write() as connection:
                if known := connection.execute(_sent_again(facts)).mappings().first():
                    # Put again in case somebody tidied the folder by hand.
                    _place(temporary, path)
                    return mapping.artifact(known)
            with contextlib.suppress(IntegrityError), self._database.write() as connection:
                connection.execute(insert(artifacts), mapping.artifact_values(facts))
                _place(temporary, path)
                return facts

    def _given_up(self) -> Sequence[str]:
        with self._database.read() as connection:
            return connection.scalars(retention.given_up()).all()

    def _discard(self, artifact_id: str) -> None:
        with self._told_only(artifact_id), self._database.write() as connection:
            connection.execute(retention.lock(artifact_id))
            if connection.scalar(retention.given_up().where(artifacts.c.id == artifact_id)):
                self._remove(connection, artifact_id)

    def _remove(self, connection: Connection, artifact_id: str) -> bool:
        """Row and file, and what is noted only to have them removed."""
        removed = connection.execute(delete(artifacts).where(artifacts.c.id == artifact_id))
        connection.execute(retention.forget(artifact_id))
        self._path(artifact_id).unlink(missing_ok=True)
        return bool(removed.rowcount)

    @contextmanager
    def _told_only(self, what: str) -> Iterator[None]:
        """Tidying up must break nothing else."""
        try:
            yield
        except (OSError, SQLAlchemyError):
            log.exception("a file that nobody needs could not be deleted", file=what)

    def _path(self, artifact_id: str) -> Path:
        if not _ID.fullmatch(artifact_id):
            raise ArtifactNotFound(f"no artifact {artifact_id}")
        digest = artifact_id.removeprefix("sha256:")
        return self._folder / digest[:2] / digest

    @contextmanager
    def _temporary(self) -> Iterator[IO[bytes]]:
        incoming = self._folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=incoming, delete=False) as file:
            try:
                yield file
            finally:
                with contextlib.suppress(FileNotFoundError):
                    Path(file.name).unlink()


def _sent_again(facts: Artifact) -> ReturningUpdate[Any]:
    known = update(artifacts).where(artifacts.c.id == facts.id)
    return known.values(upload=facts.upload).returning(artifacts)


def _place(temporary: Path, path: Path) -> None:
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _room_is_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("the disk of this server is full") from error
        raise
