"""How far from mean 0 and variance 1 may the inputs be?  What sets UNSCALED_* in thresholds.py.

    python -m benchmarks.input_scale

The 8×8 digits, standardized, are spoiled in one way at a time: all of them times a factor, moved by
an offset, or single pixels times a factor. Small networks are then trained as tests/cases/oracle.py
trains its cases. A line is the way, the three statistics that the detector reads, and the labels
with the best accuracy that SGD and Adam reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.score import oracle
from service.domain.measurements import InputStatistics
from service.probing.data import Data
from service.probing.input_statistics import input_statistics

Spoil = Callable[[Tensor], Tensor]


def mlp(depth: int, activation: str, norm: str | None = None) -> dict[str, Any]:
    """`depth` hidden layers of 64 units at PyTorch's default initialization, He for ReLU."""
    init = {"weight": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}}
    layers: list[dict[str, Any]] = []
    for _ in range(depth):
        linear = {"type": "Linear", "args": {"in_features": 64, "out_features": 64}}
        layers.append(linear | ({"init": init} if activation == "ReLU" else {}))
        if norm:
            layers.append({"type": norm, "args": {"num_features": 64}})
        layers.append({"type": activation})
    layers.append({"type": "Linear", "args": {"in_features": 64, "out_features": 10}})
    return {"input": {"shape": [64]}, "layers": layers}


NETWORKS = {
    "ReLU x2": mlp(2, "ReLU"),
    "Tanh x2": mlp(2, "Tanh"),
    "ReLU x5": mlp(5, "ReLU"),
    "BatchNorm ReLU x2": mlp(2, "ReLU", "BatchNorm1d"),
}


def times(factor: float) -> Spoil:
    """All of them times a factor."""
    return lambda x: x * factor


def plus(offset: float) -> Spoil:
    """All of them moved."""
    return lambda x: x + offset


def some_times(factor: float, every: int) -> Spoil:
    """One pixel in `every` times a factor."""
    return lambda x: torch.where(torch.arange(x.shape[1]) % every == every // 2, x * factor, x)


def ways() -> Iterator[tuple[str, Spoil]]:
    """What is done to the inputs."""
    for factor in (1.0, 1e-3, 1e-2, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0):
        yield f"x {factor:g}", times(factor)
    for offset in (1.0, 3.0, 5.0, 10.0, 30.0, 100.0):
        yield f"+ {offset:g}", plus(offset)
    for every in (2, 16):
        for factor in (10.0, 30.0, 100.0, 1000.0):
            yield f"one in {every} x {factor:g}", some_times(factor, every)


def statistics(x: Tensor) -> InputStatistics:
    """As the probe takes them."""
    return input_statistics(Data((x,), None), channels_first=False)[0]


def main() -> None:
    """Print a line per way of spoiling."""
    torch.set_num_threads(1)
    tools = oracle()
    x, y = tools.data("flat")
    for what, spoil in ways():
        spoilt = spoil(x)
        seen = statistics(spoilt)
        spread = (seen.feature_rms_max or 0.0) / (seen.feature_rms_p25 or 1.0)
        line = f"{what:22} rms {seen.rms:8.3g} offset {seen.feature_offset_p50:6.3g} "
        line += f"spread {spread:7.3g}"
        for name, spec in NETWORKS.items():
            with mock.patch.object(tools, "data", lambda _, given=spoilt: (given, y)):
                judged = tools.judge(spec, "flat")
            best = f"{judged['sgd'][0]:.2f}/{judged['adam'][0]:.2f}"
            line += f" | {name} {judged['label']:7} {best}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
