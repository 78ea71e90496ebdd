"""One seed: its batches through the recorded graph, forward and backward."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from service.domain.measurements import SeedProfile
from service.domain.probe_plan import OptimizerPlan
from service.probing import devices, figures, reductions
from service.probing.accounts import LayerRecord
from service.probing.figures import CANCELS, Extent
from service.probing.layering import Layer
from service.probing.losses import Loss
from service.probing.optimizers import updates
from service.probing.pooling import finite_mean, pooled
from service.probing.recorder import Observed
from service.probing.trace import Recording, preserved

EXTENT = Extent()
LARGE = 1 << 15
"""Elements from which a parameter's gradient is looked at as it arrives, while it is in a core's
cache, and only its sum over batches is kept: with all of them kept until the pass is over, a model
of many parameters would be in memory once more."""

ROUNDING = 1e-6
"""Share of gradients' mean square under which their differences are rounding: norms of float32 are
right to some 1e-7, and so are squares and sums of them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward and backward pass runs on."""

    inputs: tuple[Tensor, ...]
    seed: int
    """For dropout and the like."""
    target: Callable[[Tensor, Loss], Tensor]
    """Given the output and the loss: what to compare it with."""


@dataclass(slots=True)
class ParameterRecord:
    """One parameter and its gradients over the batches of one seed."""

    size: reductions.Size
    """Of its values."""
    norms: list[float | None] = field(default_factory=list)
    """Of the gradients, by batch; None where not finite."""
    unit_spread: float | None = None
    """Of the first gradient; see `unit_spread`."""
    update_ratio: float | None = None
    nonfinite_gradient: int = 0
    """NaN and infinite elements of the gradients."""
    total: Tensor | None = None
    """Sum of the gradients so far; None when none came, and after the last batch."""
    total_norm: float | None = None
    """Norm of the sum of all batches; None when not finite."""
    gradient_abs_max: float = 0.0
    """Largest element of the gradients, of all batches; only where ranges are wanted."""
    lost_update: float | None = None
    """See ParameterStatistics.lost_update_fraction."""

    def snr(self) -> float | None:
        """‖ḡ‖ / √(mean ‖g − ḡ‖²), with mean ‖g − ḡ‖² = mean ‖g‖² − ‖ḡ‖²; at most 1 / √ROUNDING."""
        count = len(self.norms)
        if self.total_norm is None or count < 2 or any(norm is None for norm in self.norms):
            return None
        mean_norm = self.total_norm / count
        mean_square = math.fsum(norm**2 for norm in self.norms if norm is not None) / count
        noise = max(mean_square - mean_norm**2, ROUNDING * mean_square)
        return mean_norm / math.sqrt(noise) if noise > 0 else None


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
            with self._looking_at_large() as seen:
                found = gradients_of(value, [*self.recording.parameters.values(), *wanted])
        gradients = [_widened(one) for one in found]
        self._gathering.ask(value, lambda told: self.losses.append(float(told)))
        named = zip(self.parameters.items(), gradients, strict=False)
        own = [(record, g) for (name, record), g in named if g is not None and name not in seen]
        arrived = [g for g in gradients[len(self.parameters) :] if g is not None]
        self._ask_norms(own, arrived, bool(wanted))
        self.observed.watch.finish()
        self._add(own)
        count = len(self.losses)
        norms = [r.norms[-1] for r in self.parameters.values() if len(r.norms) == count > 0]
        self.grad_norms.append(joint_norm(norms))

    @contextmanager
    def _looking_at_large(self) -> Iterator[set[str]]:
        """Names of the parameters whose gradient has been looked at by then. Not where that would
        be waited for, as on an accelerator."""
        seen: set[str] = set()
        taken: set[int] = set()

        @torch.no_grad()
        def arrives(name: str, gradient: Tensor) -> Tensor:
            seen.add(name)
            self._arrives(self.parameters[name], gradient, taken)
            # In its place something that takes no memory, and that nobody reads.
            return gradient.new_zeros(()).expand_as(gradient)

        hooks = [
            parameter.register_hook(partial(arrives, name))
            for name, parameter in self.recording.parameters.items()
            if parameter.numel() >= LARGE
            and parameter.device.type == "cpu"
            and not self.observed.watch.ranges
        ]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def _arrives(self, record: ParameterRecord, gradient: Tensor, taken: set[int]) -> None:
        gradient = _dense(gradient)
        norm = float(figures.norms_of([gradient]))
        if not record.norms and gradient.ndim > 1 and len(gradient) > 1:
            of_sum = float(figures.norms_of([gradient.flatten(1).sum(0)]))
            record.unit_spread = spread(gradient, norm if math.isfinite(norm) else None, of_sum)
        record.norms.append(norm if math.isfinite(norm) else None)
        _count_nonfinite(record, gradient)
        if record.total is None:
            record.total = _owned(gradient, taken)
        else:
            record.total += gradient

    @torch.no_grad()
    def _ask_norms(
        self, own: Sequence[tuple[ParameterRecord, Tensor]], inputs: list[Tensor], wanted: bool
    ) -> None:
        """Of the parameters' gradients, those of the inputs and, at first, the sums over units."""
        matrices = [(r, g) for r, g in own if not r.norms and g.ndim > 1 and len(g) > 1]
        norms = figures.norms_of([g for _, g in own] + inputs)
        sums = figures.norms_of([g.flatten(1).sum(0) for _, g in matrices])

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

    @torch.no_grad()
    def _add(self, own: Sequence[tuple[ParameterRecord, Tensor]]) -> None:
        """One more gradient of each, as autograd made it where nobody else holds it."""
        taken: set[int] = set()
        for record, gradient in own:
            _count_nonfinite(record, gradient)
            if record.total is None:
                record.total = _owned(gradient, taken)
        again = [(record.total, g) for record, g in own if len(record.norms) > 1]
        totals = [total for total, _ in again if total is not None]
        if totals:
            torch._foreach_add_(totals, [gradient for _, gradient in again])

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
        norms = figures.norms_of([record.total for record in summed if record.total is not None])
        for record, norm in zip(summed, norms.tolist(), strict=True):
            record.total_norm = norm if math.isfinite(norm) else None
            record.total = None

    def first_step(self, optimizer: OptimizerPlan) -> None:
        """After one batch: how much the optimizer's first step would change each parameter."""
        first_step(self._moved(), optimizer)

    @torch.no_grad()
    def rounds_away(self, optimizer: OptimizerPlan) -> None:
        """After one batch: what the optimizer's first step leaves as it was, since the change is
        smaller than half the distance to the next number, or makes infinite or NaN."""
        moved = self._moved()
        for (record, before, gradient), after in zip(
            moved, _stepped(moved, optimizer), strict=True
        ):
            asked = gradient != 0
            if bool(asked.any()):
                lost = ((after == before) | ~after.isfinite()) & asked
                record.lost_update = float(lost.sum() / asked.sum())

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


