"""Local worker processes, started and watched over by the API's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from service.dispatch.wakeup import Wakeups
from service.domain.analysis import Queue

ROOT = Path(__file__).parents[2]
WATCH_SECONDS = 0.1
"""How often dead workers are looked for."""
FIRST_PAUSE_SECONDS = 0.5
"""Before a worker that died is started again; doubled every time."""
LONGEST_PAUSE_SECONDS = 30.0
"""Where the doubling ends."""
STEADY_SECONDS = 60.0
"""A worker that lived this long starts with the first pause again."""
STOP_SECONDS = 10.0
"""How long workers may take to hand back what they hold before they are killed."""

log = structlog.get_logger()

Start = Callable[[], "subprocess.Popen[bytes]"]


class EmbeddedDispatcher:
    """`service.ports.Dispatcher`: N processes that share one wake-up pipe."""

    def __init__(
        self,
        count: int,
        environment: Mapping[str, str],
        command: Sequence[str] = (sys.executable, "-m", "service"),
    ) -> None:
        """No process starts yet. Workers get `environment` on top of this process' own."""
        search = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search), **environment}
        self._command = command
        self._count = count
        self._wakeups = Wakeups()
        self._slots: list[Slot] = []
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch-workers", daemon=True)

    def start(self) -> None:
        """Start the workers and watch over them."""
        self._slots = [Slot(self._start_one) for _ in range(self._count)]
        self._watcher.start()

    def dispatch(self, analysis_id: str, queue: Queue) -> None:  # noqa: ARG002
        """Wake a worker; the row says what is to do."""
        self._wakeups.send()

    def stop(self) -> None:
        """Let workers hand back what they hold, then return."""
        self._stopping.set()
        self._watcher.join()
        self._wakeups.close()
        for slot in self._slots:
            slot.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for slot in self._slots:
            slot.end(deadline - time.monotonic())

    def workers_alive(self) -> int:
        """How many workers are up."""
        return sum(slot.process.poll() is None for slot in self._slots)

    def worker_pids(self) -> tuple[int, ...]:
        """Their process ids, in order; of a dead one until it is started again."""
        return tuple(slot.process.pid for slot in self._slots)

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            for slot in self._slots:
                slot.watch()

    def _start_one(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, "--wake-fd", str(self._wakeups.reading)],
            env=self._environment,
            pass_fds=[self._wakeups.reading],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the API, which then stops its workers
        )


class Slot:
    """One worker and its successors."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._pause = FIRST_PAUSE_SECONDS
        self._started = time.monotonic()
        self._again: float | None = None
        self.process = start()

    def watch(self) -> None:
        """Start a successor when the worker has died and the pause is over."""
        if self.process.poll() is None:
            return
        now = time.monotonic()
        if self._again is None:
            self._died(now)
        elif now >= self._again:
            self.process, self._started, self._again = self._start(), now, None

    def end(self, seconds: float) -> None:
        """Wait for the worker's end; kill it when it takes longer."""
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _died(self, now: float) -> None:
        if now - self._started >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        log.warning(
            "worker died",
            pid=self.process.pid,
            exit_status=self.process.returncode,
            again_in_seconds=self._pause,
        )
        self._again = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
