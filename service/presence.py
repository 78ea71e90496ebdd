"""A worker's entry in the table of workers: that it is there, with what, and what it has done."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

import structlog

from service.ports import PROBE_SECONDS, Tally, WorkerFacts, WorkerRegistry

SEEN_SECONDS = 5.0
"""How often a worker says that it is there."""

log = structlog.get_logger()


class Presence:
    """Announces a worker while the block runs, and counts what it is told of its attempts."""

    def __init__(self, registry: WorkerRegistry, facts: WorkerFacts) -> None:
        """Nothing is written before the block is entered."""
        self._registry = registry
        self._facts = facts
        self._counting = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._seconds_within: Counter[str] = Counter()
        self._seconds = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def note(self, outcome: str, seconds: float) -> None:
        """An attempt became this, after so many seconds."""
        with self._counting:
            self._outcomes[outcome] += 1
            if outcome == "again":
                return
            self._seconds += seconds
            within = (str(bound) for bound in PROBE_SECONDS if seconds <= bound)
            self._seconds_within[next(within, "+Inf")] += 1

    def tally(self) -> Tally:
        """What was noted so far."""
        with self._counting:
            return Tally(dict(self._outcomes), dict(self._seconds_within), self._seconds)

    def __enter__(self) -> Presence:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        announced = False
        while True:
            try:
                if not announced:
                    self._registry.announce(self._facts)
                    announced = True
                self._registry.seen(self._facts.name, self.tally())
            except Exception:
                # Only a word to people and to routing: work does not wait for it.
                log.warning("this worker could not be announced", worker=self._facts.name)
            if self._done.wait(SEEN_SECONDS):
                return self._leave()

    def _leave(self) -> None:
        try:
            self._registry.leave(self._facts.name, self.tally())
        except Exception:
            log.warning("this worker could not take its leave", worker=self._facts.name)
