"""What the measured layers say about the model as a whole, in decades (log₁₀), seed by seed.

Decades over depth are free of scale: a model whose gradients are all a million times smaller has
the same profile. One initialization is noisy (log‖gain‖² of n-wide ReLU layers has variance
5·Σ1/n over the layers), so every number is the median over seeds, with its range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from service.domain.measurements import LayerMeasurements, Measurements, SeedProfile

SMALLEST = 1e-45
"""Smallest positive float32 (2⁻¹⁴⁹, rounded): what a norm of exactly zero counts as."""
RESOLUTION = 1e-7
"""Smallest 1 - correlation that float32 sums tell from zero (2⁻²⁴, rounded up)."""
RESCALED = 1.0
"""Decades of one batch normalization's gain up to which it is usual: after layers of PyTorch's
default initialization it makes up for a factor of 2.5."""
RECURRENT = frozenset({"rnn", "lstm", "gru"})
"""Operations that apply one weight once per time step."""


@dataclass(frozen=True, slots=True)
class Decades:
    """A number in decades over the seeds."""

    median: float
    low: float
    """Smallest over the seeds."""
    high: float
    """Largest over the seeds."""


def decades(value: float) -> float:
    """log₁₀ of a norm; zero counts as `SMALLEST`."""
    return math.log10(max(value, SMALLEST))


def gradient_fall(measured: Measurements) -> Decades | None:
    """How far the gradient falls from its best-fed layer to the first layers (depth 1), ≥ 0.

    The best-fed of the first layers counts, so a branch that is scaled down on purpose
    (LayerScale, zero-initialised residual branches) is no fall as long as its trunk is fed.
    Layers stacked within a recurrent one are followed to the first of them (`stacked_fall`).
    None when no seed has finite gradients.
    """
    inside = {layer.index: stacked_fall(layer) for layer in measured.layers}

    def fall(seed: SeedProfile) -> float | None:
        norms = {i: norm - inside[i] for i, norm in _finite(seed.gradient_norm).items()}
        first = _first(measured.layers, norms)
        best = max(_finite(seed.gradient_norm).values(), default=0.0)
        return best - first if first is not None else None

    return _over_seeds(measured, fall)


def stacked_fall(layer: LayerMeasurements) -> float:
    """How far the gradient falls from the best-fed of the layers stacked within a recurrent one to
    the first of them, in decades, ≥ 0: of the gradients of their input biases, which are those of
    what enters the activations, summed over time and samples (of their input weights where there
    are no biases). 0 for other layers and for those whose parameters say nothing."""
    if layer.op not in RECURRENT:
        return 0.0
    for kind in ("bias_ih_l", "weight_ih_l"):
        norms: dict[int, float] = {}
        for parameter in layer.parameters:
            _, found, place = parameter.name.rpartition(kind)
            level = place.removesuffix("_reverse")
            if found and level.isdigit() and parameter.grad_norm is not None:
                norm = decades(parameter.grad_norm)
                norms[int(level)] = max(norms.get(int(level), norm), norm)
        if 0 in norms:
            return max(norms.values()) - norms[0]
    return 0.0


def largest_drop(measured: Measurements) -> float:
    """The largest fall of the gradient from one layer to the layer that runs before it, in
    decades, ≥ 0, median over the seeds; 0 for fewer than two layers."""

    def drop(seed: SeedProfile) -> float | None:
        norms = list(_finite(seed.gradient_norm).values())
        return max((after - before for before, after in pairwise(norms)), default=None)

    found = _over_seeds(measured, drop)
    return max(0.0, found.median) if found is not None else 0.0


def gradient_growth(measured: Measurements) -> Decades | None:
    """How far the gradient grows from the last layer to the layer where it is largest, ≥ 0."""

    def growth(seed: SeedProfile) -> float | None:
        norms = _finite(seed.gradient_norm)
        last = _last(norms)
        return max(norms.values()) - norms[last] if last is not None else None

    return _over_seeds(measured, growth)


def signal_growth(measured: Measurements) -> Decades | None:
    """How far the root mean square of the activations grows (or, below 0, falls) from the first
    layer to the last."""

    def growth(seed: SeedProfile) -> float | None:
        levels = _finite(seed.activation_rms)
        return levels[max(levels)] - levels[min(levels)] if levels else None

    return _over_seeds(measured, growth)


def rescaling(measured: Measurements) -> float:
    """Decades by which batch normalizations that meet a signal of tiny scale (more than `RESCALED`)
    enlarge the gradient: 1/σ of their batch. The weights before one are free in scale, so a step
    too large makes them larger and the next gradient smaller (Arora et al. 2018, arXiv
    1812.03981): it heals itself."""
    factors = [
        (layer.gradient.gain_parts or {}).get("normalization")
        for layer in measured.layers
        if layer.normalization == "batch_norm"
    ]
    grown = [decades(factor) for factor in factors if factor]
    return sum(each for each in grown if each > RESCALED)


def contrast_growth(measured: Measurements) -> Decades | None:
    """How far what differs between samples, rms·√(1 - correlation), grows (or, below 0, falls)
    over the hidden layers. A bias keeps the activations' own scale up where nothing of the input
    is left in them. The last layer, whose scale is often chosen small, is not counted; None for
    fewer than two hidden layers."""

    def growth(seed: SeedProfile) -> float | None:
        signals = _signals(measured.layers[:-1], seed)
        levels = [
            signal - 0.5 * math.log10(max(math.prod(measured.layers[i].output_shape), 1))
            for i, signal in signals.items()
        ]
        return levels[-1] - levels[0] if len(levels) > 1 else None

    return _over_seeds(measured, growth)


def distinction_loss(measured: Measurements) -> Decades | None:
    """How much of what tells samples apart is lost from the most telling layer to the least:
    the fall of 1 - correlation, in decades, ≥ 0. The last layer is not counted when there are
    others: a head's bias may outweigh what it passes on."""

    def loss(seed: SeedProfile) -> float | None:
        left = [
            math.log10(min(1.0, max(1.0 - c, RESOLUTION)))
            for c, rms in zip(seed.correlation, seed.activation_rms, strict=True)
            if c is not None and rms
        ]
        hidden = left[:-1] or left
        return max(hidden) - min(hidden) if hidden else None

    return _over_seeds(measured, loss)


