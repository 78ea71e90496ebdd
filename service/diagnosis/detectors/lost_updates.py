"""Steps of the optimizer are too small to change parameters of 16 bits."""

from __future__ import annotations

from statistics import median

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity

ROUNDS = "Changes are smaller than half the distance to the next number."
DIVIDES = (
    "Adam's eps of 1e-8 is 0 in float16, and so is the mean of squares that it divides by the root "
    "of."
)


class LostUpdates:
    """
    ### What it sees
    In a probe of pure_bfloat16 or pure_float16: the share of each layer's weights that receive a
    gradient and that the first step of the optimizer (the named one; Adam at 1e-3 without one)
    leaves as they were, or makes infinite or NaN. The median over the layers is judged.

    ### Why it matters
    A change smaller than half the distance to the next number rounds away: 2⁻⁹ to 2⁻⁸ of a weight
    in bfloat16, 2⁻¹² to 2⁻¹¹ in float16. Healthy steps are about a thousandth of the weights, so
    in bfloat16 the larger weights stand still, and the more of them the lower the rate. Parameters
    in float32 (torch.autocast) keep every step. In float16 Adam's eps of 1e-8 is 0, and so are
    squares of gradients below 0.005 times 1 - β₂: it divides by 0.

    ### Evidence
    `median`, `layers` with their shares, `optimizer` and `lr`.

    ### Known false alarms
    Weights that start large by design need not move. Optimizers that round at random or carry the
    rest along (Kahan summation) lose nothing, and are not what is measured. In bfloat16 never a
    verdict of its own: the short training runs in the same precision.

    ### References
    Zamirai et al. 2020, Revisiting BFloat16 Training (arXiv 2010.06192); Micikevicius et al. 2018
    (arXiv 1710.03740), section 3.1: 5 % of updates were lost in float16.
    """

    code = "lost_updates"
    title = "Updates are too small for 16 bits"

    def read(self, case: Case) -> Reading:
        """Judge the median."""
        weights = [(layer, wording.main_weight(layer)) for layer in case.measured.layers]
        shares = [
            (x, w.lost_update_fraction)
            for x, w in weights
            if w is not None and w.lost_update_fraction is not None
        ]
        middle = median(share for _, share in shares) if shares else 0.0
        if middle < thresholds.UPDATES_LOST_WORTH_TELLING:
            return QUIET
        layers = [x for x, share in shares if share >= thresholds.UPDATES_LOST_WORTH_TELLING]
        named = case.plan.optimizer
        name, lr = (named.name, named.lr) if named else ("adam", 1e-3)
        divides = case.plan.precision == "pure_float16" and name != "sgd"
        many = divides or middle >= thresholds.UPDATES_LOST_WARNING
        happens = "spoils or leaves as they were" if divides else "leaves as they were"
        found = finding(
            self,
            Severity.WARNING if many else Severity.INFO,
            0.9,
            f"the first step of {name} at {lr:g} {happens} {middle:.0%} of the weights, median "
            f"over the layers. Parameters in float32 (precision "
            f"{case.plan.precision.removeprefix('pure_')}) keep every step.",
            layers=layers,
            evidence={
                "median": middle,
                "layers": {x.name: share for x, share in shares},
                "optimizer": name,
                "lr": lr,
                "precision": case.plan.precision,
                "threshold": thresholds.UPDATES_LOST_WORTH_TELLING,
            },
            causes=[DIVIDES if divides else ROUNDS],
        )
        if not divides:
            return Reading(found)
        # No network was labelled in float16, so what trainings weigh is not about a division by 0.
        return Reading(found, 0.9 if named else 0.0, 0.95, unseen=True)
