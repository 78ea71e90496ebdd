"""What a probe and an answer cost: writes docs/performance.md (a quarter of an hour).

    make bench, or python -m benchmarks.performance [--only TABLE]

Each figure stands beside its own reference, taken in the same run. `--only` measures one table and
prints it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.performance import (
    growth,
    initializations,
    large,
    latency,
    overhead,
    throughput,
)
from benchmarks.performance.serving import ALLOCATOR
from service.sandbox.limits import ENVIRONMENT

PAGE = Path("docs/performance.md")
SECTIONS = {
    "overhead": overhead,
    "initializations": initializations,
    "latency": latency,
    "throughput": throughput,
    "growth": growth,
    "large": large,
}
FOUND = Path(__file__).with_name("found.md")
"""What profiling found, by hand; everything else on the page is measured."""


def page() -> str:
    """The whole page, Markdown."""
    torch.set_num_threads(1)
    before, began = os.getloadavg()[0], time.perf_counter()
    sections = []
    for module in SECTIONS.values():
        sections.append(f"## {module.TITLE}\n\n{module.section()}")
        print(f"{sections[-1]}\n", flush=True)  # of a run that is broken off, what there is
    minutes = (time.perf_counter() - began) / 60
    load = f"{before:.1f} before and {os.getloadavg()[0]:.1f} after"
    head = (
        "# Performance, measured\n\n"
        f"Written by `make bench` in {minutes:.0f} minutes; change it in "
        "`benchmarks/performance`.\n"
        f"Machine: {_processor()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}; load "
        f"{load} (the tables keep both\ncores busy themselves: under 2 before means that nothing "
        f"else ran). {_versions()}."
    )
    return "\n\n".join([head, *sections, FOUND.read_text(encoding="utf-8")])


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return text.partition("model name")[2].partition(":")[2].partition("\n")[0].strip()


def _versions() -> str:
    told = [f"Python {platform.python_version()}"]
    for name in ("torch", "wandb", "backpack-for-pytorch"):
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} not installed")
    return ", ".join(told)


def _as_in_a_child() -> None:
    """Begin again with a child's allocator, which a process can have from its start alone."""
    if ALLOCATOR not in os.environ:
        given = {**os.environ, ALLOCATOR: ENVIRONMENT[ALLOCATOR]}
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.performance", *sys.argv[1:]], given
        )


if __name__ == "__main__":
    _as_in_a_child()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SECTIONS)
    only: str | None = parser.parse_args().only
    if only is None:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        torch.set_num_threads(1)
        print(SECTIONS[only].section())
