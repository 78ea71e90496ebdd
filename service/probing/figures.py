"""Many tensors of one shape to their numbers in one go: what the taps show, without a wait between.

A stack (L, B, …) holds one tensor of each of L layers; a reduction answers one row of float64 per
layer, which `read` on the processor turns into figures, a list with one entry per row. Small
tensors are bound by the cost of a call, so one call serves many layers and everything that can is
left to `read`; on an accelerator nothing before it waits for a number.

Sums of squares of float32 overflow above 1e19 and vanish below 1e-19, just where exploding and
vanishing models live. On the CPU the quick way is taken first, and layers whose norm lies outside
`SAFE_LOW` … `SAFE_HIGH` are reckoned again the exact way: divided by their largest element, and
non-finite elements counted. On an accelerator looking would cost a wait, so the exact way is the
only one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from service.domain.half_precision import SMALL_SHARE
from service.probing import reductions
from service.probing.norms import row_norms
from service.probing.reductions import EXACT, FP16_TINY, SAFE_HIGH, SAFE_LOW

CANCELS = 1e-2
"""Share of the mean square under which a variance is not mean square minus squared mean: in
float32 the difference would be right to 1e-5 only."""
NEAR_ONE = 0.99
"""Mean cosine from which its distance from 1 is what counts, and is reckoned in float64."""
NONFINITE, TOP, NORM = range(3)
"""First columns of every row: NaN and infinite elements (-1: not counted, the norm tells), what the
rest of the row is to be multiplied by, the norm before that."""

Compare = Callable[..., Tensor]
"""torch.ne and the like."""


@dataclass(frozen=True, slots=True)
class Norms:
    """How long a tensor is; None where an element is not finite."""

    nonfinite: int
    norm: float | None
    rows: Tensor
    """Of the samples, float64 (B,)."""


class Reduction(Protocol):
    """What is wanted of a stack; equal ones may be stacked."""

    def reckon(self, stack: Tensor, *, exact: bool) -> Tensor:
        """(L, B, …) → (L, numbers) float64."""


@torch.no_grad()
def reckoned(reduction: Reduction, stack: Tensor) -> Tensor:
    """One row of float64 per layer of a stack (L, B, …), on the stack's device."""
    if stack.dtype not in (torch.float32, torch.float64):
        stack = stack.float()
    stack = stack.contiguous()
    if stack.device.type != "cpu":
        return reduction.reckon(stack, exact=True)
    found = reduction.reckon(stack, exact=False)
    norms: list[float] = found[:, NORM].tolist()
    odd = [index for index, norm in enumerate(norms) if not SAFE_LOW < norm < SAFE_HIGH]
    if odd:
        found[odd] = reduction.reckon(stack if len(odd) == len(norms) else stack[odd], exact=True)
    return found


