"""Files by the digest of their content, in the data folder; their facts in the database."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from service.domain.errors import ArtifactNotFound, PayloadTooLarge, StorageFull
from service.ports import Artifact, Clock
from service.storage import mapping
from service.storage.formats import told_by_content
from service.storage.session import Database
from service.storage.tables import artifacts

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ID = re.compile(r"sha256:[0-9a-f]{64}")


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
            gone = connection.execute(delete(artifacts).where(artifacts.c.id == artifact_id))
            if not gone.rowcount:
                raise ArtifactNotFound(f"no artifact {artifact_id}")
            self._path(artifact_id).unlink(missing_ok=True)

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
        facts = Artifact(artifact_id, size, told_by_content(temporary), self._clock.now())
        try:
            with self._database.write() as connection:
                # Row before file: a delete of the same content is then over, or waits for us.
                connection.execute(insert(artifacts), mapping.artifact_values(facts))
                _place(temporary, path)
        except IntegrityError:
            # Known already; the file is put again in case somebody tidied the folder by hand.
            _place(temporary, path)
            return self.get(artifact_id)
        return facts

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