@torch.no_grad()
def first_step(
    moved: list[tuple[ParameterRecord, Tensor, Tensor]], optimizer: OptimizerPlan
) -> None:
    """How much the optimizer's first step would change each of these parameters, given its record,
    its values and its gradient."""
    copies = _stepped(moved, optimizer)
    torch._foreach_sub_(copies, [parameter for _, parameter, _ in moved])
    changes = figures.norms_of(copies).tolist()
    for (record, *_), change in zip(moved, changes, strict=True):
        if math.isfinite(change) and record.size.norm:
            record.update_ratio = change / record.size.norm


def _widened(gradient: Tensor | None) -> Tensor | None:
    """In 32 bits at least: what is summed over batches must not round."""
    if gradient is None or gradient.dtype.itemsize >= 4:
        return gradient
    return gradient.float()


def _dense(gradient: Tensor) -> Tensor:
    """As `gradients_of` answers, in 32 bits at least."""
    wide = _widened(gradient.to_dense() if gradient.is_sparse else gradient)
    return gradient if wide is None else wide


def _count_nonfinite(record: ParameterRecord, gradient: Tensor) -> None:
    """Of the last gradient that was noted."""
    if record.norms[-1] is None:
        record.nonfinite_gradient += gradient.numel() - int(gradient.isfinite().sum())


def _stepped(
    moved: list[tuple[ParameterRecord, Tensor, Tensor]], optimizer: OptimizerPlan
) -> list[Tensor]:
    """Copies of the parameters after the optimizer's first step, in their own precision."""
    copies = [parameter.clone() for _, parameter, _ in moved]
    updates(copies, optimizer)([g.to(p.dtype, copy=True) for _, p, g in moved])
    return copies


def gradients_of(value: Tensor, tensors: list[Tensor]) -> tuple[Tensor | None, ...]:
    """∂value/∂tensor for each, dense; None where value does not depend on it."""
    if not tensors or not value.requires_grad:
        return (None,) * len(tensors)
    found = torch.autograd.grad(value, tensors, allow_unused=True)
    return tuple(one.to_dense() if one is not None and one.is_sparse else one for one in found)


def joint_norm(norms: Sequence[float | None]) -> float | None:
    """Norm of all together; None when any is not finite or none is there."""
    if not norms or any(norm is None for norm in norms):
        return None
    return math.hypot(*[norm for norm in norms if norm is not None])


def _owned(gradient: Tensor, taken: set[int]) -> Tensor:
    """The gradient itself, to be added to later; a copy where it shares its memory with another, or
    its elements with each other."""
    storage = gradient.untyped_storage()
    place = storage.data_ptr()
    if place in taken or storage.nbytes() != gradient.nbytes:
        return gradient.clone()
    taken.add(place)
    return gradient


def spread(gradient: Tensor, norm: float | None, of_sum: float) -> float | None:
    """`unit_spread` from ‖g‖ and ‖Σ gᵢ‖, since mean ‖gᵢ − ḡ‖² = mean ‖gᵢ‖² − ‖ḡ‖²; by itself where
    the two cancel."""
    if not norm or not math.isfinite(of_sum):
        return None
    square = 1.0 - (of_sum / norm) ** 2 / len(gradient)
    return math.sqrt(square) if square > CANCELS else unit_spread(gradient)


@torch.no_grad()
def unit_spread(gradient: Tensor) -> float | None:
    """√(mean ‖gᵢ − ḡ‖²) / √(mean ‖gᵢ‖²) over the rows of a weight gradient, 0 … 1; 0: every unit
    receives the same gradient. None for vectors, single rows and zero gradients."""
    if gradient.ndim < 2 or gradient.shape[0] < 2:
        return None
    rows = gradient.flatten(1)
    top = rows.abs().amax()
    if not bool(top > 0) or not bool(top.isfinite()):
        return None
    rows = rows / top
    centred = rows - rows.mean(0, keepdim=True)
    return float(torch.linalg.vector_norm(centred) / torch.linalg.vector_norm(rows))