@dataclass(frozen=True, slots=True)
class Norm:
    """Norms of a tensor and its samples."""

    def reckon(self, stack: Tensor, *, exact: bool) -> Tensor:
        """See Reduction."""
        return torch.cat(_Scaled(stack, exact).head(), 1)

    def read(self, rows: Tensor) -> list[Norms]:
        """The figures."""
        heads, tails = _apart(rows, 3)
        return [
            _norms(nonfinite, top, norm, tail)
            for (nonfinite, top, norm), tail in zip(heads, tails, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Extent:
    """Norm and largest element."""

    def reckon(self, stack: Tensor, *, exact: bool) -> Tensor:
        """See Reduction."""
        scaled = _Scaled(stack, exact)
        head, _ = scaled.head()
        return torch.cat([head, *_extremes(scaled.values.flatten(1))], 1)

    def read(self, rows: Tensor, count: int) -> list[reductions.Size]:
        """The figures, of so many elements."""
        return [
            reductions.Size(count, None, None, int(nonfinite))
            if nonfinite > 0
            else reductions.Size(count, norm * top, max(high, -low) * top, 0)
            for nonfinite, top, norm, high, low in rows.tolist()
        ]


@dataclass(frozen=True, slots=True)
class GradientFigures:
    """See GradientStatistics; None where an element is not finite."""

    norms: Norms
    abs_max: float | None
    zero_fraction: float
    underflow_fraction: float
    small: float | None = None
    """What `SMALL_SHARE` of its nonzero elements lie under; None unless asked, and of zeros."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """Of the gradient at a layer's output."""

    ranges: bool = False
    """Whether its small elements are wanted, too."""

    def reckon(self, stack: Tensor, *, exact: bool) -> Tensor:
        """See Reduction."""
        scaled = _Scaled(stack, exact)
        head, rows = scaled.head()
        high, low = _extremes(scaled.values.flatten(1))
        sample = _sampled(stack)
        sizes = sample.abs()
        small = [_small(sizes)] if self.ranges else []
        tiny = _mean_of_ones(torch.le(sizes, FP16_TINY, out=sizes))
        return torch.cat([head, high, low, _share(sample, torch.ne, 0.0), tiny, *small, rows], 1)

    def read(self, rows: Tensor) -> list[GradientFigures]:
        """The figures."""
        heads, tails = _apart(rows, 8 if self.ranges else 7)
        return [self._read(head, tail) for head, tail in zip(heads, tails, strict=True)]

    def _read(self, head: list[float], tail: Tensor) -> GradientFigures:
        nonfinite, top, norm, high, low, present, tiny = head[:7]
        norms = _norms(nonfinite, top, norm, tail)
        small = head[7] if self.ranges else 0.0
        # A tensor that is zero throughout loses nothing.
        lost = (tiny - (1.0 - present)) / present if present else 0.0
        largest = None if norms.norm is None else max(high, -low) * top
        return GradientFigures(norms, largest, 1.0 - present, max(lost, 0.0), small or None)


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """See ActivationStatistics; None where an element is not finite."""

    norms: Norms
    mean: float | None
    std: float | None
    abs_max: float | None
    zero_fraction: float
    correlation: float | None
    """None for fewer than two samples that are not zero, too."""
    active: Tensor
    """1 for units that are nonzero anywhere, else 0, (units,)."""


@dataclass(frozen=True, slots=True)
class Output:
    """Of a layer's output."""

    unit_dim: int
    """Of a single tensor."""
    samples: bool
    """Whether the first dimension counts samples."""

    def reckon(self, stack: Tensor, *, exact: bool) -> Tensor:
        """See Reduction."""
        scaled = _Scaled(stack, exact)
        head, rows = scaled.head()
        high, low = self._extremes(scaled.values)
        present = _share(_sampled(stack), torch.ne, 0.0)
        mean = scaled.values.flatten(1).mean(1, keepdim=True).double()
        # NaN: told by norm and mean.
        std = _centred(scaled.values, mean) if exact else torch.full_like(mean, math.nan)
        cosine = self._cosine(scaled.values, rows, exact=exact)
        largest = torch.maximum(high.amax(1, keepdim=True), -low.amin(1, keepdim=True))
        active = (high != 0) | (low != 0)
        found = torch.cat([head, mean, std, present, cosine, largest, rows, active], 1)
        if not exact:
            count = stack[0].numel()
            numbers: list[list[float]] = found[:, NORM : NORM + 2].tolist()
            flat = [
                index
                for index, (norm, middle) in enumerate(numbers)
                if norm**2 / count - middle**2 <= CANCELS * norm**2 / count
            ]
            if flat:
                found[flat, NORM + 2] = _centred(stack[flat], mean[flat])[:, 0]
        return found

    def read(self, rows: Tensor, shape: torch.Size) -> list[OutputFigures]:
        """The figures of tensors of this shape."""
        heads, tails = _apart(rows, 8)
        samples, count = shape[0] if self.samples else shape.numel(), shape.numel()
        return [
            self._read(head, tail[:samples], tail[samples:], count)
            for head, tail in zip(heads, tails, strict=True)
        ]

    def _read(self, head: list[float], rows: Tensor, active: Tensor, count: int) -> OutputFigures:
        nonfinite, top, norm, mean, std, present, cosine, largest = head
        norms = _norms(nonfinite, top, norm, rows)
        if norms.norm is None:
            return OutputFigures(norms, None, None, None, 1.0 - present, None, active)
        if math.isnan(std):
            std = math.sqrt(max(norm**2 / count - mean**2, 0.0))
        told = None if math.isnan(cosine) or not norm else min(1.0, max(-1.0, cosine))
        return OutputFigures(
            norms, mean * top, std * top, largest * top, 1.0 - present, told, active
        )

    def _extremes(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        """Largest and smallest element of each unit, (L, units)."""
        if not self.samples:
            return _extremes(stack.flatten(1))
        units = 1 + self.unit_dim % (stack.ndim - 1)
        if units == 1:
            rows = stack.flatten(2)
            return rows.amax(2), rows.amin(2)
        if units == stack.ndim - 1:
            rows = stack.flatten(1, -2)
            return rows.amax(1), rows.amin(1)
        places = stack.movedim(units, 2).flatten(3)
        return places.amax(1).amax(2), places.amin(1).amin(2)

    def _cosine(self, values: Tensor, rows: Tensor, *, exact: bool) -> Tensor:
        if not self.samples:
            return torch.full_like(rows[:, :1], math.nan)
        samples = values.flatten(2)
        may_widen = samples.dtype == torch.float32 and samples[0].numel() <= EXACT
        if exact:
            return _cosine(samples.double() if may_widen else samples, None)
        found = _cosine(samples, rows)
        # In float32 the distance from 1 drowns in rounding under 1e-7.
        near = [i for i, (cosine,) in enumerate(found.tolist()) if not cosine < NEAR_ONE]
        if may_widen and near:
            found[near] = _cosine(samples[near].double(), None)
        return found


@dataclass(frozen=True, slots=True)
class Outside:
    """Share of elements at or outside the bounds; nothing is squared, so any scale is safe."""

    low: float | None
    high: float | None

    def reckon(self, stack: Tensor, *, exact: bool) -> Tensor:  # noqa: ARG002
        """See Reduction."""
        sample = _sampled(stack)
        ones = torch.ones(len(stack), 1, dtype=torch.float64, device=stack.device)
        shares = [
            _share(sample, compare, bound)
            for bound, compare in ((self.low, torch.le), (self.high, torch.ge))
            if bound is not None
        ]
        return torch.cat([ones, ones, ones, *shares], 1)

    def read(self, rows: Tensor) -> list[float]:
        """The shares, 0 … 1."""
        return [math.fsum(shares) for shares in rows[:, 3:].tolist()]


class _Scaled:
    """A stack as it is, or (exact) with every layer divided by its largest finite element."""

    def __init__(self, stack: Tensor, exact: bool) -> None:
        self.values = stack
        self._first = _first_columns(len(stack), stack.device)
        if not exact:
            return
        self._first = self._first.clone()
        flat = stack.flatten(1)
        high, low = _extremes(flat)
        largest = torch.maximum(high, -low)
        top = torch.where(largest.isfinite() & (largest > 0), largest, 1.0)
        self.values = stack / top.view(-1, *(1 for _ in stack.shape[1:]))
        self._first[:, TOP] = top[:, 0]
        # Counting takes long: on the CPU only where there is something to count.
        if stack.device.type != "cpu" or not bool(largest.isfinite().all()):
            self._first[:, NONFINITE] = (flat.shape[1] - flat.isfinite().sum(1)).double()

    def head(self) -> tuple[Tensor, Tensor]:
        """The first columns, (L, 3), and the norm of each sample, (L, B), both float64."""
        rows = row_norms(self.values.flatten(2))
        norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return torch.cat([self._first, norm], 1), rows


@lru_cache(256)
def _first_columns(layers: int, device: torch.device) -> Tensor:
    """Of what is neither counted nor scaled; not to be written to."""
    return torch.tensor([[-1.0, 1.0]], dtype=torch.float64, device=device).repeat(layers, 1)


def _apart(rows: Tensor, columns: int) -> tuple[list[list[float]], tuple[Tensor, ...]]:
    """The first columns of each row as numbers, and the rest of it."""
    heads: list[list[float]] = rows[:, :columns].tolist()
    return heads, rows[:, columns:].unbind(0)


def _norms(nonfinite: float, top: float, norm: float, rows: Tensor) -> Norms:
    if nonfinite > 0 or not math.isfinite(norm):
        return Norms(max(int(nonfinite), 0), None, rows)
    return Norms(0, norm * top, rows if top == 1.0 else rows * top)


def _extremes(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest element of each row, (L, 1)."""
    return flat.amax(1, keepdim=True), flat.amin(1, keepdim=True)


def _centred(values: Tensor, mean: Tensor) -> Tensor:
    """Root mean square of the distance from the mean, (L, 1)."""
    flat = values.flatten(1)
    off = flat - mean.to(flat.dtype)
    # The mean of float32 is right to 1e-7 of itself, which near-constant outputs would show.
    off -= off.mean(1, keepdim=True)
    return row_norms(off).unsqueeze(1) / math.sqrt(flat.shape[1])


def _cosine(samples: Tensor, rows: Tensor | None) -> Tensor:
    """Mean cosine between pairs of samples, (L, 1): (‖Σ uᵢ‖² − B) / (B(B−1)) with uᵢ = yᵢ/‖yᵢ‖ over
    the B samples that are not zero; not finite for fewer than two."""
    norms = row_norms(samples) if rows is None else rows
    count = (norms > 0).sum(1, keepdim=True)
    weights = norms.clamp_min(1e-38).reciprocal().to(samples.dtype)
    total = torch.bmm(weights.unsqueeze(1), samples)
    square = row_norms(total).square()
    cosine: Tensor = (square - count) / (count * (count - 1)).double()
    return cosine.where(count > 1, math.nan)


def _sampled(stack: Tensor) -> Tensor:
    """(L, elements): all of small tensors, evenly spread ones of large ones."""
    flat = stack.flatten(1)
    step = flat.shape[1] // reductions.SAMPLE
    # An odd step does not fall in with the power-of-two strides of channels.
    return flat if step <= 1 else flat[:, :: step | 1].contiguous()


def _small(sizes: Tensor) -> Tensor:
    """What `SMALL_SHARE` of the nonzero elements of each row lie under, (L, 1); 0: all are 0."""
    ordered, count = sizes.sort(1).values, sizes.shape[1]
    zeros = (sizes == 0).sum(1, keepdim=True)
    place = zeros + ((count - zeros) * SMALL_SHARE).long()
    return ordered.gather(1, place.clamp_max(count - 1)).double()


def _share(sample: Tensor, compare: Compare, bound: float) -> Tensor:
    """Share of the elements in each row that compare with the bound, (L, 1)."""
    # Ones and zeros of the sample's own type are written and summed many times faster than
    # booleans; float32 counts them exactly up to 2^24.
    return _mean_of_ones(compare(sample, bound, out=torch.empty_like(sample)))


def _mean_of_ones(ones: Tensor) -> Tensor:
    return ones.sum(1, keepdim=True).double() / ones.shape[1]
