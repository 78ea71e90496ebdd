"""A whole server on loopback for measurements: API and workers as an operator starts them, with
SQLite and local workers, or with PostgreSQL, RabbitMQ and workers of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import psycopg

ROOT = Path(__file__).parents[1]
DATABASE = os.environ.get("TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
BROKER = os.environ.get("TEST_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
START_SECONDS = 90
"""How long a server may take to answer, on a machine that others use too."""

SPEC: dict[str, Any] = {
    "kind": "spec",
    "input": {"shape": [16]},
    "layers": [
        {"name": "fc1", "type": "Linear", "args": {"out_features": 32}},
        {"type": "ReLU"},
        {"name": "fc2", "type": "Linear", "args": {"out_features": 4}},
    ],
}


def request(seed: int) -> dict[str, Any]:
    """A small spec, measured without a training: what is timed is the server around it."""
    probe = {"seed": seed, "seeds": 1, "batches": 1, "batch_size": 16, "trial_steps": 0}
    return {"model": SPEC, "probe": probe, "fresh": True}


@contextmanager
def new_database() -> Iterator[str]:
    """An empty PostgreSQL database, dropped at the end."""
    name = f"graddx_bench_{os.getpid()}_{uuid4().hex[:6]}"
    with psycopg.connect(DATABASE, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(DATABASE)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Fleet:
    """One API and so many workers, at work while the block runs."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        *,
        database_url: str | None = None,
        broker_url: str | None = None,
        **settings: str,
    ) -> None:
        """With a broker `workers` are started here, without one by the API."""
        self._folder = folder
        self._workers = workers if broker_url else 0
        self.prefix = f"graddx-bench-{os.getpid()}-{uuid4().hex[:6]}"
        given = {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "DATA_DIR": str(folder / "data"),
            "DATABASE_URL": database_url or "",
            "BROKER_URL": broker_url or "",
            "BROKER_PREFIX": self.prefix,
            "WORKERS": str(workers),
            "QUEUE_LIMIT": "100000",
            "RATE_LIMIT": "100000000/minute",
            **settings,
        }
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        self._environment = own | {f"GRADDX_{name}": value for name, value in given.items()}
        self.api: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self._log: IO[bytes] | None = None

    def __enter__(self) -> Fleet:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = (self._folder / "log").open("ab")
        self._run("-m", "alembic", "upgrade", "head").wait(timeout=START_SECONDS)
        self.start_api()
        self.workers = [self.start_worker() for _ in range(self._workers)]
        self.ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in (*self.workers, self.api):
            if process is not None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in (*self.workers, self.api):
            if process is not None:
                _end(process)
        if self._log is not None:
            self._log.close()

    def start_api(self) -> None:
        """The API, again where it was before if it was."""
        if self.address:
            self._environment["GRADDX_PORT"] = str(urlsplit(self.address).port)
        self.api = self._run("-m", "api", stdout=subprocess.PIPE)
        assert self.api.stdout is not None
        told = re.search(rb"http://[\d.]+:\d+", self.api.stdout.readline())
        if told is None:
            raise RuntimeError(f"the API did not start: {self.log()[-2000:]}")
        self.address = told[0].decode()
        threading.Thread(target=self.api.stdout.read, daemon=True).start()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One worker: with a broker two processes."""
        return self._run("-m", "service")

    def ready(self) -> None:
        """Waits until an analysis comes back."""
        until = time.monotonic() + START_SECONDS
        with httpx2.Client(base_url=self.address, timeout=120) as client:
            while time.monotonic() < until:
                with suppress(httpx2.HTTPError):
                    if client.get("/readyz").status_code == 200:
                        break
                time.sleep(0.1)
            for seed in range(max(1, self._workers) * 2):
                answer = client.post("/v1/analyses?wait=90", json=request(seed))
                if answer.status_code != 200:
                    raise RuntimeError(f"{answer.text}\n{self.log()[-2000:]}")

    def log(self) -> str:
        """What all processes have said, JSON a line but for what Celery says."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def tree(self) -> list[int]:
        """Process ids of all of it."""
        roots = [one.pid for one in (*self.workers, self.api) if one is not None]
        found: list[int] = []
        while roots:
            found.append(pid := roots.pop())
            with suppress(OSError):
                told = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
                roots += map(int, told.split())
        return found

    def _run(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout is not None else self._log,
            stderr=self._log,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def forget_queues(broker_url: str, prefix: str) -> None:
    """Delete what a fleet declared on the broker."""
    from amqp.exceptions import NotFound

    from service.dispatch.celery_app import dead_letters, make_app

    app = make_app(broker_url, prefix, publishing=True)
    with app.connection_for_write() as connection:
        for queue in (dead_letters(prefix), *app.conf.task_queues):
            with suppress(NotFound), connection.channel() as channel:
                queue.bind(channel).delete()
        for exchange in (prefix, f"{prefix}.dead"):
            with suppress(NotFound), connection.channel() as channel:
                channel.exchange_delete(exchange)
