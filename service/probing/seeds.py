"""All initializations of a model, measured: side by side where that pays off, else one after the
other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from service.domain.measurements import GradientCheck
from service.domain.probe_plan import GLANCE, ProbePlan
from service.probing import devices
from service.probing.gradient_check import GradientProbe, check
from service.probing.layering import Layer, layers_of
from service.probing.loaders.loaded import LoadedModel
from service.probing.losses import Loss
from service.probing.pace import Pace
from service.probing.precision import Precision
from service.probing.probe import Batch, Seed
from service.probing.randomness import signal_shares
from service.probing.recorder import Observed
from service.probing.settling import SETTLING, settle
from service.probing.side_by_side import SideBySide, Stacks, seeds_together
from service.probing.trace import Recording
from service.probing.trainable import Trainable
from service.probing.weights import Weights


class Subject(Trainable, Protocol):
    """The model that is measured."""

    model: LoadedModel
    plan: ProbePlan
    """As fitted, the whole of it."""
    recording: Recording
    layers: tuple[Layer, ...]
    recorded: bool
    """Whether the recording holds for every batch."""
    weights: Weights
    loss: Loss
    batch_size: int
    precision: Precision
    ranges: bool
    """Whether what tells if gradients fit into 16 bits is measured, too."""
    fits: int | None
    """Samples estimated to fit the memory; None without a bound."""
    pace: Pace

    def batch(self, seed: int, number: int) -> Batch:
        """What the pass at this place runs on."""

    def restore(self) -> None:
        """Parameters and buffers as they came."""


class Taps:
    """The recording with taps in it, both ways; made when they are needed."""

    def __init__(self) -> None:
        self._alone: Observed | None = None
        self._together: tuple[SideBySide | None, int] | None = None

    def alone(self, subject: Subject) -> Observed:
        """One pass after the other; made once, unless every batch takes a path of its own."""
        if self._alone is None or not subject.recorded:
            self._alone = Observed(subject.recording, subject.layers, ranges=subject.ranges)
        return self._alone

    def together(self, subject: Subject) -> tuple[SideBySide | None, int]:
        """Side by side, and how many seeds at a time; None and 0 where that is not to be."""
        if self._together is None:
            self._together = _side_by_side(subject)
        return self._together


class Seeds:
    """Of one subject; remembers what a glance at it shows."""

    def __init__(self, alike: Seeds | None = None) -> None:
        """`alike`: those of a subject with the same recording, whose taps hold for this one."""
        self.taps: Taps = Taps() if alike is None else alike.taps
        self.gradient_check: GradientCheck | None = None
        self._glanced: Seed | None = None
        """What a glance shows, remembered from the last whole probe."""
        self._signal: dict[int, float] | None = None
        """Likewise, shares of signal; None until that probe has come to its end."""

    def measured(
        self, subject: Subject, plan: ProbePlan, after_steps: int, *, plain: bool
    ) -> tuple[list[Seed], dict[int, float]]:
        """As many as the plan asks for, after so many optimizer steps each, and the shares of
        signal of the first. `plain`: no steps, no loss scale."""
        return (plain and self._glance(plan)) or self._run(subject, plan, after_steps, plain=plain)

    def _glance(self, plan: ProbePlan) -> tuple[list[Seed], dict[int, float]] | None:
        """What the whole probe has seen already, where the plan is but a glance; else None."""
        is_glance = (plan.seeds, plan.batches) == (GLANCE.seeds, GLANCE.batches)
        if self._glanced is None or self._signal is None or not is_glance:
            return None
        return [self._glanced], self._signal

    def _run(
        self, subject: Subject, plan: ProbePlan, after_steps: int, *, plain: bool
    ) -> tuple[list[Seed], dict[int, float]]:
        remembers = plain and _is_whole(subject, plan)
        self._signal = None if remembers else self._signal
        try:
            seeds = self._together(subject, plan, after_steps, remembers=remembers)
            signal: dict[int, float] = {}  # nothing is drawn in what runs side by side
            if seeds is None:
                seeds, signal = self._in_turn(subject, plan, after_steps, remembers=remembers)
        finally:
            subject.restore()
        if remembers:
            self._signal = signal
        return seeds, signal

    def _in_turn(
        self, subject: Subject, plan: ProbePlan, after_steps: int, *, remembers: bool
    ) -> tuple[list[Seed], dict[int, float]]:
        observed = self.taps.alone(subject)
        seeds, signal = [], {}
        for index in range(plan.seeds):
            subject.weights.draw(index)
            _settle(subject, index, after_steps)
            glances = remembers and index == 0
            seeds.append(self._one(subject, observed, index, plan.batches, glances=glances))
            if index == 0:
                signal = _signal_shares(subject)
        return seeds, signal

    def _one(
        self, subject: Subject, observed: Observed, index: int, batches: int, *, glances: bool
    ) -> Seed:
        """`glances`: what there is after so few batches is remembered."""
        seed, plan = Seed(observed, subject.recording), subject.plan
        for number in range(batches):
            batch = subject.batch(index, number)
            if not subject.recorded:
                observed.follow(_record_again(subject, batch))
            seed.run(batch, subject.loss)
            if number == 0 and plan.optimizer is not None:
                seed.first_step(plan.optimizer)
            if number == 0 and subject.precision.is_pure:
                seed.rounds_away(plan.optimizer or SETTLING)
            if number == index == 0:
                gradients = [record.total for record in seed.parameters.values()]
                self._check_gradient(subject, gradients, seed.losses[0], batch)
            if glances and number + 1 == GLANCE.batches:
                self._glanced = seed.so_far()
            subject.pace.step()
        seed.finish()
        return seed

    def _together(
        self, subject: Subject, plan: ProbePlan, after_steps: int, *, remembers: bool
    ) -> list[Seed] | None:
        """Side by side, as many at a time as may be; None: not at all."""
        side_by_side, most = self.taps.together(subject)
        if side_by_side is None:
            return None
        seeds: list[Seed] = []
        for first in range(0, plan.seeds, most):
            group = range(first, min(first + most, plan.seeds))
            stacks = Stacks(subject.recording.parameters, len(group), plan.batches)
            for place, index in enumerate(group):
                subject.weights.draw(index)
                _settle(subject, index, after_steps)
                stacks.keep(place)
            batches = [subject.batch(i, number) for i in group for number in range(plan.batches)]
            glance = GLANCE.batches if remembers and first == 0 else 0
            found = side_by_side.run(stacks, batches, subject.loss, plan.optimizer, glance=glance)
            if glance:
                self._glanced = found.glanced
            if first == 0 and self.gradient_check is None:
                stacks.give_back(0)
                loss = found.seeds[0].losses[0]
                self._check_gradient(subject, found.first_gradients, loss, batches[0])
            seeds += found.seeds
            for _ in batches:
                subject.pace.step()
        return seeds

    def _check_gradient(
        self, subject: Subject, gradients: Sequence[Tensor | None], loss: float, batch: Batch
    ) -> None:
        """Once, on the first batch of the model as opened; differences of losses of 16 bits tell
        nothing."""
        if self.gradient_check is not None or subject.precision.half:
            return
        parameters = list(subject.parameters.values())
        probe = GradientProbe(subject.forward, parameters, subject.buffers, batch, subject.loss)
        module, graph = subject.model.module, subject.recording.module.graph
        self.gradient_check = check(probe, list(gradients), loss, module, graph)


def _side_by_side(subject: Subject) -> tuple[SideBySide | None, int]:
    """Decided by the model and its whole plan, so that a glance goes the same way."""
    usual = subject.recorded and not subject.ranges and subject.precision.half is None
    most = (
        seeds_together(subject.recording, subject.plan, subject.batch_size, subject.fits)
        if usual
        else 0
    )
    if not most:
        return None, 0
    return SideBySide.of(subject.recording, subject.layers), most


def _is_whole(subject: Subject, plan: ProbePlan) -> bool:
    """Whether a glance at the same model is a part of this: not where every batch may take another
    path."""
    whole = (plan.seeds, plan.batches) == (subject.plan.seeds, subject.plan.batches)
    return whole and plan.batches >= GLANCE.batches and subject.recorded


def _settle(subject: Subject, seed: int, steps: int) -> None:
    """On batches that are not measured."""
    if steps:
        settle(
            subject,
            (subject.batch(seed, -step) for step in range(1, steps + 1)),
            subject.loss,
            subject.plan.optimizer or SETTLING,
            scales_loss=subject.precision.scales_loss,
            on_step=subject.pace.step,
        )


def _signal_shares(subject: Subject) -> dict[int, float]:
    """Of the first batch, where every batch takes the same path."""
    if not subject.recorded:
        return {}
    module, batch = subject.recording.module, subject.batch(0, 0)
    return signal_shares(module, subject.layers, batch, subject.batch_size, subject.buffers)


def _record_again(subject: Subject, batch: Batch) -> tuple[Recording, tuple[Layer, ...]]:
    """The path this very batch takes through a model whose path depends on its data."""
    devices.seed(batch.seed)
    recording = subject.model.record(batch.inputs)
    return recording, layers_of(recording.module.graph, subject.model.parameters)
