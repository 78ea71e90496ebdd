"""Try the model out on a few samples before deciding how much of it can be afforded."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from service.domain.errors import ModelRaised
from service.domain.probe_plan import ProbePlan
from service.probing.budget import (
    ARITHMETIC_SECONDS,
    AUTO_BATCH,
    MICRO_BATCHES,
    MicroBatch,
    may_mislead,
)
from service.probing.devices import finished
from service.probing.feed import PILOT, Feed
from service.probing.loaders.loaded import LoadedModel
from service.probing.probe import gradients_of
from service.probing.trace import Recording, preserved


def micro_batch(model: LoadedModel, feed: Feed) -> tuple[ProbePlan, MicroBatch]:
    """The plan, its batch size fixed where the model works with one only, and what a few samples
    cost. Raises ModelRaised when the model takes none of the batch sizes tried."""
    small, larger = MICRO_BATCHES
    plan, small, recording = _smallest(model, feed, small)
    seconds = _time_pass(model, feed, recording, small)
    outputs = sum(node.meta.get("bytes", 0) for node in recording.module.graph.nodes)
    parameters = sum(value.numel() * value.element_size() for value in model.parameters.values())
    fixed, slope = 0.0, seconds / small
    if small < larger and may_mislead(plan, small, seconds):
        again = _time_pass(model, feed, model.record(feed.inputs(larger, *PILOT)), larger)
        slope = min(slope, max(again - seconds, 0.0) / (larger - small))
        fixed = max(again - slope * larger, 0.0)
    return plan, MicroBatch(fixed, slope, outputs / small, parameters)


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


def _time_pass(model: LoadedModel, feed: Feed, recording: Recording, samples: int) -> float:
    """Seconds of a forward and backward pass: the shortest of a few, since the first is cold and
    others may share the processor; of one, when that is long."""
    shortest = math.inf
    for _ in range(3):
        began = time.perf_counter()
        with preserved(model.buffers):
            output = recording.module(*feed.inputs(samples, *PILOT))
            gradients_of(output.square().mean(), list(model.parameters.values()))
        finished(feed.device)
        shortest = min(shortest, time.perf_counter() - began)
        if shortest > ARITHMETIC_SECONDS:
            break
    return shortest
