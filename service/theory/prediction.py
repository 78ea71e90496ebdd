"""What theory expects of a measured model: numbers in, numbers out.

Nothing here is fitted: weights count by their root mean square, inputs by theirs, and the rest is
taken to be independent random numbers, as at initialization.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.domain.measurements import LayerMeasurements, Measurements, ParameterStatistics
from service.theory.gains import batch_norm_linear_gain, residual_gain
from service.theory.moments import mean, mean_square, mean_square_derivative
from service.theory.nonlinearities import Nonlinearity, nonlinearity
from service.theory.propagation import chi_1, log_gain_variance, next_variance
from service.theory.smooth import Smooth

REACH = 6.0
"""A plain network trains while its squared gradient changes by less than e⁶ over depth: to about 6
depth scales ξ (Schoenholz et al. 2017, arXiv:1611.01232, §5)."""
INTERVAL = 2.0
"""Standard deviations of the scatter over initializations between `low` and `high`."""
DEEPEST = 1000
"""Layers beyond which no end is looked for."""
ONE_KIND = 1.5
"""Largest ratio of σ_w² within a stack of one kind."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of one layer's gain."""

    gain: float
    """‖gradient at the data input‖ / ‖gradient at the output‖, ≥ 0."""
    log_std: float
    """Standard deviation of its logarithm over initializations, ≥ 0: one layer's finite width."""


def with_predictions(measured: Measurements) -> Measurements:
    """The same, with `predicted_gain` on every layer that theory covers and `trainable_depth` on
    a plain stack of one repeated kind."""
    layers = tuple(
        replace(layer, gradient=replace(layer.gradient, predicted_gain=prediction.gain))
        if (prediction := predict(layer))
        else layer
        for layer in measured.layers
    )
    model = replace(measured.model, trainable_depth=trainable_depth(measured.layers))
    return replace(measured, layers=layers, model=model)


def predict(layer: LayerMeasurements) -> Prediction | None:
    """The gain of φ(norm(W x + b)), plain or added to x; None for what theory does not cover.

    gain² = σ_w² E[φ'(√q z)²], σ_w² = reads·rms(W)², q = σ_w² rms(x)² + rms(b)². A normalization
    divides it by what it divides the signal by: LayerNorm and RMSNorm by q, BatchNorm by the
    variance over the batch alone, σ_w²·std(x)².
    """
    given = _given(layer)
    if given is None:
        return None
    walk = _Walk(given)
    for kind in layer.path[1:]:
        if not walk.passes(kind):
            return None
    outputs = layer.output_shape[1] if len(layer.output_shape) > 1 else 1
    inputs = max(layer.fan_in or 1, 1)
    # The weights' share of the scatter falls with the inputs', the activation's with the outputs'
    # number: 2/n and (ν - 2)/n.
    scatter = 2.0 / inputs + log_gain_variance(walk.phi, walk.q, (outputs,)) - 2.0 / outputs
    return Prediction(walk.gain, 0.5 * math.sqrt(scatter))


def trainable_depth(layers: Sequence[LayerMeasurements]) -> dict[str, float | None] | None:
    """How many layers the initialization of a plain stack trains to: `predicted`, `low` and
    `high` (None: more than `DEEPEST`), and the `actual` number; None unless the hidden layers are
    one chain of one repeated kind, without normalization or skip connection.

    The depth where ln of the squared gradient gain has summed to ±6, from the measured size of
    the signal by the recursion over finite depth; low and high where it has with two standard
    deviations of its scatter over initializations more or less.
    """
    hidden = layers[:-1]
    stack = [_given(layer) for layer in hidden[1:] or hidden]
    kinds = {(layer.op, layer.path, layer.nonlinearity) for layer in hidden}
    if len(hidden) < 2 or len(kinds) > 1 or any(layer.depth != layer.index + 1 for layer in layers):
        return None
    known = [given for given in stack if given is not None]
    if len(known) < len(stack) or set(hidden[0].path) - {"weight", "activation"}:
        return None
    variances = [given.weight_variance for given in known]
    if min(variances) <= 0 or max(variances) > ONE_KIND * min(variances):
        return None
    weight = math.exp(math.fsum(map(math.log, variances)) / len(variances))
    bias = math.fsum(given.bias_variance for given in known) / len(known)
    widths = [layer.output_shape[1] for layer in hidden]
    inverse = math.fsum(1.0 / width for width in widths) / len(widths)
    low, middle, high = _reached(
        known[0].phi, weight * known[0].input_square + bias, weight, bias, inverse
    )
    return {"predicted": middle, "low": low, "high": high, "actual": float(len(layers))}


@dataclass(frozen=True, slots=True)
class _Given:
    """What the theory of one layer starts from."""

    phi: Nonlinearity
    weight_variance: float
    """σ_w² = reads·rms(W)²."""
    bias_variance: float
    input_square: float
    """rms(x)²."""
    input_variance: float | None
    """Over the batch; None when not measured."""
    scale: float
    """Root mean square of the normalization's own weight γ; 1 without."""
    shift: float
    """Of its bias β; 0 without."""
    samples: int
    """That a batch normalization sees per unit."""


