"""What a change of the training did, by short trainings before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from service.domain.half_precision import LARGEST, SMALL_SHARE
from service.domain.measurements import Measurements, Trial, TrialRun
from service.domain.recommendations import Effect

SPIKE = 5.0
"""Times the median: a gradient norm beyond is a spike."""
LAST = 8
"""Steps over which a training's loss is averaged."""
SAME_LOSS = 1.05
"""Times as high a loss is no higher: the mean over eight batches of 64 scatters by so much."""
SMALLER = 0.8
"""Times its size that the largest spike must come down to, where there are as many."""
NOT_TRIED = Effect(None, {}, {}, (), ())
"""Nothing was measured: the short training was off."""


def spikes(run: TrialRun) -> int:
    """Steps of a run whose gradient norm is beyond five times the median, or not finite."""
    middle = _median(run)
    return sum(norm is None or norm > SPIKE * middle for norm in run.grad_norm)


def effect(before: Trial, after: Trial, resolves: Sequence[str]) -> Effect:
    """Verified when more was learned, or as much with fewer or smaller spikes. `resolves`: finding
    codes that are gone where everything was learned."""
    earlier, later = figures(before), figures(after)
    more = later["learned"] > earlier["learned"]
    calmer = later["spikes"] < earlier["spikes"] or (
        later["spikes"] == earlier["spikes"] > 0
        and later["largest_spike"] < SMALLER * earlier["largest_spike"]
    )
    better = more or (later["learned"] == earlier["learned"] and calmer)
    cured = tuple(resolves) if better and later["learned"] == later["optimizers"] else ()
    return Effect(better, earlier, later, cured, ())


def figures(trial: Trial) -> dict[str, Any]:
    """How many optimizers learned at some rate, the best progress, the spikes of all runs."""
    learned = {run.optimizer: False for run in trial.runs}
    learned |= {run.optimizer: True for run in trial.runs if run.learned}
    return {
        "optimizers": len(learned),
        "learned": sum(learned.values()),
        "progress": max((run.progress for run in trial.runs), default=0.0),
        "spikes": sum(map(spikes, trial.runs)),
        "largest_spike": max(map(_largest, trial.runs), default=0.0),
    }


def no_worse(before: Trial, after: Trial) -> bool:
    """Whether each optimizer learns that did, and its loss is as low after as many steps: a run
    ends when it has learned enough, so that its own end says nothing."""
    earlier, later = best_runs(before), best_runs(after)
    return earlier.keys() <= later.keys() and all(
        later[name].learned >= run.learned and _as_low(run, later[name])
        for name, run in earlier.items()
    )


def best_runs(trial: Trial) -> dict[str, TrialRun]:
    """Of each optimizer the run that came farthest."""
    return {run.optimizer: run for run in sorted(trial.runs, key=lambda run: run.progress)}


def _as_low(before: TrialRun, after: TrialRun) -> bool:
    steps = min(len(before.loss), len(after.loss))
    return _loss(after, steps) <= SAME_LOSS * _loss(before, steps)


def _loss(run: TrialRun, steps: int) -> float:
    """Mean over the last of so many steps; infinite where one was not finite."""
    last = run.loss[max(steps - LAST, 0) : steps]
    if not last or None in last:
        return math.inf
    return math.fsum(loss for loss in last if loss is not None) / len(last)


def half_precision(measured: Measurements) -> dict[str, Any]:
    """What float16 would make of the gradients: the largest share rounded to zero at a layer, and
    whether the largest would overflow."""
    shares = [layer.gradient.underflow_fraction_fp16 or 0.0 for layer in measured.layers]
    largest = max((layer.gradient.abs_max or 0.0 for layer in measured.layers), default=0.0)
    lost = [layer.precision for layer in measured.layers if layer.precision is not None]
    return {
        "underflow_fraction": max(shares, default=0.0),
        "largest_gradient": largest,
        "overflows": largest > LARGEST or any(loss.gradient_overflow for loss in lost),
    }


def scaled(before: Measurements, after: Measurements, resolves: Sequence[str]) -> Effect:
    """What a loss scale did: verified where nothing overflows that did, or less is rounded to zero
    and nothing overflows. `resolves`: finding codes that are gone where hardly anything is lost."""
    earlier, later = half_precision(before), half_precision(after)
    less = later["underflow_fraction"] < earlier["underflow_fraction"]
    better = (less or earlier["overflows"]) and not later["overflows"]
    gone = later["underflow_fraction"] < SMALL_SHARE
    return Effect(better, earlier, later, tuple(resolves) if better and gone else (), ())


def _largest(run: TrialRun) -> float:
    """The largest norm, in medians."""
    middle = _median(run)
    return max((n for n in run.grad_norm if n is not None), default=0.0) / middle if middle else 0.0


def _median(run: TrialRun) -> float:
    norms = [norm for norm in run.grad_norm if norm is not None]
    return median(norms) if norms else 0.0
