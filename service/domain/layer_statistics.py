"""The statistics of a layer by their dotted names: gradient.gain, activation.rms, weight.grad_norm.

Names are those of `GET …/layers` as CSV; a parameter's statistics go by its own last name."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from service.domain.measurements import (
    ActivationStatistics,
    GradientStatistics,
    LayerMeasurements,
    ParameterStatistics,
)

NOT_NUMBERS = frozenset({"name", "shape", "connected", "frozen", "gain_quantiles", "gain_parts"})
"""Fields that hold something else than one number."""
INSIDE_GRADIENT = {
    "gain_quantiles": ("p05", "p50", "p95"),
    "gain_parts": ("weight", "activation", "normalization", "residual", "unexplained"),
}
"""Fields of the gradient that hold several."""


def _numbers(kind: Any) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind) if one.name not in NOT_NUMBERS)


OF_LAYERS: tuple[str, ...] = (
    *(f"activation.{name}" for name in _numbers(ActivationStatistics)),
    *(f"gradient.{name}" for name in _numbers(GradientStatistics)),
    *(f"gradient.{name}.{part}" for name, parts in INSIDE_GRADIENT.items() for part in parts),
)
"""Every statistic that a layer has once."""
OF_PARAMETERS: tuple[str, ...] = _numbers(ParameterStatistics)
"""Every statistic of each of its parameters."""


def is_statistic(name: str) -> bool:
    """Whether a layer can have it."""
    owner, _, own = name.rpartition(".")
    return name in OF_LAYERS or (
        own in OF_PARAMETERS and owner not in ("", "activation", "gradient")
    )


def value_of(layer: LayerMeasurements, name: str) -> float | None:
    """The statistic; None where the layer has it not, or it is not finite."""
    found = _of_layer(layer, name) if name in OF_LAYERS else _of_parameter(layer, name)
    return None if found is None or not math.isfinite(found) else found


def _of_layer(layer: LayerMeasurements, name: str) -> float | None:
    owner, own, *part = name.split(".")
    found: Any = getattr(getattr(layer, owner), own)
    return (found or {}).get(part[0]) if part else found


def _of_parameter(layer: LayerMeasurements, name: str) -> float | None:
    owner, _, own = name.rpartition(".")
    parameter = next((p for p in layer.parameters if _own_name(p) == owner), None)
    return None if parameter is None else getattr(parameter, own)


def _own_name(parameter: ParameterStatistics) -> str:
    return parameter.name.rpartition(".")[2]
