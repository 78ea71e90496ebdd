"""The numbers that come back through the process wall.

Every statistic is `None` when it is not finite or does not apply; non-finite elements are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from service.domain.probe_plan import InputPlan


@dataclass(frozen=True, slots=True)
class ActivationStatistics:
    """Of a layer's output y, mean over seeds and batches unless said otherwise."""

    mean: float | None
    """Mean of all elements."""
    std: float | None
    """Standard deviation of all elements, ≥ 0."""
    rms: float | None
    """Root mean square of all elements, ≥ 0."""
    abs_max: float | None
    """Largest |y|, over all seeds and batches."""
    zero_fraction: float | None
    """Share of elements exactly 0, 0 … 1."""
    saturated_fraction: float | None
    """Share of elements in the nonlinearity's flat region (derivative under 5 % of its
    largest), 0 … 1; None for nonlinearities that do not saturate."""
    dead_unit_fraction: float | None
    """Share of units (features, channels) that are 0 on the whole probe, 0 … 1."""
    correlation: float | None
    """Mean pairwise cosine between samples, -1 … 1; 1: inputs are no longer told apart."""
    nonfinite_count: int = 0
    """NaN and infinite elements, summed over seeds and batches."""
    signal_share: float | None = None
    """Correlation over samples of the same batch passed twice, 0 … 1: what the model's own
    random masks (dropout) leave of the signal; None for a model without any."""
    attainable_share: float | None = None
    """What the rates of those masks leave of a centred signal whatever the weights, 0 … 1: the
    product of 1 - p along the path that loses least; None for a model without any."""


@dataclass(frozen=True, slots=True)
class GradientStatistics:
    """Of ∂loss/∂y, mean over seeds and batches unless said otherwise."""

    rms: float | None
    """Root mean square of all elements, ≥ 0 (geometric mean over seeds and batches)."""
    norm: float | None
    """Frobenius norm of the gradient of a batch, ≥ 0 (geometric mean)."""
    abs_max: float | None
    """Largest |∂loss/∂y| over all seeds and batches."""
    gain: float | None
    """‖VJP through this layer alone to its data input‖ / ‖gradient at its output‖, ≥ 0,
    geometric mean; None for integer inputs."""
    gain_quantiles: dict[str, float | None] = field(default_factory=dict)
    """p05, p50, p95 of the same ratio per sample."""
    zero_fraction: float | None = None
    """Share of elements exactly 0, 0 … 1."""
    underflow_fraction_fp16: float | None = None
    """Share of nonzero elements that would be 0 in float16, 0 … 1; in a probe of float16 those that
    are, against float32."""
    nonfinite_count: int = 0
    """NaN and infinite elements, summed over seeds and batches."""
    predicted_gain: float | None = None
    """Theory's gain; None where it does not cover the layer."""
    gain_parts: dict[str, float | None] | None = None
    """weight, activation, normalization, residual: factors of the gain, None where the layer has
    no such part; `unexplained`, the factor of the rest (dropout, pooling …), where it is more than
    5 % away from 1. None for layers that are no chain of parts (recurrent, attention)."""


@dataclass(frozen=True, slots=True)
class ParameterStatistics:
    """Of one parameter tensor θ and its gradient g."""

    name: str
    """As in the model's own named_parameters()."""
    shape: tuple[int, ...]
    """Sizes."""
    rms: float | None
    """Root mean square of θ, ≥ 0."""
    grad_norm: float | None
    """‖g‖, mean over seeds and batches, ≥ 0; None when no gradient reached it."""
    grad_rms: float | None
    """‖g‖ / √numel, ≥ 0."""
    grad_to_weight: float | None
    """‖g‖ / ‖θ‖, ≥ 0; None when θ = 0."""
    snr: float | None
    """‖mean over batches of g‖ / √(mean over batches of ‖g − mean‖²), 0 … 1000, the most that
    float32 tells; None for one batch."""
    update_ratio: float | None = None
    """‖change‖ / ‖θ‖ by the first step of the named optimizer, ≥ 0, mean over seeds; None without
    one, and when θ = 0."""
    connected: bool = True
    """False when the loss does not depend on it (no gradient, not even zero)."""
    frozen: bool = False
    """True when it was saved with requires_grad=False (measured as trainable all the same)."""
    unit_spread: float | None = None
    """For matrices: how far the rows' gradients differ, √(mean ‖g_i − ḡ‖²) / √(mean ‖g_i‖²),
    0 … 1; 0: all units receive the same gradient (symmetry)."""
    nonfinite_count: int = 0
    """NaN and infinite elements of θ (first seed)."""
    grad_nonfinite_count: int = 0
    """NaN and infinite elements of g, summed over seeds and batches."""
    abs_max: float | None = None
    """Largest |θ| element, over the seeds, ≥ 0: what tells uniform numbers from normal ones."""
    lost_update_fraction: float | None = None
    """Share of the elements that receive a gradient and are left as they were by the first step of
    the named optimizer (Adam at 1e-3 without one), 0 … 1: the change is smaller than half the
    distance to the next number; or made infinite or NaN. Only of parameters stored in 16 bits."""


