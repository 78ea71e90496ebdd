"""What to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Effect:
    """What a recommendation did when it was applied and measured."""

    verified: bool | None
    """None when nothing was measured (short training off)."""
    before: dict[str, Any]
    after: dict[str, Any]
    resolved: tuple[str, ...]
    """Finding codes that went away."""
    introduced: tuple[str, ...]
    """Finding codes that appeared."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One change, concrete enough to paste."""

    id: str
    """r1, r2 … in order of preference."""
    kind: str
    """initializer, activation, clipping, normalization, residual, …"""
    layers: tuple[str, ...]
    """Layers it changes; empty: the training loop."""
    title: str
    why: str
    resolves: tuple[str, ...]
    """Finding codes it is meant to cure; empty: good practice."""
    change: dict[str, Any] = field(default_factory=dict)
    """The change in numbers: initializer, args, gain; activation; normalization; max_norm …"""
    patch: tuple[dict[str, Any], ...] | None = None
    """RFC 6902 operations on the submitted spec; None where not available."""
    code: str = ""
    """PyTorch source to paste."""
    effect: Effect | None = None
    """None until measured."""


@dataclass(frozen=True, slots=True)
class LayerAfter:
    """One layer of the repaired model, measured on the same initializations and batches."""

    name: str
    """As in the submitted model."""
    gradient_norm: float | None
    """Frobenius norm of ∂loss/∂y of a batch, ≥ 0 (geometric mean)."""
    gradient_norm_range: tuple[float, float] | None
    """Lowest and highest of it over seeds and batches; None when it was never finite."""
    gain: float | None
    """Gradient norm at the layer's input over that at its output, this path alone, ≥ 0."""
    activation_rms: float | None
    """Root mean square of the layer's output, ≥ 0."""
    saturated_fraction: float | None
    """Share in the nonlinearity's flat region, 0 … 1; None where it has none."""
    dead_unit_fraction: float | None
    """Share of units that are 0 on the whole probe, 0 … 1."""


@dataclass(frozen=True, slots=True)
class Prescription:
    """The smallest verified set of recommendations that makes the model train."""

    recommendations: tuple[str, ...]
    """Their ids."""
    verdict_after: str
    """Of the changed model: healthy, or at_risk where nothing permitted heals an unhealthy one."""
    trial: dict[str, Any] | None
    """The short training before and after; None when it was off."""
    patched_spec: dict[str, Any] | None
    """The repaired spec, expanded; None for files."""
    patch: tuple[dict[str, Any], ...] | None = None
    """RFC 6902 operations that make the submitted spec mean the repaired one; None for files."""
    weights: str | None = None
    """Artifact id of the repaired weights, which the analysis owns; None where there are none."""
    layers_after: tuple[LayerAfter, ...] = ()
    """The layers of the repaired model, in order; empty where they were not measured."""


def module_name(layer: str) -> str:
    """What the recorded graph calls a module that a change adds at a layer, but for its ending;
    weights of the repaired model are known by it."""
    return "".join(letter if letter.isalnum() else "_" for letter in layer)
