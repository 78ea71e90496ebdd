"""The activation functions that theory covers: φ, φ' and where they are not smooth.

Formulas are those of the torch.nn documentation; arguments have torch's names and defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

SELU_SCALE = 1.0507009873554805
"""λ of Klambauer et al. 2017 (arXiv:1706.02515), as in torch.nn.SELU."""
SELU_ALPHA = 1.6732632423543772
"""α of the same."""

_SQRT_2 = math.sqrt(2.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)


@dataclass(frozen=True, slots=True)
class Nonlinearity:
    """One activation function φ: ℝ → ℝ; where φ draws noise, its mean over the noise."""

    name: str
    """torch.nn class name in lower snake case; "identity" for none."""
    value: Callable[[float], float]
    """φ(x)."""
    derivative: Callable[[float], float]
    """φ'(x), either one-sided value where φ has a kink."""
    kinks: tuple[float, ...] = ()
    """Where φ or φ' jumps."""
    continuous: bool = True
    """False where φ itself jumps (hardshrink, threshold): then φ' says what autograd passes on, not
    how φ changes."""
    square: Callable[[float], float] | None = None
    """φ(x)², mean over the noise; None: φ draws none."""
    square_derivative: Callable[[float], float] | None = None
    """φ'(x)², mean over the noise; None: φ draws none."""
    homogeneous: bool = False
    """Whether φ(ax) = aφ(x) for every a > 0: then every moment follows from that at q = 1."""


UNCOVERED: Mapping[str, str] = MappingProxyType(
    {
        "glu": "multiplies two halves of its input: no function of one number",
        "softmax": "couples all numbers along a dimension: no function of one number",
        "log_softmax": "couples all numbers along a dimension: no function of one number",
        "softmin": "couples all numbers along a dimension: no function of one number",
        "softmax2d": "couples the channels at a pixel: no function of one number",
        "exponential": "its mean square e^(2q) leaves the floating-point numbers at once",
    }
)
"""Activations that theory does not cover, and why."""


def nonlinearity(name: str | None, **arguments: float) -> Nonlinearity | None:
    """The activation of that name (None: identity); None when theory does not cover it.

    `arguments`: torch's own (negative_slope, alpha, beta …); those an activation does not have
    are ignored.
    """
    return _built(name or "identity", tuple(sorted(arguments.items())))


@lru_cache(256)
def _built(name: str, arguments: tuple[tuple[str, float], ...]) -> Nonlinearity | None:
    """The same object for the same activation, so that its moments are remembered."""
    build = _BUILDERS.get(name)
    return None if build is None else build(dict(arguments))


def covered() -> tuple[str, ...]:
    """Names of all covered activations, without the identity."""
    return tuple(name for name in _BUILDERS if name != "identity")


_Arguments = Mapping[str, float]
_Builder = Callable[[_Arguments], Nonlinearity]


def _leaky_relu(name: str, slope: float) -> Nonlinearity:
    return Nonlinearity(
        name,
        lambda x: x if x > 0 else slope * x,
        lambda x: 1.0 if x > 0 else slope,
        (0.0,),
        homogeneous=True,
    )


def _rrelu(arguments: _Arguments) -> Nonlinearity:
    """A slope drawn uniformly for every number (training mode)."""
    low, high = arguments.get("lower", 1.0 / 8.0), arguments.get("upper", 1.0 / 3.0)
    mean, square = 0.5 * (low + high), (low * low + low * high + high * high) / 3.0
    return Nonlinearity(
        "rrelu",
        lambda x: x if x > 0 else mean * x,
        lambda x: 1.0 if x > 0 else mean,
        (0.0,),
        square=lambda x: x * x if x > 0 else square * x * x,
        square_derivative=lambda x: 1.0 if x > 0 else square,
        homogeneous=True,
    )


def _noisy_relu(_: _Arguments) -> Nonlinearity:
    """max(0, x + s·ε), s² = sigmoid(x), ε ~ N(0, 1), no gradient through s (Nair & Hinton 2010).
    With x = √q z the argument is a mixture of normals: moments of the rectified normal."""

    def scale(x: float) -> float:
        return math.sqrt(max(_sigmoid(x), 1e-300))

    def passed(x: float) -> float:
        return _normal_cdf(x / scale(x))

    def value(x: float) -> float:
        s = scale(x)
        return x * _normal_cdf(x / s) + s * _normal_density(x / s)

    def square(x: float) -> float:
        s = scale(x)
        return (x * x + s * s) * _normal_cdf(x / s) + x * s * _normal_density(x / s)

    return Nonlinearity("noisy_relu", value, passed, square=square, square_derivative=passed)


def _elu(name: str, scale: float, alpha: float, input_scale: float = 1.0) -> Nonlinearity:
    return Nonlinearity(
        name,
        lambda x: scale * (x if x > 0 else alpha * math.expm1(x * input_scale)),
        lambda x: scale * (1.0 if x > 0 else alpha * input_scale * math.exp(x * input_scale)),
        (0.0,),
    )


