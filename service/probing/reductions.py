"""Tensors to numbers. Cheap first (sum, dot, aminmax), exact where cheap would lie.

Sums of squares of float32 overflow above 1e19 and vanish below 1e-19, just where exploding and
vanishing models live: outside a safe range the tensor is scaled by its largest element first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SAFE_LOW, SAFE_HIGH = 1e-12, 1e12
"""Largest elements between which squares of float32 neither underflow nor overflow in a sum."""
SAMPLE = 1 << 16
"""Elements that fractions are counted on in larger tensors, evenly spread (standard error of a
fraction ≤ .002)."""
EXACT = 1 << 20
"""Elements up to which cosines are summed in float64."""
FP16_TINY = 2.0**-25
"""Numbers up to half the smallest subnormal of float16 round to 0 (IEEE 754)."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a tensor's elements are; all None when any is not finite."""

    count: int
    mean: float | None
    norm: float | None
    """Frobenius norm."""
    abs_max: float | None
    nonfinite: int

    @property
    def rms(self) -> float | None:
        """norm / √count."""
        return None if self.norm is None else self.norm / math.sqrt(max(self.count, 1))


@torch.no_grad()
def size_of(tensor: Tensor) -> Size:
    """Mean, norm and largest element of a real or complex tensor."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    flat = _flat(tensor)
    count = flat.numel()
    if count == 0:
        return Size(0, 0.0, 0.0, 0.0, 0)
    low, high = (float(bound) for bound in torch.aminmax(flat))
    top = max(-low, high)
    if not math.isfinite(low) or not math.isfinite(high):
        return Size(count, None, None, None, count - int(flat.isfinite().sum()))
    if top == 0.0:
        return Size(count, 0.0, 0.0, 0.0, 0)
    if SAFE_LOW < top < SAFE_HIGH:
        return Size(
            count, float(flat.sum()) / count, math.sqrt(float(torch.dot(flat, flat))), top, 0
        )
    wide = flat.double() / top
    norm = math.sqrt(float(torch.dot(wide, wide))) * top
    return Size(count, float(wide.sum()) * top / count, norm, top, 0)


@torch.no_grad()
def std_of(tensor: Tensor, size: Size) -> float | None:
    """Standard deviation (biased), exact also where it is far below the mean."""
    if size.mean is None or size.rms is None:
        return None
    variance = size.rms**2 - size.mean**2
    if variance > 1e-2 * size.rms**2:
        return math.sqrt(variance)
    # The two squares cancel: take the mean off first.
    centred = _flat(tensor) - size.mean
    return size_of(centred).rms


@torch.no_grad()
def unit_std(tensor: Tensor, *, by_channel: bool) -> float | None:
    """Root mean square over units of their standard deviation (biased) over the samples of a
    batch; a unit is a channel at all its places, or one number per sample. None when not
    finite. Counted on `SAMPLE` elements, evenly spread, of larger tensors."""
    rows = tensor.detach().flatten(2 if by_channel and tensor.ndim > 2 else 1)
    step = max(rows.numel() // SAMPLE, 1)
    rows = rows[..., :: step | 1].double()
    dims = [0, 2] if rows.ndim > 2 else [0]
    std = math.sqrt(float(rows.var(dims, correction=0).mean()))
    return std if math.isfinite(std) else None


@torch.no_grad()
def sample_norms(tensor: Tensor) -> Tensor:
    """Norm per sample, shape (B,), float64 so that neither end of the scale is lost."""
    rows = tensor.detach().flatten(1) if tensor.ndim > 1 else tensor.detach().unsqueeze(1)
    top = rows.abs().amax()
    safe = SAFE_LOW < float(top) < SAFE_HIGH
    norms: Tensor = torch.linalg.vector_norm(rows if safe else rows.double(), dim=1)
    return norms.double()


@torch.no_grad()
def fractions(tensor: Tensor, *bounds: tuple[float | None, float | None]) -> list[float]:
    """Share of elements at or outside each (low, high) pair of bounds, 0 … 1."""
    sample = sampled(tensor)
    shares = []
    for low, high in bounds:
        outside = torch.zeros_like(sample, dtype=torch.bool)
        if low is not None:
            outside |= sample <= low
        if high is not None:
            outside |= sample >= high
        shares.append(float(outside.sum()) / max(sample.numel(), 1))
    return shares


@torch.no_grad()
def zero_fraction(tensor: Tensor) -> float:
    """Share of elements exactly 0."""
    sample = sampled(tensor)
    return 1.0 - int(torch.count_nonzero(sample)) / max(sample.numel(), 1)


@torch.no_grad()
def underflow_fraction(tensor: Tensor) -> float:
    """Share of nonzero elements that float16 rounds to 0."""
    sample = sampled(tensor).abs()
    nonzero = int(torch.count_nonzero(sample))
    if nonzero == 0:
        return 0.0
    lost = int((sample <= FP16_TINY).sum()) - (sample.numel() - nonzero)
    return lost / nonzero


def sampled(tensor: Tensor) -> Tensor:
    """All elements of a small tensor, evenly spread ones of a large one; flat."""
    flat: Tensor = tensor.detach().reshape(-1)
    step = flat.numel() // SAMPLE
    # An odd step does not fall in with the power-of-two strides of channels.
    return flat if step <= 1 else flat[:: step | 1]


@torch.no_grad()
def active_units(tensor: Tensor, unit_dim: int) -> Tensor:
    """Which units are nonzero anywhere in the batch, bool (units,)."""
    if tensor.ndim < 2:
        return (tensor != 0).any().reshape(1)
    dim = unit_dim % tensor.ndim
    others = [d for d in range(tensor.ndim) if d != dim]
    return (tensor != 0).sum(others) > 0


@torch.no_grad()
def correlation_of(tensor: Tensor) -> float | None:
    """Mean cosine between pairs of samples, -1 … 1: (‖Σ uᵢ‖² − B) / (B(B−1)) with uᵢ = yᵢ/‖yᵢ‖
    over the B samples that are not zero; None for fewer than two."""
    if tensor.ndim < 2:
        return None
    rows = tensor.detach().flatten(1)
    if rows.numel() <= EXACT:
        # In float32 the distance from 1 drowns in rounding under 1e-7.
        rows = rows.double()
    norms = sample_norms(rows)
    alive = norms > 0
    count = int(alive.sum())
    if count < 2:
        return None
    weights = torch.where(alive, 1.0 / norms.clamp_min(1e-300), torch.zeros_like(norms))
    top = float(norms.max())
    if not math.isfinite(top):
        return None
    scaled = (weights * top).to(rows.dtype)
    if not bool(scaled.isfinite().all()):
        return None
    total = torch.mv(rows.t(), scaled)
    length = size_of(total).norm
    if length is None:
        return None
    cosine = ((length / top) ** 2 - count) / (count * (count - 1))
    return min(1.0, max(-1.0, cosine))


def _flat(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
