"""The loss starts far above what knowing nothing costs."""

from __future__ import annotations

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity


class InitialLossOff:
    """
    ### What it sees
    The loss at step 0 against that of an answer that knows nothing (log C for C classes).

    ### Why it matters
    A model that starts ten times above chance is confident and wrong: the first steps only undo
    the initialization of the last layer, often with the largest gradients of the whole training.

    ### Evidence
    `loss_at_start`, `chance_loss`, `ratio`.

    ### Known false alarms
    A loss guessed by the probe may not be the one you train with; a pretrained model is off on
    random labels because it is confident. So this never says that training fails.

    ### References
    Karpathy 2019, A Recipe for Training Neural Networks ("verify loss @ init").
    """

    code = "initial_loss_off"
    title = "The loss starts far from chance"

    def read(self, case: Case) -> Reading:
        """Tell when the loss at start is twice chance or more."""
        model = case.measured.model
        if not model.chance_loss or model.loss_at_start is None:
            return QUIET
        ratio = model.loss_at_start / model.chance_loss
        if ratio < thresholds.LOSS_OFF_WORTH_TELLING:
            return QUIET
        much = ratio >= thresholds.LOSS_OFF_WARNING
        last = case.measured.layers[-1:]
        return Reading(
            finding(
                self,
                Severity.WARNING if much else Severity.INFO,
                0.9,
                f"the {model.loss} loss starts at {model.loss_at_start:.3g} where chance is "
                f"{model.chance_loss:.3g}. From {thresholds.LOSS_OFF_WORTH_TELLING:g} times "
                "chance on, the first steps go into undoing the initialization.",
                layers=last,
                evidence={
                    "loss_at_start": model.loss_at_start,
                    "chance_loss": model.chance_loss,
                    "ratio": ratio,
                    "threshold": thresholds.LOSS_OFF_WORTH_TELLING,
                    "loss_guessed": model.loss_guessed,
                },
                causes=["The last layer's outputs are too large at initialization."],
            )
        )
