"""Many analyses while everything is killed and cut at random: is each done, once, and right?

`python -m benchmarks.faults` starts a server with PostgreSQL and RabbitMQ on loopback, sends
analyses of a few kinds, and meanwhile kills workers, their consumers and the API, stops workers for
longer than their lease, and cuts the ways to the broker and the database. Prints a table; exit
status 1 when anything was lost, done twice or answered otherwise than without faults.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from benchmarks.cuttable_proxy import CuttableProxy
from benchmarks.fleet import BROKER, Fleet, forget_queues, new_database, request

KINDS = 5
"""Requests that differ; each is sent many times, and must be answered alike every time."""
LEASE_SECONDS = 6
CUT_SECONDS = 3.0
"""How long a way stays cut."""
PATIENCE_SECONDS = 900


class Chaos(threading.Thread):
    """Does something bad every few seconds until told to stop, and puts it right again."""

    def __init__(self, fleet: Fleet, ways: dict[str, CuttableProxy], every: float, seed: int):
        super().__init__(name="chaos", daemon=True)
        self.done: Counter[str] = Counter()
        self.stopping = threading.Event()
        self._fleet = fleet
        self._every = every
        self._random = random.Random(seed)
        self._acts: dict[str, Callable[[], None]] = {
            "worker killed": self._kill_working_child,
            "worker and its consumer killed": self._kill_worker,
            "API killed": self._kill_api,
            "worker stopped beyond its lease": self._stop_worker,
            **{f"way to the {name} cut": partial(_cut, way) for name, way in ways.items()},
        }

    def run(self) -> None:
        """Every act equally often, in random order."""
        order: list[str] = []
        while not self.stopping.wait(self._every * self._random.uniform(0.5, 1.5)):
            if not order:
                order = self._random.sample(sorted(self._acts), len(self._acts))
            name = order.pop()
            self._acts[name]()
            self.done[name] += 1

    def _pick(self) -> int:
        return self._random.randrange(len(self._fleet.workers))

    def _kill_working_child(self) -> None:
        consumer = self._fleet.workers[self._pick()].pid
        with suppress(OSError, ValueError):
            told = Path(f"/proc/{consumer}/task/{consumer}/children").read_text(encoding="utf-8")
            os.kill(int(told.split()[0]), signal.SIGKILL)

    def _kill_worker(self) -> None:
        one = self._pick()
        self._fleet.workers[one].kill()
        self._fleet.workers[one].wait()
        self._fleet.workers[one] = self._fleet.start_worker()

    def _kill_api(self) -> None:
        assert self._fleet.api is not None
        self._fleet.api.kill()
        self._fleet.api.wait()
        self._fleet.start_api()

    def _stop_worker(self) -> None:
        consumer = self._fleet.workers[self._pick()].pid
        pids = [consumer]
        with suppress(OSError):
            told = Path(f"/proc/{consumer}/task/{consumer}/children").read_text(encoding="utf-8")
            pids += map(int, told.split())
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(LEASE_SECONDS + 2)


def _cut(way: CuttableProxy) -> None:
    way.cut()
    time.sleep(CUT_SECONDS)
    way.join()


def ask(address: str, number: int) -> tuple[str, dict[str, Any]]:
    """Send one analysis, as a careful client does: again with the same key until it is taken; then
    wait for its end. Its id and its answer."""
    key = {"Idempotency-Key": f"fault-{number}"}
    until = time.monotonic() + PATIENCE_SECONDS
    found = ""
    with httpx2.Client(base_url=address, timeout=30) as client:
        while time.monotonic() < until:
            with suppress(httpx2.HTTPError):
                if not found:
                    answer = client.post("/v1/analyses", json=request(number % KINDS), headers=key)
                    found = answer.json()["id"] if answer.status_code in (200, 202) else ""
                else:
                    answer = client.get(f"/v1/analyses/{found}")
                    if answer.status_code == 200:
                        return found, answer.json()
            time.sleep(0.25)
    raise TimeoutError(f"analysis {number} ({found or 'never taken'}) did not end")


def figures(answer: dict[str, Any]) -> str:
    """What must be the same whenever the same is asked."""
    diagnosis = answer.get("diagnosis") or {}
    kept = {name: diagnosis.get(name) for name in ("verdict", "findings", "model", "layers")}
    return json.dumps([answer["status"], kept], sort_keys=True)


def _ended(log: str) -> Counter[tuple[str, str]]:
    """How often the workers said that they stored a result, by analysis and outcome."""
    ended: Counter[tuple[str, str]] = Counter()
    for line in log.splitlines():
        with suppress(ValueError, KeyError):
            said = json.loads(line[line.index("{") :])
            if "seconds" in said:
                ended[said["analysis"], said["event"]] += 1
    return ended


def main() -> None:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analyses", type=int, default=500)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two faults")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    broker = urlsplit(BROKER)
    with tempfile.TemporaryDirectory() as folder, new_database() as url:
        database = urlsplit(url)
        with (
            CuttableProxy(broker.hostname or "127.0.0.1", broker.port or 5672) as to_broker,
            CuttableProxy(database.hostname or "127.0.0.1", database.port or 5432) as to_database,
        ):
            fleet = Fleet(
                Path(folder),
                asked.workers,
                database_url=_by(url, to_database),
                broker_url=_by(BROKER, to_broker),
                LEASE_SECONDS=str(LEASE_SECONDS),
            )
            try:
                with fleet:
                    good = _judge(fleet, {"broker": to_broker, "database": to_database}, asked)
            finally:
                forget_queues(BROKER, fleet.prefix)
    sys.exit(0 if good else 1)


def _by(url: str, way: CuttableProxy) -> str:
    parts = urlsplit(url)
    who, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{who}{at}127.0.0.1:{way.port}").geturl()


def _judge(fleet: Fleet, ways: dict[str, CuttableProxy], asked: argparse.Namespace) -> bool:
    expected = [figures(ask(fleet.address, -KINDS + kind)[1]) for kind in range(KINDS)]
    before = len(fleet.log())
    chaos = Chaos(fleet, ways, asked.every, asked.seed)
    began = time.monotonic()
    chaos.start()
    with ThreadPoolExecutor(asked.clients) as pool:
        answers = list(pool.map(lambda n: ask(fleet.address, n), range(asked.analyses)))
    seconds = time.monotonic() - began
    chaos.stopping.set()
    chaos.join()
    wrong = [id_ for n, (id_, got) in enumerate(answers) if figures(got) != expected[n % KINDS]]
    ended = _ended(fleet.log()[before:])
    stored = Counter({one: n for (one, event), n in ended.items() if event == "succeeded"})
    twice = [one for one, times in stored.items() if times > 1]
    doubled = len(answers) - len({one for one, _ in answers})
    attempts = Counter(event for (_, event), n in ended.items() for _ in range(n))
    print(f"| {asked.analyses} analyses, {asked.workers} workers | {seconds:.0f} s |")
    print("| --- | --- |")
    for name, times in sorted(chaos.done.items()):
        print(f"| {name} | {times} times |")
    print(f"| finished | {len(answers)} |")
    print(f"| lost | {asked.analyses - len(answers)} |")
    print(f"| stored twice, or one id for two | {len(twice) + doubled} |")
    print(f"| answered otherwise than without faults | {len(wrong)} |")
    for name in ("too late", "abandoned", "handed back"):
        print(f"| attempts that ended `{name}` | {attempts[name]} |")
    for one in wrong[:5]:
        got = next(answer for id_, answer in answers if id_ == one)
        print(f"wrong: {one} {got['status']} {got.get('error')}", file=sys.stderr)
    return not (wrong or twice or doubled)


if __name__ == "__main__":
    main()
