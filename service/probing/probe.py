"""One seed: its batches through the recorded graph, forward and backward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from service.domain.measurements import SeedProfile
from service.domain.probe_plan import OptimizerPlan
from service.probing import devices, reductions
from service.probing.accounts import LayerRecord
from service.probing.figures import Extent
from service.probing.gradients import (
    LARGE,
    Arrivals,
    ParameterRecord,
    add,
    first_step,
    gradients_of,
    joint_norm,
    rounds_away,
    spread,
    widened,
)
from service.probing.layering import Layer
from service.probing.losses import Loss
from service.probing.norms import norms_of
from service.probing.pooling import finite_mean, pooled
from service.probing.recorder import Observed
from service.probing.trace import Recording, preserved

EXTENT = Extent()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward and backward pass runs on."""

    inputs: tuple[Tensor, ...]
    seed: int
    """For dropout and the like."""
    target: Callable[[Tensor, Loss], Tensor]
    """Given the output and the loss: what to compare it with."""


class Seed:
    """One initialization (or one set of batches) and everything it showed."""

    def __init__(self, observed: Observed, recording: Recording) -> None:
        self.records = [LayerRecord() for _ in observed.layers]
        """Per layer."""
        self.observed = observed
        self.recording = recording
        self.parameters: dict[str, ParameterRecord] = {}
        self.losses: list[float] = []
        self.grad_norms: list[float | None] = []
        self.input_norms: list[float | None] = []
        self._gathering = observed.watch.gathering
        for name, value in recording.parameters.items():
            self.parameters[name] = ParameterRecord(reductions.Size(value.numel(), 0.0, 0.0, 0))

    def _measure(self, record: ParameterRecord, parameter: Tensor) -> None:
        """Its values; the numbers come with those of the first batch."""

        def then(rows: Tensor) -> None:
            (record.size,) = EXTENT.read(rows, parameter.numel())

        self._gathering.add(EXTENT, parameter.detach().reshape(1, 1, -1), then)

    def run(self, batch: Batch, loss: Loss) -> None:
        """One forward and backward pass."""
        devices.seed(batch.seed)
        if not self.losses:
            for record, parameter in zip(
                self.parameters.values(), self.recording.parameters.values(), strict=True
            ):
                self._measure(record, parameter)
        inputs = tuple(
            tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in batch.inputs
        )
        self.observed.watch.begin([(0, self.records)])
        with preserved(self.recording.buffers), torch.enable_grad():
            output = self.observed.module(*inputs)
            value = loss.compute(output, batch.target(output, loss))
            wanted = [tensor for tensor in inputs if tensor.requires_grad]
            with self._looking_at_large() as large:
                found = gradients_of(value, [*self.recording.parameters.values(), *wanted])
                seen = large.names
        gradients = [widened(one) for one in found]
        self._gathering.ask(value, lambda told: self.losses.append(float(told)))
        named = zip(self.parameters.items(), gradients, strict=False)
        own = [(record, g) for (name, record), g in named if g is not None and name not in seen]
        arrived = [g for g in gradients[len(self.parameters) :] if g is not None]
        self._ask_norms(own, arrived, bool(wanted))
        self.observed.watch.finish()
        add(own, set())
        count = len(self.losses)
        norms = [r.norms[-1] for r in self.parameters.values() if len(r.norms) == count > 0]
        self.grad_norms.append(joint_norm(norms))

    @contextmanager
    def _looking_at_large(self) -> Iterator[Arrivals]:
        """What large parameters' gradients arrive at. Not where that would be waited for, as on an
        accelerator."""
        arrivals = Arrivals(self.parameters)
        hooks = [
            parameter.register_hook(partial(arrivals.arrives, name))
            for name, parameter in self.recording.parameters.items()
            if parameter.numel() >= LARGE
            and parameter.device.type == "cpu"
            and not self.observed.watch.ranges
        ]
        try:
            yield arrivals
            arrivals.look()
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _ask_norms(
        self, own: Sequence[tuple[ParameterRecord, Tensor]], inputs: list[Tensor], wanted: bool
    ) -> None:
        """Of the parameters' gradients, those of the inputs and, at first, the sums over units."""
        matrices = [(r, g) for r, g in own if not r.norms and g.ndim > 1 and len(g) > 1]
        norms = norms_of([g for _, g in own] + inputs)
        sums = norms_of([g.flatten(1).sum(0) for _, g in matrices])

        def then(told: Tensor) -> None:
            found = [norm if math.isfinite(norm) else None for norm in told.tolist()]
            for (record, _), norm in zip(own, found, strict=False):
                record.norms.append(norm)
            if wanted:
                self.input_norms.append(joint_norm(found[len(own) :]))

        def then_spread(told: Tensor) -> None:
            for (record, gradient), norm in zip(matrices, told.tolist(), strict=True):
                record.unit_spread = spread(gradient, record.norms[0], norm)

        self._gathering.ask(norms, then)
        self._gathering.ask(sums, then_spread)
        if self.observed.watch.ranges and own:
            self._ask_largest(own)

    def _ask_largest(self, own: Sequence[tuple[ParameterRecord, Tensor]]) -> None:
        def then(told: Tensor) -> None:
            for (record, _), largest in zip(own, told.tolist(), strict=True):
                record.gradient_abs_max = max(record.gradient_abs_max, largest)

        largest = torch._foreach_norm([gradient for _, gradient in own], math.inf)
        self._gathering.ask(torch.stack(largest), then)

    def so_far(self) -> Seed:
        """A copy that is finished with the batches there were, and that further ones leave as it
        is."""
        copied = copy.copy(self)
        copied.records = [record.so_far() for record in self.records]
        copied.parameters = {
            name: replace(record, norms=list(record.norms))
            for name, record in self.parameters.items()
        }
        copied.losses, copied.grad_norms = list(self.losses), list(self.grad_norms)
        copied.input_norms = list(self.input_norms)
        copied.finish()
        return copied

    @torch.no_grad()
    def finish(self) -> None:
        """After the last batch: the gradients' sums are told and let go."""
        summed = [record for record in self.parameters.values() if record.total is not None]
        norms = norms_of([record.total for record in summed if record.total is not None])
        for record, norm in zip(summed, norms.tolist(), strict=True):
            record.total_norm = norm if math.isfinite(norm) else None
            record.total = None

    def first_step(self, optimizer: OptimizerPlan) -> None:
        """After one batch: how much the optimizer's first step would change each parameter."""
        first_step(self._moved(), optimizer)

    def rounds_away(self, optimizer: OptimizerPlan) -> None:
        """After one batch: what the optimizer's first step leaves as it was."""
        rounds_away(self._moved(), optimizer)

    def _moved(self) -> list[tuple[ParameterRecord, Tensor, Tensor]]:
        """Every parameter that got a gradient, and that."""
        return [
            (record, self.recording.parameters[name], record.total)
            for name, record in self.parameters.items()
            if record.total is not None
        ]

    def profile(self) -> SeedProfile:
        """The seed's line over depth."""

        def line(statistic: str) -> tuple[float | None, ...]:
            return tuple(pooled(statistic, record.numbers[statistic]) for record in self.records)

        return SeedProfile(
            loss=finite_mean(self.losses),
            gradient_norm=line("gradient.norm"),
            gradient_gain=line("gradient.gain"),
            activation_rms=line("activation.rms"),
            activation_std=line("activation.std"),
            correlation=line("activation.correlation"),
            weight_gradient_norm=tuple(
                self._weight_gradient(layer) for layer in self.observed.layers
            ),
        )

    def _weight_gradient(self, layer: Layer) -> float | None:
        own = [self.parameters[name] for name in layer.parameters]
        if not own:
            return None
        return finite_mean(max(own, key=lambda record: record.size.count).norms)
