"""Several initializations, and several batches of each, as one forward and backward pass.

A small network's pass is bound by the number of calls, so P of them as one stack of tensors (see
`stacking`) take little longer than one. What is reckoned is the same, pass by pass; a batched
product of matrices may round otherwise than single ones do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx

from service.domain.probe_plan import OptimizerPlan, ProbePlan
from service.probing import operations
from service.probing.figures import Extent
from service.probing.gradients import first_step, gradients_of, joint_norm, spread
from service.probing.layering import Layer
from service.probing.losses import Loss
from service.probing.norms import as_they_lie, norms_in
from service.probing.probe import Batch, Seed
from service.probing.recorder import Observed
from service.probing.recurrence import steps_of
from service.probing.stacking import CannotStack
from service.probing.trace import Recording

EXTENT = Extent()
ELEMENTS = 2**23
"""Of all stacks together, activations and parameters: 32 MiB in float32, about three times that
with their gradients."""
MULTIPLICATIONS = 2**21
"""Of the largest product in one pass, above which arithmetic takes longer than calls do."""


def seeds_together(recording: Recording, plan: ProbePlan, batch_size: int, fits: int | None) -> int:
    """How many seeds may run side by side, each with all its batches; 0 where that does not pay
    off. `fits`: samples estimated to fit the memory; None without a bound."""
    parameters = sum(value.numel() for value in recording.parameters.values())
    activations = 0
    for node in recording.module.graph.nodes:
        if _multiplications(node) > MULTIPLICATIONS:
            return 0
        if node.meta.get("bytes"):
            activations += math.prod(node.meta["shape"])
    elements = max(parameters + activations, 1)
    passes = ELEMENTS // elements
    if fits is not None:
        # What was estimated are activations; here every pass has parameters of its own, too.
        passes = min(passes, fits * activations // (batch_size * elements))
    return min(passes // plan.batches, plan.seeds) if plan.seeds * plan.batches > 1 else 0


def _multiplications(node: fx.Node) -> float:
    """Of a product of matrices, from the sizes of factors and product: √(nk · km · nm) = nkm."""
    if operations.name_of(node) not in operations.WEIGHTED:
        return 0.0
    shapes = [one.meta.get("shape", ()) for one in (*node.all_input_nodes[-2:], node)]
    return math.sqrt(math.prod(math.prod(shape) for shape in shapes))


@dataclass(frozen=True, slots=True)
class Found:
    """What one run side by side answers with."""

    seeds: list[Seed]
    glanced: Seed | None
    """The first seed as it is after its first batches alone, where that was asked for."""
    first_gradients: list[Tensor | None]
    """Of the first pass, by parameter."""


class Stacks:
    """Parameters of several seeds."""

    def __init__(self, parameters: Mapping[str, Tensor], seeds: int, batches: int) -> None:
        self.seeds, self.batches = seeds, batches
        self._own = list(parameters.values())
        self._values = [
            torch.empty((seeds, *value.shape), dtype=value.dtype, device=value.device)
            for value in self._own
        ]

    @torch.no_grad()
    def keep(self, place: int) -> None:
        """The parameters as they are now, as those of this seed."""
        if self._own:
            torch._foreach_copy_([value[place] for value in self._values], self._own)

    @torch.no_grad()
    def give_back(self, place: int) -> None:
        """The parameters as this seed has them."""
        if self._own:
            torch._foreach_copy_(self._own, [value[place] for value in self._values])

    def of_seeds(self) -> list[Tensor]:
        """(S, …) each."""
        return self._values

    def of_passes(self) -> list[Tensor]:
        """(P, …) each, all batches of a seed in turn, wanting gradients."""
        if self.batches == 1:
            return [value.requires_grad_() for value in self._values]
        return [value.repeat_interleave(self.batches, 0).requires_grad_() for value in self._values]


@dataclass(frozen=True, slots=True)
class _Group:
    """Seeds, and how many of the passes from the first on are each one's."""

    seeds: list[Seed]
    batches: int

    def passes(self, place: int) -> range:
        """Of the seed at this place."""
        return range(place * self.batches, (place + 1) * self.batches)

    def of(self, stack: Tensor) -> Tensor:
        """(P, …) → (S, N, …): of each seed and batch."""
        found: Tensor = stack[: len(self.seeds) * self.batches].unflatten(0, (-1, self.batches))
        return found


