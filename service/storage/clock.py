"""One time for all: the database's."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from service.storage.session import Database

AGREE_SECONDS = 60.0
"""How often the database is asked again: quartz drifts by less than 10 ms in a minute."""


class DatabaseClock:
    """`service.ports.Clock`: what the database says, carried on by this process' monotonic clock.

    Leases are compared between machines, so machines whose own clocks disagree must not decide when
    one has run out. It is wrong by half a round trip at most. SQLite is this machine's own.
    """

    def __init__(self, database: Database) -> None:
        """Asks nobody before the first `now`."""
        self._database = database
        self._agreeing = threading.Lock()
        self._agreed: tuple[float, datetime] | None = None

    def now(self) -> datetime:
        """UTC. Raises the database's error only while it has never answered."""
        if self._database.is_local:
            return datetime.now(UTC)
        with self._agreeing:
            at = time.monotonic()
            if self._agreed is None or at - self._agreed[0] > AGREE_SECONDS:
                self._agreed = self._ask() or self._agreed
            assert self._agreed is not None
            then, told = self._agreed
        return told + timedelta(seconds=time.monotonic() - then)

    def _ask(self) -> tuple[float, datetime] | None:
        before = time.monotonic()
        try:
            told = self._database.time()
        except SQLAlchemyError:
            if self._agreed is None:
                raise
            return None
        return (before + time.monotonic()) / 2, told
