"""Gradients of parameters: asked for, looked at, summed over the batches of one seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from service.domain.probe_plan import OptimizerPlan
from service.probing import reductions
from service.probing.figures import CANCELS
from service.probing.norms import norms_of
from service.probing.optimizers import updates

LARGE = 1 << 15
"""Elements from which a parameter's gradient is looked at as it arrives, while it is in a core's
cache, and only its sum over batches is kept: with all of them kept until the pass is over, a model
of many parameters would be in memory once more."""
ROUNDING = 1e-6
"""Share of gradients' mean square under which their differences are rounding: norms of float32 are
right to some 1e-7, and so are squares and sums of them."""
HELD = 1 << 18
"""Elements of such gradients that wait to be looked at together, at most: a mebibyte of float32."""


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


class Arrivals:
    """Looks at the gradients of parameters as they arrive in one pass, some at a time."""

    def __init__(self, records: Mapping[str, ParameterRecord]) -> None:
        """`records`: by name."""
        self.names: set[str] = set()
        """Of those that have arrived."""
        self._records = records
        self._waiting: list[tuple[ParameterRecord, Tensor]] = []
        self._held = 0
        self._taken: set[int] = set()

    @torch.no_grad()
    def arrives(self, name: str, gradient: Tensor) -> Tensor:
        """A hook of that parameter."""
        self.names.add(name)
        self._waiting.append((self._records[name], _dense(gradient)))
        self._held += gradient.numel()
        if self._held >= HELD:
            self.look()
        # In its place something that takes no memory, and that nobody reads.
        return gradient.new_zeros(()).expand_as(gradient)

    @torch.no_grad()
    def look(self) -> None:
        """At those that wait."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        norms = norms_of([gradient for _, gradient in waiting]).tolist()
        matrices = [
            (record, gradient, norm)
            for (record, gradient), norm in zip(waiting, norms, strict=True)
            if not record.norms and gradient.ndim > 1 and len(gradient) > 1
        ]
        sums = norms_of([gradient.flatten(1).sum(0) for _, gradient, _ in matrices]).tolist()
        for (record, gradient, norm), of_sum in zip(matrices, sums, strict=True):
            record.unit_spread = spread(gradient, norm if math.isfinite(norm) else None, of_sum)
        for (record, _), norm in zip(waiting, norms, strict=True):
            record.norms.append(norm if math.isfinite(norm) else None)
        add(waiting, self._taken)


@torch.no_grad()
def add(arrived: Sequence[tuple[ParameterRecord, Tensor]], taken: set[int]) -> None:
    """One more gradient of each, whose norm has been noted; kept as autograd made it where nobody
    else holds it. `taken`: places in memory of those that are kept."""
    again = []
    for record, gradient in arrived:
        _count_nonfinite(record, gradient)
        if record.total is None:
            record.total = _owned(gradient, taken)
        else:
            again.append((record.total, gradient))
    if again:
        torch._foreach_add_([total for total, _ in again], [gradient for _, gradient in again])


@torch.no_grad()
def first_step(
    moved: list[tuple[ParameterRecord, Tensor, Tensor]], optimizer: OptimizerPlan
) -> None:
    """How much the optimizer's first step would change each of these parameters, given its record,
    its values and its gradient."""
    copies = _stepped(moved, optimizer)
    torch._foreach_sub_(copies, [parameter for _, parameter, _ in moved])
    changes = norms_of(copies).tolist()
    for (record, *_), change in zip(moved, changes, strict=True):
        if math.isfinite(change) and record.size.norm:
            record.update_ratio = change / record.size.norm


@torch.no_grad()
def rounds_away(
    moved: list[tuple[ParameterRecord, Tensor, Tensor]], optimizer: OptimizerPlan
) -> None:
    """Likewise what that step leaves as it was, since the change is smaller than half the distance
    to the next number, or makes infinite or NaN."""
    for (record, before, gradient), after in zip(moved, _stepped(moved, optimizer), strict=True):
        asked = gradient != 0
        if bool(asked.any()):
            lost = ((after == before) | ~after.isfinite()) & asked
            record.lost_update = float(lost.sum() / asked.sum())


def widened(gradient: Tensor | None) -> Tensor | None:
    """In 32 bits at least: what is summed over batches must not round."""
    if gradient is None or gradient.dtype.itemsize >= 4:
        return gradient
    return gradient.float()


def _dense(gradient: Tensor) -> Tensor:
    """As `gradients_of` answers, in 32 bits at least."""
    wide = widened(gradient.to_dense() if gradient.is_sparse else gradient)
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
