"""Gaussian moments of an activation, integrated piecewise between its kinks.

With z ~ N(0, 1) and q the mean square of the pre-activations. Gauss-Hermite over the whole line
is off by 5e-3 for SELU with 200 nodes, because it integrates across the kink; Gauss-Legendre on
panels that end at the kinks is exact to about 1e-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise

from service.theory.nonlinearities import Nonlinearity

_REMEMBERED = 1 << 15
"""Moments: every look at the same measurements asks for the same ones, of which every layer of a
deep model has its own."""
_NODES = 16
"""Gauss-Legendre nodes per panel."""
_REACH = 11.0
"""Half width of the integration range in standard deviations; the density beyond is under 1e-26."""
_BREAKS_IN_Z = (0.0, 1.5, 4.0, _REACH)
"""Panel ends where the Gaussian density bends."""
_BREAKS_IN_X = (1.0, 4.0, 16.0)
"""Panel ends where activations bend."""


@lru_cache(_REMEMBERED)
def mean(phi: Nonlinearity, q: float) -> float:
    """E[φ(√q z)], q ≥ 0."""
    if phi.homogeneous and q != 1.0:
        return math.sqrt(q) * mean(phi, 1.0)
    return _expect(lambda _, x: phi.value(x), phi.kinks, q)


@lru_cache(_REMEMBERED)
def mean_square(phi: Nonlinearity, q: float) -> float:
    """E[φ(√q z)²], q ≥ 0."""
    if phi.homogeneous and q != 1.0:
        return q * mean_square(phi, 1.0)
    square = _square(phi)
    return _expect(lambda _, x: square(x), phi.kinks, q)


@lru_cache(_REMEMBERED)
def mean_square_derivative(phi: Nonlinearity, q: float) -> float:
    """E[φ'(√q z)²], q ≥ 0."""
    if phi.homogeneous and q not in (0.0, 1.0):
        return mean_square_derivative(phi, 1.0)
    square = _square_derivative(phi)
    return _expect(lambda _, x: square(x), phi.kinks, q)


@lru_cache(_REMEMBERED)
def mean_fourth_derivative(phi: Nonlinearity, q: float) -> float:
    """E[φ'(√q z)⁴], q ≥ 0; of a φ that draws noise E[φ'²], a bound where |φ'| ≤ 1."""
    if phi.square_derivative is not None:
        return mean_square_derivative(phi, q)
    if phi.homogeneous and q not in (0.0, 1.0):
        return mean_fourth_derivative(phi, 1.0)
    return _expect(lambda _, x: phi.derivative(x) ** 4, phi.kinks, q)


@lru_cache(_REMEMBERED)
def mean_square_slope(phi: Nonlinearity, q: float) -> float:
    """d/dq E[φ(√q z)²] = E[φ(√q z) φ'(√q z) z] / √q, q > 0; where φ jumps or draws noise
    E[φ(√q z)² (z² - 1)] / 2q, the same by parts."""
    if phi.homogeneous and q != 1.0:
        return mean_square_slope(phi, 1.0)
    if phi.square is not None or not phi.continuous:
        square = _square(phi)
        return _expect(lambda z, x: square(x) * (z * z - 1.0), phi.kinks, q) / (2.0 * q)
    return _expect(lambda z, x: z * phi.value(x) * phi.derivative(x), phi.kinks, q) / math.sqrt(q)


def mean_product(phi: Nonlinearity, q: float, c: float) -> float:
    """E[φ(u)φ(v)] for two inputs whose pre-activations are normal with variance q > 0 and
    correlation c, 0 ≤ c < 1; noise is drawn for each by itself."""
    return _expect_pair(phi.value, phi.kinks, q, c)


def mean_product_derivative(phi: Nonlinearity, q: float, c: float) -> float:
    """E[φ'(u)φ'(v)] for the same."""
    return _expect_pair(phi.derivative, phi.kinks, q, c)


def _square(phi: Nonlinearity) -> Callable[[float], float]:
    return phi.square or (lambda x: phi.value(x) ** 2)


def _square_derivative(phi: Nonlinearity) -> Callable[[float], float]:
    return phi.square_derivative or (lambda x: phi.derivative(x) ** 2)


def _expect_pair(
    f: Callable[[float], float], kinks: tuple[float, ...], q: float, c: float
) -> float:
    """E[f(u)f(v)], u = √q·(√c·z + √(1-c)·z₁) and v the same with z₂: given z they are independent,
    so it is E_z[E₁[f]²]."""
    root, own = math.sqrt(q * c), math.sqrt(q * (1.0 - c))

    def given(_: float, shared: float) -> float:
        moved = tuple(kink - shared for kink in kinks)
        return _expect(lambda _, x: f(shared + x), moved, own * own, shared) ** 2

    return _expect(given, kinks, root * root)


def _expect(
    f: Callable[[float, float], float], kinks: tuple[float, ...], q: float, shift: float = 0.0
) -> float:
    """E[f(z, √q z)]; `shift`: of the origin, around which activations bend."""
    root = math.sqrt(q)
    ends = _panel_ends(kinks, root, shift)
    total = 0.0
    for low, high in pairwise(ends):
        half, middle = 0.5 * (high - low), 0.5 * (high + low)
        for node, weight in _legendre(_NODES):
            z = middle + half * node
            total += half * weight * math.exp(-0.5 * z * z) * f(z, root * z)
    return total / math.sqrt(2.0 * math.pi)


def _panel_ends(kinks: tuple[float, ...], root: float, shift: float) -> list[float]:
    ends = {sign * z for z in _BREAKS_IN_Z for sign in (-1.0, 1.0)}
    if root > 0:
        bends = {sign * x - shift for x in _BREAKS_IN_X for sign in (-1.0, 1.0)}
        ends |= {x / root for x in (*bends, *kinks) if abs(x) < _REACH * root}
    return sorted(ends)


@cache
def _legendre(n: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss-Legendre quadrature on (-1, 1), by Newton's method on Pₙ.

    Weights 2 / ((1 - x²) Pₙ'(x)²): Abramowitz & Stegun 25.4.29.
    """
    rule = []
    for i in range(n):
        x = math.cos(math.pi * (i + 0.75) / (n + 0.5))
        for _ in range(8):
            value, slope = _legendre_polynomial(n, x)
            x -= value / slope
        _, slope = _legendre_polynomial(n, x)
        rule.append((x, 2.0 / ((1.0 - x * x) * slope * slope)))
    return tuple(rule)


def _legendre_polynomial(n: int, x: float) -> tuple[float, float]:
    """Pₙ(x) and Pₙ'(x), |x| < 1, by the three-term recurrence."""
    before, value = 1.0, x
    for k in range(2, n + 1):
        before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
    return value, n * (x * value - before) / (x * x - 1.0)
