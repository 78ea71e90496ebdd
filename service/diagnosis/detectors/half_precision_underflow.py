"""In float16 part of the gradient would be zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements

LARGEST_HALF = 65504.0
"""Largest number of float16."""


class HalfPrecisionUnderflow:
    """
    ### What it sees
    The share of each layer's gradient elements that float16 would round to zero (at most 2⁻²⁵). The
    probe runs in float32 or float64, so this is no problem of the model as probed: it says what
    mixed precision would do.

    ### Why it matters
    What is rounded to zero is lost to the weights behind it. A loss scale moves the gradients up
    before they are rounded; bfloat16 has float32's range and needs none.

    ### Evidence
    `underflow_fraction` of the worst layer, `layers` with theirs, `loss_scale`: the largest power
    of two under which no gradient, of outputs or parameters, overflows.

    ### Known false alarms
    A loss that is a mean over many positions has tiny gradients by construction; training that
    scales the loss (torch.amp.GradScaler) is not concerned. Information only.

    ### References
    Micikevicius et al. 2018 (arXiv 1710.03740), where 5 % of the values were lost; PyTorch:
    torch.amp.GradScaler.
    """

    code = "half_precision_underflow"
    title = "Gradients would underflow in float16"

    def read(self, case: Case) -> Reading:
        """Tell the layer that would lose most."""
        shares = [(x, x.gradient.underflow_fraction_fp16 or 0.0) for x in case.measured.layers]
        worst, share = max(shares, key=lambda pair: pair[1], default=(None, 0.0))
        if worst is None or share < thresholds.UNDERFLOW_WORTH_TELLING:
            return QUIET
        layers = [x for x, s in shares if s >= thresholds.UNDERFLOW_WORTH_TELLING]
        largest = _largest(case.measured.layers)
        scale = 2.0 ** math.floor(math.log2(LARGEST_HALF / largest)) if largest else None
        advice = f" A loss scale of {scale:g} would move them up." if scale and scale > 1 else ""
        return Reading(
            finding(
                self,
                Severity.INFO,
                0.95,
                f"float16 would round {share:.0%} of the gradient at {worst.name} to zero.{advice}",
                layers=layers,
                evidence={
                    "underflow_fraction": share,
                    "layers": {x.name: s for x, s in shares if x in layers},
                    "loss_scale": scale,
                    "precision": case.plan.precision,
                    "threshold": thresholds.UNDERFLOW_WORTH_TELLING,
                },
                causes=["Elements of the gradient lie under 2⁻²⁵, half of float16's smallest."],
            )
        )


def _largest(layers: Sequence[LayerMeasurements]) -> float:
    """No element of any gradient is larger: of a parameter's only the norm is known."""
    at_outputs = [layer.gradient.abs_max or 0.0 for layer in layers]
    of_weights = [p.grad_norm or 0.0 for layer in layers for p in layer.parameters]
    return max(at_outputs + of_weights, default=0.0)
