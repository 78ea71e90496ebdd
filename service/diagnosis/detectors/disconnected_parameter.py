"""Parameters that the loss does not depend on."""

from __future__ import annotations

import math

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import ParameterStatistics


class DisconnectedParameter:
    """
    ### What it sees
    Parameters that receive no gradient at all, not even zero: the autograd graph does not lead to
    them.

    ### Why it matters
    They never train. A `detach()`, `.data`, `torch.no_grad` or an `argmax` on the way cuts
    everything before it; DistributedDataParallel raises on them.

    ### Evidence
    `parameters` by name, `share` of all parameter elements.

    ### Known false alarms
    Unused heads and poolers are cut off on purpose; they are told as information unless they hold
    a quarter of the model.

    ### References
    PyTorch: torch.autograd.grad (allow_unused), DistributedDataParallel (find_unused_parameters).
    """

    code = "disconnected_parameter"
    title = "Parameters are cut off from the loss"

    def read(self, case: Case) -> Reading:
        """Count what the gradient cannot reach."""
        layers = case.measured.layers
        cut = [(x, p) for x in layers for p in x.parameters if not p.connected]
        if not cut:
            return QUIET
        total = sum(_size(p) for x in layers for p in x.parameters)
        share = sum(_size(p) for _, p in cut) / total
        owners = list({x.index: x for x, _ in cut}.values())
        nothing = len(cut) == sum(len(x.parameters) for x in layers)
        severity = (
            Severity.ERROR
            if nothing
            else Severity.WARNING
            if share >= thresholds.DISCONNECTED_WARNING
            else Severity.INFO
        )
        risk = 0.99 if nothing else 0.0
        found = finding(
            self,
            severity,
            0.99,
            f"{len(cut)} parameters of {wording.span(owners)} receive no gradient. "
            f"They hold {share:.1%} of all parameter elements.",
            layers=owners,
            evidence={"parameters": [p.name for _, p in cut], "share": share},
            causes=["The loss does not depend on them: they are unused, or cut off by a detach()."],
        )
        return Reading(found, risk, risk)


def _size(parameter: ParameterStatistics) -> int:
    return math.prod(parameter.shape)
