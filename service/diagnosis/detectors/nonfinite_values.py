"""NaN or infinity in the loss, the activations, the gradients or the parameters."""

from __future__ import annotations

from service.diagnosis import wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class NonfiniteValues:
    """
    ### What it sees
    Elements that are NaN or infinite, counted in parameters, activations, gradients and losses of
    the probe, before any training.

    ### Why it matters
    One NaN reaches every parameter in the first step.

    ### Evidence
    `losses`, `activations`, `gradients`, `parameters`: how many; the first layer concerned.

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
        if not ill and not losses:
            return QUIET
        where = (
            f"NaN or infinity first appears in {ill[0].name}" if ill else "the loss is not finite"
        )
        found = finding(
            self,
            Severity.ERROR,
            0.99,
            f"{where}. {losses} of the probe's losses are not finite.",
            layers=ill,
            evidence={
                "losses": losses,
                "activations": sum(x.activation.nonfinite_count for x in ill),
                "gradients": sum(x.gradient.nonfinite_count for x in ill),
                "parameters": sum(p.nonfinite_count for x in ill for p in x.parameters),
            },
            causes=[f"Parameters of {wording.span(ill)} hold NaN or infinity."]
            if any(p.nonfinite_count for x in ill for p in x.parameters)
            else [],
        )
        return Reading(found, 0.99, 0.99)


def _count(layer: LayerMeasurements) -> int:
    return (
        layer.activation.nonfinite_count
        + layer.gradient.nonfinite_count
        + sum(p.nonfinite_count for p in layer.parameters)
    )
