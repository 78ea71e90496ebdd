"""The weights start at a scale that does not suit the network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import Case, Reading, finding, grade
from service.diagnosis.profile import Decades, contrast_growth
from service.domain.findings import Finding, Severity
from service.domain.measurements import LayerMeasurements


class PoorInitialization:
    """
    ### What it sees
    The drift of what differs between samples (rms·√(1 - correlation)) over the hidden layers; and
    in deep plain stacks (20 layers or more, normalised sample by sample, no skip connection) the
    share of every layer's output that one coherent step of Adam rewrites, lr·√fan_in/rms(W),
    summed over the layers.

    ### Why it matters
    A good initialization keeps the scale of signal and gradient over depth. Drift is where
    vanishing and exploding begin. Normalization hides the drift but not that weights are tiny: then
    a usual step rewrites the whole stack at once.

    ### Evidence
    `decades` of drift with its range over seeds; `update_share`.

    ### Known false alarms
    A tenfold drift alone hurts little, so it is information; whether training suffers is said by
    the gradient's own detectors. Residual streams grow by design: they are told from a hundredfold
    drift on. The last layer may be small or zero on purpose and is not counted.

    ### References
    He et al. 2015 (arXiv 1502.01852); Mishkin & Matas 2016 (arXiv 1511.06422); Yang et al. 2022 on
    Adam's step and width (arXiv 2203.03466).
    """

    code = "poor_initialization"
    title = "The initialization does not suit the network"

    def read(self, case: Case) -> Reading:
        """Judge the update share; tell the drift."""
        share = update_share(case.measured.layers)
        limits = thresholds.UPDATE_SHARE
        error, warning = limits.fails(share), limits.at_risk(share)
        severity = grade(error, warning)
        drift = contrast_growth(case.flow)
        if severity is None:
            return Reading(self._drift(case, drift), error, warning)
        layers = case.measured.layers
        found = finding(
            self,
            severity,
            warning,
            f"one usual step of Adam rewrites {share:.1f} times the output of a layer, summed over "
            f"the {len(layers)} layers of a plain stack. Training is at risk from "
            f"{limits.warning} and fails from about {limits.error}.",
            layers=layers,
            evidence={
                "update_share": share,
                "decades": drift.median if drift else None,
                "threshold": limits.warning,
            },
            causes=[
                f"The weights of {wording.span(layers)} are small for the depth of the stack, and "
                "normalization hides it.",
                *wording.default_initialization(layers),
            ],
        )
        return Reading(found, error, warning)

    def _drift(self, case: Case, drift: Decades | None) -> Finding | None:
        layers = case.flow.layers[:-1]
        if drift is None or len(layers) < 2:
            return None
        much = abs(drift.median) >= thresholds.SCALE_DRIFT_WARNING
        by_design = any(layer.residual for layer in layers)
        if not much and (by_design or abs(drift.median) < thresholds.SCALE_DRIFT_WORTH_TELLING):
            return None
        way = "grows" if drift.median > 0 else "shrinks"
        return finding(
            self,
            Severity.WARNING if much else Severity.INFO,
            0.9,
            f"what differs between samples {way} {wording.power(abs(drift.median))}-fold from "
            f"{layers[0].name} to {layers[-1].name}. A good initialization keeps its scale.",
            layers=layers,
            evidence={
                "decades": drift.median,
                "decades_low": drift.low,
                "decades_high": drift.high,
                "threshold": thresholds.SCALE_DRIFT_WORTH_TELLING,
            },
            causes=[
                *wording.zero_weights(layers),
                *wording.default_initialization(layers),
            ],
        )


def update_share(layers: Sequence[LayerMeasurements]) -> float:
    """Σ lr·√fan_in/rms(W) over a plain stack at Adam's gentlest usual rate, ≥ 0; 0 when the stack
    is shallow, has skip connections, is not normalised sample by sample (batch normalization
    takes out the mean that makes steps coherent), or holds zero weights."""
    per_sample = sum(x.normalization in thresholds.PER_SAMPLE for x in layers)
    weights = [(x.fan_in, wording.main_weight(x)) for x in layers]
    matrices = [(fan, w.rms) for fan, w in weights if fan and w is not None and w.rms]
    if (
        len(matrices) < thresholds.DEEP_STACK
        or 2 * per_sample < len(layers)
        or any(x.residual for x in layers)
    ):
        return 0.0
    return sum(thresholds.USUAL_ADAM_RATE * math.sqrt(fan) / rms for fan, rms in matrices)
