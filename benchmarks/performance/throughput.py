"""Small specs a second, beside what their bare passes alone would take on the same cores."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import torch

from benchmarks.performance.initializations import specification
from benchmarks.performance.serving import server
from benchmarks.performance.timing import table
from service.domain.architecture import resolve
from service.domain.probe_plan import ProbePlan
from service.probing.session import Session

TITLE = "Throughput"
TEXT = """Healthy specs (ReLU MLP 6×64, He initialization; default request) posted by as many
callers as workers, over a real server; beside it the sum of their bare forward and backward
passes (12 each) on one thread, divided by the workers. A child runs cores ÷ workers threads."""
SPECS = 24
PASSES = 12


def section() -> str:
    """Markdown."""
    cores = len(os.sched_getaffinity(0))
    rows = [_row(workers, cores) for workers in sorted({1, cores})]
    head = ["workers", "threads a child", "specs a second", "seconds a spec × workers", "bare, s"]
    return f"{TEXT}\n\n{table(head, rows)}"


def _row(workers: int, cores: int) -> list[str]:
    with tempfile.TemporaryDirectory() as name, server(Path(name), 4096, workers) as running:

        def post(seed: int) -> None:
            body = {
                "model": {"kind": "spec", **specification(64, "ReLU", depth=6)},
                "probe": {"seed": seed},
            }
            answer = httpx2.post(f"{running.address}/v1/analyses?wait=120", json=body, timeout=150)
            if answer.status_code != 200:
                raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")

        with ThreadPoolExecutor(workers) as callers:
            list(callers.map(post, range(10_000, 10_000 + 2 * workers)))
            began = time.perf_counter()
            list(callers.map(post, range(SPECS)))
            took = time.perf_counter() - began
    each = took * workers / SPECS
    return [
        str(workers),
        str(max(1, cores // workers)),
        f"{SPECS / took:.2f}",
        f"{each:.3f}",
        f"{_bare():.3f}",
    ]


def _bare() -> float:
    """Seconds of one spec's passes."""
    session = Session.open(ProbePlan(), resolve(specification(64, "ReLU", depth=6)), None)
    parameters = list(session.parameters.values())
    batch = session.batch(0, 0)
    began = time.perf_counter()
    for _ in range(PASSES):
        output = session.model.module(*batch.inputs)
        loss = session.loss.compute(output, batch.target(output, session.loss))
        torch.autograd.grad(loss, parameters)
    return time.perf_counter() - began
