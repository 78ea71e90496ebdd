"""A pipe whose every byte is one wake-up, and whose end says that the dispatcher is gone."""

from __future__ import annotations

import os
import select
import threading


class Wakeups:
    """The dispatcher's end."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self._writing, False)
        self._open = True
        self._lock = threading.Lock()

    def send(self) -> None:
        """Wake one waiting worker."""
        with self._lock:
            if not self._open:
                return
            try:
                os.write(self._writing, b"!")
            except BlockingIOError:
                # 65,536 wake-ups wait already: nobody sleeps.
                return

    def close(self) -> None:
        """Every worker that waits, now or later, is told to end."""
        with self._lock:
            self._open = False
            os.close(self._writing)
            os.close(self.reading)


class Waiting:
    """A worker's end, shared with the other workers: each wake-up reaches one of them."""

    def __init__(self, reading: int) -> None:
        self._reading = reading

    def __call__(self, seconds: float) -> bool:
        """Wait for a wake-up, `seconds` at most; False: the dispatcher is gone."""
        ready, _, _ = select.select([self._reading], [], [], seconds)
        if not ready:
            return True
        try:
            return bool(os.read(self._reading, 1))
        except BlockingIOError:
            # Another worker was quicker; looking at the queue once in vain costs nothing.
            return True
