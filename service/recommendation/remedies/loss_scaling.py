"""Scale the loss, so that gradients fit into float16."""

from __future__ import annotations

import math

from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.training_effects import LARGEST_HALF

CODE = "half_precision_underflow"
"""The finding that it is for."""
HEADROOM = 8.0
"""How much larger gradients may become in training before they overflow."""


class ScaleLoss:
    """Multiply the loss by a power of two before backward and divide the gradients by it after.

    ### What it changes
    The training loop in float16: the loss scale, the largest power of two under which no gradient
    measured here comes within a factor of eight of float16's largest number.

    ### When it is offered
    When five percent or more of the gradient at some layer would be rounded to zero in float16,
    for healthy models too.

    ### Why it works
    float16 ends at 6e-8; gradients often lie below, and its upper range up to 65504 is left unused.
    A power of two moves them up without rounding.

    ### Limits
    Of use with float16 alone: bfloat16 has float32's range. Gradients change over training; a
    dynamic scale (torch.amp.GradScaler) follows them, and this is where it should start. Clip after
    `unscale_`. Measured with gradients of float32, counted as float16 would round them.

    ### References
    * Micikevicius et al. 2018, arXiv:1710.03740, §3.2.
    """

    kind = "loss_scaling"
    cures = frozenset({CODE})

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        found = next((f for f in case.diagnosis.findings if f.code == CODE), None)
        largest = _largest(case.measurements.layers)
        if found is None or not largest:
            return ()
        scale = 2.0 ** math.floor(math.log2(LARGEST_HALF / HEADROOM / largest))
        if scale <= 1.0:
            return ()
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=found.layers,
                title=f"In float16, scale the loss by 2^{int(math.log2(scale))}",
                why=f"The largest gradient is {largest:.2g}: times {scale:g} it stays a factor of"
                f" {HEADROOM:g} or more below float16's {LARGEST_HALF:g}.",
                resolves=(CODE,),
                change={"loss_scale": scale, "largest_gradient": largest},
                code=f"scaler = torch.amp.GradScaler(init_scale={scale!r})\n"
                "# scaler.scale(loss).backward(); scaler.unscale_(optimizer);"
                " scaler.step(optimizer); scaler.update()",
            ),
        )


def _largest(layers: tuple[LayerMeasurements, ...]) -> float:
    """No element of any gradient is larger: of a parameter's only the norm is known."""
    at_outputs = [layer.gradient.abs_max or 0.0 for layer in layers]
    of_weights = [p.grad_norm or 0.0 for layer in layers for p in layer.parameters]
    return max(at_outputs + of_weights, default=0.0)