@dataclass(frozen=True, slots=True)
class BatchNormalization:
    """Of a layer that normalizes over the batch."""

    values: int
    """Numbers that each mean is taken over: samples × places, ≥ 1."""
    own_statistics: bool
    """False when it uses its running mean and variance, as in evaluation."""


@dataclass(frozen=True, slots=True)
class TimeSteps:
    """Of a recurrent layer's input, step by step; geometric mean over seeds."""

    memory: tuple[float | None, ...]
    """Norm, ≥ 0, of what reaches each step of a gradient that stands at the last step's output
    alone (±1 per element): how far back the layer remembers. One that reads both ways has a last
    step at either end: the way back counts from its own, and the norm is of the two together."""
    gradient: tuple[float | None, ...]
    """Norm of ∂loss/∂(input) at each step, ≥ 0: what training gets."""


@dataclass(frozen=True, slots=True)
class PrecisionLoss:
    """What 16 bits cost a layer, against float32 on the same seeds and batches; the loss is not
    scaled unless a loss_scaling is measured."""

    underflow_fraction: float | None
    """Share of the gradient's elements that are 0 and in float32 are not, 0 … 1."""
    activation_overflow: int
    """NaN and infinite elements of the output, which in float32 are finite, over seeds and
    batches."""
    gradient_overflow: int
    """Likewise of the gradient at the output and of the parameters' gradients."""
    activation_abs_max: float | None
    """Largest |y| in float32."""
    gradient_abs_max: float | None
    """Largest element of the gradients at the output and of the parameters, in float32."""
    gradient_small: float | None
    """|∂loss/∂y| that 5 % of the nonzero elements lie under, in float32 (geometric mean)."""


@dataclass(frozen=True, slots=True)
class LayerMeasurements:
    """One layer: a parameter-owning operation plus what follows it up to the next one."""

    index: int
    """Position in execution order, from 0."""
    name: str
    """Module path; "#2" is appended to the second use of a shared module."""
    op: str
    """linear, conv1d … conv3d, conv_transpose*d, embedding, rnn, lstm, gru, attention,
    matmul, norm, scale or other."""
    nonlinearity: str | None
    """torch.nn class name in lower snake case (sigmoid, relu, leaky_relu …) of the activation
    that follows; None when there is none."""
    normalization: str | None
    """batch_norm, layer_norm, group_norm, instance_norm, rms_norm or None."""
    residual: bool
    """True when another layer's output is added within this layer."""
    fan_in: int | None
    """torch.nn.init's fan_in of the weight; None without one."""
    fan_out: int | None
    """torch.nn.init's fan_out of the weight; None without one."""
    depth: int
    """Length of the longest chain of layers that ends here, from 1."""
    output_shape: tuple[int, ...]
    """With the batch dimension."""
    activation: ActivationStatistics
    gradient: GradientStatistics
    parameters: tuple[ParameterStatistics, ...] = ()
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest value over seeds and batches, by dotted statistic name
    ("gradient.gain", "activation.rms" …)."""
    time_steps: TimeSteps | None = None
    """None for layers that are not recurrent."""
    batch_normalization: BatchNormalization | None = None
    """None for layers without one."""
    dropout: tuple[float, ...] = ()
    """Share that each of the layer's dropouts hides, 0 … 1, in order; those before the first layer
    count to it."""
    nonlinearity_args: dict[str, float] = field(default_factory=dict)
    """The nonlinearity's own arguments, by the names of torch.nn, where it has any."""
    path: tuple[str, ...] = ()
    """What stands between data input and output, in order: weight, activation, batch_norm,
    layer_norm, rms_norm, normalization (any other), residual (another layer's output is added),
    own_residual (the data input itself is added), other; empty for layers that are no chain."""
    input_rms: float | None = None
    """Root mean square of the data input, ≥ 0; None where there is no path."""
    input_std: float | None = None
    """Root mean square over units of their standard deviation over the batch, of the data input,
    ≥ 0; None unless the path has a batch normalization."""
    reads: float | None = None
    """Elements of the data input that each element of the weights' output is computed from, on
    average: fan_in, less what zero padding takes away; None where it cannot be told."""
    precision: PrecisionLoss | None = None
    """None in float32 and float64, and after optimizer steps."""


