"""Small specs a second, beside what their bare passes alone would take on the same cores."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import torch

from benchmarks.performance.initializations import specification
from benchmarks.performance.serving import server
from benchmarks.performance.timing import table, timed
from service.domain.architecture import resolve
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session

TITLE = "Throughput"
TEXT = """Healthy specs (ReLU MLP 6×64, He initialization; default request) posted by as many
callers as workers, over a real server and connections that are kept; medians of an analysis'
stages in ms, and what of its time is in none: the way there and back, the queue, the database and
the next child. Beside it the sum of the probe's 12 bare forward and backward passes on one thread;
the short training takes some fifty more. A child of these small models runs one thread."""
SPECS = 24
PASSES = 12
STAGES = ("load", "probe", "diagnose", "trial")


def section() -> str:
    """Markdown."""
    cores = len(os.sched_getaffinity(0))
    bare = _bare()
    rows = [_row(workers, bare) for workers in sorted({1, cores})]
    head = ["workers", "specs a second", "ms a spec × workers", *STAGES, "rest", "bare, ms"]
    return f"{TEXT}\n\n{table(head, rows)}"


def _row(workers: int, bare: float) -> list[str]:
    with (
        tempfile.TemporaryDirectory() as name,
        httpx2.Client(timeout=150) as client,  # making one takes as long as a short analysis
        server(Path(name), 4096, workers) as running,
    ):

        def post(seed: int) -> dict[str, Any]:
            body = {
                "model": {"kind": "spec", **specification(64, "ReLU", depth=6)},
                "probe": {"seed": seed},
            }
            answer = client.post(f"{running.address}/v1/analyses?wait=120", json=body)
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")
            told: dict[str, Any] = answer.json()
            return told

        with ThreadPoolExecutor(workers) as callers:
            list(callers.map(post, range(10_000, 10_000 + 2 * workers)))
            began = time.perf_counter()
            answers = list(callers.map(post, range(SPECS)))
            took = time.perf_counter() - began
    each = took * workers / SPECS
    spent = [[told["cost"]["stages"].get(stage, 0.0) for stage in STAGES] for told in answers]
    stages = [statistics.median(times) for times in zip(*spent, strict=True)]
    rest = each - statistics.mean(sum(times) for times in spent)
    shown = (1e3 * one for one in (each, *stages, rest, PASSES * bare))
    return [str(workers), f"{SPECS / took:.2f}", *(f"{one:,.0f}" for one in shown)]


def _bare() -> float:
    """Seconds of one pass."""
    session = Session.open(ProbePlan(), resolve(specification(64, "ReLU", depth=6)), None)
    parameters = list(session.parameters.values())
    batch = session.batch(0, 0)

    def bare() -> None:
        output = session.model.module(*batch.inputs)
        loss = session.loss.compute(output, batch.target(output, session.loss))
        torch.autograd.grad(loss, parameters)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return statistics.median(timed(bare) for _ in range(100))
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.stdout.write(section() + "\n")
