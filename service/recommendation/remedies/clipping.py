"""Bound the gradient's norm, by norms that were measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.domain.recommendations import Recommendation
from service.recommendation.case import Case
from service.recommendation.initialization import significant
from service.recommendation.training_effects import SPIKE, spikes

ENOUGH = 20
"""Norms from which a 90th percentile is more than the largest value."""
STEP = 0.1
"""κ: share of the network's function that a step may change."""
USUAL = 1.0
"""max_norm when nothing finite was measured: the value most published recipes use."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A max_norm and what it rests on."""

    max_norm: float
    low: float | None
    """Lower end of the 95 % interval; None where there is none."""
    high: float | None
    basis: str
    confidence: str
    """high or low."""
    share_clipped: float | None
    """Share of the measured norms above max_norm, 0 … 1."""
    n: int
    """Norms it rests on."""
    needed: bool
    """True when a measured norm exceeds five medians or was not finite."""


class ClipGradients:
    """Scale the gradient down when its norm exceeds what this model usually shows.

    ### What it changes
    One line of the training loop: `clip_grad_norm_` between `backward()` and `step()`.

    ### When it is offered
    Always, for healthy models too: with the measured norms at hand, and saying so when no step
    needs it. It claims to resolve exploding gradients only of recurrent layers.

    ### Why it works
    A rare large gradient moves the weights out of the region where it was measured. The 90th
    percentile of the norms lets nine steps of ten through unchanged and bounds the tenth; under 20
    norms there is no such percentile and five times the median stands in; where gradients explode
    or nothing finite was measured, the usual 1.0. Where the request names SGD and its rate, no step
    should change the function of L layers by more than a tenth: max_norm is at most
    0.1·‖θ‖·(1 - momentum)/(L·lr).

    ### Limits
    It bounds a step and does not repair the ratio between layers: it never cures vanishing
    gradients, nor a stack that explodes by depth. Norms measured on a sick model are those of the
    sick model: measure again after the repair. The interval is that of order statistics, which
    assumes that the norms are alike over time.

    ### References
    * Pascanu et al. 2013, arXiv:1211.5063. Zhang et al. 2020, arXiv:1905.11881.
    * Bernstein et al. 2020, arXiv:2002.03432 (how far weights may move). `docs/cures.md` has how
      often the recommended value is the right one.
    * David & Nagaraja 2003, Order Statistics, §7.1 (the interval).
    """

    kind = "clipping"
    cures: frozenset[str] = frozenset()

    def propose(self, case: Case) -> tuple[Recommendation, ...]:
        threshold = _threshold(case)
        explodes = case.layers_with("exploding_gradient")
        recurrent = {layer.name for layer in case.recurrent()}
        value = threshold.max_norm
        return (
            Recommendation(
                id="",
                kind=self.kind,
                layers=(),
                title=f"Clip gradients at max_norm={value:g}"
                if threshold.needed
                else f"Clipping is not needed; if you clip, max_norm={value:g}",
                why=_why(threshold),
                resolves=("exploding_gradient",) if explodes & recurrent else (),
                change={
                    "max_norm": value,
                    "norm_type": 2.0,
                    "low": threshold.low,
                    "high": threshold.high,
                    "basis": threshold.basis,
                    "confidence": threshold.confidence,
                    "share_clipped": threshold.share_clipped,
                    "n": threshold.n,
                    "needed": threshold.needed,
                },
                code=f"nn.utils.clip_grad_norm_(model.parameters(), max_norm={value!r})"
                "  # after loss.backward(), before optimizer.step()",
            ),
        )


def _threshold(case: Case) -> Threshold:
    usual, bound = _from_norms(case), _of_a_step(case)
    if bound is None or bound >= usual.max_norm or case.optimizer is None:
        return usual
    run = case.trial.runs[0] if case.trial and case.trial.runs else None
    norms = [norm for norm in run.grad_norm if norm is not None] if run else []
    return Threshold(
        max_norm=bound,
        low=None,
        high=None,
        basis=f"what lets a step of SGD at {case.optimizer.lr:g} change the network's function by"
        f" {STEP:.0%} at most",
        confidence="high" if norms else "low",
        share_clipped=sum(norm > bound for norm in norms) / len(norms) if norms else None,
        n=len(norms),
        needed=usual.needed or (run is not None and (not run.learned or spikes(run) > 0)),
    )


