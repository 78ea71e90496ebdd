"""Real servers for hostile uploads, and a watch over what they do meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.serving import ready
from tests.integration.test_sandbox_prober import descendants, eventually

ROOT = Path(__file__).parents[2]
LONGEST_SILENCE = 1.0
"""Seconds that /readyz may take whatever a model does."""
PROBE: dict[str, Any] = {
    "inputs": [{"shape": [4]}],
    "batch_size": 2,
    "batches": 1,
    "trial_steps": 0,
}


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int

    def post(self, model: bytes, probe: dict[str, Any] | None = None) -> httpx2.Response:
        """An analysis of this file, waited for."""
        request = {"probe": PROBE if probe is None else probe, "fresh": True}
        return httpx2.post(
            f"{self.url}/v1/analyses?wait=60",
            files={"model": ("net.pt", model)},
            data={"request": json.dumps(request)},
            timeout=90,
        )

    def processes(self) -> set[int]:
        """Workers and zygotes, and children while one is at work."""
        return descendants(self.pid)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Meanwhile /readyz answers, and afterwards no process is left behind."""
        before, slowest = self.processes(), [0.0]
        done = threading.Event()

        def ask() -> None:
            while not done.wait(0.1):
                begun = time.monotonic()
                status = httpx2.get(f"{self.url}/readyz", timeout=30).status_code
                slowest[0] = max(slowest[0], time.monotonic() - begun)
                if status != 200:
                    slowest[0] = float("inf")

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            done.set()
            asking.join()
        assert slowest[0] <= LONGEST_SILENCE
        assert eventually(lambda: self.processes() <= before)


@contextmanager
def serving(folder: Path, program: Sequence[str], **settings: str) -> Iterator[Server]:
    """The server, started by this program, until the block ends."""
    environment = {
        **os.environ,
        "GRADDX_DATA_DIR": str(folder / "data"),
        "GRADDX_HOST": "127.0.0.1",
        "GRADDX_PORT": "0",
        "GRADDX_WORKERS": "1",
        **settings,
    }
    migrate = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *program], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        yield Server(ready(process, log), process.pid)
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
