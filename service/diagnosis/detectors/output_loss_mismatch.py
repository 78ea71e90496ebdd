"""The last operation and the loss do not fit together."""

from __future__ import annotations

from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity

SQUASHED = ("softmax", "sigmoid", "tanh")
MISFITS: dict[tuple[str, str], str] = {
    **{
        (op, "cross_entropy"): "cross_entropy takes logits and applies log-softmax itself"
        for op in (*SQUASHED, "relu")
    },
    **{
        (op, "bce_with_logits"): "bce_with_logits takes logits and applies the sigmoid itself"
        for op in (*SQUASHED, "log_softmax", "relu")
    },
    **{
        ("relu", loss): "targets below zero are out of reach, and where the output is 0 so is the "
        "gradient"
        for loss in ("mse", "l1", "smooth_l1")
    },
    **{
        (op, "nll"): "nll takes log-probabilities: log_softmax belongs before it"
        for op in (*SQUASHED, "relu")
    },
}
"""What torch.nn's documentation of each loss asks of its input, and what (last operation, loss)
breaks it."""
NO_SQUASHING = "bce takes probabilities: a sigmoid belongs before it"


class OutputLossMismatch:
    """
    ### What it sees
    The last operation and the loss: softmax, sigmoid, tanh or ReLU before cross_entropy or
    bce_with_logits, ReLU before a regression loss, something else than log_softmax before nll, no
    sigmoid before bce.

    ### Why it matters
    Two squashings multiply their small derivatives and put a floor under the loss (softmax before
    cross_entropy cannot go under log(1 + (C-1)/e) for C classes); a ReLU output that is zero
    learns nothing.

    ### Evidence
    `output_op`, `loss`.

    ### Known false alarms
    A loss guessed by the probe fits the output by construction, so only a named loss is judged.
    Such models often still train, slowly: this never says that training fails.

    ### References
    PyTorch: CrossEntropyLoss, NLLLoss, BCELoss, BCEWithLogitsLoss.
    """

    code = "output_loss_mismatch"
    title = "The output does not fit the loss"

    def read(self, case: Case) -> Reading:
        """Look the pair up."""
        model = case.measured.model
        why = MISFITS.get((model.output_op or "", model.loss))
        if model.loss == "bce" and model.output_op != "sigmoid":
            why = NO_SQUASHING
        if why is None or model.loss_guessed:
            return QUIET
        return Reading(
            finding(
                self,
                Severity.WARNING,
                0.95,
                f"the model ends in {model.output_op or 'plain logits'} and the loss is "
                f"{model.loss}. {why[0].upper()}{why[1:]}.",
                layers=case.measured.layers[-1:],
                evidence={"output_op": model.output_op, "loss": model.loss},
                causes=[f"{why[0].upper()}{why[1:]}."],
            )
        )
