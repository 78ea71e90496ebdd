"""Who is at work, in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import RowMapping, delete, func, insert, select, update

from service.domain.analysis import Queue
from service.ports import Clock, Tally, WorkerFacts, WorkerSeen
from service.storage import mapping
from service.storage.session import Database
from service.storage.tables import workers

UP_SECONDS = 15.0
"""A worker that said nothing for so long is not counted on."""
KEPT_HOURS = 24.0
"""How long the figures of a worker that is gone are shown."""

_tally = msgspec.json.Decoder(Tally)


class SqlWorkers:
    """`service.ports.WorkerRegistry`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def announce(self, facts: WorkerFacts) -> None:
        """This worker is there, and has done nothing yet. Forgets who is gone for KEPT_HOURS."""
        now = self._clock.now()
        row = {
            "name": facts.name,
            "queues": " ".join(queue.value for queue in facts.queues),
            "device": facts.device,
            "memory_mb": facts.memory_mb,
            "started_at": now,
            "seen_at": now,
            "tally": mapping.to_json(Tally()),
        }
        gone = workers.c.seen_at < now - timedelta(hours=KEPT_HOURS)
        with self._database.write() as connection:
            connection.execute(delete(workers).where(gone | (workers.c.name == facts.name)))
            connection.execute(insert(workers), row)

    def seen(self, name: str, tally: Tally) -> None:
        """It is still there."""
        self._note(name, {"seen_at": self._clock.now(), "tally": mapping.to_json(tally)})

    def leave(self, name: str, tally: Tally) -> None:
        """It ends now; its figures stay a while."""
        long_ago = self._clock.now() - timedelta(seconds=UP_SECONDS)
        self._note(name, {"seen_at": long_ago, "tally": mapping.to_json(tally)})

    def all(self) -> tuple[WorkerSeen, ...]:
        """Who is there and who was, in the order of their names."""
        up_since = self._clock.now() - timedelta(seconds=UP_SECONDS)
        with self._database.read() as connection:
            rows = connection.execute(select(workers).order_by(workers.c.name)).mappings()
            return tuple(_seen(row, up=row["seen_at"] > up_since) for row in rows)

    def up(self, queue: Queue | None = None) -> int:
        """How many are there that take from this queue, or from any."""
        there = workers.c.seen_at > self._clock.now() - timedelta(seconds=UP_SECONDS)
        wanted = select(func.count()).select_from(workers).where(there)
        if queue is not None:
            wanted = wanted.where(workers.c.queues.contains(queue.value))
        with self._database.read() as connection:
            return connection.scalar(wanted) or 0

    def _note(self, name: str, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(update(workers).where(workers.c.name == name).values(values))


def _seen(row: RowMapping, *, up: bool) -> WorkerSeen:
    queues = tuple(map(Queue, row["queues"].split()))
    facts = WorkerFacts(row["name"], queues, row["device"], row["memory_mb"])
    return WorkerSeen(facts, row["started_at"], row["seen_at"], up, _tally.decode(row["tally"]))
