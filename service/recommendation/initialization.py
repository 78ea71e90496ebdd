"""Which initializer a layer should have: function, arguments and gain.

The gain is the critical one of the activation that follows (`service.theory.gains`), divided by
the square root of the fan-in; the last weight of each of L residual branches is scaled by 1/√L,
so that the stream grows by a factor below e over all of them (Hanin & Rolnick 2018,
arXiv:1803.01719; Zhang et al. 2019, arXiv:1901.09321).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.measurements import LayerMeasurements, ParameterStatistics
from service.recommendation.case import RECURRENT_OPS, Case
from service.theory.gains import CriticalPoint, critical_point

LEAST_LOSS_GAINS = {
    "sigmoid": 4.0,  # 1/φ'(0), Glorot & Bengio 2010
    "hardsigmoid": 6.0,  # 1/φ'(0)
    "softplus": math.sqrt(2.0),  # ReLU's, which it approaches for large signals
    "logsigmoid": math.sqrt(2.0),
}
"""Gains of activations without a critical point: what loses least, not what loses nothing."""

FURTHEST = 30.0
"""Factor by which a measured gain is corrected at once, at most."""
_RELU_LIKE = {"relu", "relu6", "rrelu", "threshold"}
_LEAKY = {"leaky_relu", "prelu"}


@dataclass(frozen=True, slots=True)
class Draw:
    """A new initialization of one parameter."""

    parameter: str
    """As in named_parameters()."""
    shape: tuple[int, ...]
    """Sizes."""
    function: str
    """Of torch.nn.init, or forget_gate_."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its keyword arguments."""
    rms: float = 0.0
    """Root mean square the drawn parameter will have, ≥ 0."""
    gain: float | None = None
    """rms·√fan_in of a weight; None for others."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer stands."""

    head: bool = False
    """True for the layer that gives the output."""
    branch_scale: float = 1.0
    """1/√L for the last layer of a residual branch, else 1."""
    negative_slope: float = 0.01
    """Of the LeakyReLU that follows."""
    steps: int = 1
    """Time steps that a recurrent layer runs over, ≥ 1."""


def draws_for(layer: LayerMeasurements, place: Place) -> tuple[Draw, ...]:
    """The initialization a layer should have, weights first; () where none is known."""
    if layer.op in RECURRENT_OPS:
        shapes = {p.name: p.shape for p in own_parameters(layer)}
        return recurrent_draws(layer.op, shapes, place.steps)
    parameters = {_leaf(p.name): p for p in own_parameters(layer)}
    weight = parameters.get("weight")
    if weight is None:
        return ()
    if layer.op == "embedding":
        return (Draw(weight.name, weight.shape, "normal_", {"std": 1.0}, rms=1.0),)
    if layer.op != "linear" and not layer.op.startswith("conv"):
        return ()
    return tuple(_matrix(layer, place, weight, parameters.get("bias")))


def place_of(case: Case, layer: LayerMeasurements) -> Place:
    """Where a layer of the model stands."""
    return Place(
        head=layer.name == case.head(),
        branch_scale=case.branches() ** -0.5 if layer.residual else 1.0,
        negative_slope=case.negative_slope(layer),
        steps=len(layer.time_steps.memory) if layer.time_steps else 1,
    )


def as_change(draws: Sequence[Draw]) -> dict[str, Any]:
    """Draws as JSON: the most common one on top, every parameter below."""
    main = most_common(draws)
    return {
        "initializer": main.function,
        "args": main.args,
        "gain": main.gain,
        "parameters": [
            {"parameter": d.parameter, "initializer": d.function, "args": d.args, "gain": d.gain}
            for d in draws
        ],
    }


def most_common(draws: Sequence[Draw]) -> Draw:
    """The draw that most weights get; of several the first."""
    weights = [draw for draw in draws if draw.gain is not None] or list(draws)
    counts = Counter((draw.function, draw.gain) for draw in weights)
    return max(weights, key=lambda draw: counts[draw.function, draw.gain])


def own_parameters(layer: LayerMeasurements) -> tuple[ParameterStatistics, ...]:
    """Parameters of the operation itself, without those of the normalization behind it."""
    owner = layer.parameters[0].name.rpartition(".")[0] if layer.parameters else ""
    return tuple(p for p in layer.parameters if p.name.rpartition(".")[0] == owner)


def significant(number: float) -> float:
    """Six significant digits: enough to reproduce, short enough to paste."""
    return float(f"{number:.6g}")


