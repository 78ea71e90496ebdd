"""How layers and numbers are put into sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from service.diagnosis import thresholds
from service.domain.measurements import LayerMeasurements, Measurements, ParameterStatistics

NAMES = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "leaky_relu": "LeakyReLU",
    "log_softmax": "log-softmax",
}
"""How the field writes them; others are written as they are."""

FEWEST = 16
"""Elements from which a weight's numbers tell how they were drawn."""
ROUNDING = 1e-5
"""Relative: float32 leaves 1e-7."""


def span(layers: Sequence[LayerMeasurements]) -> str:
    """`fc1`, or `fc1`…`fc20`."""
    if not layers:
        return "the model"
    first, last = layers[0].name, layers[-1].name
    return first if first == last else f"{first}…{last}"


def times(factor: float) -> str:
    """A factor, three digits: 0.190x, 1.2e-05x."""
    return f"{factor:.3g}x"


def power(decades: float) -> str:
    """A number given in decades, two digits: 3.1e-11."""
    if not -300 < decades < 300:
        return "0" if decades < 0 else "more than 1e+300"
    return f"{10.0**decades:.2g}"


def nonlinearity(layer: LayerMeasurements) -> str:
    """The layer's activation, or its kind when it has none."""
    name = layer.nonlinearity
    return NAMES.get(name, name) if name else f"a {layer.op} layer without activation"


def commonest(layers: Sequence[LayerMeasurements]) -> str:
    """What most of the layers are: their activation, or their kind."""
    kinds = [NAMES.get(x.nonlinearity, x.nonlinearity) if x.nonlinearity else x.op for x in layers]
    return max(kinds, key=kinds.count)


def gain_causes(layers: Sequence[LayerMeasurements]) -> Iterator[str]:
    """One sentence per run of layers of the same make: what each passes of the gradient."""
    known = [layer for layer in layers if layer.gradient.gain]
    for kind, run in groupby(known, key=lambda layer: (layer.nonlinearity, layer.normalization)):
        group = list(run)
        logs = [math.log(layer.gradient.gain) for layer in group if layer.gradient.gain]
        mean = math.exp(sum(logs) / len(logs))
        what = nonlinearity(group[0]) + (f" with {kind[1]}" if kind[1] else "")
        yield f"{what} at {span(group)} passes {times(mean)}{' each' if len(group) > 1 else ''}."


def reach(measured: Measurements) -> str:
    """A sentence, after a space, when theory says that the stack is deeper than its initialization
    trains to; else nothing."""
    depth = measured.model.trainable_depth or {}
    predicted, low, high = (depth.get(name) for name in ("predicted", "low", "high"))
    actual = depth.get("actual")
    if predicted is None or low is None or actual is None or predicted >= actual:
        return ""
    span = f"{low:.0f} to {high:.0f}" if high is not None else f"{low:.0f} or more"
    return (
        f" By theory this choice trains to about {predicted:.0f} layers ({span} over "
        f"initializations); you have {actual:.0f}."
    )


def default_initialization(layers: Sequence[LayerMeasurements]) -> Iterator[str]:
    """A sentence when most weights look like torch.nn's default: U(-1/√fan_in, 1/√fan_in), whose
    root mean square is 1/√(3·fan_in)."""
    weights = [(layer, weight) for layer in layers if (weight := main_weight(layer))]
    like = [layer for layer, weight in weights if _like_default(weight, layer.fan_in)]
    if weights and 2 * len(like) > len(weights):
        yield (
            f"PyTorch's default initialization at {span(like)} draws weights of root mean square "
            "1/√(3·fan_in), a third of the variance that keeps a linear layer's scale "
            "and a sixth of what ReLU needs (He et al. 2015)."
        )


def _like_default(weight: ParameterStatistics, fan_in: int | None) -> bool:
    """The largest of n numbers from U(-b, b) is about b·(1 - 1/n), never more; and their root mean
    square lies within `DEFAULT_INIT_DEVIATIONS` standard deviations, ½·√(0.8/n) relative (their
    kurtosis is 1.8)."""
    count = math.prod(weight.shape)
    if not weight.rms or not weight.abs_max or not fan_in or count < FEWEST:
        return False
    bound = math.sqrt(fan_in)
    deviation = 0.5 * math.sqrt(0.8 / count)
    off = abs(weight.rms * math.sqrt(3.0) * bound - 1.0)
    reached = weight.abs_max * bound
    return (
        off <= thresholds.DEFAULT_INIT_DEVIATIONS * deviation
        and 1.0 - thresholds.DEFAULT_INIT_DEVIATIONS / count <= reached <= 1.0 + ROUNDING
    )


def main_weight(layer: LayerMeasurements) -> ParameterStatistics | None:
    """The layer's largest matrix; None without one."""
    matrices = [p for p in layer.parameters if len(p.shape) >= 2]
    return max(matrices, key=lambda p: math.prod(p.shape), default=None)


def zero_weights(layers: Sequence[LayerMeasurements]) -> Iterator[str]:
    """A sentence naming the layers whose weights are all zero."""
    zero = [layer for layer in layers if (w := main_weight(layer)) and w.rms == 0.0]
    if zero:
        yield f"The weights of {span(zero)} are all zero."


def decades_between(norms: Sequence[float]) -> float:
    """log₁₀ of the largest over the smallest of some positive numbers, ≥ 0."""
    return math.log10(max(norms) / min(norms))
