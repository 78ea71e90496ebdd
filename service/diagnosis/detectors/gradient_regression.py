"""Less gradient comes through a layer than in the baseline, by more than chance makes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from service.diagnosis import thresholds, wording
from service.diagnosis.detector import QUIET, Case, Reading, finding
from service.domain.baseline import Baseline
from service.domain.findings import Severity
from service.domain.measurements import LayerMeasurements

GAIN, NORM = "gradient.gain", "gradient.norm"
NOTHING = 1e-300
"""Stands for a gradient of exactly zero, whose logarithm there is none."""


@dataclass(frozen=True, slots=True)
class _Drop:
    """One statistic of one layer that fell."""

    layer: LayerMeasurements
    was: LayerMeasurements
    statistic: str
    before: float
    after: float
    fell: float
    """Natural logarithm of before / after, against what did not fall."""
    scatter: float
    """Standard deviation of that between two runs of the same model, > 0."""


class GradientRegression:
    """
    ### What it sees
    With `baseline` in the request: layers, matched by name, whose gain, or whose gradient, is at
    least half a decade (3.2x) smaller than in the baseline and smaller than chance explains. A gain
    is scale-free; gradients are compared as they are where loss and batch size are the same, else
    relative to the last layer both have.

    ### Why it matters
    A change that costs one layer nine tenths of its gradient may still train and pass every
    absolute limit. Ten such changes do not, and the first of them is the cheapest to undo.

    ### Evidence
    `baseline`, its id; `chance`, what the scatter explains, and `drops`: per layer and statistic
    `before`, `after` and `decades`. The scatter of a mean over S initializations is σ/√S; σ is the
    larger of two estimates, the range over seeds and batches in either run divided by the expected
    range of S normal numbers (Tippett 1925), and theory's for random weights of this width,
    Var ln‖g‖ = Σ (2/n_in + 3/n_out)/4 for ReLU, which scatters most of the usual activations,
    summed from the layer to the output for a gradient, of the layer alone for a gain. The bound is
    the quantile of the normal distribution that an unchanged model exceeds once in ten thousand
    analyses, all its layers together (Bonferroni).

    ### Known false alarms
    A deliberate change, a smaller gain chosen on purpose. What comes down from an explosion is no
    regression: where the baseline had `exploding_gradient`, only gains that end below 1/3.2 are
    told. Layers of one to three units scatter so much that a tenfold drop may be chance and is not
    told. A warning at most: whether the model trains is for the other detectors to say.

    ### References
    Hanin & Nica 2020 (arXiv 1812.05994), theorem 1; Tippett 1925 (Biometrika 17, 364-387).
    """

    code = "gradient_regression"
    title = "Less gradient than in the baseline"

    def read(self, case: Case) -> Reading:
        """Compare with the baseline, when there is one."""
        if case.baseline is None:
            return QUIET
        compared = list(_compared(case, case.baseline))
        drops = [one for one in compared if one.fell >= _bound(one, len(compared))]
        if not drops:
            return QUIET
        # The layer where it is lost, not those behind it, which get less because of it.
        lost = [one for one in drops if one.statistic == GAIN] or drops
        worst = max(lost, key=lambda one: one.fell)
        chance = _decades(_bound(worst, len(compared)))
        names = dict.fromkeys(one.layer.name for one in drops)
        found = finding(
            self,
            Severity.WARNING,
            0.99,
            f"{worst.layer.name} {_told(worst)}: {_decades(worst.fell):.2g} decades less. Between "
            f"two runs of the same model chance makes {chance:.2g} at most; half a decade is worth "
            "telling.",
            layers=[one for one in case.measured.layers if one.name in names],
            evidence={
                "baseline": case.baseline.id,
                "chance": round(chance, 4),
                "drops": [_evidence(one) for one in drops],
            },
            causes=list(_causes(lost)),
        )
        return Reading(found)


def _compared(case: Case, baseline: Baseline) -> Iterator[_Drop]:
    before = {layer.name: layer for layer in baseline.layers}
    pairs = [(before[one.name], one) for one in case.measured.layers if one.name in before]
    seeds = baseline.seeds, max(len(case.measured.seeds), 1)
    cured = "exploding_gradient" in baseline.findings
    for was, now in pairs:
        gains = _positive(was.gradient.gain), _positive(now.gradient.gain)
        if gains[0] and gains[1] and not (cured and gains[1] > 1.0 / _worth_telling()):
            sigma = _sigma(was, GAIN, seeds[0], [now]), _sigma(now, GAIN, seeds[1], [now])
            yield _drop(was, now, GAIN, (gains[0], gains[1]), 0.0, _scatter(sigma, seeds))
    if cured:
        return
    shift = 0.0 if _alike(case, baseline) else _fell(*pairs[-1]) if pairs else 0.0
    for index, (was, now) in enumerate(pairs):
        norms = _positive(was.gradient.norm), _positive(now.gradient.norm)
        if norms[0] and norms[1]:
            behind = [one for _, one in pairs[index:]]
            sigma = _sigma(was, NORM, seeds[0], behind), _sigma(now, NORM, seeds[1], behind)
            yield _drop(was, now, NORM, (norms[0], norms[1]), shift, _scatter(sigma, seeds))


def _drop(
    was: LayerMeasurements,
    now: LayerMeasurements,
    statistic: str,
    values: tuple[float, float],
    shift: float,
    scatter: float,
) -> _Drop:
    fell = math.log(values[0] / values[1]) - shift
    return _Drop(now, was, statistic, *values, fell, scatter)


def _alike(case: Case, baseline: Baseline) -> bool:
    """Whether sizes of gradients mean the same in both."""
    shapes = [one.layers[-1].output_shape[:1] for one in (baseline, case.measured) if one.layers]
    return case.measured.model.loss == baseline.loss and len(set(shapes)) == 1


def _fell(was: LayerMeasurements, now: LayerMeasurements) -> float:
    before, after = _positive(was.gradient.norm), _positive(now.gradient.norm)
    return math.log(before / after) if before and after else 0.0


def _positive(value: float | None) -> float | None:
    """A gradient that was measured; None where none was, or it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return max(value, NOTHING)


