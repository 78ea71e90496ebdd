"""Critical points and gains against published constants and closed forms."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.layers.activation import ACTIVATION_TYPES
from service.theory.gains import (
    backward_gain,
    batch_norm_gain,
    batch_norm_linear_gain,
    critical_point,
    critical_weight_variance,
    forward_gain,
    layer_norm_gain,
    pre_norm_residual_gain,
    residual_gain,
)
from service.theory.moments import (
    mean,
    mean_fourth_derivative,
    mean_product,
    mean_product_derivative,
    mean_square,
    mean_square_derivative,
    mean_square_slope,
)
from service.theory.nonlinearities import UNCOVERED, Nonlinearity, covered, nonlinearity
from service.theory.propagation import (
    chi_1,
    chi_parallel,
    correlation,
    depth_scale,
    log_gain_variance,
    next_variance,
)

NAMES = covered()


def phi(name: str) -> Nonlinearity:
    found = nonlinearity(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "weight_gain", "bias_std"),
    [
        ("gelu", 1.408211, 0.415839),
        ("silu", 1.409966, 0.745079),
        ("relu", math.sqrt(2), 0),
        ("leaky_relu", math.sqrt(2 / 1.0001), 0),
        ("tanh", 1, 0),
        ("elu", 1, 0),
        ("softsign", 1, 0),
        ("selu", 1, 0),
        (None, 1, 0),
    ],
)
def test_critical_points(name: str | None, weight_gain: float, bias_std: float) -> None:
    point = critical_point(name)
    assert point is not None
    assert point.weight_gain == pytest.approx(weight_gain, rel=1e-6)
    assert point.bias_std == pytest.approx(bias_std, abs=1e-6)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "hardswish"])
def test_half_stable_points_keep_signal_and_gradient(name: str) -> None:
    point = critical_point(name)
    assert point is not None
    weight, bias = point.weight_gain**2, point.bias_std**2
    assert next_variance(phi(name), point.q, weight, bias) == pytest.approx(point.q, rel=1e-9)
    assert chi_1(phi(name), point.q, weight) == pytest.approx(1, rel=1e-9)
    assert chi_parallel(phi(name), point.q, weight) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "logsigmoid", "hardsigmoid", "swiglu"])
def test_no_critical_point(name: str) -> None:
    assert critical_point(name) is None


def test_tanh_critical_line() -> None:
    assert critical_weight_variance(phi("tanh"), 0.05) == pytest.approx(1.76095, rel=1e-5)


def test_normalized_gains() -> None:
    assert batch_norm_gain(phi("relu")) ** 2 == pytest.approx(math.pi / (math.pi - 1), rel=1e-9)
    assert layer_norm_gain(phi("tanh")) ** 2 == pytest.approx(1.1778, rel=1e-4)
    assert layer_norm_gain(phi("sigmoid")) ** 2 == pytest.approx(0.1528, rel=1e-3)
    assert layer_norm_gain(phi("gelu")) ** 2 == pytest.approx(1.0720, rel=1e-4)


def test_unit_gains() -> None:
    assert forward_gain(phi("relu")) == pytest.approx(math.sqrt(2))
    assert backward_gain(phi("gelu")) == pytest.approx(0.4558508656492871**-0.5)
    assert forward_gain(phi("selu")) == pytest.approx(1, rel=1e-9)


def test_depth_scale_limits() -> None:
    assert depth_scale(1.0) == math.inf
    assert depth_scale(0.0) == 0.0
    assert depth_scale(math.exp(-0.1)) == pytest.approx(10)


def square_of(value: Nonlinearity) -> Callable[[float], float]:
    return value.square or (lambda x: value.value(x) ** 2)


def square_slope_of(value: Nonlinearity) -> Callable[[float], float]:
    return value.square_derivative or (lambda x: value.derivative(x) ** 2)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.sampled_from(NAMES), st.floats(1e-3, 1e3))
def test_moments_agree_with_a_fine_sum(name: str, q: float) -> None:
    step, reach = 1e-3, 10.0
    z = [-reach + step * (i + 0.5) for i in range(int(2 * reach / step))]
    density = [step * math.exp(-0.5 * v * v) / math.sqrt(2 * math.pi) for v in z]
    value, root = phi(name), math.sqrt(q)
    x = [root * v for v in z]
    sums = [
        sum(w * f for w, f in zip(density, map(function, x), strict=True))
        for function in (value.value, square_of(value), square_slope_of(value))
    ]
    exact = [mean(value, q), mean_square(value, q), mean_square_derivative(value, q)]
    assert exact == pytest.approx(sums, rel=1e-4, abs=1e-3)


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.floats(1e-2, 1e2))
def test_derivatives_are_differences(name: str, q: float) -> None:
    value, h = phi(name), 1e-5
    slope = (mean_square(value, q * (1 + h)) - mean_square(value, q * (1 - h))) / (2 * h * q)
    assert mean_square_slope(value, q) == pytest.approx(slope, rel=1e-4, abs=1e-8)
    if value.square is not None:
        return  # its derivative is what autograd passes on for the noise drawn, not of the mean
    for x in (-7.3, -2.1, -0.4, 0.3, 0.9, 2.2, 5.7, 8.8):
        difference = (value.value(x + h) - value.value(x - h)) / (2 * h)
        assert value.derivative(x) == pytest.approx(difference, abs=1e-6)


@pytest.mark.parametrize("layer_type", [t.name for t in ACTIVATION_TYPES])
def test_every_activation_of_a_spec_is_covered_or_says_why_not(layer_type: str) -> None:
    name = snake(layer_type)
    assert (nonlinearity(name) is None) == (name in UNCOVERED)


def test_every_covered_activation_is_one_of_a_spec() -> None:
    assert set(NAMES) == {snake(t.name) for t in ACTIVATION_TYPES} - set(UNCOVERED)


def snake(layer_type: str) -> str:
    return {
        "LeakyReLU": "leaky_relu",
        "NoisyReLU": "noisy_relu",
        "LogSoftmax": "log_softmax",
        "SparsePlus": "sparse_plus",
    }.get(layer_type, layer_type.lower())


@pytest.mark.parametrize(
    ("name", "arguments", "x", "value", "slope"),
    [
        ("leaky_relu", {"negative_slope": 0.2}, -3.0, -0.6, 0.2),
        ("prelu", {"init": 0.5}, -3.0, -1.5, 0.5),
        ("elu", {"alpha": 2.0}, -1.0, 2 * math.expm1(-1), 2 * math.exp(-1)),
        ("celu", {"alpha": 2.0}, -1.0, 2 * math.expm1(-0.5), math.exp(-0.5)),
        ("hardtanh", {"min_val": -2.0, "max_val": 0.5}, -1.0, -1.0, 1.0),
        ("softplus", {"beta": 2.0}, 0.5, math.log1p(math.e) / 2, 1 / (1 + math.exp(-1))),
        ("softplus", {"threshold": 1.0}, 1.5, 1.5, 1.0),
        ("softshrink", {"lambd": 1.0}, -1.5, -0.5, 1.0),
        ("hardshrink", {"lambd": 1.0}, 0.9, 0.0, 0.0),
        ("threshold", {"threshold": 0.1, "value": 20.0}, 0.0, 20.0, 0.0),
        ("relu", {"alpha": 3.0}, 2.0, 2.0, 1.0),
    ],
)
def test_arguments(
    name: str, arguments: dict[str, float], x: float, value: float, slope: float
) -> None:
    found = nonlinearity(name, **arguments)
    assert found is not None
    assert found.value(x) == pytest.approx(value)
    assert found.derivative(x) == pytest.approx(slope)


@pytest.mark.parametrize("name", ["rrelu", "noisy_relu"])
def test_moments_of_random_activations_are_those_of_samples(name: str) -> None:
    rng, n, q = random.Random(6), 200_000, 0.7
    values, slopes = [], []
    for _ in range(n):
        x = math.sqrt(q) * rng.gauss(0, 1)
        if name == "rrelu":
            slope = 1.0 if x > 0 else rng.uniform(1 / 8, 1 / 3)
            values.append(slope * x)
        else:
            noisy = x + math.sqrt(1 / (1 + math.exp(-x))) * rng.gauss(0, 1)
            slope = float(noisy > 0)
            values.append(slope * noisy)
        slopes.append(slope)
    assert mean(phi(name), q) == pytest.approx(sum(values) / n, abs=4 / math.sqrt(n))
    squares = sum(v * v for v in values) / n
    assert mean_square(phi(name), q) == pytest.approx(squares, rel=0.02)
    assert mean_square_derivative(phi(name), q) == pytest.approx(
        sum(s * s for s in slopes) / n, rel=0.01
    )


def test_products_of_relu_are_the_arc_cosine_kernel() -> None:
    """Cho & Saul 2009: E[φ(u)φ(v)] = q (sin θ + (π - θ) cos θ) / 2π, E[φ'φ'] = (π - θ) / 2π."""
    for c in (0.0, 0.3, 0.9, 0.999):
        angle = math.acos(c)
        product = 2.0 * (math.sin(angle) + (math.pi - angle) * c) / (2 * math.pi)
        assert mean_product(phi("relu"), 2.0, c) == pytest.approx(product, rel=1e-6)
        share = (math.pi - angle) / (2 * math.pi)
        assert mean_product_derivative(phi("relu"), 2.0, c) == pytest.approx(share, rel=1e-6)


def test_correlation_in_both_phases() -> None:
    ordered = correlation(phi("tanh"), 0.05, 0.9, 0.0)
    assert ordered.fixed_point == 1.0
    assert ordered.depth_scale == pytest.approx(depth_scale(chi_1(phi("tanh"), 0.05, 0.9)))
    assert correlation(phi("relu"), 1.0, 2.0, 0.0).depth_scale == math.inf
    q = 1.0  # hardshrink jumps: a pair never becomes one, however close
    weight = 1.0 / mean_square(phi("hardshrink"), q)
    assert correlation(phi("hardshrink"), q, weight, 0.0).fixed_point < 1.0


def test_residual_gains() -> None:
    assert residual_gain(1.0) ** 40 == pytest.approx(2.0**20)
    assert residual_gain(1 / math.sqrt(20)) ** 40 == pytest.approx(2.6533, rel=1e-4)
    blocks = [residual_gain(1 / math.sqrt(1 + block)) for block in range(20)]
    assert pre_norm_residual_gain(20) == pytest.approx(math.prod(blocks))
    assert pre_norm_residual_gain(20) ** 2 == pytest.approx(21)
    assert batch_norm_linear_gain(8) ** 2 == pytest.approx(1.2)
    assert batch_norm_linear_gain(32) ** 2 == pytest.approx(1.0345, rel=1e-4)


def test_scatter_of_the_gain_over_initializations() -> None:
    assert log_gain_variance(phi("relu"), 1.0, [256] * 20) == pytest.approx(5 * 20 / 256)
    identity = nonlinearity(None)
    assert identity is not None
    assert log_gain_variance(identity, 1.0, [100, 50]) == pytest.approx(2 * 0.03)
    assert mean_fourth_derivative(phi("leaky_relu"), 3.0) == pytest.approx(0.5 * (1 + 1e-8))


def test_importing_theory_loads_no_numpy() -> None:
    check = "import service.theory.gains, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
