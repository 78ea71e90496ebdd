"""An architecture spec as the JSON of a Keras 3 model, where Keras can say it.

Initializers are written as the numbers that torch would draw between, so that both draw alike. What
Keras lacks raises Inexpressible: a recurrent layer with torch's two random biases, an argument
without its like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from service.domain.architecture import Architecture, InitCall, LayerNode

ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softsign": "softsign",
    "Softplus": "softplus",
    "Hardtanh": "hard_tanh",
    "Hardswish": "hard_silu",
    "Hardsigmoid": "hard_sigmoid",
    "Identity": "linear",
}
"""Types without arguments → functions of Keras."""
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 0.75}
"""torch.nn.init.calculate_gain."""


class Inexpressible(ValueError):
    """Keras cannot say it; the text says what."""


def as_keras(architecture: Architecture) -> dict[str, Any]:
    """What model.to_json() would give."""
    entries = [_entry("InputLayer", one.name, _shaped(one.shape, one.dtype), ())
               for one in architecture.inputs]  # fmt: skip
    sources = {one.name: one.name for one in architecture.inputs}
    for node in architecture.layers:
        made = _layers(node)
        inputs = [sources[name] for name in node.inputs]
        for place, (class_name, config) in enumerate(made):
            last = place == len(made) - 1
            name = _plain(node.name) + ("" if last else f"_{place}")
            entries.append(_entry(class_name, name, config, inputs))
            inputs = [name]
        sources[node.name] = inputs[0]
    end = sources[architecture.layers[-1].name]
    config = {
        "name": "written",
        "layers": entries,
        "input_layers": [[one.name, 0, 0] for one in architecture.inputs],
        "output_layers": [[end, 0, 0]],
    }
    module = "keras.src.models.functional"
    return {"module": module, "class_name": "Functional", "config": config,
            "registered_name": "Functional"}  # fmt: skip


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _shaped(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    """Channels last where there are channels."""
    sizes = (*shape[1:], shape[0]) if len(shape) > 2 else shape
    return {"batch_shape": [None, *sizes], "dtype": dtype}


def _entry(class_name: str, name: str, config: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
    tensors = [
        {"class_name": "__keras_tensor__",
         "config": {"shape": [None], "dtype": "float32", "keras_history": [one, 0, 0]}}
        for one in inputs
    ]  # fmt: skip
    args = [tensors] if len(tensors) > 1 else tensors
    nodes: list[Any] = [{"args": args, "kwargs": {}}] if tensors else []
    return {"module": "keras.layers", "class_name": class_name, "name": name,
            "config": {"name": name, **config}, "registered_name": None,
            "inbound_nodes": nodes}  # fmt: skip


Made = list[tuple[str, dict[str, Any]]]


def _layers(node: LayerNode) -> Made:
    if node.type in ACTIVATIONS and not node.args.keys() - {"inplace"}:
        return [("Activation", {"activation": ACTIVATIONS[node.type]})]
    if node.type not in _WRITERS:
        raise Inexpressible(f"{node.type} {node.args or ''}")
    return _WRITERS[node.type](node)


def _dense(node: LayerNode) -> Made:
    return [("Dense", {"units": node.args["out_features"], **_initializers(node)})]


def _conv(node: LayerNode) -> Made:
    pad = _pair(node.args.get("padding", 0))
    config = {
        "filters": node.args["out_channels"],
        "kernel_size": _pair(node.args["kernel_size"]),
        "strides": _pair(node.args.get("stride", 1)),
        "dilation_rate": _pair(node.args.get("dilation", 1)),
        "groups": node.args.get("groups", 1),
        "padding": "valid",
        **_initializers(node),
    }
    sides = zip(pad, config["kernel_size"], config["strides"], config["dilation_rate"], strict=True)
    if any(pad) and all(s == 1 and 2 * p == d * (k - 1) for p, k, s, d in sides):
        return [("Conv2D", config | {"padding": "same"})]
    zeros = [("ZeroPadding2D", {"padding": [[one, one] for one in pad]})] if any(pad) else []
    return [*zeros, ("Conv2D", config)]


def _pair(value: Any) -> list[int]:
    if isinstance(value, str):
        raise Inexpressible(f"padding {value}")
    return [value, value] if isinstance(value, int) else list(value)


def _batch_norm(node: LayerNode) -> Made:
    affine = node.args.get("affine", True)
    momentum = 1.0 - node.args.get("momentum", 0.1)
    return [("BatchNormalization", {"epsilon": node.args.get("eps", 1e-5), "center": affine,
             "scale": affine, "momentum": momentum})]  # fmt: skip


def _layer_norm(node: LayerNode) -> Made:
    if len(node.parameters.get("weight", (0,))) != 1:
        raise Inexpressible("LayerNorm over several dimensions")
    affine = node.args.get("elementwise_affine", True)
    return [("LayerNormalization", {"epsilon": node.args.get("eps", 1e-5), "center": affine,
             "scale": affine})]  # fmt: skip


def _leaky_relu(node: LayerNode) -> Made:
    return [("LeakyReLU", {"negative_slope": node.args.get("negative_slope", 0.01)})]


def _elu(node: LayerNode) -> Made:
    return [("ELU", {"alpha": node.args.get("alpha", 1.0)})]


def _pool(kind: str) -> Callable[[LayerNode], Made]:
    def write(node: LayerNode) -> Made:
        if node.args.keys() - {"kernel_size", "stride"}:
            raise Inexpressible(f"{node.type} {node.args}")
        size = _pair(node.args["kernel_size"])
        stride = node.args.get("stride")
        return [(f"{kind}Pooling2D", {"pool_size": size, "padding": "valid",
                 "strides": size if stride is None else _pair(stride)})]  # fmt: skip

    return write


def _merge(kind: str) -> Callable[[LayerNode], Made]:
    return lambda _node: [(kind, {})]


_WRITERS: Mapping[str, Callable[[LayerNode], Made]] = {
    "Linear": _dense,
    "Conv2d": _conv,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "MaxPool2d": _pool("Max"),
    "AvgPool2d": _pool("Average"),
    "Add": _merge("Add"),
    "Multiply": _merge("Multiply"),
    "Flatten": _merge("Flatten"),
}


def _initializers(node: LayerNode) -> dict[str, Any]:
    shape = node.parameters["weight"]
    field = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * field, shape[0] * field
    bound = 1.0 / math.sqrt(fan_in)
    default = _uniform(-bound, bound)  # torch's own, of weights and biases
    said: dict[str, Any] = {"use_bias": "bias" in node.parameters, "bias_initializer": default}
    for name, argument in (("weight", "kernel_initializer"), ("bias", "bias_initializer")):
        call = node.init.get(name)
        said[argument] = default if call is None else _drawn(call, fan_in, fan_out)
    return said


def _drawn(call: InitCall, fan_in: int, fan_out: int) -> dict[str, Any]:
    args = call.args
    if call.name in ("zeros_", "ones_"):
        return _named({"zeros_": "Zeros", "ones_": "Ones"}[call.name])
    if call.name == "constant_":
        return _named("Constant", value=args["val"])
    if call.name == "orthogonal_":
        return _named("Orthogonal", gain=args.get("gain", 1.0))
    if call.name == "normal_":
        return _normal(args.get("mean", 0.0), args.get("std", 1.0))
    if call.name == "uniform_":
        return _uniform(args.get("a", 0.0), args.get("b", 1.0))
    kind, _, distribution = call.name.rstrip("_").partition("_")
    if kind == "xavier":
        std = args.get("gain", 1.0) * math.sqrt(2.0 / (fan_in + fan_out))
    elif kind == "kaiming":
        fan = fan_out if args.get("mode") == "fan_out" else fan_in
        std = _gain(args) / math.sqrt(fan)
    else:
        raise Inexpressible(call.name)
    reach = math.sqrt(3.0) * std
    return _uniform(-reach, reach) if distribution == "uniform" else _normal(0.0, std)


def _gain(args: Mapping[str, Any]) -> float:
    nonlinearity = args.get("nonlinearity", "leaky_relu")
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + float(args.get("a", 0)) ** 2))
    return GAINS.get(nonlinearity, 1.0)


def _uniform(low: float, high: float) -> dict[str, Any]:
    return _named("RandomUniform", minval=low, maxval=high)


def _normal(mean: float, std: float) -> dict[str, Any]:
    return _named("RandomNormal", mean=mean, stddev=std)


def _named(class_name: str, **config: float) -> dict[str, Any]:
    seeded = {"seed": None} if class_name.startswith(("Random", "Orthogonal")) else {}
    return {"module": "keras.initializers", "class_name": class_name,
            "config": config | seeded, "registered_name": None}  # fmt: skip
