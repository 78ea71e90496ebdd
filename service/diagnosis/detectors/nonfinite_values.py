"""NaN or infinity in the loss, the activations, the gradients or the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.diagnosis import wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.diagnosis.sixteen_bits import FLOAT16, only_gradients_overflow, overflowing
from service.domain.findings import Severity
from service.domain.half_precision import LARGEST
from service.domain.measurements import LayerMeasurements


class NonfiniteValues:
    """
    ### What it sees
    Elements that are NaN or infinite, counted in parameters, activations, gradients and losses of
    the probe, before any training. In a probe of 16 bits it is told whether float32 would hold
    them; gradients that alone are too large are `half_precision_overflow`.

    ### Why it matters
    One NaN reaches every parameter in the first step.

    ### Evidence
    `losses`, `activations`, `gradients`, `parameters`: how many; the first layer concerned. In 16
    bits `keep_in_float32`: the layers that overflow by themselves, with their largest output in
    float32.

    ### Known false alarms
    Infinity used as a mask inside attention is gone after the softmax and is not counted: only
    layers' outputs are looked at.

    ### References
    IEEE 754; Micikevicius et al. 2018 (arXiv 1710.03740) on how overflow shows in training.
    """

    code = "nonfinite_values"
    title = "Values are not finite"

    def read(self, case: Case) -> Reading:
        """Certain as soon as one element is not finite."""
        measured = case.measured
        ill = [layer for layer in measured.layers if _count(layer)]
        losses = measured.model.nonfinite_loss_count
        if (not ill and not losses) or only_gradients_overflow(measured):
            return QUIET
        kept = overflowing(measured.layers)
        where = (
            f"NaN or infinity first appears in {(kept or ill)[0].name}"
            if ill
            else "the loss is not finite"
        )
        found = finding(
            self,
            Severity.ERROR,
            0.99,
            f"{where}. {losses} of the probe's losses are not finite.{_instead(kept, case)}",
            layers=ill,
            evidence={
                "losses": losses,
                "activations": sum(x.activation.nonfinite_count for x in ill),
                "gradients": sum(x.gradient.nonfinite_count for x in ill),
                "parameters": sum(p.nonfinite_count for x in ill for p in x.parameters),
                **_of_16_bits(kept, case),
            },
            causes=[*_causes(ill), *_overflows(kept, case)],
        )
        return Reading(found, 0.99, 0.99)


def _causes(ill: Sequence[LayerMeasurements]) -> list[str]:
    if any(p.nonfinite_count for x in ill for p in x.parameters):
        return [f"Parameters of {wording.span(ill)} hold NaN or infinity."]
    return []


def _overflows(kept: Sequence[LayerMeasurements], case: Case) -> list[str]:
    if not kept:
        return []
    largest = kept[0].precision.activation_abs_max if kept[0].precision else None
    beyond = largest is not None and largest > LARGEST
    reaches = f" and reaches {largest:.2g}" if beyond else ", so it is a step inside that overflows"
    return [
        f"{kept[0].name} overflows {case.plan.precision} (largest number of float16: {LARGEST:g}); "
        f"in float32 its output is finite{reaches}."
    ]


def _instead(kept: Sequence[LayerMeasurements], case: Case) -> str:
    if not kept or case.plan.precision not in FLOAT16:
        return ""
    return f" In float32 all is finite: keep {wording.span(kept)} in it, or ask for bfloat16."


def _of_16_bits(kept: Sequence[LayerMeasurements], case: Case) -> dict[str, Any]:
    if not kept:
        return {}
    return {
        "precision": case.plan.precision,
        "largest_float16": LARGEST,
        "keep_in_float32": {x.name: x.precision.activation_abs_max for x in kept if x.precision},
    }


def _count(layer: LayerMeasurements) -> int:
    return (
        layer.activation.nonfinite_count
        + layer.gradient.nonfinite_count
        + sum(p.nonfinite_count for p in layer.parameters)
    )
