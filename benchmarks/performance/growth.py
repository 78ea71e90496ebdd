"""How time and memory grow: the slope of their logarithms, 1 being linear."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from benchmarks.performance import stored
from benchmarks.performance.initializations import specification
from benchmarks.performance.models import perceptron
from benchmarks.performance.stored import Taken, taken
from benchmarks.performance.timing import slope, table
from service.diagnosis import diagnose
from service.domain.architecture import resolve
from service.domain.probe_plan import InputPlan, ProbePlan
from service.domain.request import ALL_KINDS
from service.probe_protocol import Measured, encode
from service.probing import foresight
from service.probing.loaders.loaded import loaded
from service.probing.session import Session
from service.recommendation.recommend import recommend

TITLE = "Growth"
TEXT = """Opening and measuring (one seed, two batches), each size in a process of its own:
seconds, peak memory above that before the model, and the answer's bytes. A spec's estimate is what
is reckoned before it is built, without bound, so that its operations are looked at, too.
Recommendations are thought of for a measured spec, and not measured themselves. Layers
are stored in SQLite and given out as JSON by the API's own code; what stood in memory before is
left out, for storing the layers themselves. The slope is that of the logarithms over the larger
half of the sizes, where constants no longer count; 1 is linear."""


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
BOUNDLESS = 1 << 40
"""MiB."""


def _probed(build: Build, size: int) -> Taken:
    model, inputs, batch = build(size)
    plan = ProbePlan(
        inputs=(inputs,), batch_size=batch, batches=2, seeds=1, trial_steps=0, budget_seconds=1e6
    )

    def probe() -> int:
        read = loaded("torchscript", model, mode="train", dtype=torch.float32)
        return len(encode(Measured(Session(read, plan).measure())))

    return taken(probe)


def _estimated(width: int) -> Taken:
    layer = {"type": "Linear", "args": {"out_features": width}}
    architecture = resolve({"input": {"shape": [width]}, "layers": [layer] * 8})
    plan = ProbePlan(inputs=(InputPlan((width,)),))

    def estimate() -> int:
        foresight.check_spec(plan, architecture, BOUNDLESS)
        return int(foresight.sample_bytes(plan, architecture))

    return taken(estimate)


def _advised(depth: int) -> Taken:
    """Layers of a ReLU stack whose gradients vanish: most detectors and remedies have something to
    say of each."""
    spec = specification(16, "ReLU", depth=depth, inputs=16)
    architecture = resolve(spec)
    plan = ProbePlan(batch_size=16, batches=2, seeds=1, trial_steps=0, budget_seconds=1e6)
    measured = Session.open(plan, architecture, None).measure()

    def advise() -> int:
        advice = recommend(
            diagnose(measured, plan=plan),
            measured,
            architecture=architecture,
            batch_size=16,
            allowed_changes=ALL_KINDS,
        )
        return len(repr(advice))

    return taken(advise)


AXES: dict[str, tuple[Callable[[int], Taken], Sequence[int], Callable[[int], float]]] = {
    "depth (layers, width 64)": (partial(_probed, _of_depth), (10, 100, 500, 1000, 2000), float),
    "parameters (4 layers, by width)": (
        partial(_probed, _of_width),
        (256, 1024, 2048, 4096),
        lambda width: 4.0 * width * width,
    ),
    "batch (64 … 4096, width 512)": (partial(_probed, _of_batch), (64, 512, 2048, 4096), float),
    "sequence length (16 … 512)": (partial(_probed, _encoder), (16, 64, 256, 512), float),
    "a spec's estimate (8 layers, by width; the last has 10⁹ parameters)": (
        _estimated,
        (350, 1100, 3500, 11000),
        lambda width: 8.0 * width * width,
    ),
    "diagnosis and recommendations (layers)": (_advised, (50, 500, 2000, 5000), float),
    "layers stored": (stored.saved, (100, 1000, 10_000), float),
    "/layers in pages of 100": (stored.paged, (100, 1000, 10_000), float),
    "/layers in one answer": (stored.listed, (100, 1000, 10_000), float),
    "the whole answer, by layers": (stored.whole, (100, 1000, 10_000), float),
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


def _measured(name: str, size: int) -> Taken:
    command = [sys.executable, "-m", "benchmarks.performance.growth", name, str(size)]
    done = subprocess.run(command, capture_output=True, check=True)
    seconds, peak, answer = json.loads(done.stdout)
    return seconds, peak, answer


def main(name: str, size: int) -> None:
    """Print what one size takes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(json.dumps(AXES[name][0](size)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
