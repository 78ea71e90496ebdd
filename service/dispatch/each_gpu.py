"""One worker process for each GPU: `python -m service --each-gpu`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial

import structlog

from service.dispatch.devices import Gpu
from service.dispatch.embedded import STOP_SECONDS, WATCH_SECONDS, Slot

log = structlog.get_logger()


class EachGpu:
    """Starts the workers, watches over them, and passes on the word to stop."""

    def __init__(
        self,
        gpus: Sequence[Gpu],
        command: Sequence[str] = (sys.executable, "-m", "service"),
    ) -> None:
        """No process starts yet."""
        self._gpus = gpus
        self._command = command
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let the workers hand back what they hold; safe in a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Until told to stop."""
        slots = [Slot(partial(self._start, gpu)) for gpu in self._gpus]
        while not self._stopping.wait(WATCH_SECONDS):
            for slot in slots:
                slot.watch()
        for slot in slots:
            slot.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for slot in slots:
            slot.end(deadline - time.monotonic())

    def _start(self, gpu: Gpu) -> subprocess.Popen[bytes]:
        log.info("a worker for this GPU", gpu=gpu.name, uuid=gpu.uuid)
        # By its own id: indices count differently for the driver and for CUDA.
        own = {"CUDA_VISIBLE_DEVICES": gpu.uuid, "GRADDX_QUEUES": "gpu"}
        return subprocess.Popen(
            self._command,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
