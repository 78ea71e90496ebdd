"""What was measured, layer by layer. A number is None when it is not finite or does not apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of one number over its repetitions."""

    p50: float | None = None
    p90: float | None = None
    max: float | None = None
    n: int = 0
    """Finite repetitions."""


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """A derivative of the loss along one direction, by autograd and by a two-sided difference."""

    autograd: float | None = None
    difference: float | None = None
    relative_error: float | None = None
    """0 … 2."""
    blocked: bool = False
    """True when the model itself stops gradients on the way (detach, no_grad)."""


@dataclass(frozen=True, slots=True)
class ModelDiagnosis:
    """Measurements of the whole model."""

    loss: str = ""
    """The loss that was used."""
    loss_at_start: float | None = None
    """Mean over seeds and batches."""
    chance_loss: float | None = None
    """What knowing nothing costs."""
    grad_norm: Quantiles = field(default_factory=Quantiles)
    """Norm of the gradient of all parameters, over seeds and batches."""
    total_gain: float | None = None
    """Gradient norm at the first layer's output over that at the last layer's output."""
    trainable_depth: Mapping[str, Any] | None = None
    """predicted, low, high, actual; None where theory does not cover the model."""
    gradient_check: GradientCheck | None = None
    """None for large models, and where the difference does not settle."""


@dataclass(frozen=True, slots=True)
class Activation:
    """Of a layer's output."""

    mean: float | None = None
    std: float | None = None
    """≥ 0."""
    rms: float | None = None
    """≥ 0."""
    abs_max: float | None = None
    """Largest magnitude."""
    zero_fraction: float | None = None
    """Share of elements exactly 0, 0 … 1."""
    saturated_fraction: float | None = None
    """Share in the nonlinearity's flat region, 0 … 1."""
    dead_unit_fraction: float | None = None
    """Share of units that are 0 on the whole probe, 0 … 1."""
    correlation: float | None = None
    """Mean pairwise cosine between samples, -1 … 1."""
    nonfinite_count: int = 0
    """NaN and infinite elements."""
    signal_share: float | None = None
    """What the model's own random masks (dropout) leave of the signal: correlation over
    samples of the same batch passed twice, 0 … 1; null for a model without any."""
    attainable_share: float | None = None
    """What the rates of those masks leave of a centred signal whatever the weights, 0 … 1; null
    for a model without any."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """Of the loss with respect to a layer's output."""

    rms: float | None = None
    """≥ 0."""
    norm: float | None = None
    """Frobenius norm over a batch, ≥ 0."""
    abs_max: float | None = None
    """Largest magnitude."""
    gain: float | None = None
    """Gradient norm at the layer's input over that at its output, this path alone, ≥ 0."""
    gain_quantiles: Mapping[str, float | None] = field(default_factory=dict)
    """p05, p50, p95 per sample."""
    gain_parts: Mapping[str, float | None] | None = None
    """weight, activation, normalization, residual: factors of the gain."""
    predicted_gain: float | None = None
    """Theory's gain; None where it does not cover the layer."""
    zero_fraction: float | None = None
    """Share of elements exactly 0, 0 … 1."""
    underflow_fraction_fp16: float | None = None
    """Share of nonzero elements that would be 0 in float16, 0 … 1."""
    nonfinite_count: int = 0
    """NaN and infinite elements."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of one parameter and its gradient."""

    name: str
    """As in named_parameters()."""
    shape: tuple[int, ...] = ()
    rms: float | None = None
    """Of the parameter, ≥ 0."""
    grad_norm: float | None = None
    """≥ 0; None when no gradient reached it."""
    grad_rms: float | None = None
    """≥ 0."""
    grad_to_weight: float | None = None
    """Gradient norm over parameter norm, ≥ 0."""
    snr: float | None = None
    """Mean gradient over its spread across batches, ≥ 0."""
    update_ratio: float | None = None
    """Size of the first optimizer step relative to the parameter; None without an optimizer."""
    connected: bool = True
    """False when the loss does not depend on it."""
    frozen: bool = False
    """True when it was saved with requires_grad=False."""
    unit_spread: float | None = None
    """How far the rows' gradients differ, 0 … 1; 0: symmetric units."""
    nonfinite_count: int = 0
    """NaN and infinite elements."""
    grad_nonfinite_count: int = 0
    """NaN and infinite elements of its gradient."""
    abs_max: float | None = None
    """Largest magnitude of its elements, over the seeds."""
    lost_update_fraction: float | None = None
    """Share of the elements that the first optimizer step leaves as they were, the change being too
    small for 16 bits, 0 … 1; None where parameters have more."""


@dataclass(frozen=True, slots=True)
class TimeSteps:
    """Of a recurrent layer's input, step by step."""

    memory: tuple[float | None, ...] = ()
    """Norm of what reaches each step of a gradient that stands at the last output alone, ≥ 0; of a
    layer that reads both ways, each counted from its own last output, both together."""
    gradient: tuple[float | None, ...] = ()
    """Norm of the gradient of the loss at each step, ≥ 0."""


@dataclass(frozen=True, slots=True)
class PrecisionLoss:
    """What 16 bits cost a layer, against float32 on the same seeds and batches, the loss not
    scaled."""

    underflow_fraction: float | None = None
    """Share of the gradient's elements that are 0 and in float32 are not, 0 … 1."""
    activation_overflow: int = 0
    """NaN and infinite elements of the output that are finite in float32."""
    gradient_overflow: int = 0
    """Likewise of its gradients."""
    activation_abs_max: float | None = None
    """Largest magnitude of the output in float32."""
    gradient_abs_max: float | None = None
    """Largest magnitude of the gradients at the output and of the parameters, in float32."""
    gradient_small: float | None = None
    """What 5 % of the nonzero elements of the gradient at the output lie under, in float32."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Every statistic of one layer."""

    index: int
    """Position in execution order, from 0."""
    name: str
    """Module path."""
    op: str = ""
    """linear, conv2d, lstm, attention, norm …"""
    nonlinearity: str | None = None
    """What follows, in lower snake case; None: nothing."""
    normalization: str | None = None
    """batch_norm, layer_norm … or None."""
    residual: bool = False
    """True when another layer's output is added here."""
    fan_in: int | None = None
    fan_out: int | None = None
    depth: int = 0
    """Longest chain of layers that ends here, from 1."""
    output_shape: tuple[int, ...] = ()
    """With the batch dimension."""
    activation: Activation = field(default_factory=Activation)
    gradient: Gradient = field(default_factory=Gradient)
    parameters: tuple[Parameter, ...] = ()
    spread: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Lowest and highest value over seeds and batches, by dotted name (gradient.gain …)."""
    time_steps: TimeSteps | None = None
    """None for layers that are not recurrent."""
    precision: PrecisionLoss | None = None
    """None in float32 and float64."""
