"""Autograd's gradient is not that of the loss."""

from __future__ import annotations

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity


class GradientCheckFailed:
    """
    ### What it sees
    The slope of the loss along one direction, by autograd and by the two-sided difference
    (f(θ + εd) - f(θ - εd)) / 2ε. Where they part in float32 they are compared again in float64, at
    two steps; a difference that still moves with the step says nothing and is not reported. Models
    of more than a million parameters are not checked.

    ### Why it matters
    The optimizer follows the gradient it is given. When that is not the loss's own, the loss need
    not go down: a `detach()`, a `torch.no_grad` or a rounding on the way changed it.

    ### Evidence
    `autograd` and `difference` slopes, `relative_error`, `blocked`: the model itself stops
    gradients.

    ### Known false alarms
    Straight-through estimators, stop-gradients and noise that is not to be learned do so on
    purpose: where the model itself stops gradients it is told as information.

    ### References
    Griewank & Walther 2008, Evaluating Derivatives; PyTorch: torch.autograd.gradcheck; Bengio,
    Léonard & Courville 2013 on straight-through estimators (arXiv 1308.3432).
    """

    code = "gradient_check_failed"
    title = "The gradient is not that of the loss"

    def read(self, case: Case) -> Reading:
        """Tell a difference beyond rounding and curvature."""
        checked = case.measured.model.gradient_check
        if checked is None or checked.relative_error < thresholds.CHECK_FAILED:
            return QUIET
        return Reading(
            finding(
                self,
                Severity.INFO if checked.blocked else Severity.WARNING,
                0.95,
                f"autograd says that the loss changes by {checked.autograd:.4g} per unit step, a "
                f"two-sided difference says {checked.difference:.4g}. Rounding and curvature "
                f"explain less than {thresholds.CHECK_FAILED:.0%}.",
                evidence={
                    "autograd": checked.autograd,
                    "difference": checked.difference,
                    "relative_error": checked.relative_error,
                    "blocked": checked.blocked,
                    "threshold": thresholds.CHECK_FAILED,
                },
                causes=[
                    "The model stops gradients itself, by detach() or torch.no_grad."
                    if checked.blocked
                    else "An operation on the way has a derivative that is not its own, or steps."
                ],
            )
        )
