"""Files by the digest of their content, in the data folder; their facts in the database."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from uuid import uuid4

import structlog
from sqlalchemy import ColumnElement, Connection, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.sql.dml import ReturningUpdate

from service.domain.api_keys import LOCAL, OWNER
from service.domain.errors import NO_ROOM, ArtifactNotFound, PayloadTooLarge, StorageFull
from service.ports import Artifact, Clock
from service.storage import mapping, retention
from service.storage.formats import told_by_content
from service.storage.session import Database
from service.storage.tables import MADE, artifacts

_ID = re.compile(r"sha256:[0-9a-f]{64}")
LEFT_BEHIND = timedelta(days=1)
"""Since when nothing was written to an upload whose sender, or server, must have died."""

log = structlog.get_logger()


class FileArtifacts:
    """`service.ports.ArtifactStore`: one file per owner and content, written once, never changed.

    Owners share no bytes: neither an answer nor its time can tell that somebody else has the same
    file, and what one deletes nobody else misses."""

    def __init__(
        self, folder: Path, database: Database, clock: Clock, *, max_bytes: int, owner: str = LOCAL
    ) -> None:
        self._folder = folder
        self._database = database
        self._clock = clock
        self._max_bytes = max_bytes
        self._owner = owner

    def owned_by(self, owner: str) -> FileArtifacts:
        """The files of another owner. Raises ValueError when nobody can be called so."""
        if not OWNER.fullmatch(owner):
            raise ValueError(f"{owner!r} names no owner")
        return FileArtifacts(
            self._folder, self._database, self._clock, max_bytes=self._max_bytes, owner=owner
        )

    def put(self, chunks: Iterable[bytes]) -> Artifact:
        """Store a file once; the same content gives the same id.

        Raises StorageFull, PayloadTooLarge.
        """
        return self._put(chunks, uuid4().hex)

    def keep(self, content: bytes) -> Artifact:
        """Store what an analysis made, which is deleted with it; where somebody sent the same
        content, it stays theirs. Raises StorageFull, PayloadTooLarge."""
        return self._put([content], MADE)

    def get(self, artifact_id: str) -> Artifact:
        """Raises ArtifactNotFound."""
        known = select(artifacts).where(self._mine(artifact_id))
        with self._database.read() as connection:
            row = connection.execute(known).mappings().first()
        if row is None or not self._path(artifact_id).exists():
            raise ArtifactNotFound(f"no artifact {artifact_id}")
        return mapping.artifact(row)

    def path(self, artifact_id: str) -> Path:
        """Where the content lies. Raises ArtifactNotFound."""
        return self._path(self.get(artifact_id).id)

    def checked(self, artifact_id: str) -> Path:
        """As `path`, once the content was found to be what its name says. Raises
        ArtifactNotFound."""
        path = self.path(artifact_id)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if artifact_id != f"sha256:{digest}":
            log.error("a stored file is not what was stored", file=str(path))
            raise ArtifactNotFound(f"the stored file of {artifact_id} is damaged; send it again")
        return path

    def delete(self, artifact_id: str) -> None:
        """Raises ArtifactNotFound."""
        with self._database.write() as connection:
            if not self._remove(connection, artifact_id):
                raise ArtifactNotFound(f"no artifact {artifact_id}")

    def withdraw(self, artifact: Artifact) -> None:
        """Delete a file that was just put, unless it was put again since or is needed."""
        with self._told_only(artifact.id), self._database.write() as connection:
            now = connection.scalar(retention.lock(self._owner, artifact.id))
            needed = retention.needed(self._owner, artifact.id)
            if now == artifact.upload and not connection.scalar(needed):
                self._remove(connection, artifact.id)

    def discard(self) -> None:
        """Delete every file, of all owners, that a final analysis does not retain, unless it was
        put again since or is needed. What cannot be deleted is logged and tried again the next
        time."""
        self._collect(retention.given_up())

    def expire(self, before: datetime) -> None:
        """Delete every file, of all owners, that nobody sent or referred to since and no analysis
        that goes on needs. What cannot be deleted is logged."""
        self._collect(retention.unused_since(before))

    def tidy(self) -> None:
        """Delete what uploads that were killed have left behind."""
        before = (self._clock.now() - LEFT_BEHIND).timestamp()
        for path in (self._folder / "incoming").glob("*"):
            with self._told_only(path.name):
                if path.stat().st_mtime < before:
                    path.unlink()

    def _put(self, chunks: Iterable[bytes], upload: str) -> Artifact:
        with _room_is_needed(), self._temporary() as file:
            digest = self._write(file, chunks)
            file.flush()
            os.fsync(file.fileno())
            return self._keep(Path(file.name), "sha256:" + digest, file.tell(), upload)

    def _write(self, file: IO[bytes], chunks: Iterable[bytes]) -> str:
        digest = hashlib.sha256()
        for chunk in chunks:
            if file.tell() + len(chunk) > self._max_bytes:
                raise PayloadTooLarge(f"a file may have {self._max_bytes:,} bytes at most")
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest()

    def _keep(self, temporary: Path, artifact_id: str, size: int, upload: str) -> Artifact:
        path = self._path(artifact_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = Artifact(artifact_id, size, told_by_content(temporary), self._clock.now(), upload)
        # Row before file: a delete of the same content is then over, or waits for us.
        while True:
            with self._database.write() as connection:
                if known := connection.execute(self._sent_again(facts)).mappings().first():
                    # Put again in case somebody tidied the folder by hand.
                    _place(temporary, path)
                    return mapping.artifact(known)
            with contextlib.suppress(IntegrityError), self._database.write() as connection:
                values = {**mapping.artifact_values(facts), "owner": self._owner}
                connection.execute(insert(artifacts), values)
                _place(temporary, path)
                return facts

    def _sent_again(self, facts: Artifact) -> ReturningUpdate[Any]:
        sent = {} if facts.upload == MADE else {"upload": facts.upload}
        values = {**sent, "used_at": facts.created_at}
        return update(artifacts).where(self._mine(facts.id)).values(values).returning(artifacts)

    def _collect(self, candidates: Select[Any]) -> None:
        with self._told_only("any"):
            with self._database.read() as connection:
                found = connection.execute(candidates).all()
            for owner, artifact_id in found:
                self.owned_by(owner)._remove_if_still(candidates, artifact_id)

    def _remove_if_still(self, candidates: Select[Any], artifact_id: str) -> None:
        with self._told_only(artifact_id), self._database.write() as connection:
            connection.execute(retention.lock(self._owner, artifact_id))
            if connection.execute(candidates.where(self._mine(artifact_id))).first():
                self._remove(connection, artifact_id)

    def _mine(self, artifact_id: str) -> ColumnElement[bool]:
        return retention.of(self._owner, artifact_id)

    def _remove(self, connection: Connection, artifact_id: str) -> bool:
        """Row and file, and what is noted only to have them removed."""
        removed = connection.execute(delete(artifacts).where(self._mine(artifact_id)))
        connection.execute(retention.forget(self._owner, artifact_id))
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
        return self._home / digest[:2] / digest

    @property
    def _home(self) -> Path:
        """Files of before there were owners lie at the top: they are the local owner's."""
        return self._folder if self._owner == LOCAL else self._folder / "owners" / self._owner

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
        if error.errno in NO_ROOM:
            raise StorageFull("the disk of this server is full") from error
        raise
