"""Layers of a spec, in few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Layer = dict[str, Any]
"""One entry of a spec's `layers`."""
Init = dict[str, Any]
"""A call of torch.nn.init, or calls by parameter."""

ZEROS: Init = {"name": "zeros_"}


def normal(std: float) -> Init:
    """N(0, std²)."""
    return {"name": "normal_", "args": {"std": std}}


def truncated(std: float = 0.02) -> Init:
    """N(0, std²) cut at ±2."""
    return {"name": "trunc_normal_", "args": {"std": std}}


def constant(value: float) -> Init:
    """One number."""
    return {"name": "constant_", "args": {"val": value}}


FAN_OUT: Init = {"name": "kaiming_normal_", "args": {"mode": "fan_out", "nonlinearity": "relu"}}
"""torchvision's initialization of convolutions (He et al. 2015)."""


def layer(layer_type: str, name: str | None = None, /, **args: Any) -> Layer:
    """A layer with its constructor's arguments, at PyTorch's default initialization."""
    made: Layer = {"type": layer_type}
    if name is not None:
        made["name"] = name
    if args:
        made["args"] = args
    return made


def begun(made: Layer, init: Init) -> Layer:
    """The layer, initialized as given by parameter."""
    return {**made, "init": init}


def joined(layer_type: str, name: str, inputs: Sequence[str], /, **args: Any) -> Layer:
    """A layer that reads the named ones."""
    return {**layer(layer_type, name, **args), "inputs": list(inputs)}


def group(name: str, layers: list[Layer], repeat: int = 1) -> Layer:
    """A block; inside, `input` is what the block is given."""
    made: Layer = {"name": name, "layers": layers}
    return {**made, "repeat": repeat} if repeat > 1 else made


def spec(shape: Sequence[int], layers: list[Layer], **given: Any) -> dict[str, Any]:
    """A whole spec; `given`: the input's dtype."""
    return {"input": {"shape": list(shape), **given}, "layers": layers}
