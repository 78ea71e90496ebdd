"""In float16 part of the gradient would be zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.diagnosis.sixteen_bits import FLOAT16, PURE, largest_gradient, not_held
from service.domain.findings import Severity
from service.domain.half_precision import LARGEST as LARGEST_HALF
from service.domain.half_precision import loss_scale
from service.domain.measurements import LayerMeasurements


class HalfPrecisionUnderflow:
    """
    ### What it sees
    The share of each layer's gradient elements that float16 rounds to zero (at most 2⁻²⁵). A probe
    in float32 or float64 says what mixed precision would do. One in float16 counts the elements
    that are zero where those of float32, on the same seeds and batches, are not, without a loss
    scale; one in bfloat16 has none.

    ### Why it matters
    What is rounded to zero is lost to the weights behind it. A loss scale moves the gradients up
    before they are rounded; bfloat16 has float32's range and needs none.

    ### Evidence
    `underflow_fraction` of the worst layer, `layers` with theirs, `loss_scale`: the largest power
    of two under which no gradient, of outputs or parameters, overflows. In float16 that scale
    leaves a factor of eight, beside `largest_gradient` and `largest_float16`; `keep_in_float32`:
    layers of whose gradients more than 5 % are lost even so, since another layer's are too large
    for a higher scale.

    ### Known false alarms
    A loss that is a mean over many positions has tiny gradients by construction; training that
    scales the loss (torch.amp.GradScaler) is not concerned. Information only, but where no scale
    holds everything, and in pure float16, whose gradients GradScaler does not take.

    ### References
    Micikevicius et al. 2018 (arXiv 1710.03740), where 5 % of the values were lost; PyTorch:
    torch.amp.GradScaler.
    """

    code = "half_precision_underflow"
    title = "Gradients would underflow in float16"

    def read(self, case: Case) -> Reading:
        """Tell the layer that loses most."""
        if case.plan.precision.endswith("bfloat16"):
            return QUIET
        shares = [(x, x.gradient.underflow_fraction_fp16 or 0.0) for x in case.measured.layers]
        worst, share = max(shares, key=lambda pair: pair[1], default=(None, 0.0))
        if worst is None or share < thresholds.UNDERFLOW_WORTH_TELLING:
            return QUIET
        told = [(x, s) for x, s in shares if s >= thresholds.UNDERFLOW_WORTH_TELLING]
        layers = [x for x, _ in told]
        if case.plan.precision in FLOAT16:
            return self._measured(case, worst, layers)
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
                    "layers": {x.name: s for x, s in told},
                    "loss_scale": scale,
                    "precision": case.plan.precision,
                    "threshold": thresholds.UNDERFLOW_WORTH_TELLING,
                },
                causes=["Elements of the gradient lie under 2⁻²⁵, half of float16's smallest."],
            )
        )

    def _measured(
        self, case: Case, worst: LayerMeasurements, layers: Sequence[LayerMeasurements]
    ) -> Reading:
        """What float16 itself has lost."""
        everything, precision = case.measured.layers, case.plan.precision
        largest = largest_gradient(everything)
        scale, kept = loss_scale(largest), not_held(everything)
        share = worst.gradient.underflow_fraction_fp16 or 0.0
        advice = f" A loss scale of {scale:g} moves them up." if scale and scale > 1 else ""
        if kept:
            advice += f" Even so too much of {wording.span(kept)} is lost: keep it in float32."
        found = finding(
            self,
            Severity.WARNING if kept or precision in PURE else Severity.INFO,
            0.95,
            f"float16 rounds {share:.0%} of the gradient at {worst.name} to zero that float32 "
            f"keeps.{advice}",
            layers=layers,
            evidence={
                "underflow_fraction": share,
                "layers": {x.name: x.gradient.underflow_fraction_fp16 for x in layers},
                "loss_scale": scale,
                "largest_gradient": largest,
                "largest_float16": LARGEST_HALF,
                "keep_in_float32": [x.name for x in kept],
                "precision": precision,
                "threshold": thresholds.UNDERFLOW_WORTH_TELLING,
            },
            causes=["Elements of the gradient lie under 2⁻²⁵, half of float16's smallest."],
        )
        return Reading(replace(found, title="Gradients underflow in float16"))


def _largest(layers: Sequence[LayerMeasurements]) -> float:
    """No element of any gradient is larger: of a parameter's only the norm is known."""
    at_outputs = [layer.gradient.abs_max or 0.0 for layer in layers]
    of_weights = [p.grad_norm or 0.0 for layer in layers for p in layer.parameters]
    return max(at_outputs + of_weights, default=0.0)
