"""Critical points and gains against published constants and closed forms."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.theory.gains import (
    backward_gain,
    batch_norm_gain,
    critical_point,
    critical_weight_variance,
    forward_gain,
    layer_norm_gain,
    predicted_gain,
)
from service.theory.moments import mean, mean_square, mean_square_derivative, mean_square_slope
from service.theory.nonlinearities import Nonlinearity, nonlinearity
from service.theory.propagation import chi_1, chi_parallel, depth_scale, next_variance

NAMES = [
    "tanh",
    "sigmoid",
    "logsigmoid",
    "softplus",
    "softsign",
    "gelu",
    "silu",
    "mish",
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "relu",
    "relu6",
    "tanhshrink",
    "leaky_relu",
    "prelu",
    "elu",
    "celu",
    "selu",
]


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


def test_predicted_gain_of_the_default_initialization() -> None:
    """Weight variance 1/(3 fan_in) through ReLU: 1/√6 (c); the bias does not matter to ReLU."""
    gain = predicted_gain(
        "relu", weight_rms=(3 * 256) ** -0.5, fan_in=256, input_rms=0.7, bias_rms=0.02
    )
    assert gain == pytest.approx(6**-0.5, rel=1e-9)
    assert predicted_gain("swiglu", weight_rms=1, fan_in=1, input_rms=1) is None


def test_depth_scale_limits() -> None:
    assert depth_scale(1.0) == math.inf
    assert depth_scale(0.0) == 0.0
    assert depth_scale(math.exp(-0.1)) == pytest.approx(10)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.sampled_from(NAMES), st.floats(1e-3, 1e3))
def test_moments_agree_with_a_fine_sum(name: str, q: float) -> None:
    step, reach = 1e-3, 10.0
    z = [-reach + step * (i + 0.5) for i in range(int(2 * reach / step))]
    density = [step * math.exp(-0.5 * v * v) / math.sqrt(2 * math.pi) for v in z]
    value, root = phi(name), math.sqrt(q)
    x = [root * v for v in z]
    sums = [
        sum(w * f for w, f in zip(density, map(value.value, x), strict=True)),
        sum(w * f * f for w, f in zip(density, map(value.value, x), strict=True)),
        sum(w * f * f for w, f in zip(density, map(value.derivative, x), strict=True)),
    ]
    exact = [mean(value, q), mean_square(value, q), mean_square_derivative(value, q)]
    assert exact == pytest.approx(sums, rel=1e-4, abs=1e-3)


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(NAMES), st.floats(1e-2, 1e2))
def test_derivatives_are_differences(name: str, q: float) -> None:
    value, h = phi(name), 1e-5
    slope = (mean_square(value, q * (1 + h)) - mean_square(value, q * (1 - h))) / (2 * h * q)
    assert mean_square_slope(value, q) == pytest.approx(slope, rel=1e-4, abs=1e-8)
    for x in (-7.3, -2.1, -0.4, 0.3, 0.9, 2.2, 5.7, 8.8):
        difference = (value.value(x + h) - value.value(x - h)) / (2 * h)
        assert value.derivative(x) == pytest.approx(difference, abs=1e-6)


def test_importing_theory_loads_no_numpy() -> None:
    check = "import service.theory.gains, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
