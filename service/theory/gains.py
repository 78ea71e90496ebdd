"""Gains: what a weight must be multiplied by so that signal and gradient keep their size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from service.theory.moments import mean, mean_square, mean_square_derivative, mean_square_slope
from service.theory.nonlinearities import Nonlinearity, nonlinearity
from service.theory.propagation import first_root


@dataclass(frozen=True, slots=True)
class CriticalPoint:
    """Where signal and gradient pass any depth: weights N(0, σ_w²/fan_in), biases N(0, σ_b²)."""

    weight_gain: float
    """σ_w > 0."""
    bias_std: float
    """σ_b ≥ 0."""
    q: float
    """Mean square of the pre-activations there; 0: any small signal, or any signal at all."""


def forward_gain(phi: Nonlinearity) -> float:
    """1/√E[φ(z)²], z ~ N(0, 1): keeps the mean square of unit pre-activations."""
    return 1.0 / math.sqrt(mean_square(phi, 1.0))


def backward_gain(phi: Nonlinearity) -> float:
    """1/√E[φ'(z)²], z ~ N(0, 1): keeps the gradient at unit pre-activations."""
    return 1.0 / math.sqrt(mean_square_derivative(phi, 1.0))


@cache
def critical_point(name: str | None, negative_slope: float = 0.01) -> CriticalPoint | None:
    """The critical initialization of an activation; None where there is none (sigmoid, softplus).

    Solves χ₁ = χ∥ = 1 at a fixed point q* (Roberts, Yaida & Hanin 2022, The Principles of Deep
    Learning Theory, §5.3): a q* > 0 for GELU, SiLU, Mish; otherwise q* = 0, where
    σ_w² = 2/(φ'(0⁺)² + φ'(0⁻)²): √2 for ReLU (He et al. 2015), √(2/(1+a²)) for leaky ReLU,
    1 for tanh, ELU, softsign, hardtanh. SELU keeps σ_w = 1, for which its constants make q = 1 an
    attracting fixed point (Klambauer et al. 2017).
    """
    phi = nonlinearity(name, negative_slope=negative_slope)
    if phi is None:
        return None
    if phi.name == "selu":
        return CriticalPoint(1.0, 0.0, 1.0)
    return _half_stable(phi) or _small_signal(phi)


def critical_weight_variance(phi: Nonlinearity, bias_variance: float) -> float | None:
    """σ_w² with χ₁ = 1 at the fixed point, for a given σ_b² > 0; None where there is none.

    Solved for q: χ₁ = 1 makes σ_w² = 1/E[φ'²], and q is a fixed point when q - σ_w² E[φ²] = σ_b².
    """
    q = first_root(lambda q: _critical_bias_variance(phi, q) - bias_variance, 1e-6, 1e6)
    return None if q is None else 1.0 / mean_square_derivative(phi, q)


def batch_norm_gain(phi: Nonlinearity) -> float:
    """√(E[φ'²]/Var φ) of φ(BatchNorm(W·)), large batch: ReLU √(π/(π-1)), it explodes.

    Yang et al. 2019 (arXiv:1902.08129).
    """
    variance = mean_square(phi, 1.0) - mean(phi, 1.0) ** 2
    return math.sqrt(mean_square_derivative(phi, 1.0) / variance)


def batch_norm_linear_gain(samples: int) -> float:
    """√((B-2)/(B-3)) of BatchNorm(W·) over B > 3 normal samples: two directions are projected out
    of B, and 1/σ̂² is B/(B-3) on average."""
    return math.sqrt((samples - 2.0) / (samples - 3.0))


def residual_gain(branch_gain: float) -> float:
    """√(1+a²) of x + f(x), f's gain being a and its weights independent: (1+a²)^(L/2) over L."""
    return math.hypot(1.0, branch_gain)


def pre_norm_residual_gain(blocks: int, branch_gain: float = 1.0) -> float:
    """√(1+L·a²) of L blocks x + f(norm(x)) together, the stream starting at unit scale: block l
    passes 1 + a²/(1+a²·l), since the stream it is normalised from has grown to that."""
    return math.sqrt(1.0 + blocks * branch_gain**2)


def layer_norm_gain(phi: Nonlinearity) -> float:
    """√(E[φ'²]/E[φ²]) of φ(LayerNorm(W·)), wide layer."""
    return math.sqrt(mean_square_derivative(phi, 1.0) / mean_square(phi, 1.0))


def _critical_bias_variance(phi: Nonlinearity, q: float) -> float:
    return q - mean_square(phi, q) / mean_square_derivative(phi, q)


def _half_stable(phi: Nonlinearity) -> CriticalPoint | None:
    def gap(q: float) -> float:
        difference = mean_square_derivative(phi, q) - mean_square_slope(phi, q)
        return difference if abs(difference) > 1e-10 else 0.0  # ReLU: 0 up to rounding, no root

    q = first_root(gap, 1e-2, 1e3)
    if q is None or _critical_bias_variance(phi, q) < 0:
        return None
    weight_gain = 1.0 / math.sqrt(mean_square_derivative(phi, q))
    return CriticalPoint(weight_gain, math.sqrt(_critical_bias_variance(phi, q)), q)


def _small_signal(phi: Nonlinearity) -> CriticalPoint | None:
    tiny = 1e-12
    squared = phi.square_derivative or (lambda x: phi.derivative(x) ** 2)
    squared_slope = 0.5 * (squared(tiny) + squared(-tiny))
    if phi.value(0.0) != 0.0 or squared_slope < tiny:
        return None
    return CriticalPoint(1.0 / math.sqrt(squared_slope), 0.0, 0.0)
