"""How far back a recurrent layer remembers: gradients per time step of its input.

PyTorch runs RNN, LSTM and GRU time first: on the CPU an LSTM in float32 is one operation, the
others unroll to one stack over the steps. There the layer's outputs are (T, B, features), whatever
order the model itself uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from service.probing import operations, reductions
from service.probing.layering import Layer

RECURRENT = frozenset({"rnn", "lstm", "gru"})
_FUSED = frozenset({"mkldnn_rnn_layer", "_cudnn_rnn"})
_JOINED = frozenset({"stack", "cat"})
_PICKED = frozenset({"select", "unbind", "slice", "split", "index", "index_select"})
"""What takes steps apart before the weights: a loop of the caller's own."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Where a recurrent layer's time steps are found."""

    outputs: fx.Node
    """Of all steps, (T, B, features)."""
    time_dim: int
    """Dimension of the layer's entry that counts the steps, 0 or 1."""
    both_ways: bool = False
    """True when the second half of the features comes from reading back to front."""


def steps_of(layer: Layer, later: Sequence[Layer]) -> Steps | None:
    """The steps of a recurrent layer, `later` being those that run after it; None for other layers,
    for cells, which see one step at a time, and where the layer's input was rearranged."""
    if layer.op not in RECURRENT or layer.entry is None or len(_shape(layer.entry)) != 3:
        return None
    ends = {user for other in later for user in other.entry_users}
    tracked: dict[fx.Node, tuple[int, ...]] = {layer.entry: (0, 1, 2)}
    time_dim: int | None = None
    joined: list[fx.Node] = []
    for node in _after(layer.entry):
        if node in ends and node not in layer.entry_users:
            break
        source = next((one for one in node.all_input_nodes if one in tracked), None)
        if source is not None and operations.name_of(node) in operations.WEIGHTED:
            time_dim = tracked[source][0] if time_dim is None else time_dim
        elif (
            source is not None
            and operations.name_of(node) not in _PICKED
            and (source is not layer.entry or node in layer.entry_users)
        ):
            tracked[node] = _moved(node, tracked[source])
        if time_dim is not None and _joins(node) and len(_shape(node)) == 3:
            joined.append(node)
    if time_dim not in (0, 1):
        return None
    sizes = _shape(layer.entry)
    steps, samples = sizes[time_dim], sizes[1 - time_dim]
    found = [node for node in joined if _shape(node)[:2] == (steps, samples)]
    if not found or steps < 2:
        return None
    # Where there are as many stacked layers as steps, the last is the joint of their last states,
    # whose last is the same again; both directions together are wider than their states.
    width = max(_shape(node)[2] for node in found)
    outputs = [node for node in found if _shape(node)[2] == width][-1]
    both_ways = any(name.endswith("_reverse") for name in layer.parameters)
    return Steps(outputs, time_dim, both_ways)


@torch.no_grad()
def step_norms(gradient: Tensor, time_dim: int) -> tuple[float | None, ...]:
    """Norm of each time step's part of a gradient; None where it is not finite."""
    norms = reductions.sample_norms(gradient.transpose(0, time_dim)).tolist()
    return tuple(norm if math.isfinite(norm) else None for norm in norms)


def memory_norms(outputs: Tensor, entry: Tensor, steps: Steps) -> tuple[float | None, ...]:
    """Norm of what reaches each step's input of a gradient that stands at the last step's output
    alone: ±1 per element, drawn once and for all. A layer that reads both ways has a last step at
    either end: the way back counts from its own, and the two are taken together. Empty when nothing
    flows."""
    if not steps.both_ways:
        return _reaching(outputs[-1], entry, steps.time_dim)
    half = outputs.shape[-1] // 2
    there = _reaching(outputs[-1, :, :half], entry, steps.time_dim)
    back = _reaching(outputs[0, :, half:], entry, steps.time_dim)[::-1]
    pairs = zip(there, back, strict=True) if there and back else ()
    return tuple(None if a is None or b is None else math.hypot(a, b) for a, b in pairs)


def _reaching(last: Tensor, entry: Tensor, time_dim: int) -> tuple[float | None, ...]:
    if not last.requires_grad or not entry.requires_grad:
        return ()
    signs = torch.randint(0, 2, last.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Signs handed over as the gradient would import sympy, to compare their shape.
    with torch.enable_grad():
        signed = (last * signs.to(last)).sum()
    (gradient,) = torch.autograd.grad(signed, [entry], retain_graph=True, allow_unused=True)
    return () if gradient is None else step_norms(gradient, time_dim)


def _after(node: fx.Node) -> list[fx.Node]:
    nodes = list(node.graph.nodes)
    return nodes[nodes.index(node) + 1 :]


def _joins(node: fx.Node) -> bool:
    """True for what puts all steps together, and for what the fused operation answers."""
    name = operations.name_of(node)
    if name != "getitem":
        return name in _JOINED
    source = node.args[0]
    return isinstance(source, fx.Node) and operations.name_of(source) in _FUSED


def _moved(node: fx.Node, order: tuple[int, ...]) -> tuple[int, ...]:
    """Which dimension of the entry stands where, after an operation."""
    name = operations.name_of(node)
    if name == "transpose":
        first, second = (int(str(dim)) % 3 for dim in node.args[1:3])
        moved = list(order)
        moved[first], moved[second] = order[second], order[first]
        return tuple(moved)
    if name == "permute" and isinstance(node.args[1], Sequence):
        return tuple(order[int(str(dim)) % 3] for dim in node.args[1])
    return order


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta.get("shape", ()))