def growth_in_time(measured: Measurements, layer: LayerMeasurements) -> Decades | None:
    """log₁₀ of a recurrent layer's gain, its product over the time steps; None for others."""
    if layer.op not in RECURRENT:
        return None

    def growth(seed: SeedProfile) -> float | None:
        gain = seed.gradient_gain[layer.index]
        return decades(gain) if gain else None

    return _over_seeds(measured, growth)


def fall_in_time(norms: Sequence[float | None]) -> float | None:
    """How far a gradient falls from the time step that gets most of it to the first, in decades,
    ≥ 0; None when the first is not known."""
    levels = _finite(norms)
    return max(levels.values()) - levels[0] if 0 in levels else None


def growth_over_steps(norms: Sequence[float | None]) -> float | None:
    """How far a gradient from the last time step's output grows on its way to earlier inputs, in
    decades, ≥ 0; None when the last is not known."""
    levels = _finite(norms)
    last = len(norms) - 1
    return max(levels.values()) - levels[last] if last in levels else None


def _over_seeds(
    measured: Measurements, number: Callable[[SeedProfile], float | None]
) -> Decades | None:
    values = [value for seed in measured.seeds if (value := number(seed)) is not None]
    return Decades(median(values), min(values), max(values)) if values else None


def _finite(norms: Sequence[float | None]) -> dict[int, float]:
    return {i: decades(norm) for i, norm in enumerate(norms) if norm is not None}


def _signals(layers: Sequence[LayerMeasurements], seed: SeedProfile) -> dict[int, float]:
    """Per layer log₁₀ of the norm of what differs between the samples of a batch."""
    return {
        layer.index: decades(rms)
        + 0.5 * math.log10(max(math.prod(layer.output_shape), 1))
        + 0.5 * math.log10(max(1.0 - correlation, RESOLUTION))
        for layer, rms, correlation in zip(
            layers, seed.activation_rms, seed.correlation, strict=False
        )
        if rms is not None and correlation is not None
    }


def _first(layers: Sequence[LayerMeasurements], values: dict[int, float]) -> float | None:
    """Largest value among the layers of least depth."""
    if not values:
        return None
    least = min(layers[i].depth for i in values)
    return max(value for i, value in values.items() if layers[i].depth == least)


def _last(values: dict[int, float]) -> int | None:
    """The last layer that any gradient reaches (an unused head has none)."""
    reached = [i for i, value in values.items() if value > decades(0.0)]
    return max(reached) if reached else None