def _sigma(
    layer: LayerMeasurements, statistic: str, seeds: int, behind: Sequence[LayerMeasurements]
) -> float:
    """Standard deviation of the logarithm over initializations, > 0."""
    low, high = layer.spread.get(statistic, (1.0, 1.0))
    width = math.log(high / low) if low > 0.0 and math.isfinite(high) else 0.0
    theory = math.sqrt(sum(map(_variance, behind)))
    return max(width / thresholds.expected_range(seeds), theory, thresholds.LEAST_SCATTER)


def _variance(layer: LayerMeasurements) -> float:
    """Of ln(gain) of one layer of random weights (docstring above)."""
    inputs = layer.fan_in or (layer.output_shape[1] if len(layer.output_shape) > 1 else 1)
    outputs = layer.output_shape[1] if len(layer.output_shape) > 1 else 1
    of_activation = 0.0 if layer.nonlinearity is None else 3.0 / max(outputs, 1)
    return (2.0 / max(inputs, 1) + of_activation) / 4.0


def _scatter(sigmas: tuple[float, float], seeds: tuple[int, int]) -> float:
    return math.sqrt(sum(sigma**2 / count for sigma, count in zip(sigmas, seeds, strict=True)))


def _bound(drop: _Drop, comparisons: int) -> float:
    """How far it may fall, natural logarithm."""
    quantile = NormalDist().inv_cdf(1.0 - thresholds.REGRESSION_FALSE_ALARM / comparisons)
    return max(math.log(_worth_telling()), quantile * drop.scatter)


def _worth_telling() -> float:
    return float(10.0**thresholds.REGRESSION_WORTH_TELLING)


def _decades(natural: float) -> float:
    return natural / math.log(10.0)


def _told(drop: _Drop) -> str:
    if drop.statistic == GAIN:
        now, before = wording.times(drop.after), wording.times(drop.before)
        return f"passes {now} of the gradient, {before} in the baseline"
    return f"receives a gradient of {drop.after:.2g}, {drop.before:.2g} in the baseline"


def _evidence(drop: _Drop) -> dict[str, str | float]:
    return {
        "layer": drop.layer.name,
        "statistic": drop.statistic,
        "before": drop.before,
        "after": drop.after,
        "decades": round(_decades(drop.fell), 4),
    }


def _causes(lost: Sequence[_Drop]) -> Iterator[str]:
    for one in lost:
        name, was, now = one.layer.name, one.was, one.layer
        if was.nonlinearity != now.nonlinearity:
            yield f"{name} has {wording.nonlinearity(now)}, not {wording.nonlinearity(was)}."
        if was.normalization != now.normalization:
            yield f"{name} is normalized by {now.normalization or 'nothing'}, not by " + (
                f"{was.normalization or 'nothing'}."
            )
        weights = wording.main_weight(was), wording.main_weight(now)
        sizes = [weight.rms for weight in weights if weight is not None and weight.rms]
        if len(sizes) == 2 and abs(math.log(sizes[1] / sizes[0])) > math.log(1.5):
            yield f"The weights of {name} are {sizes[1] / sizes[0]:.2g}x as large as they were."
