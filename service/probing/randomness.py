"""How much of what a layer says comes from the sample, and how much from the model's own dice.

Dropout, randomized activations and added noise hide the signal behind another mask at every pass
(Schoenholz et al. 2017, §5: dropout bounds the depth that signals reach). The same batch is run
twice with different random numbers; the share of signal is the correlation, over samples, of the
two runs, Σ cov(y₁, y₂) / √(Σ var y₁ · Σ var y₂), sums over the elements of the output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from service.probing.layering import Layer
from service.probing.probe import Batch
from service.probing.trace import preserved

ELEMENTS = 4096
"""Elements per sample that are looked at, evenly spread."""
OTHER = 7919
"""Added to a batch's seed for the second run."""


def is_random(graph: fx.Graph) -> bool:
    """Whether any operation draws random numbers."""
    return any(
        torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        for node in graph.nodes
        if node.op == "call_function"
    )


def signal_shares(
    module: fx.GraphModule,
    layers: Sequence[Layer],
    batch: Batch,
    size: int,
    buffers: Mapping[str, Tensor],
) -> dict[int, float]:
    """By layer index, 0 … 1, of one batch of `size` samples; empty for a model without randomness,
    and without those layers whose output does not differ between samples or has no dimension of
    samples."""
    if not is_random(module.graph):
        return {}
    runs = []
    for seed in (batch.seed, batch.seed + OTHER):
        outputs = _Outputs(module, {layer.output: layer.index for layer in layers}, size)
        torch.manual_seed(seed)
        with torch.no_grad(), preserved(buffers):
            outputs.run(*batch.inputs)
        runs.append(outputs.seen)
    shares = {index: _share(first, runs[1][index]) for index, first in runs[0].items()}
    return {index: share for index, share in shares.items() if share is not None}


class _Outputs(fx.Interpreter):
    """Keeps some of each layer's output, (batch, elements)."""

    def __init__(self, module: fx.GraphModule, wanted: Mapping[fx.Node, int], batch: int) -> None:
        super().__init__(module)
        self.wanted, self.batch = wanted, batch
        self.seen: dict[int, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted and isinstance(result, Tensor) and result.shape[:1] == (self.batch,):
            rows = result.detach().reshape(self.batch, -1)
            step = max(1, rows.shape[1] // ELEMENTS)
            self.seen[self.wanted[n]] = rows[:, ::step].double()
        return result


def _share(first: Tensor, second: Tensor) -> float | None:
    one, other = first - first.mean(0), second - second.mean(0)
    scale = (one.square().sum() * other.square().sum()).sqrt().item()
    if not 0.0 < scale < math.inf:
        return None
    return min(max((one * other).sum().item() / scale, 0.0), 1.0)
