"""How time and memory grow: the slope of their logarithms, 1 being linear."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from benchmarks.performance.models import perceptron
from benchmarks.performance.timing import slope, table
from benchmarks.performance.watched import status_mb
from service.domain.probe_plan import InputPlan, ProbePlan
from service.probe_protocol import Measured, encode
from service.probing.loaders.loaded import loaded
from service.probing.session import Session

TITLE = "Growth"
TEXT = """Opening and measuring (one seed, two batches), each size in a process of its own:
seconds, peak memory above that before the model, and the answer's bytes. The slope is that of
the logarithms over the larger half of the sizes, where constants no longer count; 1 is linear."""


def _encoder(length: int) -> tuple[nn.Module, InputPlan, int]:
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return model, InputPlan((length, 128)), 4


def _of_depth(depth: int) -> tuple[nn.Module, InputPlan, int]:
    return perceptron(depth, 64), InputPlan((64,)), 32


def _of_width(width: int) -> tuple[nn.Module, InputPlan, int]:
    return perceptron(4, width), InputPlan((width,)), 32


def _of_batch(batch: int) -> tuple[nn.Module, InputPlan, int]:
    return perceptron(4, 512), InputPlan((512,)), batch


Build = Callable[[int], tuple[nn.Module, InputPlan, int]]
AXES: dict[str, tuple[Build, Sequence[int], Callable[[int], float]]] = {
    "depth (layers, width 64)": (_of_depth, (10, 100, 500, 1000, 2000), float),
    "parameters (width 256 … 4096)": (_of_width, (256, 1024, 2048, 4096), lambda w: 4.0 * w * w),
    "batch (64 … 4096, width 512)": (_of_batch, (64, 512, 2048, 4096), float),
    "sequence length (16 … 512)": (_encoder, (16, 64, 256, 512), float),
}


def section() -> str:
    """Markdown."""
    rows = [_row(name) for name in AXES]
    head = ["over", "sizes", "seconds", "slope", "MiB", "slope", "answer, kB", "slope"]
    return f"{TEXT}\n\n{table(head, rows)}"


def _row(name: str) -> list[str]:
    _, sizes, scale = AXES[name]
    found = [_measured(name, size) for size in sizes]
    half = len(sizes) // 2
    cells = [name, ", ".join(f"{size:,}" for size in sizes)]
    for column, unit in ((0, 1.0), (1, 1.0), (2, 1e-3)):
        values = [one[column] * unit for one in found]
        cells.append(", ".join(f"{value:.3g}" for value in values))
        cells.append(f"{slope([scale(s) for s in sizes[half - 1 :]], values[half - 1 :]):.2f}")
    return cells


def _measured(name: str, size: int) -> tuple[float, float, float]:
    """Seconds, MiB, bytes."""
    command = [sys.executable, "-m", "benchmarks.performance.growth", name, str(size)]
    done = subprocess.run(command, capture_output=True, check=True)
    seconds, peak, answer = json.loads(done.stdout)
    return seconds, peak, answer


def main(name: str, size: int) -> None:
    """Print what one size takes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, inputs, batch = AXES[name][0](size)
    before = status_mb("VmRSS")
    plan = ProbePlan(
        inputs=(inputs,), batch_size=batch, batches=2, seeds=1, trial_steps=0, budget_seconds=1e6
    )
    began = time.perf_counter()
    session = Session(loaded("torchscript", model, mode="train", dtype=torch.float32), plan)
    measured = session.measure()
    seconds = time.perf_counter() - began
    print(json.dumps([seconds, status_mb("VmHWM") - before, len(encode(Measured(measured)))]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
