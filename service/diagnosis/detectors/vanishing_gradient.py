"""The gradient dies on its way to the first layers."""

from __future__ import annotations

from collections.abc import Sequence

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding, grade
from service.diagnosis.profile import Decades, gradient_fall, largest_drop, stacked_fall
from service.domain.measurements import LayerMeasurements


class VanishingGradient:
    """
    ### What it sees
    How many decades the norm of ∂loss/∂(layer output) falls from the best-fed layer to the first
    layers (least depth), median over the initializations. Among several first layers the best-fed
    one counts, so a residual branch scaled down on purpose is no fall while its trunk is fed.
    Within a recurrent layer of several stacked ones the gradients of their biases are followed
    down to the first.

    ### Why it matters
    Layers that receive 1e-6 of the gradient do not move. SGD stops after about three decades;
    Adam, which divides by the gradient's own size, goes on until the gradient reaches its ε.

    ### Evidence
    `decades` (median, low, high over seeds), `share` of the gradient that arrives, `per_layer`
    factor, `stacked_decades` lost within recurrent layers, `trainable_depth` where theory covers
    the stack, `weight_gradient_decades`: in a bias-free ReLU network ⟨W, ∂loss/∂W⟩ is the same for
    every layer, so weight gradients alone can look flat while the signal dies.

    ### Known false alarms
    Zero-initialised last layers, LoRA-B and LayerScale look like this at step 0. When the fall
    stands at one layer or weights are zero, the model is measured again after two optimizer steps
    and judged by that, less the drop at that one layer once it recovers. Gradients that are small
    everywhere are not vanishing.

    ### References
    Hochreiter 1991; Glorot & Bengio 2010; He et al. 2015 (arXiv 1502.01852); Schoenholz et al.
    2017 (arXiv 1611.01232).
    """

    code = "vanishing_gradient"
    title = "Gradients vanish"

    def read(self, case: Case) -> Reading:
        """Judge the fall of the gradient over depth."""
        fall = _judged_fall(case)
        if fall is None or len(case.flow.layers) < 2:
            return QUIET
        limits = thresholds.GRADIENT_FALL
        error, warning = limits.fails(fall.median), limits.at_risk(fall.median)
        severity = grade(error, warning)
        if severity is None:
            return Reading(error=error, warning=warning)
        starved, best = _starved(case.flow.layers)
        inside = max((stacked_fall(layer) for layer in case.flow.layers), default=0.0)
        rate = 10.0 ** (-fall.median / max(best.depth - starved[0].depth, 1))
        found = finding(
            self,
            severity,
            warning,
            f"{_arrival(starved, best, fall.median, rate, inside)} That is "
            f"{fall.median:.1f} decades ({fall.low:.1f} to {fall.high:.1f} over initializations); "
            f"training is at risk from {limits.warning} and fails from about {limits.error}."
            f"{wording.reach(case.measured)}",
            layers=starved,
            evidence={
                "decades": fall.median,
                "decades_low": fall.low,
                "decades_high": fall.high,
                "share": 10.0**-fall.median,
                "per_layer": rate,
                "largest_drop": largest_drop(case.flow),
                "stacked_decades": inside,
                "weight_gradient_decades": _weight_gradient_span(case),
                "threshold": limits.warning,
                "trainable_depth": case.measured.model.trainable_depth,
                "after_steps": case.flow.after_steps,
            },
            causes=[
                *wording.zero_weights(case.measured.layers),
                *wording.gain_causes([x for x in case.flow.layers if _shrinks(x)]),
                *wording.default_initialization(case.measured.layers),
            ],
        )
        return Reading(found, error, warning)


def _judged_fall(case: Case) -> Decades | None:
    """The fall after settling, when there was any. If it has recovered by then but for one layer, a
    head or a branch on its way up from zero, that layer's drop is taken off: it closes by
    itself."""
    fall = gradient_fall(case.flow)
    before = gradient_fall(case.measured)
    if case.settled is None or fall is None or before is None:
        return fall
    drop = largest_drop(case.settled)
    recovered = before.median - fall.median >= thresholds.RECOVERY
    if not recovered or drop < thresholds.CONCENTRATED_DROP * fall.median:
        return fall
    return Decades(fall.median - drop, fall.low - drop, fall.high - drop)


def _starved(
    layers: Sequence[LayerMeasurements],
) -> tuple[list[LayerMeasurements], LayerMeasurements]:
    """The layers under a hundredth of the largest gradient, or the smallest; and the largest.
    A recurrent layer counts as what the first of its stacked layers receives."""
    reached = [layer for layer in layers if layer.gradient.norm is not None]
    best = max(reached, key=lambda layer: layer.gradient.norm or 0.0)
    limit = (best.gradient.norm or 0.0) / 100.0
    starved = [layer for layer in reached if _arriving(layer) <= limit]
    return starved or [min(reached, key=_arriving)], best


def _arriving(layer: LayerMeasurements) -> float:
    return (layer.gradient.norm or 0.0) * float(10.0 ** -stacked_fall(layer))


def _arrival(
    starved: Sequence[LayerMeasurements],
    best: LayerMeasurements,
    fall: float,
    rate: float,
    inside: float,
) -> str:
    if inside > 0.5 * fall:
        return (
            f"{starved[0].name} loses {inside:.1f} decades of it from the last of its stacked "
            f"layers to the first, which receives {wording.power(-fall)} of the gradient at "
            f"{best.name}."
        )
    if not starved[0].gradient.norm:
        return f"{starved[0].name} receives nothing of the gradient at {best.name}."
    return (
        f"{starved[0].name} receives {wording.power(-fall)} of the gradient at {best.name} "
        f"({wording.commonest(starved)}, {wording.times(rate)} per layer)."
    )


def _shrinks(layer: LayerMeasurements) -> bool:
    return layer.gradient.gain is not None and layer.gradient.gain < 1.0


def _weight_gradient_span(case: Case) -> float | None:
    """Decades between the largest and the smallest weight gradient, the trap of bias-free ReLU."""
    seeds = [[norm for norm in seed.weight_gradient_norm if norm] for seed in case.flow.seeds]
    spans = sorted(wording.decades_between(norms) for norms in seeds if norms)
    return spans[len(spans) // 2] if spans else None
