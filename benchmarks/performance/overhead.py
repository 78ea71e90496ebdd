"""Overhead of a probe over a bare forward and backward pass, beside what people use instead."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.performance.models import NETWORKS
from benchmarks.performance.rivals import RIVALS, Refused
from benchmarks.performance.timing import Act, interleaved, table
from benchmarks.performance.watched import Watched, status_mb

TITLE = "Overhead"
TEXT = """All statistics of a probe pass, forward, backward and parameters, over the same pass
without them, on one thread and with the allocator that a child has: median of the rounds and its
quartiles. Memory is the peak resident set of four passes above that of the interpreter with
torch loaded, each in a process of its own that has opened the model for probing before. Aim: ≤
1.15 where arithmetic dominates, ≤ 1.4 for the 100-layer MLP, memory ≤ 1.15. The rivals measure
less: by hand mean, standard deviation, largest element, norm and share of zeros of outputs and
gradients; wandb histograms of parameters and their gradients; BackPACK norms of the samples'
parameter gradients."""
SECONDS = 10.0
PASSES = 4


def section() -> str:
    """Markdown."""
    rows = [_row(index) for index in range(len(NETWORKS))]
    head = ["network", "bare, ms", "probe", *RIVALS, "memory"]
    return f"{TEXT}\n\n{table(head, rows)}"


def _row(index: int) -> list[str]:
    network = NETWORKS[index]
    watched = Watched.of(network)
    acts: dict[str, Act] = {"probe": watched.probe}
    refused: dict[str, str] = {}
    with ExitStack() as stack:
        # By hand last: its hooks sit on the model itself.
        for name in ("wandb.watch(log=all)", "BackPACK BatchL2Grad"):
            try:
                acts[name] = stack.enter_context(RIVALS[name](watched.model, watched.loss))
            except Refused as error:
                refused[name] = str(error)
        found = interleaved(watched.bare, acts, SECONDS)
    with RIVALS["hooks by hand"](network.made(), watched.loss) as act:
        by_hand = interleaved(watched.bare, {"hooks by hand": act}, SECONDS / 3)
    told = {**found.ratios, **by_hand.ratios}
    return [
        network.name,
        f"{1e3 * statistics.median(found.reference):.1f}",
        str(told["probe"]),
        *(str(told.get(name, refused.get(name))) for name in RIVALS),
        f"{_peak(index, 'probe') / _peak(index, 'bare'):.2f}",
    ]


def _peak(index: int, what: str) -> float:
    """MiB, of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.performance.overhead", str(index), what]
    done = subprocess.run(command, capture_output=True, check=True)
    return float(json.loads(done.stdout))


def main(index: int, what: str) -> None:
    """Print the peak of a few passes, MiB above what was there before the model."""
    before = status_mb("VmRSS")
    watched = Watched.of(NETWORKS[index])
    gc.collect()
    # Resets the high-water mark: opening the model had its own.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(PASSES):
        (watched.probe if what == "probe" else watched.bare)()
    print(json.dumps(status_mb("VmHWM") - before))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