def _elu_of(arguments: _Arguments) -> Nonlinearity:
    alpha, scale = arguments.get("alpha", 1.0), arguments.get("scale", 1.0)
    return _elu("elu", scale, alpha, arguments.get("input_scale", 1.0))


def _celu(arguments: _Arguments) -> Nonlinearity:
    alpha = arguments.get("alpha", 1.0)
    return _elu("celu", 1.0, alpha, 1.0 / alpha)


def _hardtanh(arguments: _Arguments) -> Nonlinearity:
    low, high = arguments.get("min_val", -1.0), arguments.get("max_val", 1.0)
    return Nonlinearity(
        "hardtanh",
        lambda x: min(max(x, low), high),
        lambda x: float(low < x < high),
        (low, high),
    )


def _softplus_of(arguments: _Arguments) -> Nonlinearity:
    """Linear where beta·x is above the threshold; the step there is under e⁻²⁰/beta."""
    beta = arguments.get("beta", 1.0)
    bend = arguments.get("threshold", 20.0) / beta
    return Nonlinearity(
        "softplus",
        lambda x: x if x > bend else _softplus(beta * x) / beta,
        lambda x: 1.0 if x > bend else _sigmoid(beta * x),
        (bend,),
    )


def _softshrink(arguments: _Arguments) -> Nonlinearity:
    edge = arguments.get("lambd", 0.5)
    return Nonlinearity(
        "softshrink",
        lambda x: math.copysign(max(abs(x) - edge, 0.0), x),
        lambda x: float(abs(x) > edge),
        (-edge, edge),
    )


def _hardshrink(arguments: _Arguments) -> Nonlinearity:
    edge = arguments.get("lambd", 0.5)
    return Nonlinearity(
        "hardshrink",
        lambda x: x if abs(x) > edge else 0.0,
        lambda x: float(abs(x) > edge),
        (-edge, edge),
        continuous=edge == 0.0,
    )


def _threshold(arguments: _Arguments) -> Nonlinearity:
    edge, low = arguments.get("threshold", 0.0), arguments.get("value", 0.0)
    return Nonlinearity(
        "threshold",
        lambda x: x if x > edge else low,
        lambda x: float(x > edge),
        (edge,),
        continuous=edge == low,
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


def _fixed(*rows: Nonlinearity) -> dict[str, _Builder]:
    """Activations without arguments."""

    def builder(row: Nonlinearity) -> _Builder:
        return lambda _: row

    return {row.name: builder(row) for row in rows}


_BUILDERS: dict[str, _Builder] = {
    **_fixed(
        Nonlinearity("identity", lambda x: x, lambda _: 1.0, homogeneous=True),
        Nonlinearity("tanh", math.tanh, lambda x: 1.0 - math.tanh(x) ** 2),
        Nonlinearity("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
        Nonlinearity("logsigmoid", lambda x: -_softplus(-x), lambda x: _sigmoid(-x)),
        Nonlinearity("softsign", lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2, (0.0,)),
        Nonlinearity(
            "gelu", lambda x: x * _normal_cdf(x), lambda x: _normal_cdf(x) + x * _normal_density(x)
        ),
        Nonlinearity("silu", lambda x: x * _sigmoid(x), _silu_derivative),
        Nonlinearity("mish", lambda x: x * math.tanh(_softplus(x)), _mish_derivative),
        Nonlinearity(
            "hardswish", lambda x: x * _hardsigmoid(x), _hardswish_derivative, (-3.0, 3.0)
        ),
        Nonlinearity("hardsigmoid", _hardsigmoid, lambda x: float(abs(x) < 3) / 6, (-3.0, 3.0)),
        Nonlinearity(
            "relu", lambda x: max(x, 0.0), lambda x: float(x > 0), (0.0,), homogeneous=True
        ),
        Nonlinearity(
            "relu6", lambda x: min(max(x, 0.0), 6.0), lambda x: float(0 < x < 6), (0.0, 6.0)
        ),
        Nonlinearity("tanhshrink", lambda x: x - math.tanh(x), lambda x: math.tanh(x) ** 2),
        _elu("selu", SELU_SCALE, SELU_ALPHA),
        Nonlinearity(
            "squareplus",
            lambda x: 0.5 * (x + math.hypot(x, 2.0)),
            lambda x: 0.5 * (1.0 + x / math.hypot(x, 2.0)),
        ),
        Nonlinearity(
            "sparse_plus",
            lambda x: 0.25 * (x + 1.0) ** 2 if abs(x) < 1.0 else max(x, 0.0),
            lambda x: 0.5 * min(max(x + 1.0, 0.0), 2.0),
            (-1.0, 1.0),
        ),
    ),
    "leaky_relu": lambda given: _leaky_relu("leaky_relu", given.get("negative_slope", 0.01)),
    "prelu": lambda given: _leaky_relu("prelu", given.get("init", 0.25)),
    "rrelu": _rrelu,
    "noisy_relu": _noisy_relu,
    "elu": _elu_of,
    "celu": _celu,
    "hardtanh": _hardtanh,
    "softplus": _softplus_of,
    "softshrink": _softshrink,
    "hardshrink": _hardshrink,
    "threshold": _threshold,
}