class SideBySide:
    """One recording for all."""

    def __init__(self, observed: Observed, recording: Recording) -> None:
        self._observed = observed
        self._recording = recording
        self._gathering = observed.watch.gathering

    @classmethod
    def of(cls, recording: Recording, layers: tuple[Layer, ...]) -> SideBySide | None:
        """None where an operation is not known to allow it, or is looked at step by step."""
        if any(steps_of(layer, layers[at + 1 :]) for at, layer in enumerate(layers)):
            return None
        try:
            return cls(Observed(recording, layers, side_by_side=True), recording)
        except CannotStack:
            return None

    def run(
        self,
        stacks: Stacks,
        batches: Sequence[Batch],
        loss: Loss,
        optimizer: OptimizerPlan | None,
        *,
        glance: int,
    ) -> Found:
        """Every seed with its batches, in order. `glance`: the first seed once more, with so many
        batches only; 0: not that."""
        groups = [_Group([self._seed() for _ in range(stacks.seeds)], stacks.batches)]
        if glance:
            groups.append(_Group([self._seed()], glance))
        gradients = self._pass(stacks, groups, batches, loss)
        if optimizer is not None:
            for group in groups:
                self._first_steps(group, stacks, gradients, optimizer)
        first = [None if one is None else one[0] for one in gradients]
        return Found(groups[0].seeds, groups[1].seeds[0] if glance else None, first)

    def _seed(self) -> Seed:
        return Seed(self._observed, self._recording)

    def _pass(
        self, stacks: Stacks, groups: Sequence[_Group], batches: Sequence[Batch], loss: Loss
    ) -> list[Tensor | None]:
        """Forward and backward; the gradients of the parameters, (P, …) each."""
        watch = self._observed.watch
        watch.begin(
            (number, seed.records)
            for group in groups
            for place, seed in enumerate(group.seeds)
            for number in group.passes(place)
        )
        inputs = [torch.stack(each) for each in zip(*(one.inputs for one in batches), strict=True)]
        wanted = [one.requires_grad_() for one in inputs if one.is_floating_point()]
        parameters = stacks.of_passes()
        with torch.enable_grad():
            outputs = self._observed.module(*parameters, *inputs).unbind(0)
            losses = [
                loss.compute(output, batch.target(output, loss))
                for output, batch in zip(outputs, batches, strict=True)
            ]
            values = torch.stack(losses)
            # Of the sum each pass's own loss is the only part that depends on it.
            found = gradients_of(values.sum(), [*parameters, *wanted])
        self._gathering.ask(values, partial(_note_losses, groups))
        self._ask_sizes(groups, stacks)
        gradients = list(found[: len(parameters)])
        own = [
            (name, one)
            for name, one in zip(self._recording.parameters, gradients, strict=True)
            if one is not None
        ]
        self._ask_norms(groups, own, [one for one in found[len(parameters) :] if one is not None])
        for group in groups:
            self._ask_sums(group, own)
        watch.finish()
        return gradients

    def _ask_sizes(self, groups: Sequence[_Group], stacks: Stacks) -> None:
        for name, values in zip(self._recording.parameters, stacks.of_seeds(), strict=True):
            stack = values.detach().reshape(stacks.seeds, 1, -1)
            then = partial(_note_sizes, groups, name, stack[0].numel())
            self._gathering.add(EXTENT, stack, then)

    @torch.no_grad()
    def _ask_norms(
        self,
        groups: Sequence[_Group],
        own: Sequence[tuple[str, Tensor]],
        arrived: Sequence[Tensor],
    ) -> None:
        """Of the gradients of parameters and inputs, pass by pass."""
        stacks = [*(one for _, one in own), *arrived]

        def then(told: Tensor) -> None:
            norms = [[n if math.isfinite(n) else None for n in line] for line in told.tolist()]
            for group in groups:
                for place, seed in enumerate(group.seeds):
                    _note_norms(seed, group.passes(place), [name for name, _ in own], norms)
                    _count_nonfinite(seed, own, group.passes(place))

        if stacks:
            self._gathering.ask(torch.stack([norms_in(one) for one in stacks]), then)

    @torch.no_grad()
    def _ask_sums(self, group: _Group, own: Sequence[tuple[str, Tensor]]) -> None:
        """Over the units of the first gradients, and over all batches."""
        firsts = [(name, group.of(one)[:, 0]) for name, one in own]
        matrices = [(name, one) for name, one in firsts if one.ndim > 2 and one.shape[1] > 1]

        def then_spread(told: Tensor) -> None:
            for (name, first), norms in zip(matrices, told.tolist(), strict=True):
                for seed, gradient, norm in zip(group.seeds, first, norms, strict=True):
                    record = seed.parameters[name]
                    record.unit_spread = spread(gradient, record.norms[0], norm)

        def then_total(told: Tensor) -> None:
            for (name, _), norms in zip(own, told.tolist(), strict=True):
                for seed, norm in zip(group.seeds, norms, strict=True):
                    seed.parameters[name].total_norm = norm if math.isfinite(norm) else None

        if matrices:
            sums = [norms_in(one.flatten(2).sum(1)) for _, one in matrices]
            self._gathering.ask(torch.stack(sums), then_spread)
        if own:
            totals = [norms_in(group.of(as_they_lie(one)).sum(1)) for _, one in own]
            self._gathering.ask(torch.stack(totals), then_total)

    def _first_steps(
        self,
        group: _Group,
        stacks: Stacks,
        gradients: Sequence[Tensor | None],
        optimizer: OptimizerPlan,
    ) -> None:
        for place, seed in enumerate(group.seeds):
            moved = [
                (record, values[place].detach(), gradient[group.passes(place)[0]])
                for record, values, gradient in zip(
                    seed.parameters.values(), stacks.of_seeds(), gradients, strict=True
                )
                if gradient is not None
            ]
            first_step(moved, optimizer)