@dataclass(frozen=True, slots=True)
class SeedProfile:
    """One seed's profile over the layers, mean over its batches (same order as `layers`)."""

    loss: float | None
    gradient_norm: tuple[float | None, ...]
    """‖∂loss/∂y‖ per layer, geometric mean over the batches."""
    gradient_gain: tuple[float | None, ...]
    """Gain per layer, geometric mean over the batches."""
    activation_rms: tuple[float | None, ...]
    activation_std: tuple[float | None, ...]
    correlation: tuple[float | None, ...]
    weight_gradient_norm: tuple[float | None, ...]
    """Norm of the gradient of the layer's largest parameter."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of one number over its repetitions."""

    p50: float | None
    p90: float | None
    max: float | None
    n: int
    """Number of finite repetitions."""


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Of one floating-point input, over the caller's data."""

    index: int
    """Which of the model's inputs, from 0."""
    mean: float
    """Of all elements."""
    std: float
    """Of all elements, ≥ 0."""
    features: int
    """Columns, or channels where the model begins with a convolution."""
    constant_features: int
    """Features that never change; the following numbers leave them out."""
    feature_rms_p25: float | None
    """Root mean square of a feature, ≥ 0: lower quartile over the features; None when all are
    constant."""
    feature_rms_max: float | None
    """Likewise of the largest feature."""
    feature_offset_p50: float | None
    """|mean| / standard deviation of a feature, ≥ 0: median over the features."""

    @property
    def rms(self) -> float:
        """Root mean square of all elements, ≥ 0."""
        return math.hypot(self.mean, self.std)


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """A derivative of the loss, twice, along a direction with the gradient's own signs."""

    autograd: float
    """⟨∇f, d⟩, ≥ 0."""
    difference: float
    """(f(θ + εd) - f(θ - εd)) / 2ε."""
    relative_error: float
    """|autograd - difference| / the larger of their sizes, 0 … 2."""
    blocked: bool
    """True when the model itself stops gradients on the way (detach, no_grad)."""


@dataclass(frozen=True, slots=True)
class ModelMeasurements:
    """Of the whole model."""

    loss: str
    """The loss that was used, a name of `service.probing.losses`."""
    loss_guessed: bool
    """True when the request said auto."""
    loss_at_start: float | None
    """Mean over seeds and batches."""
    chance_loss: float | None
    """What knowing nothing costs (log C for C classes); None where undefined."""
    grad_norm: Quantiles
    """‖gradient of all parameters‖ over seeds and batches."""
    total_gain: float | None
    """‖∂loss/∂(first layer's output)‖ / ‖∂loss/∂(last layer's output)‖, geometric mean."""
    input_grad_norm: float | None
    """‖∂loss/∂input‖, mean; None for integer inputs."""
    output_shape: tuple[int, ...]
    """With the batch dimension."""
    output_op: str | None
    """softmax, log_softmax, sigmoid, relu, tanh … when that is the last operation; else None."""
    nonfinite_loss_count: int = 0
    """Batches with NaN or infinite loss."""
    inputs: tuple[InputStatistics, ...] = ()
    """Of the caller's data; empty when inputs are drawn."""
    answers_given: bool = False
    """True when the data say what the model should answer; else targets are drawn."""
    gradient_check: GradientCheck | None = None
    """None when the model is large, its loss flat, or the difference unsettled."""
    trainable_depth: dict[str, float | None] | None = None
    """`predicted` number of layers that the initialization trains to, `low` … `high` with the
    scatter of finite width (None: no end within reach), and `actual`; None where theory does not
    cover the model."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """One probe."""

    model: ModelMeasurements
    layers: tuple[LayerMeasurements, ...]
    seeds: tuple[SeedProfile, ...]
    notes: tuple[str, ...] = ()
    """What the reader should know: data_dependent, frozen parameters …"""
    after_steps: int = 0
    """Optimizer steps taken before measuring."""


@dataclass(frozen=True, slots=True)
class TrialRun:
    """One short training."""

    optimizer: str
    """sgd or adam."""
    lr: float
    """Learning rate."""
    loss: tuple[float | None, ...]
    """Training loss at every step."""
    grad_norm: tuple[float | None, ...]
    """Total gradient norm at every step."""
    accuracy: float | None
    """Share of right answers at the end (classes), 0 … 1."""
    learned: bool
    """True when it left chance behind (see `service.probing.trial`)."""
    progress: float
    """How much of the way from chance to solved was gone, 0 … 1."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The short trainings of one model."""

    task: str
    """What was learned: gaussian_classes, code_regression or data."""
    steps: int
    """Steps asked for."""
    runs: tuple[TrialRun, ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known once the model is loaded and recorded."""

    format: str
    """spec or torchscript."""
    parameters: int
    """Number of parameter elements."""
    layers: int
    """Number of layers found."""
    recorded: bool
    """False when only the autograd graph could be used."""
    torch: str
    """torch.__version__."""
    device: str
    """cpu."""
    batch_size: int = 1
    """Samples per probe batch, as used."""
    batches: int = 1
    """Probe batches per seed, as used."""
    seeds: int = 1
    """Initializations or redrawn sets of batches, as used."""
    inputs: tuple[InputPlan, ...] = ()
    """What the model was given, per sample."""
    trial_steps: int = 0
    """Longest run of the short training that budget_seconds leaves time for."""
