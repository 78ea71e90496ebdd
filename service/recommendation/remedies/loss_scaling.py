"""Scale the loss, so that gradients fit into float16."""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.domain.findings import Finding
from service.domain.half_precision import HEADROOM, LARGEST, loss_scale
from service.domain.measurements import LayerMeasurements
from service.domain.recommendations import Recommendation
from service.recommendation.case import Case

UNDERFLOW, OVERFLOW = "half_precision_underflow", "half_precision_overflow"
"""The findings that it is for."""


class ScaleLoss:
    """Multiply the loss by a power of two before backward and divide the gradients by it after.

    ### What it changes
    The training loop in float16: the loss scale, the largest power of two under which no gradient
    measured here comes within a factor of eight of float16's largest number.

    ### When it is offered
    When five percent or more of the gradient at some layer is, or would be, rounded to zero in
    float16, for healthy models too; and, as a scale below 1, where gradients overflow.

    ### Why it works
    float16 ends at 6e-8; gradients often lie below, and its upper range up to 65504 is left unused.
    A power of two moves them up without rounding.

    ### Limits
    Of use with float16 alone: bfloat16 has float32's range. Gradients change over training; a
    dynamic scale (torch.amp.GradScaler) follows them, and this is where it should start. Clip after
    `unscale_`. Measured with gradients of float16 where the probe's precision is that, else with
    those of float32, counted as float16 would round them. One scale serves the whole model: layers
    whose gradients it cannot hold are named to be kept in float32 (torch.autocast with
    enabled=False around them), which is advice and not part of what is measured. Gradients of pure
    float16 are not for GradScaler: keep the parameters in float32.

    ### References
    * Micikevicius et al. 2018, arXiv:1710.03740, §3.2.
    """

    kind = "loss_scaling"
    cures = frozenset({UNDERFLOW, OVERFLOW})

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        found = next((f for f in case.diagnosis.findings if f.code in self.cures), None)
        largest = _largest(case.measurements.layers)
        scale = loss_scale(largest)
        if found is None or scale is None or (scale <= 1.0 and found.code == UNDERFLOW):
            return ()
        kept = tuple(found.evidence.get("keep_in_float32", ()))
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=found.layers,
                title=f"In float16, scale the loss by 2^{int(math.log2(scale))}",
                why=f"The largest gradient is {largest:.2g}: times {scale:g} it stays a factor of"
                f" {HEADROOM:g} or more below float16's {LARGEST:g}.{_why_kept(kept)}",
                resolves=(found.code,),
                change={
                    "loss_scale": scale,
                    "largest_gradient": largest,
                    **({"keep_in_float32": list(kept)} if kept else {}),
                },
                code=_code(scale, kept, found),
            ),
        )


def _why_kept(kept: Sequence[str]) -> str:
    if not kept:
        return ""
    return f" Of the gradients of {', '.join(kept)} much is lost even so: keep them in float32."


def _code(scale: float, kept: Sequence[str], found: Finding) -> str:
    lines = [
        f"scaler = torch.amp.GradScaler(init_scale={scale!r})",
        "# scaler.scale(loss).backward(); scaler.unscale_(optimizer);"
        " scaler.step(optimizer); scaler.update()",
    ]
    if str(found.evidence.get("precision")).startswith("pure_"):
        lines.insert(0, "# parameters in float32, forward under torch.autocast: not model.half()")
    if kept:
        lines.append(
            f"# around {', '.join(kept)}, with x.float() as the input:"
            " with torch.autocast(device_type, enabled=False): ..."
        )
    return "\n".join(lines)


def _largest(layers: tuple[LayerMeasurements, ...]) -> float:
    """No element of any gradient is larger: of a parameter's only the norm is known, but where
    ranges were measured."""
    measured = [layer.precision.gradient_abs_max or 0.0 for layer in layers if layer.precision]
    if measured:
        return max(measured)
    at_outputs = [layer.gradient.abs_max or 0.0 for layer in layers]
    of_weights = [p.grad_norm or 0.0 for layer in layers for p in layer.parameters]
    return max(at_outputs + of_weights, default=0.0)
