"""Activations stuck where they are flat."""

from __future__ import annotations

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class SaturatedActivation:
    """
    ### What it sees
    The share of elements of a sigmoid, tanh, hardtanh, softsign (…) layer where the derivative is
    under 5 % of its largest.

    ### Why it matters
    Where the activation is flat nothing passes back: the units before it stop learning.

    ### Evidence
    `saturated_fraction` of the worst layer, `layers` with their shares.

    ### Known false alarms
    Gates of recurrent cells and outputs that should be near 0 or 1 saturate by design. Batch
    normalization after the weights keeps up to half of a hardtanh flat without harm.

    ### References
    Glorot & Bengio 2010; Xu et al. 2016, Revise Saturated Activation Functions (arXiv 1602.05980).
    """

    code = "saturated_activation"
    title = "Activations saturate"

    def read(self, case: Case) -> Reading:
        """Judge the most saturated layer."""
        shares = [(x, x.activation.saturated_fraction or 0.0) for x in case.measured.layers]
        worst, share = max(shares, key=lambda pair: pair[1], default=(None, 0.0))
        if worst is None or share < thresholds.SATURATION_WORTH_TELLING:
            return QUIET
        limits = thresholds.SATURATION
        warning = limits.at_risk(share)
        error = limits.fails(share) if _loses_all(case, worst) else 0.0
        told = [(x, s) for x, s in shares if s >= thresholds.SATURATION_WORTH_TELLING]
        found = finding(
            self,
            grade(error, warning) or Severity.INFO,
            max(warning, 0.9),
            f"{share:.0%} of {worst.name}'s outputs lie where {wording.nonlinearity(worst)} is "
            f"flat. Training is at risk from {limits.warning:.0%} in one layer.",
            layers=[x for x, _ in told],
            evidence={
                "saturated_fraction": share,
                "layers": {x.name: s for x, s in told},
                "threshold": limits.warning,
            },
            causes=[
                f"What reaches {wording.nonlinearity(worst)} at {worst.name} is too large: "
                "the weights or the input before it are."
            ],
        )
        return Reading(found, error, warning)


def _loses_all(case: Case, layer: LayerMeasurements) -> bool:
    """A hidden layer that nothing leads around, of a function that is flat on both sides."""
    layers = case.measured.layers
    row = all(each.depth == each.index + 1 and not each.residual for each in layers)
    return row and layer is not layers[-1] and layer.nonlinearity in thresholds.FLAT_BOTH_SIDES
