"""What anyone can do to a network that does not train, without measuring it.

He initialization everywhere (He et al. 2015); He, ReLU and batch normalization everywhere; and
random draws of initialization, activation and normalization. Each is a change of a written-out
spec (`service.domain.expanded`), for `benchmarks.repair`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from benchmarks.families import CRITICAL

Spec = dict[str, Any]
WEIGHTED = {"Linear": "out_features", "Conv1d": "out_channels", "Conv2d": "out_channels"}
"""Layers that a rule of thumb speaks of, and the argument that counts their units."""
NORMS = {"Linear": "BatchNorm1d", "Conv1d": "BatchNorm1d", "Conv2d": "BatchNorm2d"}
ACTIVATIONS = frozenset(CRITICAL) - {"Identity"}
SEQUENCE = 2
"""Dimensions of one sample that is a sequence."""
HE_CALL = {"name": "kaiming_normal_", "args": {"nonlinearity": "relu"}}
DRAWN_INITS: tuple[dict[str, Any] | None, ...] = (
    None,
    HE_CALL,
    {"name": "xavier_normal_", "args": {"gain": 1.0}},
    {"name": "orthogonal_", "args": {"gain": 1.41421356}},
)
"""None: as it is."""
DRAWN_ACTIVATIONS = (None, "ReLU", "ELU", "SELU", "GELU", "Tanh")
"""None: as it is."""


def he(spec: Spec) -> Spec:
    """kaiming_normal_ for every weight, zero biases."""
    return changed(spec, HE_CALL, None, norm=False)


def recipe(spec: Spec) -> Spec:
    """He, every activation a ReLU, batch normalization before it."""
    return changed(spec, HE_CALL, "ReLU", norm=True)


def best_of(spec: Spec, r: Random, count: int, progress: Callable[[Spec], float]) -> Spec:
    """Of so many random draws the one with the most progress."""
    drawn = [
        changed(spec, r.choice(DRAWN_INITS), r.choice(DRAWN_ACTIVATIONS), norm=r.random() < 0.5)
        for _ in range(count)
    ]
    return max(drawn, key=progress)


def changed(
    spec: Spec, init: Mapping[str, Any] | None, activation: str | None, *, norm: bool
) -> Spec:
    """One rule for all layers; the last layer with weights gets no normalization."""
    layers = copy.deepcopy(spec["layers"])
    weighted = [layer for layer in layers if layer["type"] in WEIGHTED]
    for layer in layers:
        if activation is not None and layer["type"] in ACTIVATIONS:
            layer["type"], layer["args"] = activation, {}
        if init is not None and layer["type"] in WEIGHTED:
            zero = {"bias": {"name": "zeros_"}} if layer["args"].get("bias", True) else {}
            layer["init"] = {"weight": dict(init), **zero}
    if norm:
        sequence = len(spec["input"]["shape"]) == SEQUENCE
        layers = list(_normalized(layers, weighted[-1] if weighted else None, sequence=sequence))
    return {"input": spec["input"], "layers": layers}


def _normalized(layers: Sequence[Spec], last: Spec | None, *, sequence: bool) -> Iterator[Spec]:
    """Batch normalization after every layer with weights but the last, and not along a sequence;
    other normalizations are taken out."""
    renamed: dict[str, str] = {}
    for layer in layers:
        inputs = [renamed.get(name, name) for name in layer["inputs"]]
        if layer["type"].startswith(("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm")):
            renamed[layer["name"]] = inputs[0]
            continue
        yield {**layer, "inputs": inputs}
        sequence = sequence and layer["type"] not in {"Flatten", "LastStep"}
        if not sequence and layer["type"] in WEIGHTED and layer is not last:
            units = layer["args"][WEIGHTED[layer["type"]]]
            name, kind = f"{layer['name']}_bn", NORMS[layer["type"]]
            renamed[layer["name"]] = name
            args = {"num_features": units}
            yield {"name": name, "type": kind, "args": args, "inputs": [layer["name"]]}
