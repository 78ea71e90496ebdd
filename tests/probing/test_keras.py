"""Keras models translated to specs, against Keras itself: outputs, gradients, initialization."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

os.environ["KERAS_BACKEND"] = "torch"
keras: Any = importlib.import_module("keras")

from service.domain.architecture import LayerNode, resolve  # noqa: E402
from service.domain.keras import translate  # noqa: E402
from service.probing.loaders.spec import build  # noqa: E402

L = keras.layers


def mlp() -> Any:
    return keras.Sequential(
        [
            L.Input((6,)),
            L.Dense(8, activation="leaky_relu"),
            L.LayerNormalization(),
            L.Dense(8, activation="hard_sigmoid"),
            L.BatchNormalization(),
            L.Dense(8, use_bias=False),
            L.ReLU(max_value=2.0),
            L.Dense(3, activation="softmax"),
        ]
    )


def images() -> Any:
    x = given = L.Input((9, 11, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="gelu")(x)
    x = y = L.BatchNormalization()(x)
    y = L.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, activation="elu")(y)
    y = L.DepthwiseConv2D(4, padding="same", activation="selu")(y)
    x = L.Add()([x, y])
    x = L.MaxPooling2D(3, strides=2, padding="same")(x)
    x = L.Concatenate()([x, x])
    x = L.GroupNormalization(4)(x)
    x = L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="softplus")(x)
    x = L.AveragePooling2D(2, padding="same")(x)
    x = L.Conv2D(4, 2, dilation_rate=2, activation="softmax")(L.ZeroPadding2D(((1, 0), (2, 1)))(x))
    return keras.Model(given, L.Dense(3)(L.Flatten()(x)))


def sequences() -> Any:
    x = given = L.Input((7,))
    x = L.Embedding(11, 6)(x)
    x = L.GRU(5, return_sequences=True)(x)
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(x)
    x = L.Multiply()([x, x])
    x = L.SimpleRNN(6, return_sequences=True, activation="relu")(x)
    return keras.Model(given, L.Dense(2)(L.LSTM(4)(x)))


def words() -> Any:
    return keras.Sequential(
        [
            L.Input((10,)),
            L.Embedding(11, 6),
            L.Conv1D(8, 3, strides=2, padding="same", activation="silu"),
            L.Conv1D(4, 2, padding="causal", activation="tanh"),
            L.GlobalMaxPooling1D(),
            L.Dense(2, activation="sigmoid"),
        ]
    )


def signals() -> Any:
    return keras.Sequential(
        [
            L.Input((12, 3)),
            L.Conv1D(8, 3, groups=1, activation="softsign"),
            L.MaxPooling1D(2),
            L.Dense(5, activation="mish"),
            L.GlobalAveragePooling1D(),
            L.Dense(2),
        ]
    )


def volumes() -> Any:
    return keras.Sequential(
        [
            L.Input((5, 6, 7, 2)),
            L.Conv3D(4, 3, padding="same", activation="relu6"),
            L.AveragePooling3D(2),
            L.GlobalMaxPooling3D(),
            L.Dense(2),
        ]
    )


MODELS = [mlp, images, sequences, words, signals, volumes]


def moved(kernel: Tensor) -> Tensor:
    """(…, in, out) as torch has it."""
    return kernel.permute(-1, -2, *range(kernel.ndim - 2))


def gates(kind: str, value: Tensor) -> Tensor:
    """Last dimension in torch's order of gates: reset before update."""
    if kind != "GRU":
        return value
    update, reset, new = value.chunk(3, -1)
    return torch.cat([reset, update, new], -1)


def cell(kind: str, values: list[Tensor], suffix: str = "") -> dict[str, Tensor]:
    kernel, recurrent, bias = values
    both = bias if bias.ndim == 2 else torch.stack([bias, bias if suffix_is_gradient else bias * 0])
    return {
        f"weight_ih_l0{suffix}": gates(kind, kernel).T,
        f"weight_hh_l0{suffix}": gates(kind, recurrent).T,
        f"bias_ih_l0{suffix}": gates(kind, both[0]),
        f"bias_hh_l0{suffix}": gates(kind, both[1]),
    }


suffix_is_gradient = False
"""Both of torch's biases get Keras's one gradient, but only one its value."""


