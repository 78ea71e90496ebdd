"""The named optimizer's first step is far too large or far too small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements


class ExtremeUpdateRatio:
    """
    ### What it sees
    By how much the first step of the optimizer named in the request changes each layer's weight,
    relative to the weight: ‖change‖ / ‖weight‖. The median over the layers is judged. Without an
    optimizer named there is nothing to see.

    ### Why it matters
    A step as large as the weights throws the initialization away; one of a millionth needs as many
    steps to change anything. Where the first layers move far faster than the last, or far slower,
    no one learning rate suits both.

    ### Evidence
    `median`, `layers` with their ratios, `first_to_last`, `optimizer` and `lr`.

    ### Known false alarms
    A warm-up makes the real first steps smaller. Adam's first step is the rate for every element
    whatever the gradient; later ones are smaller. Weights that start near zero on purpose move fast
    relative to themselves: one such layer does not move the median. So this never says that
    training fails.

    ### References
    Karpathy 2015, Convolutional Neural Networks for Visual Recognition (about 1e-3); You et al.
    2017 (arXiv 1708.03888); Bottou, Curtis & Nocedal 2018 (arXiv 1606.04838).
    """

    code = "extreme_update_ratio"
    title = "The first update is out of proportion"

    def read(self, case: Case) -> Reading:
        """Judge the median; never a risk of its own, since the short training uses this rate."""
        ratios = weight_ratios(case.measured.layers)
        optimizer = case.plan.optimizer
        if optimizer is None or not ratios:
            return QUIET
        middle = median(ratio for _, ratio in ratios)
        low, high = thresholds.UPDATE_RATIO_WORTH_TELLING
        if low <= middle <= high:
            return QUIET
        least, most = thresholds.UPDATE_RATIO_WARNING
        extreme = not least <= middle <= most
        large = middle > high
        layers = [layer for layer, ratio in ratios if (ratio > high if large else ratio < low)]
        first, last = ratios[0][1], ratios[-1][1]
        return Reading(
            finding(
                self,
                Severity.WARNING if extreme else Severity.INFO,
                0.9,
                f"the first step of {optimizer.name} at {optimizer.lr:g} changes the weights by "
                f"{middle:.2g} of their size, median over the layers. Healthy training starts at "
                f"{low:g} to {high:g}.",
                layers=layers,
                evidence={
                    "median": middle,
                    "layers": {layer.name: ratio for layer, ratio in ratios},
                    "first_to_last": first / last if last else None,
                    "optimizer": optimizer.name,
                    "lr": optimizer.lr,
                    "threshold": high if large else low,
                },
                causes=_causes(optimizer.lr, middle, layers, large=large),
            )
        )


def weight_ratios(
    layers: Sequence[LayerMeasurements],
) -> list[tuple[LayerMeasurements, float]]:
    """The update ratio of each layer's main weight, where it has one."""
    weights = [(layer, wording.main_weight(layer)) for layer in layers]
    return [(x, w.update_ratio) for x, w in weights if w is not None and w.update_ratio is not None]


def _causes(
    lr: float, middle: float, layers: Sequence[LayerMeasurements], *, large: bool
) -> list[str]:
    usual = math.sqrt(math.prod(thresholds.UPDATE_RATIO_WORTH_TELLING))
    if not middle:
        return [f"No gradient reaches the weights of {wording.span(layers)}."]
    what = "large" if large else "small"
    return [
        f"The learning rate is too {what} for weights and gradients of this size: {usual:.0e} of "
        f"the weights would be a rate of {lr * usual / middle:.1g}."
    ]
