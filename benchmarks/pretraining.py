"""Does greedy pre-training help, and does a ReLU network need it?

    python -m benchmarks.pretraining [--seeds 5]

A plain stack on the 8×8 digits of scikit-learn, four fifths to train on and one to test: sigmoid
(Xavier), tanh (orthogonal) and ReLU (He), each as drawn and after the pre-training that the remedy
`pretraining` applies, then 300 steps of SGD with momentum at the best of three rates. Printed is a
table of the test accuracy's mean and range over the seeds, for docs/cures.md.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from service.domain.architecture import resolve
from service.domain.probe_plan import OptimizerPlan, ProbePlan
from service.probing.optimizers import updates
from service.probing.session import Session
from service.recommendation.remedies.pretraining import RATE, STEPS

DEPTH = 6
"""Hidden layers."""
WIDTH = 64
BATCH = 64
RATES = (0.3, 0.1, 0.03)
"""Of SGD with momentum 0.9; each configuration counts at its best."""
INITIALIZERS: dict[str, dict[str, Any]] = {
    "Sigmoid": {"name": "xavier_normal_"},
    "Tanh": {"name": "orthogonal_"},
    "ReLU": {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}},
}


@dataclass(frozen=True, slots=True)
class Result:
    """One configuration."""

    activation: str
    pretrained: bool
    accuracy: tuple[float, ...]
    """On the test set at the end, one per seed, 0 … 1."""


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training rows and answers, test rows and answers."""
    found = load_digits()
    x = torch.tensor(found.data, dtype=torch.float32)
    x = (x - x.mean()) / x.std()
    y = torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    edge = len(x) * 4 // 5
    return x[order[:edge]], y[order[:edge]], x[order[edge:]], y[order[edge:]]


def compared(seeds: int, *, depth: int = DEPTH, steps: int = 300) -> Iterator[Result]:
    """Every configuration, over so many seeds ≥ 1."""
    for activation in INITIALIZERS:
        for pretrained in (False, True):
            accuracy = tuple(
                max(_accuracy(activation, rate, seed, depth, steps, pretrained) for rate in RATES)
                for seed in range(seeds)
            )
            yield Result(activation, pretrained, accuracy)


def _accuracy(
    activation: str, rate: float, seed: int, depth: int, steps: int, pretrained: bool
) -> float:
    session = _session(activation, seed, depth)
    if pretrained:
        layers = [f"fc{index}" for index in range(depth)]
        change = {"kind": "pretraining", "layers": layers, "steps": STEPS, "lr": RATE}
        session = session.changed((change,))
    session.reset()
    x, y, test_x, test_y = digits()
    parameters = list(session.parameters.values())
    update = updates(parameters, OptimizerPlan("sgd", rate, 0.9))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (BATCH,), generator=generator)
        loss = torch.nn.functional.cross_entropy(session.forward(x[rows]), y[rows])
        update(list(torch.autograd.grad(loss, parameters)))
    edge = len(test_x) // BATCH * BATCH  # a recorded graph holds for one batch size
    with torch.no_grad():
        answers = [session.forward(test_x[i : i + BATCH]) for i in range(0, edge, BATCH)]
    return torch.cat(answers).argmax(1).eq(test_y[:edge]).float().mean().item()


def _session(activation: str, seed: int, depth: int) -> Session:
    init = {"weight": INITIALIZERS[activation], "bias": {"name": "zeros_"}}
    layers: list[dict[str, Any]] = []
    for index in range(depth):
        args = {"out_features": WIDTH}
        layers.append({"name": f"fc{index}", "type": "Linear", "args": args, "init": init})
        layers.append({"type": activation})
    layers.append({"name": "head", "type": "Linear", "args": {"out_features": 10}})
    x, y, *_ = digits()
    file = io.BytesIO()
    np.savez(file, x=x.numpy(), y=y.numpy())
    plan = ProbePlan(batch_size=BATCH, batches=1, seeds=1, seed=seed)
    spec = {"input": {"shape": [64]}, "layers": layers}
    return Session.open(plan, resolve(spec), None, data=file.getvalue())


def table(results: list[Result]) -> str:
    """Markdown."""
    rows = [
        f"| {one.activation} | {'pre-trained' if one.pretrained else 'as drawn'} |"
        f" {mean(one.accuracy):.3f} | {min(one.accuracy):.3f} … {max(one.accuracy):.3f} |"
        for one in results
    ]
    return "\n".join(
        ["| activation | start | accuracy | range |", "| --- | --- | --- | --- |", *rows]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    torch.set_num_threads(1)
    print(table(list(compared(parser.parse_args().seeds))))
