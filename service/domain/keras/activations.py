"""Keras activations, by name or as layers, as layer types of a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from service.domain.keras.step import Step

ALIKE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("ReLU6", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.2}),
    "elu": ("ELU", {}),
    "selu": ("SELU", {}),
    "celu": ("CELU", {}),
    "gelu": ("GELU", {}),
    "silu": ("SiLU", {}),
    "swish": ("SiLU", {}),
    "mish": ("Mish", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "log_sigmoid": ("LogSigmoid", {}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "hard_silu": ("Hardswish", {}),
    "hard_swish": ("Hardswish", {}),
    "hard_tanh": ("Hardtanh", {}),
    "tanh_shrink": ("Tanhshrink", {}),
    "soft_shrink": ("Softshrink", {}),
    "hard_shrink": ("Hardshrink", {}),
    "hard_sigmoid": ("Hardsigmoid", {}),
    "exponential": ("Exponential", {}),
    "squareplus": ("Squareplus", {}),
    "sparse_plus": ("SparsePlus", {}),
}
"""Keras's functions with their defaults."""
STEEPER = {"sparse_sigmoid": 3.0}
"""Functions that are a hard sigmoid, relu6(x + 3)/6, of a multiple of x: clip(x/2 + 1/2, 0, 1)."""
_OF_KERAS_2 = {"hard_sigmoid": 1.2}
"""The same for what they were in Keras 2: clip(0.2x + 0.5, 0, 1)."""
_ALONG_CHANNELS = {
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "glu": "GLU",
}

_WHY_NOT = {
    "threshold": "it needs arguments, which a name cannot have",
    "sparsemax": "what Keras computes under that name are no probabilities",
}


def activate(step: Step, said: Any, field: str = "activation") -> None:
    """Add what an `activation` names: a string, an object that names a function, or a layer."""
    if isinstance(said, dict) and said.get("class_name") in _LAYERS:
        _by_layer(step, said, field)
        return
    if isinstance(said, dict):
        said = said.get("config") if isinstance(said.get("config"), str) else said.get("class_name")
    if said is None or said == "linear":
        return
    steeper = STEEPER | (_OF_KERAS_2 if step.keras_2 else {})
    if said in steeper:
        step.add("Scale", {"factor": steeper[said]}, suffix=f"{said}_scale")
        step.add("Hardsigmoid", {}, suffix=said)
    elif said in ALIKE:
        step.add(*ALIKE[said], suffix=said)
    elif said in _ALONG_CHANNELS:
        step.add(_ALONG_CHANNELS[said], {"dim": step.channel_dim}, suffix=said)
    else:
        why = f": {_WHY_NOT[said]}" if isinstance(said, str) and said in _WHY_NOT else ""
        raise step.refused(f"the activation {said!r} is not supported{why}", field)


def _by_layer(step: Step, said: dict[str, Any], field: str) -> None:
    """activation=keras.layers.LeakyReLU(0.1)."""
    kind, config = said["class_name"], said.get("config")
    if not isinstance(config, dict):
        raise step.refused("a layer has a config", field, "config")
    inner = step.within(kind, config, field, "config")
    inner.layer = replace(inner.layer, name=f"{step.layer.name}_{kind.lower()}")
    _LAYERS[kind](inner)
    step.flow = inner.flow


def activation(step: Step) -> None:
    """Activation."""
    activate(step, step.option("activation", "linear"))


def relu(step: Step) -> None:
    """ReLU with its options."""
    most = step.option("max_value", None)
    slope, threshold = step.option("negative_slope", 0.0), step.option("threshold", 0.0)
    if not slope and not threshold:
        if most is None or most == 6:
            step.add("ReLU" if most is None else "ReLU6", {})
        else:
            step.add("Hardtanh", {"min_val": 0.0, "max_val": float(most)})
    elif most is None and not threshold:
        step.add("LeakyReLU", {"negative_slope": float(slope)})
    elif most is None and not slope:
        step.add("Threshold", {"threshold": float(threshold), "value": 0.0})
    else:
        raise step.refused("these options together are not supported", "max_value")


def leaky_relu(step: Step) -> None:
    """LeakyReLU; Keras 2 calls the slope alpha."""
    slope = step.option("negative_slope", step.option("alpha", 0.3))
    step.add("LeakyReLU", {"negative_slope": float(slope)})


def elu(step: Step) -> None:
    """ELU."""
    step.add("ELU", {"alpha": float(step.option("alpha", 1.0))})


def softmax(step: Step) -> None:
    """Softmax."""
    step.add("Softmax", {"dim": step.dim(step.option("axis", -1), "axis")})


def prelu(step: Step) -> None:
    """PReLU with a slope for each channel."""
    shape = step.flow.tensor.shape
    shared = step.option("shared_axes", None) or []
    spatial = list(range(1, len(shape)))
    if len(shape) > 1 and not (step.flow.first and sorted(shared) == spatial):
        raise step.refused("a slope for each place is not supported", "shared_axes")
    said = step.init("alpha_initializer", "zeros", 1, 1)
    step.add("PReLU", {"num_parameters": shape[0]}, {"weight": said})


_LAYERS: Mapping[str, Callable[[Step], None]] = {
    "ReLU": relu,
    "LeakyReLU": leaky_relu,
    "PReLU": prelu,
    "ELU": elu,
    "Softmax": softmax,
}
"""Layers that may be an `activation` too."""
