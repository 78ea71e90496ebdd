"""Greedy pre-training: each layer learns to keep what the one before it says, from the first on.

A layer and a linear decoder of its own are trained together to give the layer's input back, on
fresh batches of the model's inputs (Bengio et al. 2007, Greedy layer-wise training of deep
networks). The decoder is thrown away. The layers below are not touched any more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from service.domain.errors import ChangeRefused
from service.domain.probe_plan import OptimizerPlan
from service.probing.layering import Layer
from service.probing.operations import writes
from service.probing.optimizers import updates
from service.probing.trace import Recording, preserved

MOST_STEPS = 4000
"""Over all layers of one initialization."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What is to be done."""

    layers: tuple[str, ...]
    """Names, from the input on."""
    steps: int
    """Of each layer, ≥ 1."""
    lr: float
    """Adam's, > 0."""


def asked(changes: Sequence[Mapping[str, Any]]) -> Pretraining | None:
    """The pre-training among changes. Raises ChangeRefused for more than one, or too long."""
    found = [change for change in changes if change.get("kind") == "pretraining"]
    if not found:
        return None
    if len(found) > 1:
        raise ChangeRefused("a model is pre-trained once")
    layers = tuple(str(name) for name in found[0].get("layers", ()))
    steps, lr = int(found[0].get("steps", 0)), float(found[0].get("lr", 0.0))
    if not layers or not 0 < steps * len(layers) <= MOST_STEPS or not lr > 0:
        raise ChangeRefused(f"pretraining: layers, steps (at most {MOST_STEPS} in all) and lr > 0")
    return Pretraining(layers, steps, lr)


def pretrain(
    recording: Recording,
    layers: Sequence[Layer],
    wanted: Pretraining,
    batch: Callable[[int], tuple[Tensor, ...]],
    seed: int,
    most_seconds: float = math.inf,
) -> dict[str, Tensor]:
    """Train the recorded model's own parameters in place, from their values at hand; returns copies
    of those that were trained. `batch` gives the inputs of each step; `seed` draws the decoders.
    Buffers and torch's generator stay as they were. Raises ChangeRefused, too when it takes longer
    than `most_seconds`."""
    by_name = {layer.name: layer for layer in layers}
    trained: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    with preserved(recording.buffers), torch.enable_grad():
        step, began = 0, time.perf_counter()
        for name in wanted.layers:
            layer = by_name.get(name)
            if layer is None or layer.op != "linear" or layer.entry is None:
                raise ChangeRefused(f"{name!r} is no linear layer that can be trained by itself")
            if time.perf_counter() - began > most_seconds:
                raise ChangeRefused(f"pre-training takes more than {most_seconds:.3g} s")
            own = {p: recording.parameters[p] for p in layer.parameters}
            batches = (batch(step + index) for index in range(wanted.steps))
            _train(_up_to(recording, layer), list(own.values()), batches, wanted.lr, generator)
            step += wanted.steps
            trained |= own
    return {name: value.detach().clone() for name, value in trained.items()}


def _train(
    part: fx.GraphModule,
    parameters: list[Tensor],
    batches: Any,
    lr: float,
    generator: torch.Generator,
) -> None:
    decoder: list[Tensor] = []
    update = None
    for inputs in batches:
        entry, output = (_widened(one) for one in part(*inputs))
        entry = entry.detach()
        if update is None:
            decoder = _decoder(output.shape[-1], entry, generator)
            update = updates([*parameters, *decoder], OptimizerPlan("adam", lr))
        weight, bias = decoder
        centred = entry - entry.mean(0, keepdim=True)
        error = (output @ weight + bias - entry).square().mean()
        loss = error / centred.square().mean().clamp_min(torch.finfo(entry.dtype).tiny)
        gradients = torch.autograd.grad(
            loss, [*parameters, *decoder], allow_unused=True, materialize_grads=True
        )
        update(list(gradients))


def _widened(tensor: Tensor) -> Tensor:
    """What is computed in 16 bits, so that its squares fit."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def _decoder(units: int, entry: Tensor, generator: torch.Generator) -> list[Tensor]:
    features = entry.shape[-1]
    weight = torch.randn((units, features), generator=generator, dtype=entry.dtype)
    weight = (weight / math.sqrt(units)).to(entry.device)
    bias = torch.zeros(features, dtype=entry.dtype, device=entry.device)
    return [weight.requires_grad_(), bias.requires_grad_()]


def _up_to(recording: Recording, layer: Layer) -> fx.GraphModule:
    """The model as far as a layer; answers with the layer's data input and its output."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in recording.module.graph.nodes:
        copies[node] = graph.node_copy(node, lambda source: copies[source])
        if node is layer.output:
            break
    assert layer.entry is not None
    graph.output((copies[layer.entry], copies[layer.output]))
    graph.eliminate_dead_code(lambda node: node.op in {"placeholder", "output"} or writes(node))
    return fx.GraphModule(recording.module, graph)
