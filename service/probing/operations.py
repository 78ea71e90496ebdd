"""What an ATen operation is in the words of torch.nn."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

WEIGHTED = frozenset(
    {
        "convolution",
        "_convolution",
        "mkldnn_convolution",
        "addmm",
        "mm",
        "mv",
        "addmv",
        "bmm",
        "baddbmm",
        "matmul",
        "linear",
        "mkldnn_linear",
        "embedding",
        "_embedding_bag",
        "_embedding_bag_forward_only",
        "mkldnn_rnn_layer",
        "_cudnn_rnn",
        "_trilinear",
        "dot",
    }
)
"""Operations that begin a layer when one of their operands is a parameter."""

NORMALIZATIONS = {
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit": "batch_norm",
    "_native_batch_norm_legit_functional": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "_fused_rms_norm": "rms_norm",
}
"""ATen normalizations by the names of torch.nn (instance_norm runs as batch_norm over B·C)."""

_ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "leaky_relu": "leaky_relu",
    "gelu": "gelu",
    "silu": "silu",
    "mish": "mish",
    "softplus": "softplus",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "hardshrink": "hardshrink",
    "softshrink": "softshrink",
    "threshold": "threshold",
    "log_sigmoid_forward": "logsigmoid",
    "_prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
    "celu": "celu",
    "glu": "glu",
    "exp": "exponential",
}

_OUTPUT_OPERATIONS = {
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
}

_MOVES = frozenset(
    {
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "clone",
        "contiguous",
        "squeeze",
        "unsqueeze",
        "transpose",
        "permute",
        "t",
        "detach",
        "alias",
    }
)
"""Operations that only move elements."""
_LOOKED_THROUGH = _MOVES | {"_to_copy", "getitem", "select"}
"""What may follow the last operation without being it."""

_SELU_SCALE = 1.0507009873554805


def first_tensor(node: fx.Node) -> fx.Node:
    """The node itself, or the first of the tensors it answers with."""
    return node if "shape" in node.meta else next(iter(node.users))


def is_result(node: fx.Node) -> bool:
    """Whether a node is a tensor that its operation is for: not the indices of a pool or the
    statistics of a normalization, which come second."""
    return "shape" in node.meta and not (node.target is operator.getitem and node.args[1])


def writes(node: fx.Node) -> bool:
    """Whether the operation writes into one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def name_of(node: fx.Node) -> str:
    """The operation's ATen name without overload and in-place underscore; "" for others."""
    if node.op != "call_function":
        return ""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", None)
    if packet is None:
        return ""
    name: str = packet.__name__
    return name.rstrip("_") if not name.startswith("__") else name


def nonlinearity_of(node: fx.Node) -> str | None:
    """The torch.nn activation a node ends, in lower snake case; None when it is none.

    Composite activations are told by their last node: softsign = x / (1 + |x|), tanhshrink =
    x − tanh(x), squareplus and sparse plus as a spec's own types compute them; ReLU6 runs as
    hardtanh(0, 6), SELU as elu.
    """
    name = name_of(node)
    if name == "tanh" and any(_is_tanhshrink(user) for user in node.users):
        return None
    if name == "sigmoid" and any(name_of(source) == "detach" for source in node.all_input_nodes):
        return None  # a number that scales, as the noise of a noisy ReLU: no gradient passes
    if name in _ACTIVATIONS:
        return _ACTIVATIONS[name]
    if name == "hardtanh":
        return "relu6" if _arguments(node, 1, (-1.0, 1.0)) == (0.0, 6.0) else "hardtanh"
    if name == "elu":
        _, scale, _ = _arguments(node, 1, (1.0, 1.0, 1.0))
        return "selu" if math.isclose(scale, _SELU_SCALE) else "elu"
    if name == "div" and _is_softsign(node):
        return "softsign"
    if _is_tanhshrink(node):
        return "tanhshrink"
    if name == "lerp" and name_of(_operand(node, 1)) == "sqrt":
        return "squareplus"
    if name == "where" and _is_sparse_plus(node):
        return "sparse_plus"
    return None


