"""The activation functions that theory covers: φ, φ' and where they are not smooth.

Formulas are those of the torch.nn documentation, with torch's default arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SELU_SCALE = 1.0507009873554805
"""λ of Klambauer et al. 2017 (arXiv:1706.02515), as in torch.nn.SELU."""
SELU_ALPHA = 1.6732632423543772
"""α of the same."""

_SQRT_2 = math.sqrt(2.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)


@dataclass(frozen=True, slots=True)
class Nonlinearity:
    """One activation function φ: ℝ → ℝ."""

    name: str
    """torch.nn class name in lower snake case; "identity" for none."""
    value: Callable[[float], float]
    """φ(x)."""
    derivative: Callable[[float], float]
    """φ'(x), either one-sided value where φ has a kink."""
    kinks: tuple[float, ...] = ()
    """Where φ' jumps."""


def nonlinearity(name: str | None, *, negative_slope: float = 0.01) -> Nonlinearity | None:
    """The activation of that name (None: identity); None when theory does not cover it.

    `negative_slope` is LeakyReLU's, ignored by the others.
    """
    if name is None:
        return _COVERED["identity"]
    if name == "leaky_relu":
        return _leaky_relu(name, negative_slope)
    return _COVERED.get(name)


def _leaky_relu(name: str, slope: float) -> Nonlinearity:
    return Nonlinearity(
        name,
        lambda x: x if x > 0 else slope * x,
        lambda x: 1.0 if x > 0 else slope,
        (0.0,),
    )


def _elu(name: str, scale: float, alpha: float) -> Nonlinearity:
    return Nonlinearity(
        name,
        lambda x: scale * (x if x > 0 else alpha * math.expm1(x)),
        lambda x: scale * (1.0 if x > 0 else alpha * math.exp(x)),
        (0.0,),
    )


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / _SQRT_2)


def _normal_density(x: float) -> float:
    return math.exp(-0.5 * x * x) / _SQRT_2PI


def _silu_derivative(x: float) -> float:
    s = _sigmoid(x)
    return s + x * s * (1.0 - s)


def _mish_derivative(x: float) -> float:
    t = math.tanh(_softplus(x))
    return t + x * (1.0 - t * t) * _sigmoid(x)


def _hardsigmoid(x: float) -> float:
    return min(max(x / 6.0 + 0.5, 0.0), 1.0)


def _hardswish_derivative(x: float) -> float:
    return x / 3.0 + 0.5 if -3.0 < x < 3.0 else float(x > 0)


def _table(*rows: Nonlinearity) -> dict[str, Nonlinearity]:
    return {row.name: row for row in rows}


_COVERED = _table(
    Nonlinearity("identity", lambda x: x, lambda _: 1.0),
    Nonlinearity("tanh", math.tanh, lambda x: 1.0 - math.tanh(x) ** 2),
    Nonlinearity("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    Nonlinearity("logsigmoid", lambda x: -_softplus(-x), lambda x: _sigmoid(-x)),
    Nonlinearity("softplus", _softplus, _sigmoid),
    Nonlinearity("softsign", lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2, (0.0,)),
    Nonlinearity(
        "gelu", lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_density(x)
    ),
    Nonlinearity("silu", lambda x: x * _sigmoid(x), _silu_derivative),
    Nonlinearity("mish", lambda x: x * math.tanh(_softplus(x)), _mish_derivative),
    Nonlinearity("hardswish", lambda x: x * _hardsigmoid(x), _hardswish_derivative, (-3.0, 3.0)),
    Nonlinearity("hardsigmoid", _hardsigmoid, lambda x: float(abs(x) < 3) / 6, (-3.0, 3.0)),
    Nonlinearity(
        "hardtanh", lambda x: min(max(x, -1.0), 1.0), lambda x: float(abs(x) < 1), (-1.0, 1.0)
    ),
    Nonlinearity("relu", lambda x: max(x, 0.0), lambda x: float(x > 0), (0.0,)),
    Nonlinearity("relu6", lambda x: min(max(x, 0.0), 6.0), lambda x: float(0 < x < 6), (0.0, 6.0)),
    Nonlinearity("tanhshrink", lambda x: x - math.tanh(x), lambda x: math.tanh(x) ** 2),
    _leaky_relu("prelu", 0.25),
    _elu("elu", 1.0, 1.0),
    _elu("celu", 1.0, 1.0),
    _elu("selu", SELU_SCALE, SELU_ALPHA),
)
