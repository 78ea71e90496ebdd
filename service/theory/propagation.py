"""How signal and gradient travel through a deep, wide, plain network.

Mean-field recursion of Poole et al. 2016 (arXiv:1606.05340) and Schoenholz et al. 2017
(arXiv:1611.01232): weights of variance σ_w²/fan_in, biases of variance σ_b², q the mean square of
the pre-activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.theory.moments import (
    mean_fourth_derivative,
    mean_product,
    mean_product_derivative,
    mean_square,
    mean_square_derivative,
    mean_square_slope,
)
from service.theory.nonlinearities import Nonlinearity

_SMALLEST, _LARGEST = 1e-8, 1e12
"""Where the search for a fixed point ends: below counts as 0, above as divergence."""
CRITICAL = 1e-9
"""Distance of χ₁ from 1 within which it counts as 1."""
_STEP = 1.3
"""Factor between neighbouring q of the search."""


def next_variance(
    phi: Nonlinearity, q: float, weight_variance: float, bias_variance: float
) -> float:
    """q' = σ_w² E[φ(√q z)²] + σ_b², the mean square one layer further."""
    return weight_variance * mean_square(phi, q) + bias_variance


def chi_1(phi: Nonlinearity, q: float, weight_variance: float) -> float:
    """χ₁ = σ_w² E[φ'(√q z)²]: the squared gradient gain of one layer."""
    return weight_variance * mean_square_derivative(phi, q)


def chi_parallel(phi: Nonlinearity, q: float, weight_variance: float) -> float:
    """χ∥ = dq'/dq: how fast a deviation of q dies out; q > 0."""
    return weight_variance * mean_square_slope(phi, q)


def depth_scale(chi: float) -> float:
    """ξ = 1/|ln χ| in layers: χ^n = e^(±n/ξ); inf at χ = 1, 0 at χ = 0."""
    if chi <= 0:
        return 0.0
    rate = abs(math.log(chi))
    return 1.0 / rate if rate else math.inf


def fixed_point(phi: Nonlinearity, weight_variance: float, bias_variance: float) -> float:
    """q* that the recursion reaches from q = 1: 0 when it dies out, inf when it diverges.

    Searched, not iterated: at a critical point the iteration needs millions of steps.
    """

    def growth(q: float) -> float:
        return next_variance(phi, q, weight_variance, bias_variance) / q - 1.0

    start = growth(1.0)
    if abs(start) < 1e-12:
        return 1.0
    if start > 0:
        return first_root(growth, 1.0, _LARGEST) or math.inf
    lowest = min(_SMALLEST, bias_variance / 2) if bias_variance > 0 else _SMALLEST
    return first_root(growth, 1.0, lowest) or 0.0


@dataclass(frozen=True, slots=True)
class Correlation:
    """What two inputs have in common far down a network."""

    fixed_point: float
    """c*, 0 … 1: the correlation they tend to; 1: they become one."""
    depth_scale: float
    """ξ_c in layers: how fast they tend to it; inf at the critical point."""


def correlation(
    phi: Nonlinearity, q: float, weight_variance: float, bias_variance: float
) -> Correlation:
    """c* and ξ_c = 1/|ln χ_c| with χ_c = σ_w² E[φ'(u)φ'(v)] at c*, q > 0 being a fixed point.

    c' = (σ_w² E[φ(u)φ(v)] + σ_b²)/q is a convex map of 0 … 1 with c' = 1 at c = 1 and slope χ₁
    there: up to χ₁ = 1 every pair becomes one, beyond there is one other fixed point (Schoenholz
    et al. 2017), which Newton's method reaches from 0 without passing it. Where χ₁ is not the
    slope (φ jumps or draws noise) the pair never becomes one.
    """
    chi = chi_1(phi, q, weight_variance)
    smooth = phi.continuous and phi.square is None
    if smooth and chi <= 1.0 + CRITICAL:
        return Correlation(1.0, depth_scale(chi) if abs(chi - 1.0) > CRITICAL else math.inf)

    def gap(c: float) -> float:
        image = weight_variance * mean_product(phi, q, c) + bias_variance
        return image / q - c

    def slope(c: float) -> float:
        return weight_variance * mean_product_derivative(phi, q, c)

    c = _falling_root(gap, slope)
    return Correlation(c, depth_scale(slope(c)))


def log_gain_variance(phi: Nonlinearity, q: float, widths: Sequence[int]) -> float:
    """Variance over initializations of log ‖gain‖² through layers of these widths: ν·Σ1/n.

    ν = 3κ - 1 with κ = E[φ'⁴]/E[φ'²]²: 5 for ReLU, 2 without activation (Hanin & Nica 2020,
    arXiv:1812.05994). An upper bound for saturating activations, whose fluctuations of q work
    against each other: at tanh's critical point 2/3 (Roberts, Yaida & Hanin 2022, §5.4).
    """
    squared = mean_square_derivative(phi, q)
    flatness = mean_fourth_derivative(phi, q) / squared**2 if squared**2 > 0.0 else 1.0
    return (3.0 * max(flatness, 1.0) - 1.0) * math.fsum(1.0 / width for width in widths)


def gradient_profile(
    phi: Nonlinearity, q: float, weight_variance: float, bias_variance: float, layers: int
) -> list[float]:
    """√χ₁ of each of `layers` layers, from the pre-activation mean square q of the first.

    Finite depth, not the fixed point: tanh with σ_w² = 1 has χ₁* = 1 and still loses a factor
    5.1 over 20 layers.
    """
    gains = []
    for _ in range(layers):
        gains.append(math.sqrt(chi_1(phi, q, weight_variance)))
        q = next_variance(phi, q, weight_variance, bias_variance)
    return gains


def first_root(f: Callable[[float], float], start: float, end: float) -> float | None:
    """The root of f nearest to `start` on the way to `end` (both > 0); None: no sign change."""
    step = _STEP if end > start else 1.0 / _STEP
    low, at_low = start, f(start)
    while (end - low) * (end - start) > 0:
        high = low * step
        at_high = f(high)
        if (at_low < 0) != (at_high < 0):
            return _bisect(f, low, high, at_low)
        low, at_low = high, at_high
    return None


def _falling_root(gap: Callable[[float], float], slope: Callable[[float], float]) -> float:
    """The least c ≥ 0 with gap(c) = 0, for a convex gap that is ≥ 0 at 0; its slope is
    slope(c) - 1."""
    c = 0.0
    for _ in range(100):
        value, fall = gap(c), 1.0 - slope(c)
        if fall <= 0.0 or value <= 1e-13:
            break
        step = value / fall
        c = min(c + step, 1.0 - 1e-12)
        if step < 1e-10:
            break
    return c


def _bisect(f: Callable[[float], float], low: float, high: float, at_low: float) -> float:
    for _ in range(60):
        middle = math.sqrt(low * high)
        if (f(middle) < 0) == (at_low < 0):
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
