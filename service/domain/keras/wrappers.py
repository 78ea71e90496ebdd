"""Keras layers that hold another layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from service.domain.keras import activations, kernels, normalization, shapes
from service.domain.keras.graph import SEPARATOR
from service.domain.keras.step import Step

_EACH_STEP: Mapping[str, Callable[[Step], None]] = {
    "Dense": kernels.dense,
    "Activation": activations.activation,
    "ReLU": activations.relu,
    "LeakyReLU": activations.leaky_relu,
    "ELU": activations.elu,
    "LayerNormalization": normalization.layer_normalization,
    "RMSNormalization": normalization.rms_normalization,
    "Dropout": shapes.dropout,
}
"""Layers that work on the last axis, or number by number: alike for one step and for all."""


def time_distributed(step: Step) -> None:
    """TimeDistributed."""
    inner = step.option("layer", None)
    kind = inner.get("class_name") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(kind, str) or kind not in _EACH_STEP:
        raise step.refused(f"it takes one of {', '.join(_EACH_STEP)}, not {kind!r}", "layer")
    if step.flow.first or len(step.flow.tensor.shape) < 2:
        raise step.refused("it takes (time, features)")
    config = inner.get("config")
    if not isinstance(config, dict):
        raise step.refused("a layer has a config", "layer", "config")
    within = step.within(kind, config, "layer", "config")
    within.layer = replace(within.layer, name=f"{step.layer.name}{SEPARATOR * 2}layer")
    _EACH_STEP[kind](within)
    step.flow = within.flow
