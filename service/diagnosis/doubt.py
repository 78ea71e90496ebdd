"""Where the statistics of step 0 cannot tell for sure, whatever the detectors say.

A doubt makes no finding: it asks for a short training, and leaves room for what that training says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.diagnosis import thresholds
from service.diagnosis.profile import RECURRENT, decades
from service.domain.measurements import LayerMeasurements, Measurements


@dataclass(frozen=True, slots=True)
class Doubt:
    """How probable it is that a model fails although no detector objects."""

    error: float = 0.0
    """That it does not train, 0 … 1."""
    warning: float = 0.0
    """That training is at least at risk, 0 … 1, ≥ `error`."""


def doubt(measured: Measurements) -> Doubt:
    """The largest of all doubts."""
    found = [Doubt(*pair) for pair in _doubts(measured)]
    return max(found, key=lambda each: each.warning, default=Doubt())


def _doubts(measured: Measurements) -> Iterator[tuple[float, float]]:
    layers = measured.layers
    if any(_is_long_or_stacked(layer) for layer in layers):
        yield thresholds.RECURRENT_DOUBT
    # Concatenations (DenseNet) pass for one row as well: that costs a short training.
    row = all(layer.depth == layer.index + 1 and not layer.residual for layer in layers)
    if row and len(layers) >= thresholds.PLAIN_DEPTH:
        yield thresholds.PLAIN_DEPTH_DOUBT


def _is_long_or_stacked(layer: LayerMeasurements) -> bool:
    """A recurrent layer over many time steps, or over steps that could not be told apart, or that
    loses much of its gradient between the layers stacked in it."""
    if layer.op not in RECURRENT:
        return False
    steps, gain = layer.time_steps, layer.gradient.gain
    if steps is None or len(steps.memory) >= thresholds.LONG_SEQUENCE or gain is None:
        return True
    return decades(gain) <= -thresholds.STACKED_FALL
