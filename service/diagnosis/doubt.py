"""Where the statistics of step 0 cannot tell for sure, although no detector objects.

Every oddity is a number that is 0 in usual networks and grows with how unusual the network is. The
doubt is the probability that training is at risk all the same, a logistic function of them with
weights ≥ 0 (`fitted.py`, fitted to labelled networks that no detector objects to). It makes no
finding: it asks for a short training, and takes from the confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.diagnosis.calibration import Calibration
from service.diagnosis.detector import logistic
from service.diagnosis.fitted import FITTED
from service.diagnosis.profile import RECURRENT, decades, distinction_loss, gradient_fall
from service.diagnosis.thresholds import DISTINCTION_LOSS, GRADIENT_FALL, SATURATION
from service.domain.measurements import Measurements

USUAL_WIDTH = 16
"""Numbers per sample at the narrowest layer of a stack, below which it counts as thin."""
USUAL_STATE = 32
"""Units of a recurrent layer's state, below which it counts as small."""
USUAL_DEPTH = 16
"""Weight layers in a row, without skip connections, above which a stack counts as deep."""
USUAL_STEPS = 8
"""Time steps of a recurrent layer above which a sequence counts as long."""
USUAL_LOSS = 2.0
"""Decades of 1 - correlation that usual networks lose."""
USUAL_FALL = 1.0
"""Decades that the gradient of usual networks falls."""
SATURATED = 0.5
"""Share of flat elements above which a hidden layer counts."""
LARGE_OUTPUT = 0.5
"""log₁₀ of the standard deviation of class scores above which they count as large."""
MOST_NOISE = 0.9
"""Decades of signal lost to noise beyond which a detector speaks."""
BOUNDED = frozenset({"relu", "relu6", "sigmoid", "hardsigmoid", "tanh", "hardtanh", "softmax"})
"""Last operations that squeeze class scores."""
MOST = 0.33
"""Largest doubt: without a finding training is not said to be at risk, it is tried."""
SICK_SHARE = 0.1
"""Of 68 labelled networks that trained badly although no detector objected, 7 did not train."""

WORTH_SAYING = 0.5
"""Log-odds from which an oddity is named."""
WORDS = {
    "noise": "dropout and noise hide a good part of the signal",
    "thin": "a layer is narrow for its classes",
    "small_state": "the recurrent state is small",
    "long_sequence": "the recurrent layer runs over many steps",
    "unknown_steps": "the recurrent layer's steps could not be told apart",
    "deep": "the stack is deep for one without skip connections",
    "fall": "the gradient falls over depth",
    "blur": "samples are hardly told apart at depth",
    "seeds_differ": "initializations differ much",
    "saturated": "a hidden layer is half saturated",
    "large_output": "the first class scores are large",
    "bounded_output": "the class scores are squeezed by an activation",
}
"""By oddity."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """How probable it is that a model fails although no detector objects."""

    error: float = 0.0
    """That it does not train, 0 … 1."""
    warning: float = 0.0
    """That training is at least at risk, 0 … 1, ≥ `error`."""


def doubt(
    measured: Measurements,
    settled: Measurements | None = None,
    calibration: Calibration = FITTED,
) -> Doubt:
    """From all oddities together; `settled`: after a few optimizer steps, where gradient flow is
    judged then."""
    found = oddities(measured, settled)
    odds = sum(calibration.oddities[name] * value for name, value in found.items())
    warning = min(logistic(calibration.doubt + odds), MOST)
    return Doubt(SICK_SHARE * warning, warning)


def doubted_for(measured: Measurements, settled: Measurements | None = None) -> str:
    """The two oddities that weigh most, in words; empty where there are none."""
    weighed = {
        name: FITTED.oddities[name] * value for name, value in oddities(measured, settled).items()
    }
    most = sorted(
        (name for name in weighed if weighed[name] > WORTH_SAYING), key=weighed.__getitem__
    )
    return " and ".join(WORDS[name] for name in reversed(most[-2:]))


def oddities(measured: Measurements, settled: Measurements | None = None) -> dict[str, float]:
    """By name, each ≥ 0; the names are those of `Calibration.oddities`."""
    flow = settled or measured
    layers, hidden = measured.layers, measured.layers[:-1]
    row = all(layer.depth == layer.index + 1 and not layer.residual for layer in layers)
    shares = [s for layer in layers if (s := layer.activation.signal_share) is not None]
    widths = [math.prod(layer.output_shape[1:]) for layer in hidden]
    recurrent = [layer for layer in layers if layer.op in RECURRENT]
    states = [layer.output_shape[-1] for layer in recurrent]
    steps = [len(layer.time_steps.memory) for layer in recurrent if layer.time_steps]
    saturated = [layer.activation.saturated_fraction or 0.0 for layer in hidden]
    fall, lost = gradient_fall(flow), distinction_loss(flow)
    classes = measured.model.loss == "cross_entropy"
    scores = layers[-1].activation.std if layers and classes else None
    return {
        "noise": min(-decades(shares[-1]), MOST_NOISE) if shares else 0.0,
        "thin": _octaves(USUAL_WIDTH, min(widths)) if row and widths else 0.0,
        "small_state": _octaves(USUAL_STATE, min(states)) if states else 0.0,
        "long_sequence": _octaves(max(steps), USUAL_STEPS) if steps else 0.0,
        "unknown_steps": float(bool(recurrent) and not steps),
        "deep": _octaves(len(layers), USUAL_DEPTH) if row else 0.0,
        "fall": _between(fall.median, USUAL_FALL, GRADIENT_FALL.warning) if fall else 0.0,
        "blur": _between(lost.median, USUAL_LOSS, DISTINCTION_LOSS.warning) if lost else 0.0,
        "seeds_differ": min(fall.high - fall.low, 2.0) if fall else 0.0,
        "saturated": _between(max(saturated, default=0.0), SATURATED, SATURATION.warning),
        "large_output": max(decades(scores) - LARGE_OUTPUT, 0.0) if scores else 0.0,
        "bounded_output": float(classes and measured.model.output_op in BOUNDED),
    }


def _between(value: float, usual: float, warned_of: float) -> float:
    """How far beyond what is usual, up to where a detector speaks."""
    return min(max(value, usual), warned_of) - usual


def _octaves(above: float, below: float) -> float:
    """log₂ of a ratio, ≥ 0; 0 where either is unknown."""
    return max(math.log2(above / below), 0.0) if above and below else 0.0
