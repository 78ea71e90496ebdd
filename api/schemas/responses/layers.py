"""What was measured at each layer."""

from __future__ import annotations

from api.schemas.responses.wire import Number, Out


class ActivationOut(Out):
    """Of a layer's output."""

    mean: Number
    """Mean over batch and units, of any sign, in the units of the output."""
    std: Number
    """≥ 0."""
    rms: Number
    """≥ 0."""
    abs_max: Number
    """Largest magnitude, ≥ 0."""
    zero_fraction: Number
    """Share of elements exactly 0, 0 … 1."""
    saturated_fraction: Number
    """Share in the nonlinearity's flat region, 0 … 1; null where it has none."""
    dead_unit_fraction: Number
    """Share of units that are 0 on the whole probe, 0 … 1."""
    correlation: Number
    """Mean pairwise cosine between samples, -1 … 1."""
    nonfinite_count: int
    """NaN and infinite elements."""
    signal_share: Number
    """What the model's own random masks (dropout) leave of the signal: correlation over
    samples of the same batch passed twice, 0 … 1; null for a model without any."""
    attainable_share: Number
    """What the rates of those masks leave of a centred signal whatever the weights, 0 … 1; null
    for a model without any."""


class GradientOut(Out):
    """Of the loss with respect to a layer's output."""

    rms: Number
    """≥ 0."""
    norm: Number
    """Frobenius norm over a batch, ≥ 0."""
    abs_max: Number
    """Largest magnitude, ≥ 0."""
    gain: Number
    """Gradient norm at the layer's input over that at its output, this path alone, ≥ 0."""
    gain_quantiles: dict[str, Number]
    """p05, p50, p95 per sample."""
    gain_parts: dict[str, Number] | None
    """weight, activation, normalization, residual: factors of the gain, null where the layer has
    no such part; unexplained: the rest, where it is not 1. null for recurrent and attention."""
    predicted_gain: Number
    """Theory's gain, ≥ 0; null where it does not cover the layer."""
    zero_fraction: Number
    """Share of elements exactly 0, 0 … 1."""
    underflow_fraction_fp16: Number
    """Share of nonzero elements that would be 0 in float16, 0 … 1."""
    nonfinite_count: int
    """NaN and infinite elements."""


class ParameterOut(Out):
    """Of one parameter and its gradient."""

    name: str
    """As in named_parameters()."""
    shape: tuple[int, ...]
    """Sizes as in the state dict, each ≥ 1; none: a scalar."""
    rms: Number
    """Of the parameter, ≥ 0."""
    grad_norm: Number
    """≥ 0; null when no gradient reached it."""
    grad_rms: Number
    """≥ 0."""
    grad_to_weight: Number
    """Gradient norm over parameter norm, ≥ 0."""
    snr: Number
    """Mean gradient over its spread across batches, 0 … 1000 (the most that float32 tells)."""
    update_ratio: Number
    """Size of the first optimizer step over the parameter's, ≥ 0; null without an optimizer."""
    connected: bool
    """False when the loss does not depend on it."""
    frozen: bool
    """True when it was saved with requires_grad=False."""
    unit_spread: Number
    """How far the rows' gradients differ, 0 … 1; 0: symmetric units."""
    nonfinite_count: int
    """NaN and infinite elements."""
    grad_nonfinite_count: int
    """NaN and infinite elements of its gradient."""
    abs_max: Number
    """Largest magnitude of its elements, over the seeds."""
    lost_update_fraction: Number = None
    """Share of the elements that the first optimizer step leaves as they were, the change being too
    small for 16 bits, 0 … 1; null where parameters have more."""


class TimeStepsOut(Out):
    """Of a recurrent layer's input, step by step."""

    memory: tuple[Number, ...]
    """Norm of what reaches each step of a gradient that stands at the last output alone, ≥ 0; of a
    layer that reads both ways, each counted from its own last output, both together."""
    gradient: tuple[Number, ...]
    """Norm of the gradient of the loss at each step, ≥ 0."""


class PrecisionLossOut(Out):
    """What 16 bits cost a layer, against float32 on the same seeds and batches, the loss not
    scaled."""

    underflow_fraction: Number
    """Share of the gradient's elements that are 0 and in float32 are not, 0 … 1."""
    activation_overflow: int
    """NaN and infinite elements of the output that are finite in float32."""
    gradient_overflow: int
    """NaN and infinite elements of its gradients that are finite in float32."""
    activation_abs_max: Number
    """Largest magnitude of the output in float32."""
    gradient_abs_max: Number
    """Largest magnitude of the gradients at the output and of the parameters, in float32."""
    gradient_small: Number
    """What 5 % of the nonzero elements of the gradient at the output lie under, in float32."""


class LayerOut(Out):
    """Every statistic of one layer."""

    index: int
    """Position in execution order, from 0."""
    name: str
    """Module path."""
    op: str
    """linear, conv2d, lstm, attention, norm …"""
    nonlinearity: str | None
    """What follows, in lower snake case; null: nothing."""
    normalization: str | None
    """batch_norm, layer_norm … or null."""
    residual: bool
    """True when another layer's output is added here."""
    fan_in: int | None
    """Inputs of one unit, ≥ 1; null where there is no weight."""
    fan_out: int | None
    """Outputs that one input reaches, ≥ 1; null where there is no weight."""
    depth: int
    """Longest chain of layers that ends here, from 1."""
    output_shape: tuple[int, ...]
    """Sizes, each ≥ 1, the batch dimension first."""
    activation: ActivationOut
    """Of its output."""
    gradient: GradientOut
    """Of the loss with respect to its output."""
    parameters: tuple[ParameterOut, ...]
    """Its own."""
    spread: dict[str, tuple[Number, Number]]
    """Lowest and highest value over seeds and batches, by dotted name (gradient.gain …)."""
    time_steps: TimeStepsOut | None = None
    """null for layers that are not recurrent."""
    precision: PrecisionLossOut | None = None
    """null in float32 and float64."""


class LayersOut(Out):
    """Every per-layer statistic of an analysis."""

    id: str
    """Of the analysis."""
    status: str
    """Layers are there once it succeeded."""
    next_cursor: str | None = None
    """For the next page; null on the last one, and when no `limit` was given."""
    layers: tuple[LayerOut, ...]
    """In the order in which the model computes them; empty until the analysis succeeded."""
