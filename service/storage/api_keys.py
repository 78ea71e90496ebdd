"""API keys in the database; their secrets are not."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update

from service.domain.api_keys import ApiKey
from service.ports import Clock
from service.storage import mapping
from service.storage.session import Database
from service.storage.tables import api_keys


class SqlApiKeys:
    """`service.ports.ApiKeyRepository`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, key: ApiKey) -> None:
        """Store a new key."""
        with self._database.write() as connection:
            connection.execute(insert(api_keys), mapping.api_key_values(key))

    def find(self, key_id: str) -> ApiKey | None:
        """The key with this id, whatever its state."""
        with self._database.read() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings()
            found = row.first()
        return None if found is None else mapping.api_key(found)

    def list(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""
        oldest_first = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        with self._database.read() as connection:
            return tuple(map(mapping.api_key, connection.execute(oldest_first).mappings()))

    def any(self) -> bool:
        """Whether a key was ever made and not forgotten."""
        with self._database.read() as connection:
            return bool(connection.scalar(select(func.count()).select_from(api_keys)))

    def revoke(self, key_id: str) -> bool:
        """From now on it opens nothing; False: there is no such key, or it was revoked before."""
        open_one = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
        revoked = update(api_keys).where(open_one).values(revoked_at=self._clock.now())
        with self._database.write() as connection:
            return bool(connection.execute(revoked).rowcount)

    def forget(self, key_id: str) -> bool:
        """Remove a revoked key's row; False: there is no such key, or it is not revoked."""
        closed_one = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_not(None)
        with self._database.write() as connection:
            return bool(connection.execute(delete(api_keys).where(closed_one)).rowcount)
