"""Keras normalizations. Momentum is the share that stays in Keras, the share that is new in torch;
epsilon is 1e-3 in Keras unless said otherwise."""

from __future__ import annotations

from typing import Any

from service.domain.keras.step import Step


def batch_normalization(step: Step) -> None:
    """BatchNormalization over the channels."""
    shape = step.flow.tensor.shape
    rank = len(shape)
    if step.dim(_axis(step), "axis") != 1:
        raise step.refused("a sequence with its features last cannot be normalized so", "axis")
    if step.option("renorm", False):
        raise step.refused("it is not supported", "renorm")
    affine, init = _affine(step)
    args = {
        "eps": float(step.option("epsilon", 1e-3)),
        "momentum": round(1.0 - float(step.option("momentum", 0.99)), 12),
        "affine": affine,
    }
    if affine and "bias" not in init:
        args["bias"] = False
    step.add(f"BatchNorm{max(1, rank - 1)}d", args, init)


def layer_normalization(step: Step) -> None:
    """LayerNormalization over the features."""
    shape = step.flow.tensor.shape
    if step.flow.first and len(shape) > 1:
        raise step.refused("images are carried channels first and cannot be normalized so", "axis")
    if step.dim(_axis(step), "axis") != len(shape):
        raise step.refused("only the last axis is supported", "axis")
    affine, init = _affine(step)
    args: dict[str, Any] = {
        "normalized_shape": [shape[-1]],
        "eps": float(step.option("epsilon", 1e-3)),
        "elementwise_affine": affine,
    }
    if affine and "bias" not in init:
        args["bias"] = False
    step.add("LayerNorm", args, init)


def rms_normalization(step: Step) -> None:
    """RMSNormalization over the features."""
    shape = step.flow.tensor.shape
    if step.flow.first and len(shape) > 1:
        raise step.refused("images are carried channels first and cannot be normalized so", "axis")
    if step.dim(_axis(step), "axis") != len(shape):
        raise step.refused("only the last axis is supported", "axis")
    args = {"normalized_shape": [shape[-1]], "eps": float(step.option("epsilon", 1e-6))}
    step.add("RMSNorm", args)


def group_normalization(step: Step) -> None:
    """GroupNormalization; -1 groups are as many as there are channels."""
    channels, groups = step.flow.tensor.shape[0], step.option("groups", 32)
    if step.dim(_axis(step), "axis") != 1:
        raise step.refused("a sequence with its features last cannot be normalized so", "axis")
    affine, init = _affine(step)
    if affine and "bias" not in init:
        raise step.refused("without `center` it is not supported", "center")
    args = {
        "num_groups": channels if groups == -1 else groups,
        "num_channels": channels,
        "eps": float(step.option("epsilon", 1e-3)),
        "affine": affine,
    }
    step.add("GroupNorm", args, init)


def _axis(step: Step) -> Any:
    axis = step.option("axis", -1)
    return axis[0] if isinstance(axis, list) and len(axis) == 1 else axis


def _affine(step: Step) -> tuple[bool, dict[str, Any]]:
    """Whether there are a scale and a shift, and what they begin with."""
    center, scale = step.option("center", True), step.option("scale", True)
    if not center and not scale:
        return False, {}
    if not scale:
        step.note("scale=False: the shift comes with a scale that is learnt too")
    init = {"weight": step.init("gamma_initializer", "ones", 1, 1)}
    if center:
        init["bias"] = step.init("beta_initializer", "zeros", 1, 1)
    return True, init