def flat_region(node: fx.Node, nonlinearity: str) -> tuple[float | None, float | None] | None:
    """Where the activation's output is saturated: (at or below, at or above); None: nowhere.

    Flat means that the derivative is under 5 % of its largest value: sigmoid y(1−y) < .0125,
    tanh 1−y² < .05, softsign (1−|y|)² < .05, ELU y+α < .05 α, softplus 1−e^−y < .05, squareplus
    y²/(1+y²) < .05; the clamped ones are flat where they clamp.
    """
    if nonlinearity in {"elu", "selu", "celu"}:
        alpha, scale, _ = _arguments(node, 1, (1.0, 1.0, 1.0))
        return (-0.95 * alpha * scale, None)
    if nonlinearity == "hardtanh":
        return _arguments(node, 1, (-1.0, 1.0))
    return _FLAT.get(nonlinearity)


_SIGMOID_EDGE = (1 - math.sqrt(1 - 0.05)) / 2
_FLAT: dict[str, tuple[float | None, float | None]] = {
    "sigmoid": (_SIGMOID_EDGE, 1 - _SIGMOID_EDGE),
    "tanh": (-math.sqrt(0.95), math.sqrt(0.95)),
    "softsign": (-(1 - math.sqrt(0.05)), 1 - math.sqrt(0.05)),
    "hardsigmoid": (0.0, 1.0),
    "relu6": (None, 6.0),
    "softplus": (-math.log(0.95), None),
    "logsigmoid": (None, math.log(0.95)),
    "squareplus": (math.sqrt(0.05 / 0.95), None),
}


def arguments_of(node: fx.Node, nonlinearity: str) -> dict[str, float]:
    """An activation's own arguments, by the names of torch.nn (ELU's input_scale is ATen's)."""
    names = _ARGUMENTS.get(nonlinearity, ())
    given = [float(value) for value in node.args[1:] if isinstance(value, (int, float))]
    return dict(zip(names, given, strict=False))


_ARGUMENTS = {
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha", "scale", "input_scale"),
    "celu": ("alpha",),
    "hardtanh": ("min_val", "max_val"),
    "softplus": ("beta", "threshold"),
    "softshrink": ("lambd",),
    "hardshrink": ("lambd",),
    "threshold": ("threshold", "value"),
    "rrelu": ("lower", "upper"),
}


def normalizes_batch(node: fx.Node) -> bool:
    """Whether a batch normalization takes its statistics from the batch: in training mode, and not
    from each sample by itself as instance normalization does, which folds samples into channels."""
    source = node.args[0]
    folded = isinstance(source, fx.Node) and source.meta["shape"][0] == 1
    training = next((value for value in node.args if isinstance(value, bool)), True)
    return training and not folded


def output_operation(output: fx.Node) -> str | None:
    """softmax, log_softmax, sigmoid, tanh or relu when that is the model's last operation."""
    node = output
    while name_of(node) in _LOOKED_THROUGH and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return _OUTPUT_OPERATIONS.get(name_of(node))


def only_moves(node: fx.Node) -> bool:
    """True for views, permutations and copies of one tensor."""
    return name_of(node) in _MOVES and len(node.all_input_nodes) == 1


def _arguments(node: fx.Node, start: int, defaults: tuple[float, ...]) -> tuple[Any, ...]:
    given = [float(value) for value in node.args[start:] if isinstance(value, (int, float))]
    return tuple(given) + defaults[len(given) :]


def _is_softsign(node: fx.Node) -> bool:
    top, bottom = node.args[0], node.args[1]
    if not isinstance(bottom, fx.Node) or name_of(bottom) != "add":
        return False
    inner = bottom.args[0]
    return isinstance(inner, fx.Node) and name_of(inner) == "abs" and inner.args[0] is top


def _is_tanhshrink(node: fx.Node) -> bool:
    if name_of(node) != "sub":
        return False
    left, right = node.args[0], node.args[1]
    return isinstance(right, fx.Node) and name_of(right) == "tanh" and right.args[0] is left


def _operand(node: fx.Node, position: int) -> fx.Node:
    """One of its operands; the node itself where a number stands there."""
    found = node.args[position] if len(node.args) > position else node
    return found if isinstance(found, fx.Node) else node


def _is_sparse_plus(node: fx.Node) -> bool:
    condition, ramp = _operand(node, 0), _operand(node, 2)
    inner = _operand(condition, 0)
    found = (name_of(condition), name_of(inner), name_of(ramp)) == ("lt", "abs", "clamp_min")
    return found and inner.args[0] is ramp.args[0]
