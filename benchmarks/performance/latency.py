"""From POST to answer over a real server on loopback, and where the time goes."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.performance.initializations import specification
from benchmarks.performance.serving import Server, server
from benchmarks.performance.timing import percentiles, table

TITLE = "Latency"
TEXT = """`POST /v1/analyses?wait=60` of a 20-layer MLP spec of width 128 over a real server on
loopback, SQLite and one local worker, warm, over a connection that is kept. `cached` is the
same request again, answered from the store. Aims (p50; p95 at most twice that): healthy ≤ 1,500
ms, sick with prescription ≤ 4,000 ms, trial and cures off ≤ 150 ms; `/readyz` ≤ 1.5 s after the
start, the first answer ≤ 6 s."""
ASKED, FEWEST, SECONDS = 20, 3, 40.0
STARTS = 5
STAGES = ("load", "probe", "diagnose", "trial", "recommend", "verify")
QUICK = {"probe": {"trial_steps": 0}, "allowed_changes": []}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "healthy (ReLU, He)": ("ReLU", {}),
    "sick, prescription (sigmoid)": ("Sigmoid", {}),
    "healthy, trial and cures off": ("ReLU", QUICK),
    "sick, trial and cures off": ("Sigmoid", QUICK),
}


def section() -> str:
    """Markdown."""
    starts = [_started() for _ in range(STARTS)]
    with (
        tempfile.TemporaryDirectory() as name,
        httpx2.Client(timeout=90) as client,  # making one takes as long as a short analysis
        server(Path(name), 4096) as running,
    ):
        ask = partial(_ask, client, running.address)
        rows = [_row(what, ask(*case)) for what, case in CASES.items()]
        rows.append(_row("cached", ask("ReLU", {}, fresh=False)))
    head = ["request", "p50, ms", "p95, ms", *STAGES, "rest"]
    ready, first = (_spread(seconds) for seconds in zip(*starts, strict=True))
    cold = f"Started {STARTS} times: `/readyz` after {ready}, the first answer after {first}."
    stages = "Stages are medians in ms; the rest is the way there and back."
    return f"{TEXT}\n\n{table(head, rows)}\n\n{cold} {stages}"


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def _started() -> tuple[float, float]:
    """Of a server of its own."""
    with (
        tempfile.TemporaryDirectory() as name,
        httpx2.Client(timeout=90) as client,
        server(Path(name), 4096) as running,
    ):
        return _cold(client, running)


def _cold(client: httpx2.Client, running: Server) -> tuple[float, float]:
    """Seconds to readiness and to a first answer since the server was started."""
    while client.get(f"{running.address}/readyz").status_code != 200:
        time.sleep(0.02)
    ready = time.perf_counter() - running.started
    _post(client, running.address, specification(128, "ReLU"), {}, fresh=True)
    return ready, time.perf_counter() - running.started


def _ask(
    client: httpx2.Client,
    address: str,
    activation: str,
    more: dict[str, Any],
    *,
    fresh: bool = True,
) -> list[tuple[float, dict[str, Any]]]:
    spec = specification(128, activation)
    _post(client, address, spec, more, fresh=fresh)
    asked: list[tuple[float, dict[str, Any]]] = []
    end = time.perf_counter() + SECONDS
    while len(asked) < FEWEST or (len(asked) < ASKED and time.perf_counter() < end):
        asked.append(_post(client, address, spec, more, fresh=fresh))
    return asked


def _post(
    client: httpx2.Client,
    address: str,
    spec: dict[str, object],
    more: dict[str, Any],
    *,
    fresh: bool,
) -> tuple[float, dict[str, Any]]:
    body = {"model": {"kind": "spec", **spec}, "fresh": fresh, **more}
    began = time.perf_counter()
    answer = client.post(f"{address}/v1/analyses?wait=60", json=body)
    took = time.perf_counter() - began
    told: dict[str, Any] = answer.json()
    if answer.status_code != 200 or told["cached"] is fresh:
        raise RuntimeError(f"{answer.status_code}: {str(told)[:300]}")
    return took, told


def _row(what: str, asked: list[tuple[float, dict[str, Any]]]) -> list[str]:
    if what == "cached":
        return [what, *percentiles([took for took, _ in asked]).split(" | "), *["–"] * 7]
    median: Callable[[list[float]], float] = statistics.median
    stages = [
        median([told["cost"]["stages"].get(stage, 0.0) for _, told in asked]) for stage in STAGES
    ]
    rest = median([took - sum(told["cost"]["stages"].values()) for took, told in asked])
    times = percentiles([took for took, _ in asked])
    return [what, *times.split(" | "), *(f"{1e3 * one:,.0f}" for one in (*stages, rest))]


if __name__ == "__main__":
    sys.stdout.write(section() + "\n")
