"""Try the model out on a few samples before deciding how much of it can be afforded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.domain.errors import ModelRaised
from service.domain.memory import AUTO_BATCH
from service.domain.probe_plan import ProbePlan
from service.probing.budget import (
    COLD,
    PILOT_SHARE,
    RUNS,
    SIZES,
    MicroBatch,
    affords,
    fitting,
)
from service.probing.devices import finished
from service.probing.feed import PILOT, Feed
from service.probing.gradients import gradients_of
from service.probing.loaders.loaded import LoadedModel
from service.probing.trace import Recording, preserved


@dataclass(frozen=True, slots=True)
class Tried:
    """What trying a model out has shown."""

    plan: ProbePlan
    """Its batch size fixed where the model works with one only."""
    cost: MicroBatch
    samples: int
    """Of the last recording."""
    recording: Recording


def micro_batch(
    model: LoadedModel,
    feed: Feed,
    memory_mb: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    *,
    samples: int = SIZES[0],
) -> Tried:
    """What passes of `samples` cost, and of a few more where that is not enough to tell; none are
    tried that would not fit the memory (MiB; None: no bound). Raises ModelRaised when the model
    takes none of the batch sizes tried."""
    plan, small, recording = _smallest(model, feed, samples)
    recordings = {small: recording}

    def run(samples: int) -> None:
        if samples not in recordings:
            recordings.clear()
            recordings[samples] = model.record(feed.inputs(samples, *PILOT))
        _pass(model, feed, recordings[samples], samples)

    outputs = sum(node.meta.get("bytes", 0) for node in recording.module.graph.nodes)
    parameters = sum(value.numel() * value.element_size() for value in model.parameters.values())
    held = MicroBatch(0.0, 0.0, outputs / small, parameters)
    most = plan.batch_size or AUTO_BATCH
    if memory_mb is not None:
        most = min(most, fitting(held, memory_mb))
    larger = [size for size in SIZES[1:] if small == SIZES[0] and size <= most]
    fixed, slope = timed(plan, run, (small, *larger), clock)
    ((last, recording),) = recordings.items()
    cost = replace(held, fixed_seconds=fixed, sample_seconds=slope)
    return Tried(plan, cost, last, recording)


def timed(
    plan: ProbePlan, run: Callable[[int], None], sizes: Sequence[int], clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds of a pass whatever its size, and per sample, on what the machine gives now: the
    budget is wall time, so a pass that waits for the processor takes as long as it waits.

    The first pass is cold, and any may be held up by others, so the fastest of a few counts. What
    one size tells is the most that a pass can take, a time that is proportional: before that cuts
    anything a larger size is tried. It ends early when nothing would be cut by what is known, or
    the pilot's own share of the budget, which begins after the cold pass, does not cover more.
    `run`: a forward and backward pass of so many samples; `sizes`: growing."""
    ends = math.inf
    first: tuple[int, float] | None = None
    fixed, slope, most = 0.0, 0.0, math.inf
    for samples in sizes:
        if first is not None and clock() + (fixed + slope * samples) > ends:
            break
        shortest = math.inf
        for _ in range(RUNS):
            began = clock()
            run(samples)
            shortest = min(shortest, clock() - began, most * samples)
            fixed, slope = _line(first, samples, shortest)
            if affords(plan, fixed, slope):
                return fixed, slope
            if ends == math.inf:
                ends = clock() + plan.budget_seconds * PILOT_SHARE
            if clock() + shortest * (COLD if first is None else 1.0) > ends:
                break
        first, most = first or (samples, shortest), shortest / samples
    return fixed, slope


def _line(first: tuple[int, float] | None, samples: int, seconds: float) -> tuple[float, float]:
    """Through what the first size took and this; proportional at most, the same for all sizes at
    least."""
    slope = seconds / samples
    if first is not None:
        slope = min(slope, max(seconds - first[1], 0.0) / (samples - first[0]))
    return seconds - slope * samples, slope


def _smallest(model: LoadedModel, feed: Feed, samples: int) -> tuple[ProbePlan, int, Recording]:
    """A recording of a few samples, or of the one batch size a traced model may have baked in:
    then that size is the plan's."""
    plan = feed.plan
    try:
        return plan, samples, model.record(feed.inputs(samples, *PILOT))
    except ModelRaised as refused:
        for fixed in (plan.batch_size or AUTO_BATCH, 1):
            try:
                recording = model.record(feed.inputs(fixed, *PILOT))
            except ModelRaised:
                continue
            return replace(plan, batch_size=fixed), fixed, recording
        raise refused


def _pass(model: LoadedModel, feed: Feed, recording: Recording, samples: int) -> None:
    """Forward and backward, and over when this returns."""
    with preserved(model.buffers):
        output = recording.module(*feed.inputs(samples, *PILOT))
        gradients_of(output.square().mean(), list(model.parameters.values()))
    finished(feed.device)
