"""What a day of N analyses needs, in workers, broker and database; and where it breaks first.

`python -m benchmarks.scale` simulates a day: analyses arrive as a Poisson process whose rate swings
over the day, wait for the first free worker, and take as long as those in a mix that was measured.
The costs of a message and of the rows are measured here and now, on loopback. Prints the tables of
docs/scale.md.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from benchmarks.fleet import BROKER, forget_queues, new_database

DAY = 86_400.0
SWING = 0.6
"""The rate at the busiest hour is 1 + SWING times the mean, at the quietest 1 − SWING."""
MIX = ((0.80, 0.6), (0.17, 4.0), (0.03, 40.0))
"""(share, mean seconds) of analyses: a small healthy model, a small sick one whose cures are
measured and trained, a large one; the seconds within a class are exponential. All assumed, after
examples/healthy_mlp.json (0.8 s on a busy core): to be replaced by what `graddx_probe_seconds` of
one's own /metrics says."""
LAYERS = 30
"""Layers of an average model."""
TARGET_SECONDS = 5.0
"""The wait that 99 of 100 analyses must stay under."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long analyses of a simulated day waited for a worker, seconds."""

    p50: float
    p99: float
    most: float
    longest_queue: int
    waited: float
    """Share that waited at all."""
    busy: float
    """Share of the workers' time that was work."""


def arrivals(per_day: float, seconds: float, draw: random.Random) -> Iterator[float]:
    """Times of a Poisson process whose rate swings as a day does (Lewis & Shedler 1979: drawn at
    the highest rate, thinned to the present one). The window is the busiest of the day."""
    highest = per_day / DAY * (1 + SWING)
    at = 0.0
    while (at := at + draw.expovariate(highest)) < seconds:
        phase = math.cos(2 * math.pi * (at - seconds / 2) / DAY)
        if draw.random() * (1 + SWING) < 1 + SWING * phase:
            yield at


def service_seconds(draw: random.Random) -> float:
    """Of one analysis of the mix."""
    share, (_, mean) = draw.random(), MIX[-1]
    for part, seconds in MIX:
        if share < part:
            mean = seconds
            break
        share -= part
    return draw.expovariate(1 / mean)


def simulate(per_day: float, workers: int, seconds: float, seed: int) -> Waits:
    """First come, first served by the first free of so many workers."""
    draw = random.Random(seed)
    free = [0.0] * workers
    starts: list[float] = []
    waits: list[float] = []
    longest, work = 0, 0.0
    for at in arrivals(per_day, seconds, draw):
        start = max(at, heapq.heappop(free))
        took = service_seconds(draw)
        heapq.heappush(free, start + took)
        waits.append(start - at)
        work += took
        while starts and starts[0] <= at:
            heapq.heappop(starts)
        if start > at:
            heapq.heappush(starts, start)
            longest = max(longest, len(starts))
    cuts = statistics.quantiles(waits, n=100)
    waited = sum(wait > 0 for wait in waits) / len(waits)
    return Waits(cuts[49], cuts[98], max(waits), longest, waited, work / (workers * seconds))


def enough(per_day: float, seconds: float, seed: int = 0) -> tuple[int, Waits]:
    """The fewest workers with which the 99th percentile of waits is under TARGET_SECONDS."""
    mean = sum(share * each for share, each in MIX)
    low = math.floor(per_day / DAY * (1 + SWING) * mean * 0.9)
    high = max(2, low)
    found = simulate(per_day, high, seconds, seed)
    while found.p99 > TARGET_SECONDS:
        low, high = high, math.ceil(high * 1.1) + 1
        found = simulate(per_day, high, seconds, seed)
    # `low` is too few, or too few to try; `high` is enough.
    while high - low > 1:
        middle = (low + high) // 2
        tried = simulate(per_day, middle, seconds, seed)
        if tried.p99 > TARGET_SECONDS:
            low = middle
        else:
            high, found = middle, tried
    return high, found


