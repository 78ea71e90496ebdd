"""A validated, expanded architecture: what the spec's grammar means, shape by shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from service.domain.layers.parametrization import PARAMETRIZATIONS


@dataclass(frozen=True, slots=True)
class InitCall:
    """A function of torch.nn.init (or forget_gate_) and its keyword arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parametrization:
    """A function of torch.nn.utils.parametrizations and its keyword arguments."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One input of the network."""

    shape: tuple[int, ...]
    """Per sample."""
    dtype: str = "float32"
    """float32, int64 or int32."""
    high: int | None = None
    """Integers are drawn from 0 … high-1 (from the first Embedding when not given)."""
    name: str = "input"
    """What `inputs` of layers call it; "input" where it is the only one."""


@dataclass(frozen=True, slots=True)
class LayerNode:
    """One layer of the expanded network."""

    name: str
    """Unique; groups give dotted paths (body.0.conv)."""
    type: str
    """Class name of torch.nn, or a type that torch.nn lacks: Add, Scale, Parameter …"""
    args: dict[str, Any]
    """Constructor arguments, those that torch could infer filled in."""
    inputs: tuple[str, ...]
    """Names of earlier nodes or of the network's inputs."""
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
    forward: dict[str, bool] = field(default_factory=dict)
    """Switches that its forward is called with: is_causal …"""
    parametrizations: dict[str, Parametrization] = field(default_factory=dict)
    """Parameter name within the module → how it is computed, once it was initialized."""
    shares: str | None = None
    """The earlier node whose module it runs again: its parameters are that one's, `parameters` and
    `init` are empty."""

    @property
    def stored(self) -> dict[str, tuple[int, ...]]:
        """The parameters as a state dict has them: a parametrized one as what it is made of."""
        sizes: dict[str, tuple[int, ...]] = {}
        for name, shape in self.parameters.items():
            how = self.parametrizations.get(name)
            if how is None:
                sizes[name] = shape
                continue
            kind = PARAMETRIZATIONS[how.name]
            parts = kind.stored(shape, kind.signature.complete(how.args))
            sizes |= {f"parametrizations.{name}.{part}": size for part, size in parts.items()}
        return sizes


@dataclass(frozen=True, slots=True)
class Architecture:
    """The whole network; the last node is the output."""

    inputs: tuple[Sample, ...]
    """In the order of `forward`; at least one."""
    layers: tuple[LayerNode, ...]
    submitted: dict[str, Any] = field(default_factory=dict)
    """The spec exactly as submitted."""

    @property
    def size(self) -> int:
        """Numbers in all parameters together."""
        return sum(prod(sizes) for layer in self.layers for sizes in layer.parameters.values())


def resolve(spec: Mapping[str, Any]) -> Architecture:
    """The network that an architecture spec means.

    Groups are unrolled, names resolved, shapes followed from layer to layer, arguments inferred
    and every `init` key expanded to parameters. Raises InvalidRequest, UnknownLayerType or
    ShapeMismatch with JSON pointers relative to the spec; as many faults at once as make sense.
    """
    from service.domain.grammar.expansion import expand

    return expand(spec)
