"""The file fixed evaluation mode; training would not change it back."""

from __future__ import annotations

from service.diagnosis import wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity


class ExportedInEvalMode:
    """
    ### What it sees
    Batch normalizations that use their running mean and variance although the model was put into
    training mode: what torch.jit.trace or torch.export of a model in evaluation mode, or
    torch.jit.freeze, leaves behind.

    ### Why it matters
    Such a normalization is a fixed scale and shift. It neither adapts to the batch nor keeps
    activations in scale; what is measured is the model as it was exported, not the one you train.

    ### Evidence
    `layers` that use running statistics, `mode` asked for.

    ### Known false alarms
    Frozen backbones keep their running statistics on purpose. Dropout that an export left out
    cannot be seen: there is nothing where it was. Normalizations folded into convolutions cannot
    either.

    ### References
    PyTorch: torch.jit.trace (the mode of the traced module is kept), torch.jit.freeze,
    torch.export.
    """

    code = "exported_in_eval_mode"
    title = "Evaluation mode is fixed in the file"

    def read(self, case: Case) -> Reading:
        """Information: it says what the other numbers are of."""
        fixed = [
            x
            for x in case.measured.layers
            if x.batch_normalization is not None and not x.batch_normalization.own_statistics
        ]
        if not fixed or case.plan.mode != "train":
            return QUIET
        return Reading(
            finding(
                self,
                Severity.INFO,
                0.95,
                f"{wording.span(fixed)} normalizes by running statistics although the model is in "
                "training mode. The numbers are those of the model as exported.",
                layers=fixed,
                evidence={"layers": [x.name for x in fixed], "mode": case.plan.mode},
                causes=["The model was exported in evaluation mode, or was frozen."],
            )
        )