def _note_losses(groups: Sequence[_Group], told: Tensor) -> None:
    losses = told.tolist()
    for group in groups:
        for place, seed in enumerate(group.seeds):
            seed.losses += [losses[number] for number in group.passes(place)]


def _note_sizes(groups: Sequence[_Group], name: str, count: int, rows: Tensor) -> None:
    sizes = EXTENT.read(rows, count)
    for group in groups:
        for seed, size in zip(group.seeds, sizes, strict=False):
            seed.parameters[name].size = size


def _note_norms(
    seed: Seed, passes: range, names: Sequence[str], norms: Sequence[Sequence[float | None]]
) -> None:
    """`norms`: by parameter, and by input after those; then by pass."""
    for name, line in zip(names, norms, strict=False):
        seed.parameters[name].norms += line[passes.start : passes.stop]
    for number in passes:
        of_pass = [line[number] for line in norms]
        seed.grad_norms.append(joint_norm(of_pass[: len(names)]))
        if len(of_pass) > len(names):
            seed.input_norms.append(joint_norm(of_pass[len(names) :]))


def _count_nonfinite(seed: Seed, own: Sequence[tuple[str, Tensor]], passes: range) -> None:
    for name, stack in own:
        record = seed.parameters[name]
        if None in record.norms:
            gradients = stack[passes.start : passes.stop]
            record.nonfinite_gradient = gradients.numel() - int(gradients.isfinite().sum())
