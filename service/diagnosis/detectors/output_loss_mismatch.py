"""The last operation and the loss do not fit together."""

from __future__ import annotations

import math

from service.diagnosis import thresholds
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements, ModelMeasurements

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
    sigmoid before bce. And how it stands with the scores: the variance of squashed ones against the
    most they can have, all of them at the ends (1/4 for a sigmoid, 1 for tanh, (C - 1)/C² for a
    softmax over C classes); behind a ReLU, the loss at start against chance.

    ### Why it matters
    Two squashings multiply their small derivatives and put a floor under the loss (softmax before
    cross_entropy cannot go under log(1 + (C-1)/e) for C classes); a ReLU output that is zero
    learns nothing. A misfit alone lets a model learn, slowly. Where the scores lie at the ends
    already the derivative is zero for every sample, and the loss has no logarithm that would undo
    it: nothing is learned at any rate.

    ### Evidence
    `output_op`, `loss`, `concentration` of squashed scores, `loss_ratio` behind a ReLU.

    ### Known false alarms
    A loss guessed by the probe fits the output by construction, so only a named loss is judged.

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
        last = case.measured.layers[-1:]
        error, warning, worse, numbers = _scores(model, last[0]) if last else STILL_LEARNING
        return Reading(
            finding(
                self,
                grade(error, warning) or Severity.WARNING,
                max(warning, 0.95),
                f"the model ends in {model.output_op or 'plain logits'} and the loss is "
                f"{model.loss}. {why[0].upper()}{why[1:]}.{worse}",
                layers=last,
                evidence={"output_op": model.output_op, "loss": model.loss, **numbers},
                causes=[f"{why[0].upper()}{why[1:]}."],
            ),
            error,
            warning,
        )


Judged = tuple[float, float, str, dict[str, float]]
"""Probability that training fails, that it is at risk, what to add, evidence."""
STILL_LEARNING: Judged = (0.0, 0.0, "", {})


def _scores(model: ModelMeasurements, last: LayerMeasurements) -> Judged:
    """What the scores themselves say of a misfit."""
    if model.output_op == "relu":
        return _rectified(model)
    std, most = last.activation.std, _largest_variance(model.output_op, last.output_shape)
    if std is None or most is None:
        return STILL_LEARNING
    share, limits = std**2 / most, thresholds.SCORE_CONCENTRATION
    error, warning = limits.fails(share), limits.at_risk(share)
    worse = (
        f" The scores have {share:.1%} of the variance they would have if all of them lay at the "
        f"ends, where the derivative is 0; training is at risk from {limits.warning:.0%} and fails "
        f"from {limits.error:.1%}."
        if warning >= 0.5
        else ""
    )
    return error, warning, worse, {"concentration": share}


def _largest_variance(output_op: str | None, shape: tuple[int, ...]) -> float | None:
    """Of scores that all lie at the ends; a softmax gives 1 to one of its classes."""
    if output_op == "softmax":
        classes = shape[1] if len(shape) in (2, 4, 5) else shape[-1]
        return (classes - 1) / classes**2 if classes > 1 else None
    return {"sigmoid": 0.25, "tanh": 1.0}.get(output_op or "")


def _rectified(model: ModelMeasurements) -> Judged:
    """Large scores behind a ReLU: the first steps push whole classes under 0, where they stay."""
    if not model.chance_loss or not model.loss_at_start or model.loss != "cross_entropy":
        return STILL_LEARNING
    ratio = model.loss_at_start / model.chance_loss
    limits, decades = thresholds.RECTIFIED_LOSS, math.log10(ratio)
    error, warning = limits.fails(decades), limits.at_risk(decades)
    worse = (
        f" The loss starts at {ratio:.2g} times chance: the first steps push whole classes under 0."
        if warning >= 0.5
        else ""
    )
    return error, warning, worse, {"loss_ratio": ratio}
