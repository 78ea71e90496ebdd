"""How much of what a layer says comes from the sample, and how much from the model's own dice.

Dropout and randomized slopes hide the signal behind another mask at every pass, in proportion to
the signal itself, so that no weight outgrows them (Schoenholz et al. 2017, §5: dropout bounds the
depth that signals reach). The same batch is run twice with different masks; the share of signal is
the correlation, over samples, of the two runs, Σ cov(y₁, y₂) / √(Σ var y₁ · Σ var y₂), sums over
the elements of the output. Normal noise that is added (noisy ReLU, the latent code of a variational
autoencoder) is the same in both runs: larger weights leave it behind.

What is lost may come back while a model learns: where the samples hardly differ yet, behind small
weights and large biases, any mask drowns them. What never comes back is what the masks' own rates
take: of a centred signal a mask that keeps q leaves q, the variance of m·x/q being x²/q.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from service.probing import devices, operations
from service.probing.dropout import dropouts
from service.probing.layering import Layer
from service.probing.probe import Batch
from service.probing.trace import preserved

ELEMENTS = 4096
"""Elements per sample that are looked at, evenly spread."""
OTHER = 7919
"""Added to the seed of each mask for the second run."""
ADDED = frozenset({"randn", "randn_like", "normal", "normal_", "normal_functional"})
"""Operations whose numbers are added and not multiplied with."""
EMPTY = frozenset({"empty", "empty_like", "new_empty", "zeros_like", "ones_like"})
"""Operations that take another tensor's shape alone."""


def is_masked(graph: fx.Graph) -> bool:
    """Whether any operation draws random masks."""
    return any(_draws(node) and not _is_added(node) for node in graph.nodes)


def _draws(node: fx.Node) -> bool:
    tags = getattr(node.target, "tags", ())
    return node.op == "call_function" and torch.Tag.nondeterministic_seeded in tags


def _is_added(node: fx.Node) -> bool:
    packet = getattr(node.target, "overloadpacket", None)
    return getattr(packet, "__name__", "") in ADDED


def signal_shares(
    module: fx.GraphModule,
    layers: Sequence[Layer],
    batch: Batch,
    size: int,
    buffers: Mapping[str, Tensor],
) -> dict[int, float]:
    """By layer index, 0 … 1, of one batch of `size` samples; empty for a model without masks, and
    without those layers whose output does not differ between samples or has no dimension of
    samples."""
    if not is_masked(module.graph):
        return {}
    wanted = {layer.output: layer.index for layer in layers}
    runs = []
    for offset in (0, OTHER):
        outputs = _Outputs(module, wanted, size, seed=batch.seed, offset=offset)
        with torch.no_grad(), preserved(buffers):
            outputs.run(*batch.inputs)
        runs.append(outputs.seen)
    shares = {index: _share(first, runs[1][index]) for index, first in runs[0].items()}
    return {index: share for index, share in shares.items() if share is not None}


def attainable_shares(graph: fx.Graph, layers: Sequence[Layer]) -> dict[int, float]:
    """By layer index, 0 … 1: the product of what each mask keeps, along the path to the layer's
    output that loses least. An upper bound of `signal_shares` where signals are centred, whatever
    the weights; empty for a model without masks."""
    if not is_masked(graph):
        return {}
    kept = {one.draw: 1.0 - one.p for one in dropouts(graph)}
    signals: dict[fx.Node, float] = {}
    masks: dict[fx.Node, float] = {}
    for node in graph.nodes:
        _follow(node, kept.get(node), signals, masks)
    return {layer.index: signals.get(layer.output, 1.0) for layer in layers}


def _follow(
    node: fx.Node,
    kept: float | None,
    signals: dict[fx.Node, float],
    masks: dict[fx.Node, float],
) -> None:
    """What of the signal this node carries, or what the mask that it is keeps; `kept`: what is left
    by the dropout that is drawn here."""
    name = operations.name_of(node)
    carried = [signals[source] for source in node.all_input_nodes if source in signals]
    hiding = [masks[source] for source in node.all_input_nodes if source in masks]
    if node.op == "placeholder":
        signals[node] = 1.0
    elif name in EMPTY:
        return
    elif carried:
        hidden = min(hiding, default=1.0) if name == "mul" else 1.0
        signals[node] = max(carried) * hidden * (1.0 if kept is None else kept)
    elif kept is not None or hiding:
        masks[node] = min(hiding) if kept is None else kept


class _Outputs(fx.Interpreter):
    """Keeps some of each layer's output, (batch, elements); seeds each draw by its number among the
    draws, so that a network has the same masks in every form that it is sent in."""

    def __init__(
        self,
        module: fx.GraphModule,
        wanted: Mapping[fx.Node, int],
        batch: int,
        *,
        seed: int,
        offset: int,
    ) -> None:
        super().__init__(module)
        self.wanted, self.batch = wanted, batch
        self.seed, self.offset = seed, offset
        self.seen: dict[int, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        if _draws(n):
            self.seed += 1
            devices.seed(self.seed if _is_added(n) else self.seed + self.offset)
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
