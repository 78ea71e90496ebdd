"""What a probe in 16 bits says about the model as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.half_precision import LARGEST, is_held, loss_scale
from service.domain.measurements import LayerMeasurements, Measurements

FLOAT16 = frozenset({"float16", "pure_float16"})
PURE = frozenset({"pure_bfloat16", "pure_float16"})
"""Precisions by what they compute in, and by what they store parameters in."""


def largest_gradient(layers: Sequence[LayerMeasurements]) -> float | None:
    """Largest element of any gradient, in float32; None when none was measured."""
    found = [x.precision.gradient_abs_max or 0.0 for x in layers if x.precision is not None]
    return max(found, default=0.0) or None


def not_held(layers: Sequence[LayerMeasurements]) -> list[LayerMeasurements]:
    """Layers of whose gradients float16 loses much at the loss scale that the largest gradient of
    the whole model allows."""
    scale = loss_scale(largest_gradient(layers))
    return [
        x
        for x in layers
        if scale is not None
        and x.precision is not None
        and not is_held(x.precision.gradient_small, scale)
    ]


def overflowing(layers: Sequence[LayerMeasurements]) -> list[LayerMeasurements]:
    """Layers to be kept in float32 for what they compute: the first whose output overflows, and
    others whose output in float32 is beyond float16's largest number."""
    ill = [x for x in layers if x.precision is not None and x.precision.activation_overflow]
    return [
        x
        for x in ill
        if x is ill[0] or (x.precision and (x.precision.activation_abs_max or 0.0) > LARGEST)
    ]


def only_gradients_overflow(measured: Measurements) -> bool:
    """Whether nothing but gradients is not finite, and float32 would hold them."""
    layers = measured.layers
    fine = not measured.model.nonfinite_loss_count and not any(
        x.activation.nonfinite_count or any(p.nonfinite_count for p in x.parameters) for x in layers
    )
    ill = [x for x in layers if _ill(x)]
    return fine and bool(ill) and all(x.precision and x.precision.gradient_overflow for x in ill)


def _ill(layer: LayerMeasurements) -> bool:
    return bool(
        layer.gradient.nonfinite_count or any(p.grad_nonfinite_count for p in layer.parameters)
    )
