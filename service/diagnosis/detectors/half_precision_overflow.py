"""In 16 bits gradients are infinite."""

from __future__ import annotations

from service.diagnosis import wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.diagnosis.sixteen_bits import PURE, largest_gradient, only_gradients_overflow
from service.domain.findings import Severity
from service.domain.half_precision import LARGEST, loss_scale


class HalfPrecisionOverflow:
    """
    ### What it sees
    In a probe of 16 bits: gradients that are infinite or NaN where those of float32, on the same
    seeds and batches, are finite, while activations and losses are finite in both.

    ### Why it matters
    One infinite gradient spoils a step. torch.amp.GradScaler leaves such steps out and halves the
    scale until none is left, below 1 too; a training without it stops here.

    ### Evidence
    `largest_gradient` in float32 beside `largest_float16`, `loss_scale`: the power of two under
    which it stays a factor of eight below that, `layers` with their own largest gradients.

    ### Known false alarms
    None as far as it goes; whether the training copes is for the training to say. In pure float16
    it puts training at risk, since GradScaler takes no gradients of float16.

    ### References
    Micikevicius et al. 2018 (arXiv 1710.03740), section 3.2; PyTorch: torch.amp.GradScaler.
    """

    code = "half_precision_overflow"
    title = "Gradients overflow in 16 bits"

    def read(self, case: Case) -> Reading:
        """Certain as far as it goes; a risk where nobody scales the loss."""
        measured = case.measured
        if not only_gradients_overflow(measured):
            return QUIET
        layers = [x for x in measured.layers if x.precision and x.precision.gradient_overflow]
        largest = largest_gradient(measured.layers)
        scale = loss_scale(largest)
        found = finding(
            self,
            Severity.WARNING,
            0.95,
            f"gradients of {wording.span(layers)} overflow in {case.plan.precision}; in float32 "
            f"they are finite{'' if largest is None else f' and reach {largest:.2g}'}."
            + ("" if scale is None else f" A loss scale of {scale:g} keeps them within it."),
            layers=layers,
            evidence={
                "largest_gradient": largest,
                "largest_float16": LARGEST,
                "loss_scale": scale,
                "layers": {x.name: x.precision.gradient_abs_max for x in layers if x.precision},
                "precision": case.plan.precision,
            },
            causes=[
                f"Gradients are larger than {case.plan.precision} can hold; float16 ends at 65504."
            ],
        )
        return Reading(found, 0.3, 0.9) if case.plan.precision in PURE else Reading(found)
