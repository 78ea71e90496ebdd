"""Dropout leaves nothing of the signal."""

from __future__ import annotations

import math

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.domain.measurements import LayerMeasurements


class DrownedSignal:
    """
    ### What it sees
    The same batch passed twice, with other dropout masks: the correlation over samples of what the
    last layer says. 1: the masks do not matter; 0: nothing of what it says comes from the input.
    Normal noise that a model adds is held still: weights outgrow it. And what the masks' rates
    alone leave of a centred signal, 1 - p each: where small weights and large biases hide the
    samples' differences, any mask drowns them, until the weights have learned.

    ### Why it matters
    Every dropout layer hides the signal behind a mask of its own, and depth multiplies what is
    lost. A gradient that points elsewhere at every step averages to nothing, though its size over
    depth looks perfect. Training fails where the rates themselves take everything; where they do
    not it is at risk.

    ### Evidence
    `signal_share` of the last layer, `layers` with the share that is left after each,
    `attainable_share`: what the rates alone leave.

    ### Known false alarms
    A head that is zero at first says the bias alone; where the last layer tells nothing at all the
    one before it is judged. Masked training objectives hide most of the input on purpose, but
    before the first layer.

    ### References
    Srivastava et al. 2014; Schoenholz et al. 2017 (arXiv 1611.01232), section 5: dropout bounds the
    depth that signals reach.
    """

    code = "drowned_signal"
    title = "Dropout drowns the signal"

    def read(self, case: Case) -> Reading:
        """Judge what is left of the signal at the end."""
        shares = [
            (layer, layer.activation.signal_share)
            for layer in case.flow.layers
            if layer.activation.signal_share is not None
        ]
        if not shares:
            return QUIET
        last, share = shares[-1]
        attainable = last.activation.attainable_share
        limits = thresholds.SIGNAL_LOSS
        error = min(limits.fails(_lost(share)), limits.fails(_lost(attainable or 0.0)))
        warning = max(limits.at_risk(_lost(share)), error)
        severity = grade(error, warning)
        if severity is None:
            return Reading(error=error, warning=warning, halfway=True)
        found = finding(
            self,
            severity,
            warning,
            f"{last.name} says {_words(share)} about its input: passed twice through other dropout "
            f"masks, samples agree by {share:.2f} of 1. Training is at risk below "
            f"{10**-limits.warning:.1g}. {_where(shares)}",
            layers=[last],
            evidence={
                "signal_share": share,
                "attainable_share": attainable,
                "layers": {layer.name: each for layer, each in shares},
                "threshold": 10.0**-limits.warning,
            },
            causes=[
                "Less dropout, or dropout at fewer layers, leaves more of the signal; so do skip "
                "connections around it."
            ],
        )
        return Reading(found, error, warning, halfway=True)


def _lost(share: float) -> float:
    """In decades."""
    return -math.log10(max(share, thresholds.SIGNAL_RESOLUTION))


def _words(share: float) -> str:
    return "nothing" if share < thresholds.SIGNAL_RESOLUTION else "little"


def _where(shares: list[tuple[LayerMeasurements, float]]) -> str:
    """What is left along the way."""
    half = next((layer for layer, share in shares if share < 0.5), None)
    if half is None:
        return ""
    return f"Half of it is gone at {half.name} ({wording.nonlinearity(half)})."