def message_seconds(times: int = 2000) -> float:
    """To publish one message to a quorum queue and have it confirmed, one after the other."""
    from service.dispatch.celery_app import TASK, declare, make_app, name_of
    from service.domain.analysis import Queue

    prefix = f"graddx-scale-{os.getpid()}"
    app = make_app(BROKER, prefix, publishing=True)
    try:
        with app.connection_for_write() as connection:
            declare(app, connection, prefix)
            with app.amqp.Producer(connection) as producer:
                began = time.perf_counter()
                for number in range(times):
                    app.send_task(
                        TASK, (str(number),), producer=producer, queue=name_of(prefix, Queue.CPU)
                    )
                return (time.perf_counter() - began) / times
    finally:
        forget_queues(BROKER, prefix)


def row_costs(times: int = 300) -> tuple[float, float, float]:
    """Seconds of all statements of one analysis (add, claim, three heartbeats, succeed), and bytes
    that it leaves in the tables and in the indexes."""
    from alembic.config import Config

    from alembic import command
    from service.domain.analysis import Stage
    from service.domain.progress import progress
    from service.storage.analyses import SqlAnalyses
    from service.storage.clock import DatabaseClock
    from service.storage.session import Database
    from tests.integration.stored_examples import START, queued, report

    done = report(layers=tuple(f"body.{n}.fc" for n in range(LAYERS)))
    with new_database() as url:
        config = Config("alembic.ini")
        config.attributes["database_url"] = url
        command.upgrade(config, "head")
        database = Database(url)
        analyses = SqlAnalyses(database, DatabaseClock(database))
        began = time.perf_counter()
        for number in range(times):
            added = queued(START + timedelta(seconds=number), branch="main")
            analyses.add(added)
            claim = analyses.claim_this(added.id, "w", lease_seconds=15)
            assert claim is not None
            for stage in (Stage.PROBE, Stage.DIAGNOSE, Stage.RECOMMEND):
                analyses.heartbeat(claim, lease_seconds=15, progress=progress(stage))
            assert analyses.succeed(claim, done)
        seconds = (time.perf_counter() - began) / times
        database.close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM")
            told = connection.execute(
                "SELECT sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid)) FROM pg_class c "
                "WHERE c.relkind = 'r' AND c.relname IN ('analyses', 'layers', 'labels')"
            ).fetchone()
    assert told is not None
    return seconds, float(told[0]) / times, float(told[1]) / times


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-day", type=float, action="append", help="analyses a day")
    parser.add_argument("--hours", type=float, default=1.0, help="simulated around the busiest")
    parser.add_argument("--only-simulate", action="store_true", help="without broker and database")
    asked = parser.parse_args()
    days = asked.per_day or [1e4, 1e5, 1e6, 1e7]
    print("| analyses a day | busiest, a second | workers | busy | wait p50 s | p99 s | longest |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for per_day in days:
        workers, waits = enough(per_day, asked.hours * 3600)
        rate = per_day / DAY * (1 + SWING)
        told = f"{waits.busy:.0%} | {waits.p50:.1f} | {waits.p99:.1f} | {waits.most:.1f}"
        print(f"| {per_day:,.0f} | {rate:,.1f} | {workers:,} | {told} |", flush=True)
    if asked.only_simulate:
        return
    message, (row, table, index) = message_seconds(), row_costs()
    measured = {"message_ms": 1e3 * message, "rows_ms": 1e3 * row, "table": table, "index": index}
    print(
        f"\nmeasured: {json.dumps({name: round(value, 2) for name, value in measured.items()})}\n"
    )
    print("| analyses a day | one publisher busy | one connection busy | rows | GB a day |")
    print("| --- | --- | --- | --- | --- |")
    for per_day in days:
        rate = per_day / DAY * (1 + SWING)
        grown = per_day * (table + index) / 1e9
        print(
            f"| {per_day:,.0f} | {rate * message:.1%} | {rate * row:.0%} "
            f"| {per_day * (LAYERS + 2):,.0f} | {grown:,.1f} |"
        )


if __name__ == "__main__":
    main()
