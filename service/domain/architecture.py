"""A validated, expanded architecture: what the spec's grammar means, shape by shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class InitCall:
    """A function of torch.nn.init (or forget_gate_) and its keyword arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayerNode:
    """One layer of the expanded network."""

    name: str
    """Unique; groups give dotted paths (body.0.conv)."""
    type: str
    """Class name of torch.nn, or Add, Multiply, Concat, MatMul, LastStep, NoisyReLU."""
    args: dict[str, Any]
    """Constructor arguments, those that torch could infer filled in."""
    inputs: tuple[str, ...]
    """Names of earlier nodes, or "input"."""
    init: dict[str, InitCall]
    """Parameter name within the module → the one function that initializes it; parameters not
    named keep PyTorch's default."""
    output_shape: tuple[int, ...]
    """Per sample (without the batch dimension)."""
    output_dtype: str
    """float32, int64 …"""
    parameters: dict[str, tuple[int, ...]]
    """Parameter name within the module → sizes."""
    pointer: str
    """JSON pointer of the submitted layer, relative to the spec."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The whole network; the last node is the output."""

    input_shape: tuple[int, ...]
    """Per sample."""
    input_dtype: str
    layers: tuple[LayerNode, ...]
    input_high: int | None = None
    """Integers are drawn from 0 … high-1 (from the first Embedding when not given)."""
    submitted: dict[str, Any] = field(default_factory=dict)
    """The spec exactly as submitted."""


def resolve(spec: Mapping[str, Any]) -> Architecture:
    """The network that an architecture spec means.

    Groups are unrolled, names resolved, shapes followed from layer to layer, arguments inferred
    and every `init` key expanded to parameters. Raises InvalidRequest, UnknownLayerType or
    ShapeMismatch with JSON pointers relative to the spec; as many faults at once as make sense.
    """
    from service.domain.grammar.expansion import expand

    return expand(spec)
