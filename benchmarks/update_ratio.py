"""How large may the first step be?  What sets UPDATE_* in thresholds.py.

    python -m benchmarks.update_ratio

Healthy networks are trained on the 8×8 digits, as tests/cases/oracle.py does, at rates from far too
small to far too large. A line is the network, optimizer and rate, the median over the layers of
‖change of the weight by the first step‖ / ‖weight‖ as the probe measures it, and the accuracy after
400 steps. The last lines say for each decade of that ratio how many trained.
"""

from __future__ import annotations

import math
from collections import defaultdict
from statistics import median
from typing import Any

import torch

from benchmarks.input_scale import NETWORKS, mlp
from benchmarks.score import TRAINS, oracle
from service.diagnosis.detectors.extreme_update_ratio import weight_ratios
from service.domain.model_source import SpecSource, model_source
from service.domain.probe_plan import OptimizerPlan, ProbePlan
from service.domain.request import ModelRequest
from service.probing.session import Session

STEPS = 400
RATES = [10.0 ** (tenths / 2) for tenths in range(-14, 4)]
"""1e-7 … 30, half a decade apart."""


def first_ratio(spec: dict[str, Any], optimizer: OptimizerPlan) -> float:
    """Median over the layers."""
    source = model_source(ModelRequest("spec", spec=spec), "spec")
    assert isinstance(source, SpecSource)
    plan = ProbePlan(optimizer=optimizer, batches=1, seeds=1)
    ratios = weight_ratios(Session.open(plan, source.architecture, None).measure().layers)
    return median(ratio for _, ratio in ratios)


def main() -> None:
    """Print a line per training."""
    torch.set_num_threads(1)
    trained: dict[int, list[bool]] = defaultdict(list)
    networks = {**NETWORKS, "Tanh x5": mlp(5, "Tanh"), "ReLU x12": mlp(12, "ReLU")}
    for name, spec in networks.items():
        for kind, momentum in (("sgd", 0.9), ("adam", 0.0)):
            for rate in RATES:
                ratio = first_ratio(spec, OptimizerPlan(kind, rate, momentum=momentum))
                accuracy = oracle().train(spec, "flat", kind, rate, STEPS)
                trained[math.floor(2 * math.log10(ratio))].append(accuracy >= TRAINS)
                print(f"{name:18} {kind:4} {rate:8.1e} ratio {ratio:8.2e} accuracy {accuracy:.2f}")
    for half, outcomes in sorted(trained.items()):
        print(f"from {10.0 ** (half / 2):.1e}: {sum(outcomes)} of {len(outcomes)} trained")


if __name__ == "__main__":
    main()