def in_torch(layer: Any, values: list[Tensor], node: LayerNode) -> dict[str, Tensor]:
    """One Keras layer's weights, or their gradients, by the names of the spec's layer."""
    kind = type(layer).__name__
    if kind in ("SimpleRNN", "GRU", "LSTM"):
        return cell(kind, values)
    if kind == "Bidirectional":
        half = len(values) // 2
        return cell("LSTM", values[:half]) | cell("LSTM", values[half:], "_reverse")
    names = list(node.parameters)
    if kind == "Embedding" or "Normalization" in kind:
        return dict(zip(names, values, strict=True))
    kernel = values[0]
    if kind == "DepthwiseConv2D" or node.name.endswith("_depthwise"):
        weight = kernel.permute(2, 3, 0, 1).reshape(node.parameters["weight"])
    elif kind == "Dense" and layer.flattened is not None:
        height, width, channels = layer.flattened
        rows = torch.arange(kernel.shape[0]).view(height, width, channels).permute(2, 0, 1)
        weight = kernel[rows.flatten()].T
    elif kind == "Conv1D" and node.type == "Conv2d":
        weight = kernel.permute(2, 0, 1)[:, None]
    else:
        weight = moved(kernel).reshape(node.parameters["weight"])
    found = {"weight": weight}
    return found | ({"bias": values[-1]} if "bias" in names else {})


def weights_of(model: Any, nodes: tuple[LayerNode, ...], read: Any) -> dict[str, Tensor]:
    """Everything by the spec's parameter names; `read` takes a Keras variable."""
    found: dict[str, Tensor] = {}
    flattened = None
    for layer in model.layers:
        values = [read(one) for one in layer.trainable_weights]
        if isinstance(layer, L.Flatten) and len(layer.input.shape) == 4:
            flattened = layer.input.shape[1:]
        layer.flattened = flattened if isinstance(layer, L.Dense) else None
        own = [one for one in nodes if one.parameters and one.name == layer.name]
        if type(layer).__name__ == "SeparableConv2D":
            first = next(one for one in nodes if one.name == f"{layer.name}_depthwise")
            named = in_torch(layer, values[:1], first)
            found |= {f"{first.name}.{key}": value for key, value in named.items()}
            values = values[1:]
        for node in own:
            named = in_torch(layer, values, node)
            found |= {f"{node.name}.{key}": value for key, value in named.items()}
    return found


@pytest.mark.parametrize("make", MODELS, ids=[one.__name__ for one in MODELS])
def test_outputs_and_gradients_are_keras_own(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    model = make()
    architecture = resolve(translate(json.loads(model.to_json())).spec)
    for variable in model.trainable_weights:  # biases that are all zero would hide a mistake
        variable.assign(variable + 0.1 * np.random.default_rng(1).normal(size=variable.shape))
    network = build(architecture)
    weights = weights_of(model, architecture.layers, lambda v: v.value.detach().clone())
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert [one for one in missing if "running" not in one and "batches" not in one] == []
    assert unexpected == []

    shape = (4, *model.input_shape[1:])
    looked_up = architecture.inputs[0].dtype == "int64"
    x = torch.randint(0, 11, shape) if looked_up else torch.randn(shape)
    channels_last = len(shape) > 3 or make is signals
    expected = model(x, training=True)
    given = network(x.movedim(-1, 1) if channels_last else x)
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)

    expected.square().sum().backward()
    given.square().sum().backward()
    monkeypatch.setitem(globals(), "suffix_is_gradient", True)
    wanted = weights_of(model, architecture.layers, lambda v: v.value.grad.clone())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-4, rtol=1e-3)


INITIALIZERS = ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
                "lecun_normal", "random_normal", "truncated_normal", "orthogonal"]  # fmt: skip


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("kind", ["dense", "conv", "depthwise"])
def test_initializers_draw_alike(kind: str, name: str) -> None:
    """Standard deviation and largest value of many weights."""
    made = {
        "dense": lambda: [L.Input((300,)), L.Dense(200, kernel_initializer=name)],
        "conv": lambda: [L.Input((5, 5, 60)), L.Conv2D(80, 3, kernel_initializer=name)],
        "depthwise": lambda: [
            L.Input((5, 5, 800)),
            L.DepthwiseConv2D(3, depth_multiplier=4, depthwise_initializer=name),
        ],
    }
    if (kind, name) == ("depthwise", "orthogonal"):
        name = "random_uniform"  # orthogonal is refused: Keras takes another matrix there
    keras.utils.set_random_seed(0)
    model = keras.Sequential(made[kind]())
    torch.manual_seed(0)
    (network,) = build(resolve(translate(json.loads(model.to_json())).spec)).children()
    own, theirs = network.get_parameter("weight"), model.layers[0].trainable_weights[0].value
    assert own.std().item() == pytest.approx(theirs.std().item(), rel=0.03)
    if "orthogonal" not in name and name not in ("random_normal",):
        assert own.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.01)
