"""A server of its own on a free loopback port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOCATOR = "GLIBC_TUNABLES"
"""Of a child's environment. What asking for memory costs is a part of every pass, so benchmarks
have it as a child has; a server starts as its users start it, and gives it to its children."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that listens."""

    address: str
    """http://127.0.0.1:PORT."""
    started: float
    """When its process was started, time.perf_counter's seconds; its database was there before."""


@contextmanager
def server(folder: Path, memory_mb: int, workers: int = 1) -> Iterator[Server]:
    """Runs while the block does; data in `folder`, children with so many MiB."""
    own = {name: value for name, value in os.environ.items() if name != ALLOCATOR}
    environment = {
        **own,
        "GRADDX_DATA_DIR": str(folder / "data"),
        "GRADDX_PORT": "0",
        "GRADDX_WORKERS": str(workers),
        "GRADDX_PROBE_MEMORY_MB": str(memory_mb),
        "GRADDX_RATE_LIMIT": "1000000/minute",
    }
    python = [sys.executable, "-m"]
    subprocess.run([*python, "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True)
    log = folder / "log"
    with log.open("w") as out:
        started = time.perf_counter()
        process = subprocess.Popen([*python, "api"], cwd=ROOT, env=environment, stdout=out)
    try:
        while not (printed := re.search(r"graddx is at (http://[^/]+)/", log.read_text())):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {log.read_text()[-500:]}")
            time.sleep(0.02)
        yield Server(printed[1], started)
    finally:
        process.terminate()
        process.wait(30)