class _Walk:
    """Mean square of the signal and gain so far, from the weights on."""

    def __init__(self, given: _Given) -> None:
        self.given, self.phi = given, given.phi
        self.gain = math.sqrt(given.weight_variance)
        self.q = self.square = given.weight_variance * given.input_square + given.bias_variance
        self.variance = (
            None if given.input_variance is None else given.weight_variance * given.input_variance
        )
        self.normal = True
        """Whether the signal is normal with mean 0, as sums with random weights are."""
        self.ended = False
        """Whether the layer's own path has joined another."""

    def passes(self, kind: str) -> bool:
        """Take one part into account; False when theory does not cover it here."""
        step = {
            "batch_norm": self._batch_norm,
            "layer_norm": self._sample_norm,
            "rms_norm": self._sample_norm,
            "activation": self._activation,
            "residual": self._residual,
            "own_residual": self._own_residual,
        }.get(kind)
        return step is not None and not self.ended and step()

    def _batch_norm(self) -> bool:
        if not self.variance or self.given.samples < 4:
            return False
        self.gain *= self.given.scale / math.sqrt(self.variance)
        self.gain *= batch_norm_linear_gain(self.given.samples)
        return self._normalized()

    def _sample_norm(self) -> bool:
        if not self.square or not self.normal:
            return False
        self.gain *= self.given.scale / math.sqrt(self.square)
        return self._normalized()

    def _normalized(self) -> bool:
        self.variance = self.given.scale**2
        self.q = self.square = self.variance + self.given.shift**2
        return True

    def _activation(self) -> bool:
        if not self.normal:
            return False
        self.q = self.square
        self.gain *= math.sqrt(mean_square_derivative(self.phi, self.q))
        self.square = mean_square(self.phi, self.q)
        self.variance = max(self.square - mean(self.phi, self.q) ** 2, 0.0)
        self.normal = False
        return True

    def _residual(self) -> bool:
        self.ended = True
        return True

    def _own_residual(self) -> bool:
        self.gain = residual_gain(self.gain)
        return self._residual()


def _given(layer: LayerMeasurements) -> _Given | None:
    """None when a number is missing or the parameters' roles cannot be told."""
    weight = _main_weight(layer)
    activates = "activation" in layer.path
    if (
        not layer.path
        or layer.path[0] != "weight"
        or activates != (layer.nonlinearity is not None)
        or weight is None
        or weight.rms is None
        or layer.input_rms is None
        or layer.reads is None
    ):
        return None
    owner = weight.name.rpartition(".")[0]
    own = [p for p in layer.parameters if p is not weight and p.name.rpartition(".")[0] == owner]
    others = [p for p in layer.parameters if p.name.rpartition(".")[0] != owner]
    if len(own) > 1 or any(len(p.shape) != 1 for p in own):
        return None
    arguments = dict(layer.nonlinearity_args)
    if layer.nonlinearity == "prelu":
        slopes = [p for p in others if not _has_bias(p, others)]
        if len(slopes) != 1 or slopes[0].rms is None:
            return None
        arguments["init"] = slopes[0].rms
        others.remove(slopes[0])
    norm = {p.name.rpartition(".")[2]: p.rms for p in others}
    phi = nonlinearity(layer.nonlinearity, **arguments)
    if phi is None or len(norm) != len(others) or set(norm) - {"weight", "bias"}:
        return None
    std = layer.input_std
    return _Given(
        phi=phi,
        weight_variance=layer.reads * weight.rms**2,
        bias_variance=sum((p.rms or 0.0) ** 2 for p in own),
        input_square=layer.input_rms**2,
        input_variance=None if std is None else std**2,
        scale=_or(norm.get("weight"), 1.0),
        shift=_or(norm.get("bias"), 0.0),
        samples=math.prod(layer.output_shape) // max(layer.output_shape[1], 1)
        if len(layer.output_shape) > 1
        else 1,
    )


def _main_weight(layer: LayerMeasurements) -> ParameterStatistics | None:
    matrices = [p for p in layer.parameters if len(p.shape) >= 2]
    return matrices[0] if len(matrices) == 1 else None


def _has_bias(weight: ParameterStatistics, others: Sequence[ParameterStatistics]) -> bool:
    owner = weight.name.rpartition(".")[0]
    return sum(p.name.rpartition(".")[0] == owner for p in others) > 1


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _reached(
    phi: Nonlinearity, q: float, weight: float, bias: float, inverse_width: float
) -> tuple[float | None, float | None, float | None]:
    """Layers until the squared gradient has changed by e^`REACH`: early, expected, late."""

    def step(q: float) -> tuple[float, float, float]:
        chi = chi_1(phi, q, weight)
        noise = log_gain_variance(phi, q, (1,)) * inverse_width
        return next_variance(phi, q, weight, bias), chi, noise

    smooth = Smooth(step)
    found: list[float | None] = [None, None, None]
    before = (0.0, 0.0, 0.0)
    total = scatter = 0.0
    for layer in range(1, DEEPEST + 1):
        following, chi, noise = smooth(q)
        if chi <= 0:
            return (1.0, 1.0, 1.0)
        total += math.log(chi)
        scatter += noise
        spread = INTERVAL * math.sqrt(scatter)
        now = (abs(total) + spread, abs(total), abs(total) - spread)
        for place, (was, value) in enumerate(zip(before, now, strict=True)):
            if found[place] is None and value >= REACH:
                found[place] = layer - 1 + (REACH - was) / (value - was)
        before = now
        if found[2] is not None:
            break
        q = min(max(following, 1e-30), 1e30)
    return (found[0], found[1], found[2])
