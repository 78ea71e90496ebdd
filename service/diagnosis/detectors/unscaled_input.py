"""The caller's data are far from mean 0 and variance 1."""

from __future__ import annotations

import math

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Limits, Reading, finding, grade
from service.domain.measurements import InputStatistics, LayerMeasurements

NORMALIZING = frozenset({"batch_norm", "instance_norm"})
"""What takes out scale and offset of every feature on its own."""


class UnscaledInput:
    """
    ### What it sees
    Of the data sent with the request, per floating-point input: its root mean square, how far its
    features lie from zero in units of their own spread, and how much larger the largest feature is
    than usual ones. Without data there is nothing to see: drawn inputs have mean 0, variance 1.

    ### Why it matters
    Initializations keep the scale that comes in, and one learning rate has to suit all features: a
    column a hundred times larger than the rest takes all of the step, an offset makes all
    gradients of a unit point one way.

    ### Evidence
    `kind` (large, small, offset or spread), `decades`, `rms`, `offset`,
    `largest_to_lower_quartile`, `constant_features`.

    ### Known false alarms
    A batch normalization at the first layer takes scale and offset out: nothing is said then. Adam
    copes with large inputs. Pixels of 0 … 255 divided by 255 are fine as they are.

    ### References
    LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.3; `benchmarks/input_scale.py`
    for the thresholds.
    """

    code = "unscaled_input"
    title = "Inputs are not scaled"

    def read(self, case: Case) -> Reading:
        """Judge every input in every way; the worst speaks."""
        first = [layer for layer in case.measured.layers if layer.depth == 1]
        if all(_normalizes(layer) for layer in first):
            return QUIET
        readings = [
            self._judge(seen, kind, amount, limits, first)
            for seen in case.measured.model.inputs
            for kind, amount, limits in _ways(seen, first)
        ]
        return max(readings, key=lambda r: (r.warning, r.finding is not None), default=QUIET)

    def _judge(
        self,
        seen: InputStatistics,
        kind: str,
        decades: float,
        limits: Limits,
        first: list[LayerMeasurements],
    ) -> Reading:
        warning = limits.at_risk(decades)
        severity = grade(0.0, warning)
        if severity is None:
            return Reading(warning=warning)
        found = finding(
            self,
            severity,
            warning,
            f"{_said(seen, kind)} Training is at risk from {10.0**limits.warning:.2g} times.",
            layers=first,
            evidence={
                "input": seen.index,
                "kind": kind,
                "decades": decades,
                "rms": seen.rms,
                "offset": seen.feature_offset_p50,
                "largest_to_lower_quartile": _spread(seen),
                "constant_features": seen.constant_features,
                "threshold": limits.warning,
            },
            causes=["The data reach the first layer as they were stored, not standardized."],
        )
        return Reading(found, 0.0, warning)


def _normalizes(layer: LayerMeasurements) -> bool:
    return layer.normalization in NORMALIZING


def _ways(seen: InputStatistics, first: list[LayerMeasurements]) -> list[tuple[str, float, Limits]]:
    """In decades: too large, too small, off zero, unlike each other. Any normalization at the
    first layer takes the common scale out."""
    offset, spread = seen.feature_offset_p50, _spread(seen)
    ways = []
    if seen.rms > 0.0 and not all(layer.normalization for layer in first):
        ways.append(("large", math.log10(seen.rms), thresholds.INPUT_LARGE))
        ways.append(("small", -math.log10(seen.rms), thresholds.INPUT_SMALL))
    if offset:
        ways.append(("offset", math.log10(offset), thresholds.INPUT_OFFSET))
    if spread:
        ways.append(("spread", math.log10(spread), thresholds.INPUT_SPREAD))
    return ways


def _spread(seen: InputStatistics) -> float | None:
    if not seen.feature_rms_p25 or seen.feature_rms_max is None:
        return None
    return seen.feature_rms_max / seen.feature_rms_p25


def _said(seen: InputStatistics, kind: str) -> str:
    name = f"input {seen.index}"
    if kind == "offset":
        return (
            f"{name}'s features lie {seen.feature_offset_p50:.3g} times their own standard "
            "deviation away from zero."
        )
    if kind == "spread":
        return (
            f"{name}'s largest feature is {_spread(seen):.3g} times as large as its lower quartile."
        )
    return f"{name} has a root mean square of {seen.rms:.3g} where 1 is expected."
