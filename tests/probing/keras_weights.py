"""Weights of a Keras model, or their gradients, by the names that its translation has them under;
and the comparison of the two models."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

os.environ["KERAS_BACKEND"] = "torch"
keras: Any = importlib.import_module("keras")

from service.domain.architecture import LayerNode, resolve  # noqa: E402
from service.domain.keras import translate  # noqa: E402
from service.domain.keras.graph import HELD, WITHIN  # noqa: E402
from service.probing.loaders.spec import build  # noqa: E402

L = keras.layers
Read = Callable[[Any], Tensor]
"""The value of a Keras variable, or its gradient."""


def moved(kernel: Tensor) -> Tensor:
    """(…, in, out) as torch has it."""
    return kernel.permute(-1, -2, *range(kernel.ndim - 2))


def gates(kind: str, value: Tensor) -> Tensor:
    """Last dimension in torch's order of gates: reset before update."""
    if kind != "GRU":
        return value
    update, reset, new = value.chunk(3, -1)
    return torch.cat([reset, update, new], -1)


def cell(
    kind: str, values: Sequence[Tensor], *, slopes: bool, suffix: str = ""
) -> dict[str, Tensor]:
    """Both of torch's biases get Keras's one gradient, but only one its value."""
    kernel, recurrent, bias = values
    both = bias if bias.ndim == 2 else torch.stack([bias, bias if slopes else bias * 0])
    return {
        f"weight_ih_l0{suffix}": gates(kind, kernel).T,
        f"weight_hh_l0{suffix}": gates(kind, recurrent).T,
        f"bias_ih_l0{suffix}": gates(kind, both[0]),
        f"bias_hh_l0{suffix}": gates(kind, both[1]),
    }


def attention(values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Kernels and biases of query, key and value in one, then those of the output."""
    *three, kernel, bias = values
    return {
        "in_proj_weight": torch.cat([one.flatten(1).T for one in three[::2]]),
        "in_proj_bias": torch.cat([one.flatten() for one in three[1::2]]),
        "out_proj.weight": kernel.flatten(0, 1).T,
        "out_proj.bias": bias,
    }


def in_torch(
    layer: Any, values: list[Tensor], node: LayerNode, flattened: Any, *, slopes: bool
) -> dict[str, Tensor]:
    """One Keras layer's weights by the names of the spec's layer."""
    kind = type(layer).__name__
    if kind in ("SimpleRNN", "GRU", "LSTM"):
        return cell(kind, values, slopes=slopes)
    if kind == "Bidirectional":
        half = len(values) // 2
        inner = type(layer.forward_layer).__name__
        back = cell(inner, values[half:], slopes=slopes, suffix="_reverse")
        return cell(inner, values[:half], slopes=slopes) | back
    if kind == "MultiHeadAttention":
        return attention(values)
    names = list(node.parameters)
    if kind in ("Embedding", "PReLU") or "Normalization" in kind:
        flat = [one.flatten() if kind == "PReLU" else one for one in values]
        return dict(zip(names, flat, strict=True))
    kernel = values[0]
    if kind.startswith("DepthwiseConv") or node.name.endswith("_depthwise"):
        count = kernel.ndim - 2
        turned = kernel.permute(count, count + 1, *range(count))
        weight = turned.reshape(node.parameters["weight"])
    elif kind == "Dense" and flattened is not None and len(flattened) > 2:
        channels = len(flattened) - 1
        rows = torch.arange(kernel.shape[0]).view(*flattened).movedim(channels, 0)
        weight = kernel[rows.flatten()].T
    elif kind == "Conv1D" and node.type == "Conv2d":
        weight = kernel.permute(2, 0, 1)[:, None]
    else:
        weight = moved(kernel).reshape(node.parameters["weight"])
    found = {"weight": weight}
    return found | ({"bias": values[-1]} if "bias" in names else {})


def weights_of(
    model: Any, nodes: Sequence[LayerNode], read: Read, *, slopes: bool = False
) -> dict[str, Tensor]:
    """Everything by the spec's parameter names."""
    found: dict[str, Tensor] = {}
    flattened = None
    own = {node.name: node for node in nodes if node.parameters}
    for name, layer in every_layer(model):
        values = [read(one) for one in layer.trainable_weights]
        if isinstance(layer, L.Flatten):
            flattened = layer.input.shape[1:]
        before = flattened if isinstance(layer, L.Dense) else None
        if type(layer).__name__.startswith("SeparableConv"):
            first = own[f"{name}_depthwise"]
            named = in_torch(layer, values[:1], first, None, slopes=slopes)
            found |= {f"{first.name}.{key}": value for key, value in named.items()}
            values = values[1:]
        if name in own:
            named = in_torch(layer, values, own[name], before, slopes=slopes)
            found |= {f"{name}.{key}": value for key, value in named.items()}
            flattened = None if isinstance(layer, L.Dense) else flattened
    return found


def every_layer(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested models taken apart."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer, f"{prefix}{layer.name}{WITHIN}")
        elif isinstance(layer, L.TimeDistributed):
            yield prefix + layer.name + HELD, layer.layer
        else:
            yield prefix + layer.name, layer


def assert_same(model: Any) -> None:
    """Outputs and gradients of a Keras model and of its translation, weights copied, to 1e-4."""
    architecture = resolve(translate(json.loads(model.to_json())).spec)
    rng = np.random.default_rng(1)
    for variable in model.trainable_weights:  # biases that are all zero would hide a mistake
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape))
    network = build(architecture)
    weights = weights_of(model, architecture.layers, lambda v: v.value.detach().clone())
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert [one for one in missing if "running" not in one and "batches" not in one] == []
    assert unexpected == []

    torch.manual_seed(0)
    theirs, ours = [], []
    for tensor, sample in zip(model.inputs, architecture.inputs, strict=True):
        shape = (4, *tensor.shape[1:])
        integer = sample.dtype == "int64"
        x = torch.randint(0, sample.high or 1, shape) if integer else torch.randn(shape)
        theirs.append(x)
        ours.append(x if sample.shape == tuple(shape[1:]) else x.movedim(-1, 1))
    expected = model(theirs if len(theirs) > 1 else theirs[0], training=True)
    given = network(*ours)
    given = given if given.shape == expected.shape else given.movedim(1, -1)
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)

    if not expected.requires_grad:
        return
    expected.square().sum().backward()
    given.square().sum().backward()
    wanted = weights_of(model, architecture.layers, lambda v: v.value.grad.clone(), slopes=True)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-4, rtol=1e-3)
