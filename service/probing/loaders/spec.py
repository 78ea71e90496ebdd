"""Build the network that an architecture spec describes, with torch's own modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from service.domain.architecture import Architecture, InitCall, LayerNode
from service.domain.layers import LAYER_TYPES
from service.probing.loaders.own_types import OWN_TYPES

GIVES_TUPLE = frozenset({"RNN", "LSTM", "GRU", "LSTMCell", "MultiheadAttention"})
"""Modules that return a tuple, of which the network passes on the first element; pooling with
return_indices does too."""


class SpecNetwork(nn.Module):
    """Layers as a graph. Parameters are named by the layers' paths (body.0.conv.weight)."""

    def __init__(self, layers: tuple[LayerNode, ...], inputs: tuple[str, ...] = ("input",)) -> None:
        super().__init__()
        self._layers = layers
        self._inputs = inputs
        for layer in layers:
            if layer.shares is None:
                _attach(self, layer.name, _module(layer))

    def forward(self, *inputs: Tensor) -> Tensor:
        """(batch, *shape of the input) each → (batch, *output_shape of the last layer)."""
        return self.run(dict(zip(self._inputs, inputs, strict=True)))

    def run(self, values: dict[str, Tensor]) -> Tensor:
        """The last layer's output, from values by name; every layer's output is added to them."""
        for layer in self._layers:
            inputs = [values[name] for name in layer.inputs]
            if layer.type == "MultiheadAttention" and len(inputs) == 1:
                inputs *= 3
            module = _find(self, layer.shares or layer.name)
            output = module(*inputs, **_masks(layer, inputs))
            values[layer.name] = output[0] if _gives_tuple(layer) else output
        return values[self._layers[-1].name]


def build(architecture: Architecture) -> SpecNetwork:
    """The network, freshly initialized from torch's current random state: layer by layer, first
    PyTorch's default, then the functions that `init` names. Float32, on the CPU, training mode.
    """
    return SpecNetwork(architecture.layers, tuple(one.name for one in architecture.inputs))


def _masks(layer: LayerNode, inputs: list[Tensor]) -> dict[str, Any]:
    """What its forward is called with besides the inputs: every switch with its mask."""
    given: dict[str, Any] = {}
    for switch in layer.forward:
        mask = LAYER_TYPES[layer.type].masks[switch]
        steps = inputs[mask.steps]
        square = nn.Transformer.generate_square_subsequent_mask(
            steps.shape[1], device=steps.device, dtype=steps.dtype
        )
        given |= {switch: True, mask.argument: square}
    return given


def _gives_tuple(layer: LayerNode) -> bool:
    return layer.type in GIVES_TUPLE or bool(layer.args.get("return_indices"))


def _module(layer: LayerNode) -> nn.Module:
    module = _construct(layer.type, layer.args)
    parameters = dict(module.named_parameters())
    for name, call in layer.init.items():
        _initialize(parameters[name], call)
    for name, how in layer.parametrizations.items():
        getattr(nn.utils.parametrizations, how.name)(module, name, **how.args)
    return module


def _construct(layer_type: str, args: Mapping[str, Any]) -> nn.Module:
    factory = OWN_TYPES.get(layer_type) or getattr(nn, layer_type)
    module: nn.Module = factory(**{name: _argument(name, value) for name, value in args.items()})
    return module


def _argument(name: str, value: Any) -> Any:
    """A JSON value as torch wants it. Nothing is computed in place: every layer's output must stay
    as it was for the statistics, and a spec's graph knows no overwriting.
    """
    if name == "inplace":
        return False
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return _construct(value["type"], value.get("args", {}))
    return value


def _initialize(parameter: nn.Parameter, call: InitCall) -> None:
    if call.name == "forget_gate_":
        forget_gate_(parameter, **call.args)
    else:
        getattr(nn.init, call.name)(parameter, **call.args)


def forget_gate_(bias: Tensor, val: float = 1.0) -> Tensor:
    """Fill the forget gate of an LSTM's `bias_ih` with `val`: the second quarter, as torch orders
    the gates input, forget, cell, output. Positive values keep memory open at the start
    (Jozefowicz, Zaremba & Sutskever 2015).
    """
    quarter = bias.numel() // 4
    with torch.no_grad():
        bias[quarter : 2 * quarter].fill_(val)
    return bias


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a dotted path. `add_module` would refuse names that nn.Module uses itself,
    such as train or half, which are fine names for a layer.
    """
    *groups, name = path.split(".")
    for group in groups:
        root = root._modules.setdefault(group, nn.Module())  # type: ignore[assignment]
    root._modules[name] = module


def _find(root: nn.Module, path: str) -> nn.Module:
    for name in path.split("."):
        root = root._modules[name]  # type: ignore[assignment]
    return root