def _matrix(
    layer: LayerMeasurements,
    place: Place,
    weight: ParameterStatistics,
    bias: ParameterStatistics | None,
) -> Iterable[Draw]:
    fan = layer.fan_out if layer.op.startswith("conv_transpose") else layer.fan_in
    if not fan:
        return
    nonlinearity = None if place.head else layer.nonlinearity
    point = critical_point(nonlinearity, place.negative_slope) or CriticalPoint(
        LEAST_LOSS_GAINS.get(nonlinearity or "") or _measured_gain(layer, weight, fan), 0.0, 1.0
    )
    gain = point.weight_gain * place.branch_scale
    function, args = _weight_function(layer, place, nonlinearity, gain, fan, weight.shape)
    rms = gain / math.sqrt(fan)
    yield Draw(weight.name, weight.shape, function, args, rms, significant(gain))
    if bias is None:
        return
    if point.bias_std and layer.normalization is None:
        std = significant(point.bias_std * place.branch_scale)
        yield Draw(bias.name, bias.shape, "normal_", {"std": std}, std)
    else:
        yield Draw(bias.name, bias.shape, "zeros_")


def has_formula(nonlinearity: str | None) -> bool:
    """False for activations that theory does not cover (tanhshrink, softshrink, GLU …)."""
    return nonlinearity in LEAST_LOSS_GAINS or critical_point(nonlinearity) is not None


def _measured_gain(layer: LayerMeasurements, weight: ParameterStatistics, fan: int) -> float:
    """The gain it has, over the factor of the gradient that was measured with it: what passes the
    gradient as it came while the signal keeps its size (after Mishkin & Matas 2016,
    arXiv:1511.06422, who scale by the measured signal). 1 where nothing was measured."""
    passed = layer.gradient.gain
    if not passed or not weight.rms:
        return 1.0
    now = weight.rms * math.sqrt(fan)
    return now / min(max(passed, 1.0 / FURTHEST), FURTHEST)


def _weight_function(
    layer: LayerMeasurements,
    place: Place,
    nonlinearity: str | None,
    gain: float,
    fan: int,
    shape: tuple[int, ...],
) -> tuple[str, dict[str, Any]]:
    """The torch.nn.init call that gives a weight rms of gain/√fan."""
    exact = ("normal_", {"std": significant(gain / math.sqrt(fan))})
    if place.branch_scale != 1.0 or layer.op.startswith("conv_transpose"):
        return exact
    if nonlinearity in _RELU_LIKE:
        return "kaiming_normal_", {"nonlinearity": "relu"}
    if nonlinearity in _LEAKY:
        slope = 0.25 if nonlinearity == "prelu" else place.negative_slope
        return "kaiming_normal_", {"a": slope, "nonlinearity": "leaky_relu"}
    if place.head:
        return "kaiming_normal_", {"nonlinearity": "linear"}
    keeps_angles = critical_point(nonlinearity, place.negative_slope)
    if keeps_angles is not None and keeps_angles.q == 0 and shape[0] <= fan:
        return "orthogonal_", {"gain": significant(gain)}
    return exact


def recurrent_draws(op: str, shapes: Mapping[str, tuple[int, ...]], steps: int) -> tuple[Draw, ...]:
    """Of an rnn, lstm or gru with these parameters over so many time steps, ≥ 1; the recurrent
    weights first, for they are applied at every step.

    Orthogonal recurrent weights add up what T steps bring, so an RNN's input weights and those
    between its layers are 1/√T of what one step needs. The gates of LSTM and GRU do that by
    themselves; an LSTM's forget gate starts open (bias 1, Jozefowicz et al. 2015). Other biases,
    which come at every step, are 0."""
    ordered = sorted(shapes.items(), key=lambda one: "weight_hh" not in one[0])
    return tuple(draw for name, shape in ordered for draw in _recurrent(op, name, shape, steps))


def _recurrent(op: str, name: str, shape: tuple[int, ...], steps: int) -> Iterable[Draw]:
    leaf = _leaf(name)
    if leaf.startswith("weight_hh") and len(shape) == 2:
        yield Draw(name, shape, "orthogonal_", {"gain": 1.0}, 1.0 / math.sqrt(max(shape)), 1.0)
    elif leaf.startswith("weight_ih") and len(shape) == 2:
        gain = steps**-0.5 if op == "rnn" else 1.0
        rms = gain / math.sqrt(shape[1])
        if gain == 1.0:
            yield Draw(name, shape, "kaiming_normal_", {"nonlinearity": "linear"}, rms, 1.0)
        else:
            yield Draw(name, shape, "normal_", {"std": significant(rms)}, rms, significant(gain))
    elif op == "lstm" and leaf.startswith("bias_ih"):
        yield Draw(name, shape, "forget_gate_", {"val": 1.0}, 0.5)
    elif leaf.startswith("bias"):
        yield Draw(name, shape, "zeros_")


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
