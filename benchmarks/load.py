"""How many analyses a second, how soon, and does anything grow?

`python -m benchmarks.load` measures submissions, and the time from POST to the finished answer at
1, 8 and 64 clients, embedded (SQLite, local workers) and distributed (PostgreSQL, RabbitMQ, workers
of their own), then a steady run with memory, descriptors and processes noted. Prints the tables of
docs/operating.md; everything is on loopback and bounded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from benchmarks.fleet import BROKER, Fleet, forget_queues, new_database, request

CLIENTS = (1, 8, 64)
WAIT = 120


@contextmanager
def served(folder: Path, form: str, workers: int) -> Iterator[Fleet]:
    """A server of this form."""
    if form == "embedded":
        with Fleet(folder / form, workers) as fleet:
            yield fleet
        return
    with new_database() as url:
        fleet = Fleet(folder / form, workers, database_url=url, broker_url=BROKER)
        try:
            with fleet:
                yield fleet
        finally:
            forget_queues(BROKER, fleet.prefix)


def submissions(fleet: Fleet, clients: int, times: int) -> float:
    """Analyses taken a second by POST alone."""

    def post(client: httpx2.Client, seed: int) -> None:
        assert client.post("/v1/analyses", json=request(seed)).status_code == 202

    taken = _drive(fleet, clients, times, post)
    _drain(fleet)
    return times / taken[1]


def answers(fleet: Fleet, clients: int, times: int) -> tuple[list[float], float]:
    """Seconds from POST to the finished answer, one by one, and of all together."""

    def ask(client: httpx2.Client, seed: int) -> None:
        answer = client.post(f"/v1/analyses?wait={WAIT}", json=request(seed))
        assert answer.json()["status"] == "succeeded", answer.text

    return _drive(fleet, clients, times, ask)


def _drive(
    fleet: Fleet, clients: int, times: int, act: Callable[[httpx2.Client, int], None]
) -> tuple[list[float], float]:
    local = threading.local()

    def once(seed: int) -> float:
        if not hasattr(local, "client"):
            local.client = httpx2.Client(base_url=fleet.address, timeout=WAIT + 30)
        began = time.perf_counter()
        act(local.client, seed)
        return time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = list(pool.map(once, range(times)))
    return seconds, time.perf_counter() - began


def _drain(fleet: Fleet) -> None:
    with httpx2.Client(base_url=fleet.address, timeout=60) as client:
        while client.get("/v1/analyses?status=queued&limit=1").json()["items"]:
            time.sleep(0.2)


def resources(pids: list[int]) -> tuple[float, int, int]:
    """Resident MiB, descriptors and processes of these."""
    memory, descriptors, processes = 0.0, 0, 0
    for pid in pids:
        with suppress(OSError, IndexError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only how many
            memory += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            processes += 1
    return memory, descriptors, processes


def steady(fleet: Fleet, minutes: float, clients: int) -> list[tuple[float, float, int, int]]:
    """(minute, MiB, descriptors, processes) while so many clients ask without a pause: the median
    of every tenth of the run, for what comes and goes with each child."""
    stop = threading.Event()
    done = [0] * clients

    def keep_asking(number: int) -> None:
        with httpx2.Client(base_url=fleet.address, timeout=WAIT + 30) as client:
            while not stop.is_set():
                answer = client.post(f"/v1/analyses?wait={WAIT}", json=request(done[number]))
                assert answer.json()["status"] == "succeeded", answer.text
                done[number] += 1

    noted: list[tuple[float, float, int, int]] = []
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(keep_asking, number) for number in range(clients)]
        while (at := time.monotonic() - began) < 60 * minutes:
            noted.append((at / 60, *resources(fleet.tree())))
            time.sleep(1)
        stop.set()
        for one in asking:
            one.result()
    print(f"\n{sum(done)} analyses in {minutes:g} minutes, {clients} clients.\n")
    size = max(1, len(noted) // 10)
    tenths = [noted[first : first + size] for first in range(0, size * 10, size)]
    return [
        (
            tenth[-1][0],
            statistics.median(row[1] for row in tenth),
            round(statistics.median(row[2] for row in tenth)),
            round(statistics.median(row[3] for row in tenth)),
        )
        for tenth in tenths
        if tenth
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=int, default=200, help="analyses a row")
    parser.add_argument("--minutes", type=float, default=10, help="of the steady run; 0: none")
    parser.add_argument("--form", choices=("embedded", "distributed"), action="append")
    asked = parser.parse_args()
    forms = asked.form or ["embedded", "distributed"]
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load before {load:.1f}; {asked.workers} workers.\n")
    print("| | clients | taken/s | answered/s | p50 ms | p95 ms | p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for form in forms:
            with served(Path(folder), form, asked.workers) as fleet:
                for clients in CLIENTS:
                    taken = submissions(fleet, clients, asked.times)
                    seconds, all_of_it = answers(fleet, clients, asked.times)
                    cuts = statistics.quantiles(seconds, n=100)
                    cells = (taken, asked.times / all_of_it, *(1e3 * cuts[n] for n in (49, 94, 98)))
                    told = " | ".join(f"{cell:.0f}" for cell in cells)
                    print(f"| {form} | {clients} | {told} |", flush=True)
        if asked.minutes:
            with served(Path(folder) / "steady", forms[-1], asked.workers) as fleet:
                rows = steady(fleet, asked.minutes, 4)
            print("| minute | memory MiB | descriptors | processes |\n| --- | --- | --- | --- |")
            for minute, memory, descriptors, processes in rows:
                print(f"| {minute:.1f} | {memory:.0f} | {descriptors} | {processes} |")


if __name__ == "__main__":
    main()
