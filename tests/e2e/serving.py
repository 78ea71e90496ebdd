"""The real server, in a process of its own on a free loopback port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]
START_SECONDS = 90


@contextmanager
def serving(data_folder: Path) -> Iterator[str]:
    """Its address, once it is ready. `data_folder`: where it keeps its database and files."""
    settings = {
        "GRADDX_DATA_DIR": str(data_folder),
        "GRADDX_HOST": "127.0.0.1",
        "GRADDX_PORT": "0",
        "GRADDX_WORKERS": "1",
    }
    environment = {**os.environ, **settings}
    run = [sys.executable, "-m"]
    subprocess.run([*run, "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True)
    log = data_folder.parent / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*run, "api"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield ready(process, log)
    finally:
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that a starting server prints, once it answers there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        printed = re.search(r"graddx is at (http://[^/]+)/docs", log.read_text())
        if printed and httpx2.get(f"{printed[1]}/readyz").status_code == 200:
            return printed[1]
        time.sleep(0.1)
    raise AssertionError(f"the server did not get ready:\n{log.read_text()}")