def _of_a_step(case: Case) -> float | None:
    """κ·‖θ‖·(1 - μ) / (L·lr): with momentum μ no step is longer than lr·max_norm/(1 - μ), which is
    κ/L of the weights of L layers, so that their product changes by κ (Bernstein et al. 2020).
    None unless the request names SGD."""
    plan, layers = case.optimizer, case.measurements.layers
    if plan is None or plan.name != "sgd" or not layers:
        return None
    squared = sum(
        p.rms**2 * math.prod(p.shape)
        for layer in layers
        if "#" not in layer.name
        for p in layer.parameters
        if p.rms is not None
    )
    bound = STEP * math.sqrt(squared) * (1.0 - plan.momentum) / (len(layers) * plan.lr)
    return significant(bound) if bound > 0 else None


def _from_norms(case: Case) -> Threshold:
    norms = _training_norms(case)
    if len(norms) >= ENOUGH:
        return _from_training(norms)
    if case.codes(frozenset({"exploding_gradient", "nonfinite_values"})):
        basis = "the usual value: norms measured while gradients explode do not outlast the repair"
        return Threshold(USUAL, None, None, basis, "low", None, 0, needed=True)
    return _from_probe(case)


def _training_norms(case: Case) -> list[float]:
    """Finite positive norms of the short trainings that learned, ascending."""
    runs = case.trial.runs if case.trial else ()
    return sorted(
        norm
        for run in runs
        if run.learned
        for norm in run.grad_norm
        if norm is not None and math.isfinite(norm) and norm > 0
    )


def _from_training(norms: list[float]) -> Threshold:
    n = len(norms)
    low, high = _interval(n, 0.9)
    value = significant(norms[math.ceil(0.9 * n) - 1])
    return Threshold(
        max_norm=value,
        low=significant(norms[low]),
        high=significant(norms[high]),
        basis=f"the 90th percentile of {n} gradient norms of the short training",
        confidence="high",
        share_clipped=sum(norm > value for norm in norms) / n,
        n=n,
        needed=norms[-1] > SPIKE * norms[n // 2],
    )


def _from_probe(case: Case) -> Threshold:
    model = case.measurements.model
    median, p90, largest, n = (
        model.grad_norm.p50,
        model.grad_norm.p90,
        model.grad_norm.max,
        model.grad_norm.n,
    )
    overflowed = model.nonfinite_loss_count > 0
    if not median or largest is None:
        basis = "the usual value, for no finite gradient norm was measured"
        return Threshold(USUAL, None, None, basis, "low", None, n, overflowed or median is None)
    needed = overflowed or largest > SPIKE * median
    if n >= ENOUGH and p90:
        basis = f"the 90th percentile of {n} gradient norms at initialization"
        value, low, high = significant(p90), significant(median), significant(largest)
        return Threshold(value, low, high, basis, "high", 0.1, n, needed)
    value = significant(SPIKE * median)
    basis = f"5 × the median of only {n} gradient norms at initialization"
    return Threshold(value, None, None, basis, "low", None if needed else 0.0, n, needed)


def _interval(n: int, share: float) -> tuple[int, int]:
    """Ranks (from 0) of the order statistics that hold a quantile with at least 95 %.

    X₍ᵢ₎ < quantile < X₍ⱼ₎ with probability P(i ≤ Binomial(n, share) < j).
    """
    below = [0.0]
    for k in range(n + 1):
        log_term = (
            math.lgamma(n + 1)
            - math.lgamma(k + 1)
            - math.lgamma(n - k + 1)
            + k * math.log(share)
            + (n - k) * math.log(1 - share)
        )
        below.append(below[-1] + math.exp(log_term))
    low = max(i for i in range(n + 1) if below[i] <= 0.025)
    high = min((j for j in range(n + 1) if below[j] >= 0.975), default=n)
    return max(low - 1, 0), min(max(high - 1, 0), n - 1)


def _why(threshold: Threshold) -> str:
    spread = ""
    if threshold.confidence == "low":
        spread = " That is a guess with low confidence."
    elif threshold.low is not None and threshold.high is not None:
        spread = f" Its interval is {threshold.low:g} … {threshold.high:g}."
    clipped = (
        ""
        if threshold.share_clipped is None
        else f" It would clip {threshold.share_clipped:.0%} of the measured steps."
    )
    return f"max_norm is {threshold.basis}.{spread}{clipped}".replace(
        "the no finite", "chosen as no"
    )
